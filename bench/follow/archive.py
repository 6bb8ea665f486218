"""The nodes of the reading benchmarks: one warm store behind sisock's node, the old way, one frame, and Arrow Flight."""

from __future__ import annotations

import os
from threading import Thread
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from pyarrow import flight
from twisted.internet.threads import deferToThread

from bench.follow.site import access
from bench.store.measuring import fill, series
from sisock import DataNode, Field
from sisock.naming import Identity
from sisock.resolution import PAGE
from sisock.serving import NodeService
from sisock.store import Store
from sisock.times import MICROS
from sisock.uris import BASE_URI
from tests.plain import join

NAME = "bench_archive"
OLD = f"{BASE_URI}.consumer.bench_old.get_data"
WHOLE = f"{BASE_URI}.consumer.bench_whole.get_data"


class Archive(DataNode):
    """A million points and more."""

    name = NAME
    fields = MappingProxyType({"x": Field(units="V", description="A random walk")})


class ArchivePart:
    """The node as `sisock run` serves it, and the same rows in plain procedures: lists, and one frame."""

    def __init__(self, store, rows, node, server, ws):
        self._rows = rows
        self._node, self._server, self._ws = access(node), server, ws
        self._store = Store.open(store)
        self._archive = Archive()

    async def start(self):
        self._archive.history = self._store.node(NAME)
        t, v = series(self._rows)
        await deferToThread(fill, self._archive.history, "t", t, v)
        self._service = NodeService(self._archive, self._node, Identity("bench", 1))
        await self._service.start()
        user = (self._server["authid"], self._server["secret"])
        # As the old nodes: JSON over a WebSocket.
        old = await join(self._ws, user, realm=self._server["realm"])
        await old.register(self._lists, OLD)
        whole = await join(self._node.url, user, realm=self._server["realm"], serializer="cbor")
        await whole.register(self._bytes, WHOLE)
        few = t[: 10**6]
        return {
            "first": int(t[0]),
            "eighths": [int(one) for one in few[:: len(few) // 8][:8]],
            "million": int(few[-1]) + 1,
            "end": int(t[-1]) + 1,
        }

    async def stop(self):
        await self._service.stop()
        await deferToThread(self._store.close)

    async def _lists(self, field, start, end, min_stride=None):
        def read():
            block, _ = self._archive.history.read("t", field, round(start * MICROS), round(end * MICROS))
            seconds = (block.t / MICROS).tolist()
            data = {name: column.values.tolist() for name, column in block.columns.items()}
            return {"data": data, "timeline": {"t": {"t": seconds, "finalized_until": None}}}

        return await deferToThread(read)

    async def _bytes(self, start, end):
        def read():
            block, _ = self._archive.history.read("t", ["x"], start, end)
            return block.t.tobytes() + block.columns["x"].values.tobytes()

        return await deferToThread(read)


class FlightPart:
    """Arrow Flight straight from a process that reads the same store, page by page."""

    def __init__(self, store):
        self._store = Store.open(store)
        self._server = None

    async def start(self):
        history = self._store.reader(NAME)
        layout = pa.schema([("t", pa.timestamp("us", tz="UTC")), ("x", pa.float64())])

        class Server(flight.FlightServerBase):
            def do_get(self, context, ticket):
                start, end = map(int, ticket.ticket.split())

                def batches():
                    for block, _ in history.pages("t", ["x"], start, end, PAGE):
                        t = pa.Array.from_buffers(layout[0].type, len(block), [None, pa.py_buffer(block.t)])
                        yield pa.record_batch([t, pa.array(block.columns["x"].values)], schema=layout)

                return flight.GeneratorStream(layout, batches())

        self._server = Server("grpc://127.0.0.1:0")
        Thread(target=self._server.serve, daemon=True).start()
        return self._server.port

    async def stop(self):
        # Its threads do not all end by themselves.
        os._exit(0)


def numpy_of(octets):
    """t and values of the answer in one frame."""
    half = len(octets) // 2
    return np.frombuffer(octets[:half], np.int64), np.frombuffer(octets[half:], np.float64)
