"""sisock: discover, read and follow every instrument of a site.

The names below are the public ones. They are imported when they are first used, so that `import sisock` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisock.errors import SisockError
    from sisock.fields import Catalogue, Field, Timeline
    from sisock.node import DataNode

_HOMES = {
    "Catalogue": "sisock.fields",
    "DataNode": "sisock.node",
    "Field": "sisock.fields",
    "SisockError": "sisock.errors",
    "Timeline": "sisock.fields",
}

__all__ = ["Catalogue", "DataNode", "Field", "SisockError", "Timeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sisock' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
