"""Replaying: rows of a source come once more, as a live node's, at the pace at which they came or a multiple of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from autobahn.twisted.util import sleep
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock.asking import Question
from sisock.blocks import Block
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError
from sisock.fields import DEFAULT_TIMELINE, Catalogue, Field, Timeline
from sisock.node import DataNode
from sisock.recording import Recording
from sisock.times import LATEST, MICROS, now, to_micros, to_seconds

# Seconds between two looks at which rows are due, and values that are read ahead.
TICK = 0.05
AHEAD = 500_000


@dataclass(frozen=True, slots=True)
class Origin:
    """What is replayed: a name for it, what it is, its fields and timelines."""

    name: str
    description: str
    catalogue: Catalogue


class Source(Protocol):
    """Where rows come from. Times are microseconds."""

    async def origin(self) -> Origin:
        """What it holds."""

    async def first(self, start: int, end: int) -> int | None:
        """The time of the first row in [start, end) of all timelines; None without any."""

    def blocks(self, timeline: str, start: int, end: int) -> AsyncIterator[Block]:
        """The rows of a timeline in [start, end), in order of time."""


async def in_threads(blocks: Iterator[Block]) -> AsyncIterator[Block]:
    """Blocks of an iterator that reads files, each read in a thread."""
    while (block := await deferToThread(next, blocks, None)) is not None:
        yield block


class RecordingSource:
    """A recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def origin(self) -> Origin:
        """What was recorded."""
        about = self._recording.about
        fields = {name: spec for line in self._recording.timelines for name, spec in self._recording.fields(line).items()}
        return Origin(about.node, about.description, Catalogue(fields, about.catalogue.timelines))

    async def first(self, start: int, end: int) -> int | None:
        """The time of its first row."""
        firsts = []
        for timeline in self._recording.timelines:
            async for block in self.blocks(timeline, start, end):
                firsts.append(int(block.t[0]))
                break
        return min(firsts, default=None)

    def blocks(self, timeline: str, start: int, end: int) -> AsyncIterator[Block]:
        """Its rows."""
        return in_threads(self._recording.rows(timeline, start, end))


class FileSource:
    """A Parquet file with one timeline, as `get -o` and `store export` write them; rows in order of time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def origin(self) -> Origin:
        """What its metadata say."""
        return await deferToThread(self._origin)

    def _origin(self) -> Origin:
        from pyarrow import ArrowException, parquet

        from sisock import arrow

        try:
            with parquet.ParquetFile(self._path) as file:
                layout = file.schema_arrow
        except ArrowException as error:
            raise InvalidArgument(f"{self._path} is no Parquet file: {error}") from error
        told = {key.decode(): text.decode(errors="replace") for key, text in (layout.metadata or {}).items()}
        if layout.names[:1] != ["t"]:
            raise InvalidArgument(f"{self._path} does not begin with a column t of times, as rows in Parquet do.")
        timeline = told.get("timeline", DEFAULT_TIMELINE)
        fields = {name: replace(spec, timeline=timeline) for name, spec in arrow.fields_of(layout).items()}
        name = told.get("node") or self._path.stem
        return Origin(name, f"Rows of {self._path.name}.", Catalogue(fields, {timeline: Timeline()}))

    async def first(self, start: int, end: int) -> int | None:
        """The time of its first row."""
        async for block in self.blocks("", start, end):
            return int(block.t[0])
        return None

    def blocks(self, timeline: str, start: int, end: int) -> AsyncIterator[Block]:
        """Its rows."""
        return in_threads(self._rows(start, end))

    def _rows(self, start: int, end: int) -> Iterator[Block]:
        from sisock.store.transfer import read_parquet

        newest = None
        for block, _ in read_parquet(self._path):
            if len(block) and newest is not None and block.t[0] <= newest:
                raise InvalidArgument(f"{self._path}: its rows are not in order of time. `sisock store import` sorts them.")
            newest = int(block.t[-1]) if len(block) else newest
            within = block.between(start, end)
            if len(within):
                yield within


class NodeSource:
    """A node's own history, read by pages ahead of what is due."""

    def __init__(self, consumer: Consumer, node: str) -> None:
        self._consumer, self._node = consumer, node
        self._catalogue = Catalogue()

    async def origin(self) -> Origin:
        """What it offers."""
        self._catalogue = await self._consumer.get_fields(self._node)
        listed = {one["name"]: one["description"] for one in await self._consumer.nodes()}
        return Origin(self._node, listed.get(self._node) or "", self._catalogue)

    async def first(self, start: int, end: int) -> int | None:
        """The time of its first row, or a little before."""
        names = list(self._catalogue.fields)
        tails = await self._consumer.read(self._node, Question(names, start, end, max_points=1, method="last"))
        firsts = [start if tail.first is None else max(start, tail.first) for tail in tails.values() if tail.last is not None]
        return min(firsts, default=None)

    async def blocks(self, timeline: str, start: int, end: int) -> AsyncIterator[Block]:
        """Its rows."""
        names = [name for name, spec in self._catalogue.fields.items() if spec.timeline == timeline]
        ahead, question = _Ahead(), Question(names, start, end)
        again = partial(self._consumer.back, self._node)
        reading = Deferred.fromCoroutine(
            self._consumer.read_all(self._node, question, lambda _, block: ahead.put(block), again=again, room=ahead.room)
        )
        reading.addCallbacks(lambda _: ahead.end(None), lambda failure: ahead.end(failure.value))
        try:
            while (block := await ahead.take()) is not None:
                if len(block):
                    yield block
        finally:
            reading.cancel()


class _Ahead:
    """Blocks that were read ahead, up to a bound."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._held = 0
        self._ended = False
        self._error: Exception | None = None
        self._changed: Deferred[None] = Deferred()

    def put(self, block: Block) -> None:
        self._blocks.append(block)
        self._held += len(block) * (1 + len(block.columns))
        self._wake()

    def end(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._wake()

    async def room(self) -> None:
        while self._held > AHEAD:
            await self._wait()

    async def take(self) -> Block | None:
        while not self._blocks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            await self._wait()
        block = self._blocks.pop(0)
        self._held -= len(block) * (1 + len(block.columns))
        self._wake()
        return block

    async def _wait(self) -> None:
        # Reader and taker may both wait.
        mine: Deferred[None] = Deferred()
        self._changed.addCallback(lambda _: mine.callback(None))
        await mine

    def _wake(self) -> None:
        changed, self._changed = self._changed, Deferred()
        changed.callback(None)


class Pace:
    """When rows come: `speed` times as fast as they came, from the row of the time `first` on."""

    def __init__(self, first: int, speed: float, *, keep_times: bool = False) -> None:
        self.first, self.speed, self.keep_times = first, speed, keep_times
        self.began = to_micros(now())

    def due(self, t: Any) -> Any:
        """When rows of these times are due, in microseconds."""
        return self.began + np.rint((t - self.first) / self.speed).astype(np.int64)

    def stamps(self, t: Any, newest: int) -> Any:
        """The times that rows of these times get: when they are due, each behind the one before, or their own."""
        if self.keep_times:
            return t
        due = self.due(t)
        steps = np.arange(len(due))
        # Faster than a row a microsecond they would fall on each other.
        return np.maximum(np.maximum.accumulate(due - steps), newest + 1) + steps


def replay_node(name: str, origin: Origin, speed: float, *, keep_times: bool) -> DataNode:
    """A node that offers what the origin does, in memory."""
    scale = 1.0 if keep_times else speed
    lines = {
        line: Timeline(None if spec.interval is None else spec.interval / scale, spec.lateness)
        for line, spec in origin.catalogue.timelines.items()
    }
    fields: Mapping[str, Field] = origin.catalogue.fields
    made: type[DataNode] = type("Replay", (DataNode,), {"name": name, "fields": fields, "timelines": lines})
    node = made()
    node.description = f"Replay of {origin.name}. {origin.description}".strip()
    return node


async def play(
    source: Source, node: DataNode, timeline: str, pace: Pace, end: int = LATEST, told: Callable[[int], None] = lambda _: None
) -> int:
    """Appends the rows of a timeline to the node when they are due, and answers how many; `told` hears of each few."""
    rows, newest = 0, 0
    async for block in source.blocks(timeline, pace.first, end):
        at = 0
        while at < len(block):
            present = to_micros(now())
            due = pace.due(block.t[at:])
            stop = at + int(np.searchsorted(due, present, side="right"))
            if stop == at:
                await sleep(max(TICK, min(1.0, to_seconds(int(due[0]) - present))))
                continue
            part = block.take(slice(at, stop))
            stamps = pace.stamps(part.t, newest)
            node.append(timeline, stamps / MICROS, dict(part.columns))
            rows, newest, at = rows + len(part), int(stamps[-1]), stop
            told(len(part))
            await sleep(TICK)
    return rows


def check_speed(speed: float) -> float:
    """The speed; InvalidArgument unless it is above nothing and finite."""
    if not 0 < speed < 1e9:
        raise InvalidArgument(f"a speed is a number above 0, such as 1 or 10, not {speed:g}")
    return speed


def source_of(what: str, consumer: Callable[[], Consumer]) -> Source:
    """The source that somebody names: a folder of a recording, a Parquet file, or a node."""
    path = Path(what)
    if path.is_dir():
        return RecordingSource(Recording.find(path))
    if path.exists():
        return FileSource(path)
    if path.suffix == ".parquet" or "/" in what:
        raise SisockError(f"there is no {what}. Name a recording's folder, a .parquet file or a node.")
    return NodeSource(consumer(), what)
