"""The node `streams`: each site and topic a timeline of what producers sent, which goes to all who subscribe to the site."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred

from sisock import DataNode, Field, Timeline
from sisock.blocks import Block, Column
from sisock.errors import Busy, InvalidArgument, StoreAway, TooMuch
from sisock.intake import Intake
from sisock.nodes.streams.fanout import FanOut, Key, Sent
from sisock.nodes.streams.message import Message, encode, id_field, parse, parts_of
from sisock.nodes.streams.producers.procedure import procedure
from sisock.nodes.streams.settings import Settings
from sisock.refusals import Refusals
from sisock.router.framing import prefix
from sisock.times import LATEST, MICROS, now

# Sites and topics together; beyond, somebody sends names that are none.
MAX_TIMELINES = 10_000
# Ids that are remembered, and for how long, in seconds.
MAX_IDS = 100_000
IDS_FOR = 86_400.0
# Rows of a page that is read back, and bytes of what is handed on at a time.
PAGE_ROWS = 256
CHUNK = 128 << 10


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
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._met: set[str] = set()
        self._parts: list[Any] = []
        self.procedures = {"send": procedure(self)}

    def start(self) -> None:
        """Takes up where the history ends, and listens."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        from sisock.nodes.streams.faces import Faces
        from sisock.nodes.streams.producers.queue import Queues

        self._take_up()
        self.fanout.begin(self._stamp)
        self.intake.start()
        faces = Faces(self)
        blockingCallFromThread(reactor, faces.listen)
        self.faces = faces
        self._parts.append(faces)
        queues = Queues(self, self.settings)
        queues.start()
        self._parts.append(queues)

    def trouble(self) -> str | None:
        """Whether the store does not take what comes."""
        return None if self.intake.problem is None else f"waits for the store: {self.intake.problem}"

    def stop(self) -> None:
        """Takes no more, and stores what was taken."""
        for part in reversed(self._parts):
            part.stop()
        self.intake.stop()

    def _take_up(self) -> None:
        """Learns of the history what the newest stamp is, and which ids have come."""
        try:
            timelines = self.history.timelines()
        except StoreAway as error:
            self.errors.say("history", f"what came before is not known yet: {error}")
            return
        found: list[tuple[int, str, str]] = []
        since = round((now() - IDS_FOR) * MICROS)
        for timeline in timelines:
            self._meet(timeline)
            self._stamp = max(self._stamp, self.history.newest(timeline) or 0)
            name = id_field(timeline)
            for page, _ in self.history.pages(timeline, [name], since, LATEST, 4096):
                ids = page.columns[name].to_list() if name in page.columns else []
                found += [(int(t), timeline, one) for t, one in zip(page.t, ids, strict=False) if one is not None]
            found = heapq.nlargest(MAX_IDS, found)
        for _, timeline, one in sorted(found):
            self._ids[timeline, one] = None

    @property
    def known(self) -> int:
        """How many sites and topics there are."""
        return len(self._met)

    # Taking

    def accept(self, message: Message, done: Callable[[], None]) -> None:
        """Takes a message, from any thread; `done` is called, in the reactor's, when it is stored and handed on.

        One whose id has come before is not kept a second time, and `done` is called when the first is stored. Busy if
        too many wait, TooMuch for a new site or topic beyond all bounds.
        """
        with self._lock:
            if self.intake.full:
                raise Busy
            key = (message.timeline, message.id or "")
            repeats = message.id is not None and key in self._ids
            if repeats:
                self.repeats += 1
            else:
                self._meet(message.timeline)
                self._stamp = max(round(now() * MICROS), self._stamp + 1)
                if message.id is not None:
                    self._ids[key] = None
                    if len(self._ids) > MAX_IDS:
                        self._ids.popitem(last=False)
            self.intake.take(Taken(self._stamp, message, done, repeats), len(message.data) + 500)

    async def send(self, message: Message) -> None:
        """Takes a message and waits until it is stored and handed on; in the reactor's thread."""
        stored: Deferred[None] = Deferred()
        self.accept(message, lambda: None if stored.called else stored.callback(None))
        await stored

    def parse(self, body: str | bytes, stage: str, producer: str) -> Message:
        """The message of a JSON text; what is wrong with it is counted for that producer, and raised."""
        try:
            return parse(body, stage)
        except InvalidArgument as error:
            self.errors.say(producer, str(error))
            raise

    def _meet(self, timeline: str) -> None:
        if timeline in self._met:
            return
        if len(self._met) >= MAX_TIMELINES:
            raise TooMuch(f"there are {MAX_TIMELINES} sites and topics already; a new one is not taken.")
        stage, site, topic = parts_of(timeline)
        where = f"{topic} of {site}" if stage == "prod" else f"{topic} of {site} ({stage})"
        fields = {
            timeline: Field(f"What was sent as {where}, as JSON", type="string", timeline=timeline),
            id_field(timeline): Field(f"The producer's id of what was sent as {where}", type="string", timeline=timeline),
        }
        self.declare(fields, {timeline: Timeline()})
        self._met.add(timeline)

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

    async def _hand_on(self, batch: Sequence[Taken]) -> None:
        await self.fanout.send([sent(one.stamp, one.message) for one in batch if not one.repeats])
        for one in batch:
            one.done()

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


def _matches(parts: tuple[str, str, str], key: Key, topics: Collection[str] | None) -> bool:
    return parts[:2] == key and (topics is None or parts[2] in topics)


def _block(timeline: str, taken: Sequence[Taken]) -> Block:
    t = np.array([one.stamp for one in taken], np.int64)
    columns = {timeline: Column.of([one.message.data for one in taken])}
    if any(one.message.id is not None for one in taken):
        columns[id_field(timeline)] = Column.of([one.message.id for one in taken])
    return Block(t, columns)


def sent(stamp: int, message: Message) -> Sent:
    """A message as it goes out."""
    return Sent(stamp, (message.stage, message.site), message.topic, _framed(message.encode()))


def _framed(payload: bytes) -> bytes:
    return prefix(payload, is_binary=False) + payload
