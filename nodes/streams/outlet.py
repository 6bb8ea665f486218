"""An outlet: another process of subscribers behind the router, which follows the node `streams` and hands on what comes.

    SISOCK_STREAMS_OUTLET_PORT=8030 sisock run sisock.nodes.streams:Outlet

Crossbar carries a message once to each outlet, and each encodes it once for all its subscribers. A second one on a machine
has a name of its own: SISOCK_STREAMS_OUTLET=streams_outlet_2. It keeps nothing: `since` and producers go to the node.

From when it lets subscribers in, which is when it knows how far each timeline has come, it hands on each message once, in
order for each site and topic: what was missed while the router or the node was away is fetched by its position. What the
node itself has lost is counted as `missed`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from sisock import settings as site
from sisock.asking import EARLIEST_ON_WIRE, Question
from sisock.blocks import Block
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError, TooMuch
from sisock.followed import Followed, Missing
from sisock.following import Follower, Resume
from sisock.nodes.streams.fanout import Sent
from sisock.nodes.streams.message import Message, make, parts_of
from sisock.nodes.streams.node import Streams, sent
from sisock.times import MICROS, now, to_seconds

log = Logger()

# Seconds between two looks for sites and topics that are new; what is said of one meanwhile comes then.
LOOK_EVERY = 1.0
# Timelines that one call asks how far they have come.
ASK_AT_ONCE = 100
# Seconds that the node's clock may be behind this one's.
SKEW = 60.0


class Outlet(Streams):
    """Subscribers of the streams on another process."""

    name = os.environ.get("SISOCK_STREAMS_OUTLET", "streams_outlet")
    description = "Another process of subscribers to the node streams."
    keeps = False
    ready = False

    def __init__(self) -> None:
        super().__init__()
        self.procedures = {}
        self._consumer: Consumer | None = None
        self._followers: set[Follower] = set()
        # How far each timeline has come here, and the stamp of the last message of each that was handed on.
        self._reached: dict[str, Resume] = {}
        self._newest: dict[str, int] = {}
        # The stamp from which on all is for subscribers here: of when it let them in.
        self._since = 0
        self._problem: str | None = f"has not found the node {self.source} yet"
        self._looking = LoopingCall(self._look)
        # The fan-out takes one after the other.
        self._sending = DeferredLock()

    def start(self) -> None:
        """Follows the streams, and listens."""
        from twisted.internet import reactor

        from sisock.nodes.streams.faces import Faces

        self.faces = Faces(self)
        blockingCallFromThread(reactor, self._begin)

    def stop(self) -> None:
        """Leaves."""
        from twisted.internet import reactor

        ending: Callable[[], Deferred[Any]] = lambda: Deferred.fromCoroutine(self._end())  # noqa: E731
        blockingCallFromThread(reactor, ending)
        self.faces.stop()

    def trouble(self) -> str | None:
        """Why nothing comes, or not all of it."""
        return self._problem or next((str(one.problem) for one in self._followers if one.problem is not None), None)

    def accept(self, messages: Sequence[Message], done: Callable[[], None]) -> None:
        """Takes nothing."""
        raise InvalidArgument("this is an outlet, which keeps nothing: send to the node streams")

    def _begin(self) -> None:
        self._consumer = Consumer(site.Settings.read().consumer(web=True))
        self._consumer.connect(self._refused)
        self.faces.listen()
        self._looking.start(LOOK_EVERY).addErrback(lambda failure: log.failure("an outlet looks no more", failure))

    async def _end(self) -> None:
        if self._looking.running:
            self._looking.stop()
        if self._consumer is not None:
            await self._consumer.stop()

    def _refused(self, error: Exception) -> None:
        self._problem = f"the router lets it in no more: {error}"

    def _look(self) -> Deferred[None]:
        # The next look is another try.
        return Deferred.fromCoroutine(self._follow_new()).addErrback(lambda failure: log.failure("an outlet's look", failure))

    async def _follow_new(self) -> None:
        consumer = self._consumer
        if consumer is None or not consumer.connected:
            self._problem = self._problem or "is not connected to the router"
            return
        try:
            catalogue = await consumer.get_fields(self.source)
            new = [name for name, spec in catalogue.fields.items() if name == spec.timeline and name not in self._met]
            if not self.ready:
                await self._note_ends(consumer, new)
        except SisockError as error:
            self._problem = str(error)
            return
        if not self.ready:
            # Stamps of all timelines only grow. Where there are none, as the node has not read its history yet, clocks count.
            self._since = max(self._newest.values(), default=round((now() - SKEW) * MICROS))
            self.ready = True
        if not new:
            self._problem = None
            return
        self._met.update(new)
        # Where it has been before it goes on; of what is new now, all since it let subscribers in is for them. That may be
        # years old else: of a node that has learned only now what it keeps.
        self._follow(consumer, [name for name in new if name in self._reached], EARLIEST_ON_WIRE)
        self._follow(consumer, [name for name in new if name not in self._reached], self._since)

    def _follow(self, consumer: Consumer, timelines: Sequence[str], start: int) -> None:
        if not timelines:
            return
        follower = consumer.follow(self.source, timelines, to_seconds(start), self._reached)
        self._followers.add(follower)
        followed = Deferred.fromCoroutine(self._hand_on_from(follower))
        followed.addErrback(lambda failure: log.failure("an outlet follows no more", failure))

    async def _note_ends(self, consumer: Consumer, timelines: Sequence[str]) -> None:
        """Notes how far the timelines have come, by the node's own account: what was before is not for subscribers here."""
        waiting = [timelines[first : first + ASK_AT_ONCE] for first in range(0, len(timelines), ASK_AT_ONCE)]
        while waiting:
            some = waiting.pop()
            try:
                tails = await consumer.read(self.source, Question(some, EARLIEST_ON_WIRE, max_points=1, method="last"))
            except TooMuch:
                # Their last messages, which come with it, are long.
                half = len(some) // 2
                waiting += [some[:half], some[half:]]
                continue
            for name, tail in tails.items():
                if tail.position is not None and tail.last is not None:
                    self._reached[name] = Resume(tail.position, tail.last)
                    self._newest[name] = tail.last

    async def _hand_on_from(self, follower: Follower) -> None:
        try:
            async for item in follower:
                if isinstance(item, Missing):
                    self.missed += 1
                    self.errors.say(item.timeline, item.reason)
                else:
                    await self._hand_on_new(item)
        except SisockError as error:
            self._problem = str(error)
        finally:
            # The next look follows them again, from where they have come.
            self._followers.discard(follower)
            self._met.difference_update(follower.fields)

    async def _hand_on_new(self, item: Followed) -> None:
        """Hands on what was not before: rows come again where a part of what is told live was read already."""
        newest = self._newest.get(item.timeline, 0)
        rows = item.block.take(item.block.t > newest)
        if len(rows):
            self._newest[item.timeline] = newest = int(rows.t[-1])
            await self._sending.run(lambda: Deferred.fromCoroutine(self.fanout.send(_of(item.timeline, rows))))
        if item.position is not None:
            self._reached[item.timeline] = Resume(item.position, newest, item.unread)


def _of(timeline: str, block: Block) -> list[Sent]:
    stage, where, topic = parts_of(timeline)
    column = block.columns.get(timeline)
    data = [] if column is None else column.to_list()
    rows = zip(block.t.tolist(), data, strict=False)
    return [sent(t, make(where, topic, one, stage)) for t, one in rows if one is not None]
