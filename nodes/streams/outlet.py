"""An outlet: another process of subscribers behind the router, which follows the node `streams` and hands on what comes.

    SISOCK_STREAMS_OUTLET_PORT=8030 sisock run sisock.nodes.streams:Outlet

Crossbar carries a message once to each outlet, and each encodes it once for all its subscribers. A second one on a machine
has a name of its own: SISOCK_STREAMS_OUTLET=streams_outlet_2. It keeps nothing: `since` and producers go to the node.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from sisock import settings as site
from sisock.blocks import Block
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError
from sisock.followed import Missing
from sisock.following import Follower
from sisock.nodes.streams.fanout import Sent
from sisock.nodes.streams.message import Message, make, parts_of
from sisock.nodes.streams.node import Streams, sent
from sisock.times import now

log = Logger()

# Seconds between two looks for sites and topics that are new; what is said of one meanwhile comes then.
LOOK_EVERY = 1.0


class Outlet(Streams):
    """Subscribers of the streams on another process."""

    name = os.environ.get("SISOCK_STREAMS_OUTLET", "streams_outlet")
    description = "Another process of subscribers to the node streams."
    keeps = False

    def __init__(self) -> None:
        super().__init__()
        self.procedures = {}
        self.missed = 0
        self._consumer: Consumer | None = None
        self._followers: list[Follower] = []
        self._began = now()
        self._looking = LoopingCall(self._look)

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

    def accept(self, message: Message, done: Callable[[], None]) -> None:
        """Takes nothing."""
        raise InvalidArgument("this is an outlet, which keeps nothing: send to the node streams")

    def _begin(self) -> None:
        self._consumer = Consumer(site.Settings.read().consumer(web=True))
        self._consumer.connect(lambda error: self.errors.say("router", str(error)))
        self.faces.listen()
        self._looking.start(LOOK_EVERY).addErrback(lambda failure: log.failure("an outlet looks no more", failure))

    async def _end(self) -> None:
        if self._looking.running:
            self._looking.stop()
        if self._consumer is not None:
            await self._consumer.stop()

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._follow_new())

    async def _follow_new(self) -> None:
        consumer = self._consumer
        if consumer is None or not consumer.connected:
            return
        try:
            catalogue = await consumer.get_fields(self.source)
        except SisockError as error:
            self.errors.say("streams", str(error))
            return
        new = [name for name, spec in catalogue.fields.items() if name == spec.timeline and name not in self._met]
        if new:
            self._met.update(new)
            follower = consumer.follow(self.source, new, self._began)
            Deferred.fromCoroutine(self._hand_on_from(follower)).addErrback(
                lambda failure: log.failure("an outlet follows no more", failure)
            )

    async def _hand_on_from(self, follower: Follower) -> None:
        async for item in follower:
            if isinstance(item, Missing):
                self.missed += 1
                self.errors.say(item.timeline, item.reason)
            else:
                await self.fanout.send(_of(item.timeline, item.block))


def _of(timeline: str, block: Block) -> list[Sent]:
    stage, where, topic = parts_of(timeline)
    column = block.columns.get(timeline)
    data = [] if column is None else column.to_list()
    rows = zip(block.t.tolist(), data, strict=False)
    return [sent(t, make(where, topic, one, stage)) for t, one in rows if one is not None]
