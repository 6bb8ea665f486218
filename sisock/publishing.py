"""Publishing: what a node keeps goes out live, block by block, while somebody watches.

Blocks are told here after their commit, from whatever thread. Those of a few milliseconds travel together as one event;
the first after a pause goes at once. What is late or corrects is read back, so that the event holds whole rows. What
cannot travel as an event (too long, too much at once, not to be read) is left out: its readers see the hole in the
numbers and ask by `since`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import PublishOptions
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock import uris
from sisock.blocks import Block, concat, merge
from sisock.errors import SisockError
from sisock.live import LiveBlock
from sisock.node import DataNode
from sisock.positions import Position
from sisock.requests import text_size
from sisock.session import AskingSession
from sisock.times import to_micros, to_seconds
from sisock.watching import Watched

log = Logger()

# Bytes of an event, and of all that wait to be published.
EVENT_BYTES = 1 << 20
WAITING_BYTES = 16 << 20
# Rows that are read back for a block that is late; one that reaches further is left to `since`.
LATE_ROWS = 4096
# Seconds after which a silent timeline repeats its position, and between two publications of the last rows.
REPEAT = 5.0
LATEST_EVERY = 0.5
# Corrected ranges that the hub is told of at a time.
MAX_TOLD = 100

_EMPTY = Block.of([], {})


@dataclass(frozen=True, slots=True)
class _Kept:
    """A block that was committed; `fresh` if it came behind all others."""

    timeline: str
    block: Block
    position: Position
    fresh: bool

    @property
    def size(self) -> int:
        texts = (column.to_list() for column in self.block.columns.values() if column.type == "string")
        return 64 + 9 * len(self.block) * (1 + len(self.block.columns)) + sum(map(text_size, texts))


class Publisher:
    """Publishes one node. `kept` may be called from any thread, everything else belongs to the reactor's."""

    def __init__(self, node: DataNode, in_reader: Callable[..., Deferred[Any]]) -> None:
        self._node, self._in_reader = node, in_reader
        self._lock = threading.Lock()
        self._waiting: list[_Kept] = []
        self._bytes = 0
        self._watched = Watched()
        self._positions: dict[str, Position] = {}
        self._newest: dict[str, int] = {}
        # The block that holds the last row of each timeline.
        self._last: dict[str, Block] = {}
        self._changed = False
        # Whether the history may hold more than is known of it here.
        self._unsure = False
        self._session: AskingSession | None = None
        self._due: Any = None
        self._flushing = False
        self._flushed = 0.0
        self._told: dict[str, float] = {}
        self._latest_at = 0.0
        # Of each timeline, where rows that were final were replaced since the hub was told.
        self._corrected: dict[str, tuple[int, int]] = {}
        self._beat = LoopingCall(self._on_beat)

    def prepare(self) -> None:
        """Notes how far each timeline has come; called in a thread, before the node appends anything."""
        history = self._node.history
        try:
            for timeline in history.timelines():
                position, newest = history.position(timeline), history.newest(timeline)
                self._positions.setdefault(timeline, position)
                if newest is not None:
                    self._newest.setdefault(timeline, newest)
        except SisockError as error:
            self._unsure = True
            log.warn("{name}: what its history holds is not known yet: {error}", name=self._node.name, error=error)

    def kept(self, timeline: str, block: Block, position: Position) -> None:
        """Takes in a block that was committed at this position; called in the order of the commits."""
        from twisted.internet import reactor

        with self._lock:
            before = self._newest.get(timeline)
            unknown = before is None and self._unsure
            fresh = not len(block) or (not unknown and (before is None or int(block.t[0]) > before))
            known = self._positions.get(timeline)
            if known is None or known.epoch != position.epoch or known.seq < position.seq:
                self._positions[timeline] = position
            if len(block) and (before is None or int(block.t[-1]) >= before):
                self._newest[timeline] = int(block.t[-1])
                self._last[timeline] = _last_of(self._last.get(timeline), block)
            self._changed = True
            if not fresh and before is not None and int(block.t[0]) < before - to_micros(self._node.lateness(timeline)):
                low, high = self._corrected.get(timeline, (int(block.t[0]), int(block.t[-1]) + 1))
                self._corrected[timeline] = min(low, int(block.t[0])), max(high, min(int(block.t[-1]), before) + 1)
            one = _Kept(timeline, block, position, fresh)
            if self._session is None or not self._watched.includes(timeline) or self._bytes + one.size > WAITING_BYTES:
                return
            self._waiting.append(one)
            self._bytes += one.size
            wakes = len(self._waiting) == 1
        if wakes:
            reactor.callFromThread(self._schedule)

    async def joined(self, session: AskingSession) -> None:
        """Learns who watches the node, and publishes from then on."""
        await session.subscribe(self._on_watched, uris.watched(self._node.name))
        watched = Watched.from_wire(await session.ask(uris.WATCHED, self._node.name))
        self._session = session
        # A router that started anew keeps no last rows.
        self._told.clear()
        with self._lock:
            self._watched = Watched()
        self._on_watched(watched.to_wire())
        if not self._beat.running:
            self._beat.start(LATEST_EVERY).addErrback(lambda failure: log.failure("publishing stopped", failure))

    def left(self) -> None:
        """Publishes nothing until the next session; what waits is left to `since`."""
        self._session = None
        if self._beat.running:
            self._beat.stop()
        with self._lock:
            self._waiting.clear()
            self._bytes = 0

    def _on_watched(self, wire: Any) -> None:
        watched, before = Watched.from_wire(wire), self._watched
        with self._lock:
            self._watched = watched
        for timeline in self._watched_timelines():
            # What was committed before we knew of this watcher shows as a hole at once.
            if not before.includes(timeline) or timeline not in self._told:
                self._repeat(timeline)
        if watched.latest and not before.latest:
            self._publish_latest()

    def _watched_timelines(self) -> list[str]:
        return [name for name in tuple(self._positions) if self._watched.includes(name)]

    def _schedule(self) -> None:
        from twisted.internet import reactor

        if self._due is None and not self._flushing:
            wait = max(0.0, self._flushed + self._node.batch - reactor.seconds())
            self._due = reactor.callLater(wait, self._flush)

    def _flush(self) -> None:
        self._due = None
        self._flushing = True
        Deferred.fromCoroutine(self._publish_waiting()).addErrback(
            lambda failure: log.failure("{name}: live blocks were not published", failure, name=self._node.name)
        ).addBoth(self._flush_ended)

    def _flush_ended(self, _: Any) -> None:
        from twisted.internet import reactor

        self._flushing, self._flushed = False, reactor.seconds()
        with self._lock:
            more = bool(self._waiting)
        if more:
            self._schedule()

    async def _publish_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting, self._bytes = self._waiting, [], 0
        for run in _runs(waiting):
            event = await self._event(run)
            if event is not None:
                self._send(event)
            else:
                self._repeat(run[0].timeline)

    async def _event(self, run: Sequence[_Kept]) -> LiveBlock | None:
        """The event of blocks that follow each other; None for what only `since` can tell."""
        first, last = run[0], run[-1]
        if first.size > EVENT_BYTES:
            return None
        revises = None
        try:
            block = concat(one.block for one in run)
            if not first.fresh:
                revises = int(block.t[0]), int(block.t[-1]) + 1
                block = await self._in_reader(self._read_back, first.timeline, *revises)
        except SisockError as error:
            log.debug("{timeline}: {error}; it is left to `since`", timeline=first.timeline, error=error)
            return None
        if block is None or not (block.t[1:] > block.t[:-1]).all():
            return None
        final = self._final(first.timeline)
        return LiveBlock(first.timeline, last.position, first.position.seq - 1, block, final, revises)

    def _final(self, timeline: str) -> float | None:
        newest = self._newest.get(timeline)
        return None if newest is None else to_seconds(newest) - self._node.lateness(timeline)

    def _read_back(self, timeline: str, start: int, end: int) -> Block | None:
        history = self._node.history
        if history.count(timeline, start, end) > LATE_ROWS:
            return None
        fields = [name for name, spec in self._node.fields.items() if spec.timeline == timeline]
        return history.read(timeline, fields, start, end)[0]

    def _repeat(self, timeline: str) -> None:
        """Says how far the timeline has come."""
        position = self._positions.get(timeline)
        if position is not None:
            self._send(LiveBlock(timeline, position, position.seq, _EMPTY, self._final(timeline)))

    def _send(self, event: LiveBlock) -> None:
        from twisted.internet import reactor

        self._told[event.timeline] = reactor.seconds()
        self._publish(uris.live(self._node.name, event.timeline), event.to_wire(), None)

    def _publish(self, topic: str, event: Any, options: PublishOptions | None) -> None:
        session = self._session
        if session is None or not session.is_attached():
            return
        try:
            session.publish(topic, event, options=options)
        except (TransportLost, ApplicationError) as error:
            log.debug("{topic} was not published: {error}", topic=topic, error=error)

    def _on_beat(self) -> None:
        from twisted.internet import reactor

        present = reactor.seconds()
        for timeline in self._watched_timelines():
            if present - self._told.get(timeline, 0.0) >= REPEAT and not self._flushing:
                self._repeat(timeline)
        if self._changed and (self._watched.latest or present - self._latest_at >= REPEAT):
            self._publish_latest()
        self._tell_corrected()

    def _tell_corrected(self) -> None:
        """Tells the hub, which keeps a record, of rows that were final and were replaced."""
        with self._lock:
            corrected, self._corrected = self._corrected, {}
        session = self._session
        if corrected and session is not None and session.is_attached():
            ranges = sorted([to_seconds(low), to_seconds(high)] for low, high in corrected.values())[:MAX_TOLD]
            told = Deferred.fromCoroutine(session.ask(uris.CORRECTED, self._node.name, ranges))
            # A hub of before keeps no such record.
            told.addErrback(lambda failure: log.debug("corrections were not told: {error}", error=failure.value))

    def _publish_latest(self) -> None:
        """The last row of each timeline, kept by the router for whoever subscribes later."""
        from twisted.internet import reactor

        self._latest_at = reactor.seconds()
        with self._lock:
            self._changed = False
            last = {name: (block, self._positions[name]) for name, block in self._last.items()}
        event = {name: _last_row(block, position) for name, (block, position) in last.items()}
        if event:
            self._publish(uris.latest(self._node.name), event, PublishOptions(retain=True))


def _last_of(before: Block | None, block: Block) -> Block:
    """A block that ends with the last row: where it was there before, fields that the block does not name stay."""
    if before is None or before.t[-1] != block.t[-1]:
        return block
    return merge(*(one.take(slice(len(one) - 1, None)) for one in (before, block)))


def _last_row(block: Block, position: Position) -> dict[str, Any]:
    row = block.take(slice(len(block) - 1, None))
    values = {name: column.to_list()[0] for name, column in row.columns.items()}
    return {"t": to_seconds(int(row.t[0])), "data": values, **position.to_wire()}


def _runs(waiting: Sequence[_Kept]) -> Iterator[list[_Kept]]:
    """Blocks that one event can hold: of one timeline, numbered one after the other, all fresh or one that is not."""
    by_timeline: dict[str, list[_Kept]] = {}
    for one in waiting:
        by_timeline.setdefault(one.timeline, []).append(one)
    for blocks in by_timeline.values():
        run: list[_Kept] = []
        size = 0
        for one in sorted(blocks, key=lambda kept: kept.position.seq):
            follows = run and one.fresh and run[-1].fresh and one.position == _next(run[-1].position)
            if run and not (follows and size + one.size <= EVENT_BYTES):
                yield run
                run, size = [], 0
            run.append(one)
            size += one.size
        if run:
            yield run


def _next(position: Position) -> Position:
    return Position(position.epoch, position.seq + 1)
