"""The node `streams`: each site and topic a timeline of what producers sent, which goes to all who subscribe to the site."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block, Column
from sisock.errors import Busy, InvalidArgument, TooMuch
from sisock.intake import Intake
from sisock.learning import Learning
from sisock.nodes.streams.fanout import FanOut, Key, Sent
from sisock.nodes.streams.ids import Ids
from sisock.nodes.streams.message import Message, encode, id_field, parse, parts_of, size_field
from sisock.nodes.streams.producers.procedure import procedure
from sisock.nodes.streams.settings import OPTIONS, Settings
from sisock.refusals import Refusals
from sisock.retention import Retention
from sisock.router.framing import prefix
from sisock.times import MICROS, now

log = logging.getLogger(__name__)

# Sites and topics together; beyond, somebody sends names that are none.
MAX_TIMELINES = 10_000
# Rows of a page that is read back, and bytes of what is handed on at a time.
PAGE_ROWS = 256
CHUNK = 128 << 10

UNKNOWN_IDS = "does not know yet which ids have come, as the store is away"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was accepted: its stamp in microseconds, and who is told when it is stored and handed on."""

    stamp: int
    message: Message
    done: Callable[[], None]
    repeats: bool = False


class Streams(DataNode):
    """What producers send to the subscribers of a site."""

    name = "streams"
    description = "What producers send to the subscribers of a site."
    max_rows = 100_000
    options = OPTIONS
    source = "streams"
    """The node whose messages subscribers hear: its name is what rights are asked for."""
    keeps = True
    """Whether what was can be heard here."""
    ready = True
    """Whether subscribers are let in: from then on they hear all there is."""
    missed = 0
    """How often something could not be handed on, of which the reason is told: an outlet's node had lost what it keeps."""
    # Messages come when there is something to say, and of thousands of sites and topics.
    measures = False

    def __init__(self) -> None:
        super().__init__()
        self.fanout = FanOut()
        self.settings = Settings.read()
        self.intake: Intake[Taken] = Intake(self.name, self._keep, self._blocks, self._stored)
        self.errors = Refusals(self.name)
        self.repeats = 0
        self._lock = threading.Lock()
        self._stamp = 0
        self._ids = Ids()
        self._retention = Retention(self, self.settings.keep)
        self._learning = Learning(self.name, self._take_up)
        self._met: set[str] = set()
        self._parts: list[Any] = []
        self.procedures = {"send": procedure(self)}

    def start(self) -> None:
        """Takes up where the history ends, and listens."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        from sisock.nodes.streams.faces import Faces
        from sisock.nodes.streams.producers.queue import Queues

        self._learning.start()
        # Of what is not known here whoever asks `since` hears from the history, or not at all.
        self.fanout.begin(self._stamp if self._ids.known else round(now() * MICROS))
        self.intake.start()
        faces = Faces(self)
        blockingCallFromThread(reactor, faces.listen)
        self.faces = faces
        self._parts.append(faces)
        queues = Queues(self, self.settings)
        queues.start()
        self._parts.append(queues)

    def trouble(self) -> str | None:
        """Whether the store does not take what comes, or not all of it."""
        if self.intake.problem is not None:
            return f"waits for the store: {self.intake.problem}"
        return None if self._ids.known else UNKNOWN_IDS

    def stop(self) -> None:
        """Takes no more, and stores what was taken."""
        self._learning.stop()
        for part in reversed(self._parts):
            part.stop()
        self.intake.stop()

    def _take_up(self) -> None:
        """Learns of the history what the newest stamp is, and which ids have come; StoreAway while it cannot be read."""
        timelines = self.history.timelines()
        newest = max((self.history.newest(timeline) or 0 for timeline in timelines), default=0)
        ids = self._ids.read(self.history, timelines)
        with self._lock:
            self._meet(timelines)
            self._stamp = max(self._stamp, newest)
            self._ids.know(ids)
        self._retention.apply(timelines)

    @property
    def known(self) -> int:
        """How many sites and topics there are."""
        return len(self._met)

    # Taking

    def accept(self, messages: Sequence[Message], done: Callable[[], None]) -> None:
        """Takes messages, from any thread, all of them or none; `done` is called when all are stored and handed on.

        It is called in the reactor's thread. One whose id has come before is not kept a second time, and counts as stored
        when the first is. Busy if too many wait, or if the ids that have come are not known yet; TooMuch for new sites or
        topics beyond all bounds.
        """
        with self._lock:
            if self.intake.full:
                raise Busy
            if not self._ids.known and any(one.id is not None for one in messages):
                raise Busy(f"a message with an id has to wait: it {UNKNOWN_IDS}")
            new = {one.timeline for one in messages} - self._met
            if new and len(self._met) + len(new) > MAX_TIMELINES:
                raise TooMuch(f"there are {MAX_TIMELINES} sites and topics already; a new one is not taken.")
            # Batches come in the order in which they were taken, so that the last one's is all's.
            last = len(messages) - 1
            for number, one in enumerate(messages):
                self._take(one, done if number == last else _nothing)

    def _take(self, message: Message, done: Callable[[], None]) -> None:
        key = (message.timeline, message.id or "")
        repeats = message.id is not None and key in self._ids
        if repeats:
            self.repeats += 1
        else:
            if message.timeline not in self._met:
                self._meet([message.timeline])
            self._stamp = max(round(now() * MICROS), self._stamp + 1)
            if message.id is not None:
                self._ids.add(key)
        self.intake.take(Taken(self._stamp, message, done, repeats), len(message.data) + 500)

    async def send(self, *messages: Message) -> None:
        """Takes messages, all of them or none, and waits until they are stored and handed on; in the reactor's thread."""
        stored: Deferred[None] = Deferred()
        self.accept(messages, lambda: None if stored.called else stored.callback(None))
        await stored

    def parse(self, body: str | bytes, stage: str, producer: str) -> Message:
        """The message of a JSON text; what is wrong with it is counted for that producer, and raised."""
        try:
            return parse(body, stage)
        except InvalidArgument as error:
            self.errors.say(producer, str(error))
            raise

    def _meet(self, timelines: Sequence[str]) -> None:
        new = [timeline for timeline in timelines if timeline not in self._met]
        if not new:
            return
        fields: dict[str, Field] = {}
        for timeline in new:
            fields |= _fields(timeline)
        self.declare(fields, {timeline: Timeline() for timeline in new})
        self._met.update(new)

    # Storing; in the intake's thread

    def _keep(self, timeline: str, block: Block, correct: bool) -> Future[Any]:
        return self.append_block(timeline, block, correct=correct)

    def _blocks(self, batch: Sequence[Taken]) -> dict[str, Block]:
        rows: dict[str, list[Taken]] = {}
        for one in batch:
            if not one.repeats:
                rows.setdefault(one.message.timeline, []).append(one)
        return {timeline: _block(timeline, taken) for timeline, taken in rows.items()}

    def _stored(self, batch: Sequence[Taken]) -> None:
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        # The next commit waits for it, so that no more is on its way to subscribers than one batch.
        handed: Callable[[], Deferred[Any]] = lambda: Deferred.fromCoroutine(self._hand_on(batch))  # noqa: E731
        blockingCallFromThread(reactor, handed)
        self._retention.apply({one.message.timeline for one in batch})

    async def _hand_on(self, batch: Sequence[Taken]) -> None:
        await self.fanout.send([sent(one.stamp, one.message) for one in batch if not one.repeats])
        for one in batch:
            try:
                one.done()
            except Exception:
                log.exception("%s: who sent a message could not be told that it is stored", self.name)

    # Reading back; in a thread

    def replay(self, key: Key, topics: Collection[str] | None, after: int, until: int) -> Iterator[tuple[bytes, int]]:
        """Frames of what was sent to a site with stamps in (after, until], in their order, some at a time."""
        wanted = [line for line in self.history.timelines() if _matches(parts_of(line), key, topics)]
        frames: list[bytes] = []
        size = 0
        for _, frame in heapq.merge(*(self._frames(timeline, after + 1, until + 1) for timeline in wanted)):
            frames.append(frame)
            size += len(frame)
            if size >= CHUNK:
                yield b"".join(frames), len(frames)
                frames, size = [], 0
        if frames:
            yield b"".join(frames), len(frames)

    def _frames(self, timeline: str, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        _, site, topic = parts_of(timeline)
        for page, _ in self.history.pages(timeline, [timeline], start, end, PAGE_ROWS):
            data = page.columns[timeline].to_list() if timeline in page.columns else []
            for t, one in zip(page.t.tolist(), data, strict=False):
                if one is not None:
                    yield t, _framed(encode(site, topic, one))


def _fields(timeline: str) -> dict[str, Field]:
    stage, site, topic = parts_of(timeline)
    where = f"{topic} of {site}" if stage == "prod" else f"{topic} of {site} ({stage})"
    labels = {"site": site, "topic": topic, "stage": stage}
    return {
        timeline: Field(f"What was sent as {where}, as JSON", type="string", timeline=timeline, labels=labels),
        id_field(timeline): Field(f"The producer's id of what was sent as {where}", type="string", timeline=timeline),
        # A number, for those who can only plot such: how much comes, and how often.
        size_field(timeline): Field(f"How long what was sent as {where} is", "B", timeline=timeline, labels=labels),
    }


def _nothing() -> None:
    """Nobody waits for this one by itself."""


def _matches(parts: tuple[str, str, str], key: Key, topics: Collection[str] | None) -> bool:
    return parts[:2] == key and (topics is None or parts[2] in topics)


def _block(timeline: str, taken: Sequence[Taken]) -> Block:
    t = np.array([one.stamp for one in taken], np.int64)
    data = [one.message.data for one in taken]
    columns = {timeline: Column.of(data), size_field(timeline): Column.of([len(one.encode()) for one in data])}
    if any(one.message.id is not None for one in taken):
        columns[id_field(timeline)] = Column.of([one.message.id for one in taken])
    return Block(t, columns)


def sent(stamp: int, message: Message) -> Sent:
    """A message as it goes out."""
    return Sent(stamp, (message.stage, message.site), message.topic, _framed(message.encode()))


def _framed(payload: bytes) -> bytes:
    return prefix(payload, is_binary=False) + payload
