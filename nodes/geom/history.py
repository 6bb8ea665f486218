"""The samples as the history of a node: a timeline a sample and device, fields that carry an object's name, in pixels.

What lies in the store is whole thousandths, once for geoms that share a point; here each coordinate of each geom is a field
`<sample>.<device>.<geom>.x0`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sisock.beside import TableRows
from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument, UnknownNode
from sisock.fields import Field, Timeline
from sisock.history import Changes, Tail
from sisock.nodes.geom.keeping import SCALE, Kept, Sample
from sisock.nodes.geom.library import Library
from sisock.positions import Position
from sisock.store.history import NodeHistory
from sisock.windows import WindowMethod, Windows

_EMPTY = np.empty(0, np.int64)


@dataclass(frozen=True)
class Shown:
    """A sample that the node shows, finished or on its way."""

    sample: Sample
    geoms: tuple[Kept, ...]
    reader: NodeHistory

    def timelines(self) -> dict[str, Timeline]:
        """Its timelines by their names."""
        interval = 1 / self.sample.frames_per_second
        return {f"{self.sample.id}.{device}": Timeline(interval) for device in self.sample.devices}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The fields of all of its devices."""
        found: dict[str, Field] = {}
        for device in self.sample.devices:
            timeline = f"{self.sample.id}.{device}"
            for one in self.geoms:
                geom = one.geom
                what = f"{geom.object_name or geom.object_id or geom.uuid}, {geom.object_type or 'object'}: {geom.type}"
                labels = {
                    "environment": self.sample.environment_id[:255],
                    "device": device[:255],
                    "object_name": geom.object_name[:255],
                    "object_type": geom.object_type[:255],
                    "type": geom.type,
                }
                for place in range(len(one.points)):
                    for axis in "xy":
                        name = f"{timeline}.{one.id}.{axis}{place}"
                        found[name] = Field(f"{what}, {axis} of point {place + 1}", "px", timeline=timeline, labels=labels)
        return found

    def stored(self) -> dict[str, str]:
        """The store's name of each coordinate `<geom>.x0` of each geom."""
        return {
            f"{one.id}.{axis}{place}": f"{geom}.{axis}{at}"
            for one in self.geoms
            for place, (geom, at) in enumerate(one.points)
            for axis in "xy"
        }


class GeomHistory:
    """All samples that are shown. Safe to use from any thread; it is only read, `sisock geom prepare` writes."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._lock = threading.Lock()
        self._shown: dict[int, tuple[Shown, dict[str, str]]] = {}

    def show(self, samples: Iterable[Shown]) -> None:
        """Shows these samples and no others."""
        told = {one.sample.id: (one, one.stored()) for one in samples}
        with self._lock:
            self._shown = told

    @property
    def shown(self) -> list[Shown]:
        """The samples that are shown, the oldest first."""
        with self._lock:
            return [one for one, _ in self._shown.values()]

    def finished(self, timeline: str) -> bool:
        """Whether a timeline is of a finished sample."""
        number = timeline.partition(".")[0]
        with self._lock:
            found = self._shown.get(int(number)) if number.isdecimal() else None
        return found is not None and found[0].sample.status == "success"

    def _find(self, timeline: str, fields: Iterable[str] = ()) -> tuple[NodeHistory, str, dict[str, str]] | None:
        """Who reads a timeline, its name there, and the names there of these fields."""
        number, _, device = timeline.partition(".")
        with self._lock:
            found = self._shown.get(int(number)) if number.isdecimal() else None
        if found is None or device not in found[0].sample.devices:
            return None
        prefix = len(timeline) + 1
        names = {name: found[1][name[prefix:]] for name in fields if name[prefix:] in found[1]}
        return found[0].reader, device, names

    # Writing: nobody does

    def append(
        self,
        timeline: str,
        block: Block,
        *,
        lateness: float = 0.0,
        correct: bool = False,
        wait: bool = True,
        beside: Sequence[TableRows] = (),
    ) -> Future[Position]:
        """InvalidArgument: samples are prepared as a whole."""
        raise InvalidArgument("shapes are not appended; `sisock geom prepare` makes a sample of them")

    # Reading

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end) and their position."""
        found = self._find(timeline, fields)
        if found is None:
            return Block(_EMPTY), Position("", 0)
        reader, device, names = found
        try:
            block, position = reader.read(device, dict.fromkeys(names.values()), start, end)
        except UnknownNode:
            return Block(_EMPTY), Position("", 0)
        return _dressed(block, names), position

    def pages(self, timeline: str, fields: Sequence[str], start: int, end: int, rows: int) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end) in pages of about so many, each with its position."""
        found = self._find(timeline, fields)
        if found is not None:
            reader, device, names = found
            for block, position in reader.pages(device, _stored(names), start, end, rows):
                yield _dressed(block, names), position

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """Rows in [start, end) that hold the extremes of `max_points / 2` pixels of each field."""
        found = self._find(timeline, fields)
        if found is None:
            return Block(_EMPTY)
        reader, device, names = found
        return _dressed(reader.thinned(device, _stored(names), start, end, max_points), names)

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says."""
        found = self._find(timeline, fields)
        if found is None:
            return Block(_EMPTY)
        reader, device, names = found
        return _dressed(reader.windowed(device, _stored(names), windows, method), names, 1 if method == "count" else SCALE)

    def count(self, timeline: str, start: int, end: int) -> int:
        """About how many rows there are in [start, end)."""
        found = self._find(timeline)
        return 0 if found is None else found[0].count(found[1], start, end)

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), how many rows there are, and the position, of one moment."""
        found = self._find(timeline, fields)
        if found is None:
            return Tail(Block(_EMPTY), 0, start, Position("", 0))
        reader, device, names = found
        tail = reader.tail(device, _stored(names), start, end)
        return Tail(_dressed(tail.block, names), tail.rows, tail.first, tail.position)

    def changes(self, timeline: str, fields: Sequence[str], since: Position, start: int, end: int) -> Changes:
        """The rows in [start, end) that came after a position."""
        found = self._find(timeline, fields)
        if found is None:
            return Changes(Block(_EMPTY), (), Position("", 0))
        reader, device, names = found
        changes = reader.changes(device, _stored(names), since, start, end)
        return Changes(_dressed(changes.block, names), changes.revises, changes.position)

    def timelines(self) -> list[str]:
        """Names of the timelines of all samples that are shown."""
        return [name for one in self.shown for name in one.timelines()]

    def fields(self, timeline: str) -> list[str]:
        """Names of the fields of a timeline."""
        number = timeline.partition(".")[0]
        with self._lock:
            found = self._shown.get(int(number)) if number.isdecimal() else None
        return [] if found is None else [f"{timeline}.{name}" for name in found[1]]

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""
        found = self._find(timeline)
        return Position("", 0) if found is None else found[0].position(found[1])

    def newest(self, timeline: str) -> int | None:
        """Last time; None if the timeline has no rows."""
        found = self._find(timeline)
        return None if found is None else found[0].newest(found[1])

    def interval(self, timeline: str) -> float | None:
        """Spacing of the frames in seconds."""
        found = self._find(timeline)
        return None if found is None else found[0].interval(found[1])


def _stored(names: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(names.values()))


def _dressed(block: Block, names: Mapping[str, str], scale: int = SCALE) -> Block:
    """A block in pixels, under the node's names."""
    pixels: dict[str, Column] = {}
    columns: dict[str, Any] = {}
    for name, stored in names.items():
        if stored not in block.columns:
            continue
        if stored not in pixels:
            column = block.columns[stored]
            pixels[stored] = column if scale == 1 else Column(column.values / scale, column.valid)
        columns[name] = pixels[stored]
    return Block(block.t, columns)
