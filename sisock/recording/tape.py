"""A tape: one timeline of a recording, while it is written.

What comes waits in memory until it is committed, as a part of its own: the file is on the disk, then its name. Short
parts are composed to longer ones as they grow many. Whatever ends the program, the parts that are there say what was
recorded and where to go on; what waited is asked for once more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import takewhile
from pathlib import Path

from sisock.blocks import Block
from sisock.errors import StoreFull
from sisock.fields import Field
from sisock.positions import Position
from sisock.recording import parts as on_disk
from sisock.recording.parts import Gap, Part, Range, Told
from sisock.splice import Unread

# Parts of single commits that may stand side by side.
MANY = 32
# A part as long, or as old, as this is not composed with others any more: bytes, and seconds.
MAX_SIZE = 64 << 20
MAX_AGE = 3600.0
# Levels of parts: one commit; several; as long as a part becomes.
COMMITTED, COMPOSED, SEALED = range(3)


@dataclass
class Waiting:
    """What came since the last commit."""

    items: list[tuple[Block, Sequence[Range]]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    position: Position | None = None
    unread: Unread | None = None
    values: int = 0

    def __bool__(self) -> bool:
        return bool(self.items or self.gaps)


class Tape:
    """One timeline's parts. `add` and `gap` what comes, then `take` it and `commit` that, which may be in a thread.

    One program at a time has the folder.
    """

    def __init__(
        self, folder: Path, timeline: str, fields: Mapping[str, Field], *, max_size: int = MAX_SIZE, max_age: float = MAX_AGE
    ) -> None:
        self.folder, self.timeline, self.fields = folder, timeline, dict(fields)
        self.max_size, self.max_age = max_size, max_age
        self.rows = 0
        self.broken = False
        self._waiting = Waiting()
        # The last parts, which may still be composed; what stands before them reaches this time.
        self._open: list[Part] = []
        self._before: int | None = None
        self._last: Part | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._recover()

    @property
    def told(self) -> Told:
        """How far the recording reaches."""
        return Told() if self._last is None else self._last.told

    @property
    def waiting(self) -> int:
        """How many values wait to be committed."""
        return self._waiting.values

    @property
    def newest(self) -> int | None:
        """The newest time that was recorded."""
        return self.told.newest

    def add(
        self, block: Block, revises: Sequence[Range] = (), position: Position | None = None, unread: Unread | None = None
    ) -> None:
        """Takes in rows; in the ranges `revises` they replace all that came before."""
        self._waiting.items.append((block, revises))
        self._waiting.values += 8 + len(block) * (1 + len(block.columns))
        self._waiting.position, self._waiting.unread = position, unread

    def gap(self, gap: Gap) -> None:
        """Takes in that something is missing."""
        self._waiting.gaps.append(gap)
        self._waiting.values += 8

    def take(self) -> Waiting:
        """What waits to be committed; what comes from now on waits for the next time."""
        taken, self._waiting = self._waiting, Waiting()
        return taken

    def commit(self, waiting: Waiting) -> int:
        """Writes a part of what waited, and answers how many rows it has.

        OSError if the disk does not take it. The tape is `broken` then and commits nothing more: a later part would
        hide that this one is missing. Made anew, it goes on where it was.
        """
        if not waiting:
            return 0
        if self.broken:
            raise StoreFull(f"{self.folder}: what came before could not be written, so nothing is. Make the tape anew.")
        # Until it is on the disk.
        self.broken = True
        rows = self._commit(waiting)
        self.broken = False
        return rows

    def _commit(self, waiting: Waiting) -> int:
        before = self.told
        block, revises = on_disk.composed(waiting.items)
        newest = before.newest
        if len(block):
            newest = int(block.t[-1]) if newest is None else max(newest, int(block.t[-1]))
        told = Told(revises, before.position, newest, before.unread, tuple(dict.fromkeys(waiting.gaps)), COMMITTED)
        if waiting.items:
            told = replace(told, position=waiting.position, unread=waiting.unread)
        number = 1 if self._last is None else self._last.last + 1
        self._keep(self._write((number, number), [block], told, before.newest))
        self.rows += len(block)
        return len(block)

    def tidy(self, *, last: bool = False) -> None:
        """Composes parts where they are many, long or old enough; `last` leaves one of those that are still open."""
        if not self._open:
            return
        size, age = sum(part.size for part in self._open), time.time() - self._open[0].path.stat().st_mtime
        if size >= self.max_size or age >= self.max_age:
            self._compose(tuple(self._open), SEALED)
            self._before = self.told.newest
            self._open = []
            return
        tails = list(takewhile(lambda part: part.told.level == COMMITTED, reversed(self._open)))[::-1]
        if len(tails) >= MANY:
            self._compose(tails, COMPOSED)
        elif last and len(self._open) > 1:
            self._compose(tuple(self._open), COMPOSED)

    def _recover(self) -> None:
        """Learns what is there, and deletes what a program left that was ended while it wrote or composed."""
        for partial in self.folder.glob(f"*{on_disk.PARTIAL}*"):
            partial.unlink()
        named = on_disk.names(self.folder)
        kept = {path for _, _, path in named}
        for path in self.folder.glob("*.parquet"):
            if path not in kept:
                path.unlink()
        for first, last, path in reversed(named):
            part = on_disk.load(path, first, last)
            self._last = self._last or part
            if part.told.level == SEALED or part.size >= self.max_size:
                self._before = part.told.newest
                break
            self._open.insert(0, part)

    def _write(self, numbers: tuple[int, int], blocks: Sequence[Block], told: Told, before: int | None) -> Part:
        path = on_disk.write(self.folder, numbers, self.timeline, self.fields, blocks, told, before)
        return on_disk.load(path, *numbers)

    def _keep(self, part: Part) -> None:
        self._last = part
        self._open.append(part)

    def _compose(self, chosen: Sequence[Part], level: int) -> None:
        """Puts one part in the place of these, which follow each other and are the last ones."""
        if len(chosen) < 2:
            return
        at = self._open.index(chosen[0])
        before = self._before if at == 0 else self._open[at - 1].told.newest
        told = reduce(Told.then, (part.told for part in chosen))
        # What lies behind all that stands before replaces nothing.
        revises = () if before is None else [(start, min(end, before + 1)) for start, end in told.revises if start <= before]
        told = replace(told, revises=tuple(revises), level=level)
        fields = {name: spec for part in chosen for name, spec in part.fields.items()}
        numbers = chosen[0].first, chosen[-1].last
        blocks = on_disk.in_groups(on_disk.rows(chosen))
        path = on_disk.write(self.folder, numbers, self.timeline, fields, blocks, told, before)
        self._last = on_disk.load(path, *numbers)
        self._open[at:] = [self._last]
        for part in chosen:
            part.path.unlink()
