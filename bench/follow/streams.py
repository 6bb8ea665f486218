"""The node of the live benchmarks, those who follow it, and bare subscribers beside them."""

from __future__ import annotations

import time
from threading import Thread
from types import MappingProxyType

import numpy as np
from autobahn.wamp.types import SubscribeOptions
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from bench.follow.site import access
from bench.follow.wires import Crowd, Wamp
from sisock import DataNode, Field
from sisock.blocks import Block, Column
from sisock.consumer import Consumer
from sisock.followed import Missing
from sisock.live import LiveBlock
from sisock.naming import Identity
from sisock.positions import Position
from sisock.serving import NodeService
from sisock.store import Store
from sisock.uris import live
from tests.plain import join

NAME = "bench_live"
# More than a node here ever appends.
MOST_ROWS = 1 << 25
TOPIC, BARE = live(NAME, "t"), live(NAME, "bare")


class Live(DataNode):
    """Blocks as fast as they come."""

    name = NAME
    fields = MappingProxyType({"x": Field(units="V")})


class LivePart:
    """The node; `run` appends blocks in time, `bare` publishes the same without it."""

    def __init__(self, store, node):
        self._store = Store.open(store)
        self._access = access(node)
        self._live = Live()
        # When an event was given to the session, by its seq.
        self._sent = {}
        self._count = 0

    async def start(self):
        self._live.history = self._store.node(NAME)
        self._service = NodeService(self._live, self._access, Identity("bench", 1))
        await self._service.start()
        while not self._service.announced:
            await deferToThread(time.sleep, 0.01)
        session = self._service.connection.session
        publish = session.publish

        def noted(topic, event, **options):
            if topic == TOPIC and event["seq"] != event["after"]:
                self._sent[event["seq"]] = time.time(), event["after"]
            return publish(topic, event, **options)

        session.publish = noted
        # A follower begins with rows that are there.
        await self.run(0.02, 2, 100)

    async def stop(self):
        await self._service.stop()
        await deferToThread(self._store.close)

    async def run(self, seconds, rows, blocks):
        """Appends `blocks` a second of `rows` each; answers how many rows there are by now, and when what was published."""
        self._sent.clear()

        def append(t):
            self._count += rows
            return self._live.append("t", t, {"x": np.arange(self._count - rows, self._count, dtype=float)})

        await deferToThread(self._paced, seconds, rows, blocks, append)
        return {"rows": self._count, "sent": [[seq, at] for seq, (at, _) in self._sent.items()]}

    async def bare(self, seconds, rows, blocks):
        from twisted.internet import reactor

        session = self._service.connection.session
        values = {"x": Column(np.arange(rows, dtype=float))}
        count = 0

        def append(t):
            nonlocal count
            count += 1
            event = LiveBlock(
                "t", Position("0" * 32, count), count - 1, Block((t * 1e6).astype(np.int64), values), t[-1]
            ).to_wire()
            reactor.callFromThread(session.publish, BARE, event)

        await deferToThread(self._paced, seconds, rows, blocks, append)
        return count

    @staticmethod
    def _paced(seconds, rows, blocks, append):
        begin, kept = time.time(), None
        last = begin
        for number in range(round(seconds * blocks)):
            wait = begin + number / blocks - time.time()
            if wait > 0:
                time.sleep(wait)
            # A row of each microsecond at least, whatever the machine did meanwhile.
            present = max(time.time(), last + rows * 2e-6)
            kept = append(last + (present - last) * np.arange(1, rows + 1) / rows)
            last = present
        if kept is not None:
            kept.result(60)


class FollowersPart:
    """Some who follow the node, each with a connection of its own, and as many bare subscribers."""

    def __init__(self, reader, ws, followers, bare, since=1.0):
        self._since = since
        self._access = access({**reader, "url": ws})
        self._reader, self._ws = reader, ws
        self._many, self._bare = followers, bare
        self._arrived, self._heard = [], []
        self._problem = None
        # How many rows each has or needs not, and which: they are numbered by their values.
        self.rows = [0] * followers
        self._seen = [np.zeros(MOST_ROWS, np.bool_) for _ in range(followers)]

    async def start(self):
        self._consumers = [await Consumer(self._access).start() for _ in range(self._many)]
        for number, consumer in enumerate(self._consumers):
            Deferred.fromCoroutine(self._follow(number, consumer)).addErrback(self._failed)
        self._sessions = []
        for _ in range(self._bare):
            user = self._reader["authid"], self._reader["secret"]
            session = await join(self._ws, user, realm=self._reader["realm"], serializer="cbor")
            await session.subscribe(self._hear, BARE, options=SubscribeOptions())
            self._sessions.append(session)
        while self._since > 0 and min(self.rows, default=1) == 0:
            await deferToThread(time.sleep, 0.01)

    async def stop(self):
        for consumer in self._consumers:
            await consumer.stop()

    async def _follow(self, number, consumer):
        async for item in consumer.follow(NAME, ["x"], self._since):
            assert not isinstance(item, Missing), item
            present = time.time()
            if len(item.block):
                numbers = item.block.columns["x"].values.astype(np.int64)
                if not self.rows[number]:
                    # Who follows from now on lacks nothing before.
                    self.rows[number] = int(numbers[0])
                new = ~self._seen[number][numbers]
                # A row comes once, unless it may have changed.
                assert item.revises or new.all(), "a row came twice"
                self._seen[number][numbers] = True
                self.rows[number] += int(new.sum())
                self._arrived.append((item.position.seq, present, present - float(item.block.t[-1]) / 1e6))

    def _failed(self, failure):
        self._problem = failure.value

    def _hear(self, event):
        self._heard.append(time.time() - event["t"][-1])

    async def taken(self):
        """What arrived since it was asked last: of followers [seq, when, seconds since append]; of bare ones such delays."""
        arrived, self._arrived = self._arrived, []
        heard, self._heard = self._heard, []
        return {"arrived": arrived, "heard": heard, "rows": self.rows}

    async def caught_up(self, rows, within):
        """Seconds until every follower has so many rows."""
        begin = time.perf_counter()
        while min(self.rows) < rows:
            if self._problem is not None:
                raise self._problem
            if time.perf_counter() - begin > within:
                raise TimeoutError(f"{self.rows} of {rows} rows")
            await deferToThread(time.sleep, 0.01)
        assert max(self.rows) == rows, (self.rows, rows)
        return time.perf_counter() - begin


class CrowdPart:
    """Subscribers that cost next to nothing: bare sockets in one thread."""

    def __init__(self, reader, ws, many):
        self._join = lambda: Wamp(ws, reader["realm"], reader["authid"], reader["secret"])
        self._many, self._open = many, True

    async def start(self):
        clients = [self._join() for _ in range(self._many)]
        for client in clients:
            client.subscribe(BARE)
        self._crowd = Crowd(clients, TOPIC, stays=True)
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while self._open:
            self._crowd.look(0.1)

    async def all_there(self):
        """Says whether none was cut off."""
        return self._thread.is_alive()

    async def stop(self):
        self._open = False
        self._thread.join()
        self._crowd.close()
