"""The node of the streams' benchmark, in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

from autobahn.twisted.util import sleep
from twisted.internet.threads import deferToThread

from bench.follow.site import access
from sisock.naming import Identity
from sisock.nodes.streams import Outlet, Streams
from sisock.serving import NodeService
from sisock.settings import Settings
from sisock.store import Store


class StreamsPart:
    """Serves streams from a store on the disk."""

    def __init__(self, store, node):
        os.environ["SISOCK_STREAMS_PORT"] = "0"
        os.environ["SISOCK_HOME"] = str(Path(store).parent)
        self._store, self._access = Store.open(store), access(node)
        self._node = Streams()

    async def start(self):
        self._node.history = self._store.node("streams")
        self._service = NodeService(self._node, self._access, Identity("bench", 1))
        await self._service.start()
        return self._node.faces.address

    async def stop(self):
        await self._service.stop()
        await deferToThread(self._store.close)


class OutletPart:
    """Serves an outlet of the streams."""

    def __init__(self, home, node, reader):
        os.environ["SISOCK_STREAMS_OUTLET_PORT"] = "0"
        os.environ["SISOCK_HOME"] = home
        self._access, self._reader = access(node), access(reader)

    async def start(self):
        # The benchmark's router is in no run.json.
        Settings.consumer = lambda _self, **_: self._reader
        self._node = Outlet()
        self._service = NodeService(self._node, self._access, Identity("bench", 1))
        await self._service.start()
        while not self._node.ready:
            await sleep(0.05)
        return self._node.faces.address

    async def stop(self):
        await self._service.stop()
