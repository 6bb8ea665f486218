"""sisock: discover, read and follow every instrument of a site.

The names below are the public ones. They are imported when they are first used, so that `import sisock` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisock import base
    from sisock.base import (
        BASE_URI,
        OCS_PORT,
        REALM,
        SISOCK_HOST,
        SISOCK_PORT,
        WAMP_SECRET,
        WAMP_URI,
        WAMP_USER,
        DataNodeServer,
        data_node_server,
        sisock_to_unix_time,
        uri,
    )
    from sisock.errors import SisockError
    from sisock.fields import Catalogue, Field, Timeline
    from sisock.node import DataNode

# The names of the old package.
_OLD = (
    "BASE_URI",
    "DataNodeServer",
    "OCS_PORT",
    "REALM",
    "SISOCK_HOST",
    "SISOCK_PORT",
    "WAMP_SECRET",
    "WAMP_URI",
    "WAMP_USER",
    "data_node_server",
    "sisock_to_unix_time",
    "uri",
)

_HOMES = {
    **dict.fromkeys(_OLD, "sisock.base"),
    "Catalogue": "sisock.fields",
    "DataNode": "sisock.node",
    "Field": "sisock.fields",
    "SisockError": "sisock.errors",
    "Timeline": "sisock.fields",
}

__all__ = [
    "BASE_URI",
    "OCS_PORT",
    "REALM",
    "SISOCK_HOST",
    "SISOCK_PORT",
    "WAMP_SECRET",
    "WAMP_URI",
    "WAMP_USER",
    "Catalogue",
    "DataNode",
    "DataNodeServer",
    "Field",
    "SisockError",
    "Timeline",
    "base",
    "data_node_server",
    "sisock_to_unix_time",
    "uri",
]


def __getattr__(name: str) -> Any:
    if name == "base":
        return import_module("sisock.base")
    if name not in _HOMES:
        raise AttributeError(f"module 'sisock' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
