"""Parts: the files of one recorded timeline, and what each says of itself beside its rows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sisock import uris
from sisock.blocks import Block, concat, merge
from sisock.errors import StoreDamaged
from sisock.fields import Field
from sisock.files import GROUP_ROWS, RowsFile, sync_folder
from sisock.history import joined_ranges
from sisock.positions import Position
from sisock.splice import Unread
from sisock.store.layers import outside
from sisock.times import EARLIEST, LATEST

# Under this key a part's file holds what it says of itself.
KEY = "sisock.part"
PARTIAL = ".writing"
MAX_NAME = 200
_NAME = re.compile(r"(\d{8,})-(\d{8,})\.parquet")

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows in [start, end), in microseconds, may be missing or other than recorded; `reason` says why."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a part says beside its rows. Times are microseconds, ranges half-open.

    `revises` are the ranges in which it replaces what earlier parts hold. After it, the recording has all that came up to
    `position` (None where the node keeps none) but for what is `unread`, and `newest` is the newest time ever recorded.
    `level` counts how often it was composed of others.
    """

    revises: tuple[Range, ...] = ()
    position: Position | None = None
    newest: int | None = None
    unread: Unread | None = None
    gaps: tuple[Gap, ...] = ()
    level: int = 0

    def to_json(self) -> str:
        """The text that the file holds."""
        unread = self.unread
        return json.dumps(
            {
                "revises": self.revises,
                "position": None if self.position is None else self.position.to_wire(),
                "newest": self.newest,
                "unread": None if unread is None else [unread.start, unread.end, unread.anew],
                "gaps": [[gap.start, gap.end, gap.reason] for gap in self.gaps],
                "level": self.level,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Told:
        """What the text of a file says."""
        told: dict[str, Any] = json.loads(text)
        return cls(
            tuple((start, end) for start, end in told["revises"]),
            None if told["position"] is None else Position.from_wire(told["position"]),
            told["newest"],
            None if told["unread"] is None else Unread(*told["unread"]),
            tuple(Gap(*gap) for gap in told["gaps"]),
            told["level"],
        )

    def then(self, later: Told) -> Told:
        """What a part says that is composed of one of these and a later one."""
        return replace(
            later,
            revises=tuple(joined_ranges([*self.revises, *later.revises])),
            gaps=tuple(dict.fromkeys([*self.gaps, *later.gaps])),
            level=max(self.level, later.level),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """A row group of a part: its number and the times of its first and last row."""

    number: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is on disk: what came from commit `first` to commit `last`."""

    path: Path
    first: int
    last: int
    told: Told
    groups: tuple[Group, ...] = ()
    rows: int = 0
    size: int = 0
    fields: Mapping[str, Field] = field(default_factory=dict)
    timeline: str = ""


def file_name(name: str) -> str:
    """A node's or timeline's name as the name of a folder, which holds 255 bytes at most."""
    quoted = uris.escape(name)
    return quoted if len(quoted) <= MAX_NAME else f"{quoted[:100]}~{hashlib.sha256(name.encode()).hexdigest()}"


def names(folder: Path) -> list[tuple[int, int, Path]]:
    """The parts of a folder by their names, in order: those whose place a composed one has taken are left out."""
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), int(match[2]), path))
    # The longest first, of those that begin together.
    whole: list[tuple[int, int, Path]] = []
    for first, last, path in sorted(found, key=lambda one: (one[0], -one[1])):
        if not whole or last > whole[-1][1]:
            whole.append((first, last, path))
    return whole


def load(path: Path, first: int, last: int) -> Part:
    """What a part's file says; StoreDamaged if it is none."""
    import pyarrow as pa
    from pyarrow import parquet

    from sisock import arrow

    try:
        with parquet.ParquetFile(path) as file:
            metadata, layout = file.metadata, file.schema_arrow
            told = Told.from_json(metadata.metadata[KEY.encode()].decode())
            groups = []
            for number in range(metadata.num_row_groups):
                about = metadata.row_group(number)
                times = about.column(0).statistics
                if about.num_rows:
                    groups.append(Group(number, times.min_raw, times.max_raw))
            timeline = (layout.metadata or {})[b"timeline"].decode()
            rows = metadata.num_rows
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreDamaged(f"{path} is no part of a recording, or damaged: {error}. Move it away.") from error
    return Part(path, first, last, told, tuple(groups), rows, path.stat().st_size, arrow.fields_of(layout), timeline)


def write(
    folder: Path,
    numbers: tuple[int, int],
    timeline: str,
    fields: Mapping[str, Field],
    blocks: Iterable[Block],
    told: Told,
    before: int | None,
) -> Path:
    """Writes a part, whole or not at all; once this returns, the disk has it.

    Rows up to the time `before`, the newest of earlier parts, get row groups of their own, so that a late row does not
    make a group of new ones reach far back.
    """
    path = folder / f"{numbers[0]:08d}-{numbers[1]:08d}.parquet"
    writing = path.with_name(path.name + PARTIAL)
    file = RowsFile(writing, "parquet", timeline, fields)
    try:
        for block in blocks:
            late = 0 if before is None else int(np.searchsorted(block.t, before, side="right"))
            for begin in range(0, late, GROUP_ROWS):
                file.write(block.take(slice(begin, min(late, begin + GROUP_ROWS))))
            if late:
                file.cut()
            for begin in range(late, len(block), GROUP_ROWS):
                file.write(block.take(slice(begin, begin + GROUP_ROWS)))
        file.close({KEY: told.to_json()})
        writing.replace(path)
    except BaseException:
        file.discard()
        raise
    sync_folder(folder)
    return path


def composed(items: Sequence[tuple[Block, Sequence[Range]]]) -> tuple[Block, tuple[Range, ...]]:
    """Rows and ranges that say what these say one after the other."""
    ranges: list[Range] = []
    whole = Block(np.empty(0, np.int64))
    fresh: list[Block] = []

    def joined() -> Block:
        return concat([whole, *fresh])

    for block, revises in items:
        newest = fresh[-1].t[-1] if fresh else whole.t[-1] if len(whole) else EARLIEST
        if not revises and (not len(block) or block.t[0] > newest):
            fresh += [block] if len(block) else []
            continue
        whole, fresh = joined(), []
        for start, end in revises:
            whole = outside(whole, start, end)
        whole = merge(whole, block)
        ranges = joined_ranges([*ranges, *revises])
    return joined(), tuple(ranges)


def rows(parts: Sequence[Part], start: int = EARLIEST, end: int = LATEST) -> Iterator[Block]:
    """The rows of all parts in [start, end), in order of time: of what was revised, what the last part says.

    It holds as many row groups as overlap in time.
    """
    holes = _holes(parts)
    groups = sorted(
        ((group.first, group.last, at, group.number) for at, part in enumerate(parts) for group in part.groups),
    )
    groups = [one for one in groups if one[0] < end and one[1] >= start]
    cuts = [*dict.fromkeys(one[0] for one in groups), LATEST]
    waiting = iter([*groups, (LATEST, LATEST, 0, 0)])
    following = next(waiting)
    held: list[tuple[int, Block]] = []
    for low, high in pairwise(cuts):
        while following[0] == low and following[0] < LATEST:
            _, last, at, number = following
            block = _group(parts[at], number)
            for hole in holes[at]:
                if hole[0] <= last and hole[1] > following[0]:
                    block = outside(block, *hole)
            held.append((last, block.between(start, end)))
            following = next(waiting)
        whole = Block(np.empty(0, np.int64))
        for _, block in held:
            whole = merge(whole, block.between(low, high))
        held = [(last, block) for last, block in held if last >= high]
        if len(whole):
            yield whole


def in_groups(blocks: Iterable[Block], rows: int = GROUP_ROWS) -> Iterator[Block]:
    """The same rows in blocks of about so many, where they come in shorter ones."""
    waiting: list[Block] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        if held >= rows:
            yield concat(waiting)
            waiting, held = [], 0
    if waiting:
        yield concat(waiting)


def _holes(parts: Sequence[Part]) -> list[list[Range]]:
    """Of each part the ranges that later ones revise."""
    holes: list[list[Range]] = []
    later: list[Range] = []
    for part in reversed(parts):
        holes.append(later)
        if part.told.revises:
            later = joined_ranges([*later, *part.told.revises])
    return holes[::-1]


def _group(part: Part, number: int) -> Block:
    from pyarrow import parquet

    from sisock import arrow

    with parquet.ParquetFile(part.path) as file:
        return concat(arrow.block(batch) for batch in file.iter_batches(4 * GROUP_ROWS, row_groups=[number]))
