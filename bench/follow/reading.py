"""The consumers of the reading benchmarks, in processes of their own."""

from __future__ import annotations

import resource
import time
from itertools import pairwise

import numpy as np
import psutil
from pyarrow import flight
from twisted.internet.threads import deferToThread

from bench.follow.archive import NAME, OLD, WHOLE, numpy_of
from bench.follow.site import access
from sisock.asking import Question
from sisock.blocks import concat
from sisock.consumer import Consumer
from sisock.times import MICROS
from tests.plain import join


class Reading:
    """Reads the same rows in every way; each answers {"ms", "first", "sum"}, the milliseconds until all is in NumPy."""

    def __init__(self, reader, local, server, ws, flight_port):
        self._access = {"ws": access(reader), "unix": access({**reader, "url": local})}
        self._server, self._ws, self._port = server, ws, flight_port
        self._local = local
        self._consumers = {}

    async def start(self):
        for name, one in self._access.items():
            self._consumers[name] = await Consumer(one, call_timeout=120).start()
        user = (self._server["authid"], self._server["secret"])
        self._old = await join(self._ws, user, realm=self._server["realm"])
        self._whole = await join(self._ws, user, realm=self._server["realm"], serializer="cbor")
        self._flight = flight.connect(f"grpc://127.0.0.1:{self._port}")

    async def stop(self):
        for consumer in self._consumers.values():
            await consumer.stop()

    async def read_all(self, over, start, end):
        blocks, first = [], []
        begin = time.perf_counter()

        def take(_, block):
            if not first:
                first.append(time.perf_counter() - begin)
            blocks.append(block)

        await self._consumers[over].read_all(NAME, Question(["x"], start, end), take)
        joined = concat(blocks)
        return _said(begin, joined.t, joined.columns["x"].values, first[0])

    async def read(self, over, start, end):
        blocks, first = [], []
        begin = time.perf_counter()

        def take(_, block):
            if not first:
                first.append(time.perf_counter() - begin)
            blocks.append(block)

        await self._consumers[over].read(NAME, Question(["x"], start, end), take)
        joined = concat(blocks)
        return _said(begin, joined.t, joined.columns["x"].values, first[0])

    async def lists(self, times):
        begin = time.perf_counter()
        t, v, first = [], [], None
        for start, end in pairwise(times):
            answer = await self._old.call(OLD, ["x"], start / MICROS, end / MICROS)
            t.append(np.array(answer["timeline"]["t"]["t"]))
            v.append(np.array(answer["data"]["x"]))
            first = first or time.perf_counter() - begin
        return _said(begin, np.concatenate(t), np.concatenate(v), first)

    async def whole(self, start, end):
        begin = time.perf_counter()
        t, v = numpy_of(await self._whole.call(WHOLE, start, end))
        return _said(begin, t, v, time.perf_counter() - begin)

    async def flight(self, start, end):
        def read():
            begin = time.perf_counter()
            first, batches = None, []
            for chunk in self._flight.do_get(flight.Ticket(f"{start} {end}".encode())):
                first = first or time.perf_counter() - begin
                batches.append(chunk.data)
            t = np.concatenate([batch.column(0).to_numpy() for batch in batches])
            v = np.concatenate([batch.column(1).to_numpy() for batch in batches])
            return _said(begin, t, v, first)

        return await deferToThread(read)

    async def pages(self, start, end):
        """All rows by pages, kept as the blocks that came; answers the most memory that was taken meanwhile, in MB."""
        process = psutil.Process()
        before = process.memory_info().rss
        begin = time.perf_counter()
        blocks = []
        await self._consumers["ws"].read_all(NAME, Question(["x"], start, end), lambda _, block: blocks.append(block))
        seconds = time.perf_counter() - begin
        rows = sum(map(len, blocks))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "rows": rows,
            "seconds": seconds,
            "kept": (process.memory_info().rss - before) / 1e6,
            "peak": (peak - before) / 1e6,
        }


def _said(begin, t, v, first):
    return {"ms": (time.perf_counter() - begin) * 1e3, "first": first * 1e3, "rows": len(t), "sum": float(v.sum())}
