"""sisock: discover, read and follow every instrument of a site.

Reading, in a script or a notebook:

    import sisock

    hub = sisock.connect()                       # the site that runs here, or what the environment names
    hub.nodes()                                  # which data nodes there are
    hub["apex_archive"].fields()                 # what one offers, with units

    data = hub["apex_archive"].get(["apex_temperature"], start="-10y", max_points=2000)
    data.to_pandas()                             # or to_arrow, to_numpy, to_xarray, .plot()

    for block in hub["sensors"].follow(["cpu_load"], start="-10m"):
        print(block.time[-1], block["cpu_load"][-1])

The same for asyncio is `sisock.aio`, for Twisted `sisock.consumer.Consumer`. All errors are `sisock.errors`'s, and each is a
`SisockError`.

Writing a node:

    from sisock import DataNode, Field

    class Roof(DataNode):
        'Air on the roof.'
        name = "roof"
        interval = 1.0
        fields = {"air": Field(units="degC", description="Air temperature, 2 m")}

        def sample(self):
            return {"air": read_probe()}

The names below are the public ones. They are imported when they are first used, so that `import sisock` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisock import aio, base, errors
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
    from sisock.client.blocking import connect
    from sisock.client.data import Gap
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
    "Gap": "sisock.client.data",
    "SisockError": "sisock.errors",
    "Timeline": "sisock.fields",
    "connect": "sisock.client.blocking",
}
_MODULES = ("aio", "base", "errors")

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
    "Gap",
    "SisockError",
    "Timeline",
    "aio",
    "base",
    "connect",
    "data_node_server",
    "errors",
    "sisock_to_unix_time",
    "uri",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"sisock.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'sisock' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
