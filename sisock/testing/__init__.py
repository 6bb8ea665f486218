"""The test kit for authors of nodes: a real router on a free port, and a contract that every node is held to.

    from sisock.testing import NodeContract
    from mypackage import Roof

    class TestRoof(NodeContract):
        node = Roof

`Link` disturbs a connection (cut, hold, slow), `stopped` a process, `Router.kill` a router.

The pytest plugin of this package starts one router for a whole test run (fixture `router`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisock.testing.contract import NodeContract
    from sisock.testing.faults import Link, stopped
    from sisock.testing.router import Router

_HOMES = {
    "Link": "sisock.testing.faults",
    "NodeContract": "sisock.testing.contract",
    "Router": "sisock.testing.router",
    "stopped": "sisock.testing.faults",
}

__all__ = ["Link", "NodeContract", "Router", "stopped"]


def __getattr__(name: str) -> Any:
    # pytest loads this package in every run of the environment, so it stays light until it is used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
