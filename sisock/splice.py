"""The splice: history and live blocks of one timeline as one stream, without a hole and with nothing twice.

A pure state machine: it is told what happened and answers what is to be done. Whoever drives it subscribes the live
topic first, then tells `subscribed`; it asks, reads and delivers as the machine says.

                      subscribed                 tail                     pages_done
            ┌──────┐ ───────────> ┌─────────┐ ───────────> ┌─────────┐ ──────────────┐
            │ AWAY │              │ OPENING │              │ READING │               v
            └──────┘ <─┐          └─────────┘              └─────────┘           ┌──────┐
               │       │ lost (from anywhere)                                    │ LIVE │
               │       │                position_lost ┌────────┐  changed        └──────┘
               │       └──────────   OPENING  <────── │ ASKING │ ──────────────>    │ ^
               │   subscribed, with a position        └────────┘                    │ └─ event: delivered
               └────────────────────────────────────────> ^ ^                       │
                                                          │ └───────────────────────┘
                                       resumed, silent    │   event: a hole in the numbers, another epoch
            ┌────────┐  ──────────────────────────────────┘
            │ PAUSED │ <── paused (from anywhere but AWAY): the reader has enough for now
            └────────┘

OPENING asks for the last row, the count and the position, all of one moment; READING reads the rows up to that one;
what came later is behind the position, and comes by events or by ASKING, which is get_data with `since`. Events that come
while something is asked are held, up to a bound. A hole, another epoch, a lost connection, a reader who paused: all of
them are one ASKING. Where too much came for that, the new rows are read in pages, then what changed before them is asked;
if that is too much as well, it is read anew. A history that is another one than was read is opened anew, and what was
delivered of the old one is named as a gap. So are rows that came and are not kept any more: where the rows that there are
begin behind what was delivered last, and, where all is read anew, those before the first of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from sisock.blocks import Block
from sisock.live import LiveBlock
from sisock.positions import Position
from sisock.requests import rows_with_values
from sisock.times import LATEST

# Events that are held while something is asked; with more, the numbers have a hole, which is asked for.
MAX_HELD = 256
MAX_HELD_VALUES = 1 << 20

OTHER_HISTORY = "the node's history is another one than was read, or keeps no more what came meanwhile; it is read anew"
NOT_KEPT = "rows of before are not kept any more; what came here, or was changed, may be missing"

Range = tuple[int, int]

_NOTHING = Block(np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class AskTail:
    """Ask for the last row at or after `start`, the count of rows and the position; then tell `tail`."""

    start: int


@dataclass(frozen=True, slots=True)
class ReadPages:
    """Read the rows in [start, end) page by page, telling `page` with each and `pages_done` at the end."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AskSince:
    """Ask what came to [start, end) after a position; then tell `changed`, or what was refused."""

    since: Position
    start: int
    end: int = LATEST


@dataclass(frozen=True, slots=True)
class Unread:
    """Rows in [start, end) that are still to be read; `anew` if they replace all that was delivered of that range."""

    start: int
    end: int
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand rows to the reader. In each of the ranges `revises` they replace all that was delivered before.

    The position is that of all that was delivered; None while what lies before it is still to come. There may be no rows.
    Whoever stops here goes on after the position `since`, and with what is `unread` of a long range.
    """

    block: Block
    revises: tuple[Range, ...]
    position: Position | None
    finalized_until: float | None = None
    since: Position | None = None
    unread: Unread | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Tell the reader that rows in [start, end) may be missing or other than delivered, and why."""

    start: int
    end: int
    reason: str


Action = AskTail | ReadPages | AskSince | Deliver | Gap


class State(Enum):
    """What the machine waits for."""

    AWAY = "away"
    OPENING = "opening"
    READING = "reading"
    ASKING = "asking"
    LIVE = "live"
    PAUSED = "paused"


class Splice:
    """Follows some fields of one timeline from `start` on (microseconds).

    With a `position`, the newest time that was delivered up to it and what was `unread` then, it goes on from there.
    """

    def __init__(
        self,
        fields: Sequence[str],
        start: int,
        position: Position | None = None,
        newest: int | None = None,
        unread: Unread | None = None,
    ) -> None:
        self.fields, self.start = tuple(fields), start
        self.state = State.AWAY
        # All that was delivered reaches this position, and this time.
        self.position, self.newest = position, newest
        self.asked: AskTail | ReadPages | AskSince | None = None
        self._held: deque[LiveBlock] = deque()
        self._held_values = 0
        self._overflowed = False
        # While what changed before `_older[1]`, after the position `_older[0]`, is still to be asked.
        self._older: tuple[Position, int] | None = None
        # Whether what is read was delivered before, so that it replaces that; `_reached` is up to where it did.
        self._anew = False
        self._reached: int | None = None
        # The oldest row that may have been delivered; and from where on rows may be missing or other than delivered up to the
        # first one that is read.
        self._oldest: int | None = None if position is None else start
        self._doubted: int | None = None
        # Whether rows were delivered without their position, which is to be told as soon as all before it are there.
        self._untold = False
        # What was being read when the connection was lost.
        self._unread: ReadPages | AskSince | None = None
        if unread is not None:
            self._unread = ReadPages(unread.start, unread.end)
            self._anew, self._reached = unread.anew, unread.start if unread.anew else None

    # What happened to the connection and the reader

    def subscribed(self) -> list[Action]:
        """The live topic is subscribed."""
        self._let_go()
        if self._unread is not None:
            # What is still to be read comes first; then what was missed meanwhile.
            self._overflowed = True
            self.state = State.READING if isinstance(self._unread, ReadPages) else State.ASKING
            self.asked, self._unread = self._unread, None
            return [self.asked]
        self._overflowed, self._older, self._doubted = False, None, None
        return self._open() if self.position is None else self._ask()

    def lost(self) -> list[Action]:
        """The connection or the node is gone; what was asked will not be answered."""
        self._stop(State.AWAY)
        return []

    def paused(self) -> list[Action]:
        """The reader has enough for now: nothing is held or asked until `resumed`."""
        if self.state is not State.AWAY:
            self._stop(State.PAUSED)
        return []

    def resumed(self) -> list[Action]:
        """The reader takes more."""
        if self.state is not State.PAUSED:
            return []
        return self.subscribed()

    def silent(self) -> list[Action]:
        """Nothing came for longer than a node is ever silent."""
        return self._ask() if self.state is State.LIVE else []

    # What was answered

    def tail(self, position: Position, newest: int | None) -> list[Action]:
        """AskTail was answered: the position, and the time of the last row (None without rows)."""
        if self.state is not State.OPENING or not isinstance(self.asked, AskTail):
            return []
        start = self.asked.start
        if self._older is not None and self._older[0].epoch != position.epoch:
            return self.position_lost()
        self.position = position
        if newest is None or newest < start:
            self._anew, self._doubted = False, None
            return self._read_all()
        return self._do(State.READING, ReadPages(start, newest + 1))

    def begins(self, first: int) -> list[Action]:
        """All rows that there are begin at `first`, or a little later; told before the pages of a range behind `start`."""
        asked = self.asked
        if (
            self.state is not State.READING
            or not isinstance(asked, ReadPages)
            or first <= asked.start
            or asked.start <= self.start
        ):
            return []
        # What was delivered last is not kept any more, and who knows what behind it.
        self.asked = replace(asked, start=min(first, asked.end))
        if self._anew and self._reached is not None:
            self._reached = self.asked.start
        return _gap(asked.start, self.asked.start)

    def page(self, block: Block) -> list[Action]:
        """ReadPages brought rows, in order. If they are of another epoch than the position, tell `position_lost`."""
        if self.state is not State.READING or not isinstance(self.asked, ReadPages) or self.position is None or not len(block):
            return []
        revises: list[Range] = []
        doubted, self._doubted = self._doubted, None
        gap = [] if doubted is None else _gap(doubted, int(block.t[0]))
        if self._anew:
            revises = [(int(block.t[0]) if self._reached is None else self._reached, int(block.t[-1]) + 1)]
        self._reached = int(block.t[-1]) + 1
        # If it has to be asked again, then from here on.
        self.asked = replace(self.asked, start=self._reached)
        whole = self._older is None and self._reached >= self.asked.end
        return [*gap, *self._deliver(block, revises, self.position if whole else None)]

    def pages_done(self) -> list[Action]:
        """ReadPages is at its end."""
        if self.state is not State.READING or not isinstance(self.asked, ReadPages) or self.position is None:
            return []
        rest: list[Action] = []
        if self._doubted is not None:
            rest, self._doubted = _gap(self._doubted, self.asked.end), None
        if self._anew and self._reached is not None and self._reached < self.asked.end:
            # What was delivered behind the last row is there no more.
            rest += self._deliver(_NOTHING, [(self._reached, self.asked.end)], self.position if self._older is None else None)
        self._anew = False
        return [*rest, *self._read_all()]

    def changed(
        self, block: Block, revises: Iterable[Range], position: Position, finalized_until: float | None = None
    ) -> list[Action]:
        """AskSince was answered."""
        if self.state is not State.ASKING or self.position is None:
            return []
        if self._older is None:
            self.position = position
        self._older = None
        return [*self._deliver(block, list(revises), self.position, finalized_until), *self._settle()]

    def position_lost(self) -> list[Action]:
        """The position is of another history: that one is read anew, and what was delivered is named."""
        if self.state is State.AWAY:
            return []
        gap: list[Action] = []
        if self.newest is not None and self.newest >= self.start:
            gap = [Gap(self.start, self.newest + 1, OTHER_HISTORY)]
            # What came behind all that was delivered, and is not there, is missing as well.
            self._anew, self._doubted = True, self.newest + 1
        self._unread = None
        return [*gap, *self._open()]

    def too_much(self) -> list[Action]:
        """More came after the position than one answer holds: it is read in pages."""
        if self.state is not State.ASKING or not isinstance(self.asked, AskSince) or self.position is None:
            return []
        if self._older is None:
            if self.newest is None or self.newest < self.start:
                return self._open()
            # New rows first; then what changed before them.
            self._older = self.position, self.newest + 1
            return self._do(State.OPENING, AskTail(self.newest + 1))
        end, self._older = self._older[1], None
        # Of what lies before the first row nobody can say whether it was deleted or is only too old to be kept.
        self._anew, self._doubted = True, self._oldest
        return self._do(State.READING, ReadPages(self.start, end))

    # What came live

    def event(self, live: LiveBlock) -> list[Action]:
        """An event of the live topic."""
        if self.state is State.LIVE:
            return self._take(live)
        if self.state in (State.OPENING, State.READING, State.ASKING):
            self._held.append(live)
            self._held_values += _values(live)
            if len(self._held) > MAX_HELD or self._held_values > MAX_HELD_VALUES:
                self._let_go()
                self._overflowed = True
        return []

    def _take(self, live: LiveBlock) -> list[Action]:
        position = self.position
        if position is None or live.position.epoch != position.epoch or live.after > position.seq:
            return self._ask()
        if live.position.seq <= position.seq:
            return []
        self.position = live.position
        revises = [] if live.revises is None else [live.revises]
        if not revises and len(live.block) and self.newest is not None and int(live.block.t[0]) <= self.newest:
            # A part of it was delivered; it has all rows of its time.
            revises = [(int(live.block.t[0]), min(int(live.block.t[-1]), self.newest) + 1)]
        return self._deliver(live.block, revises, self.position, live.finalized_until)

    # What is to be done

    def _stop(self, state: State) -> None:
        if isinstance(self.asked, ReadPages) or (isinstance(self.asked, AskSince) and self._older is not None):
            self._unread = self.asked
        self.state, self.asked = state, None
        self._let_go()

    def _let_go(self) -> None:
        self._held.clear()
        self._held_values = 0

    def _do(self, state: State, action: AskTail | ReadPages | AskSince) -> list[Action]:
        self.state, self.asked = state, action
        self._reached = None
        return [action]

    def _open(self) -> list[Action]:
        self._older = None
        return self._do(State.OPENING, AskTail(self.start))

    def _ask(self) -> list[Action]:
        if self.position is None:
            return self._open()
        return self._do(State.ASKING, AskSince(self.position, self.start))

    def _read_all(self) -> list[Action]:
        if self._older is not None:
            since, end = self._older
            return self._do(State.ASKING, AskSince(since, self.start, end))
        return self._settle()

    def _settle(self) -> list[Action]:
        """All that was asked for is there: the events that were held follow."""
        self.state, self.asked = State.LIVE, None
        actions: list[Action] = []
        if self._untold:
            actions.append(Deliver(_NOTHING, (), self.position, since=self.position))
            self._untold = False
        while self._held and self.state is State.LIVE:
            live = self._held.popleft()
            self._held_values -= _values(live)
            actions += self._take(live)
        if self.state is State.LIVE and self._overflowed:
            actions += self._ask()
        self._overflowed = False
        return actions

    def _deliver(
        self, block: Block, revises: Sequence[Range], position: Position | None, finalized_until: float | None = None
    ) -> list[Action]:
        columns = {name: block.columns[name] for name in self.fields if name in block.columns}
        rows = rows_with_values(Block(block.t, columns)).between(self.start, LATEST)
        ranges = [(max(start, self.start), end) for start, end in revises if end > self.start and end > start]
        if self.newest is not None:
            # What lies behind all that was delivered replaces nothing.
            ranges = [(start, min(end, self.newest + 1)) for start, end in ranges if start <= self.newest]
            ranges += [(t, t + 1) for t in _uncovered(rows, ranges, self.newest)]
        else:
            ranges = []
        if len(rows):
            self._oldest = int(rows.t[0]) if self._oldest is None else min(self._oldest, int(rows.t[0]))
            self.newest = int(rows.t[-1]) if self.newest is None else max(self.newest, int(rows.t[-1]))
        if not len(rows) and not ranges:
            return []
        self._untold = position is None
        since, unread = position, None
        if position is None and self._older is not None:
            # What changed before the new rows is still to be asked after this one.
            since = self._older[0]
        elif position is None and isinstance(self.asked, ReadPages):
            since, unread = self.position, Unread(self.asked.start, self.asked.end, self._anew)
        return [Deliver(rows, tuple(sorted(ranges)), position, finalized_until, since, unread)]


def _gap(start: int, end: int) -> list[Action]:
    return [Gap(start, end, NOT_KEPT)] if start < end else []


def _values(live: LiveBlock) -> int:
    return len(live.block) * (1 + len(live.block.columns))


def _uncovered(rows: Block, ranges: Sequence[Range], newest: int) -> list[int]:
    """Times of rows that were, or may have been, delivered and that no range covers."""
    old = rows.t[: int(np.searchsorted(rows.t, newest, side="right"))]
    covered = np.zeros(len(old), np.bool_)
    for start, end in ranges:
        covered[slice(*np.searchsorted(old, (start, end)))] = True
    times: list[int] = old[~covered].tolist()
    return times
