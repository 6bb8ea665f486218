"""Reading: the leaves of a query, filled. Series that a node keeps together are asked for together.

Where the node's own overviews answer, it is asked for them; else rows are read, and what is made of them goes on as they
come, so that few of them are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.threads import deferToThread

from sisock.asking import EARLIEST_ON_WIRE, Answered, Question, Take
from sisock.blocks import Block
from sisock.errors import TooMuch
from sisock.grafana_bridge.prom.names import Source
from sisock.grafana_bridge.prom.plan import Leaf
from sisock.grafana_bridge.prom.values import Bools, Floats, Times, Vector, check_cells
from sisock.grafana_bridge.prom.windows import FUNCTIONS, KEEP_NAME, Windows

# Samples that one query may read, and those that are held before something is made of them.
MAX_SAMPLES = 50_000_000
MAX_HELD = 1_000_000
# Calls that one query has at one node at the same time.
CALLS_A_NODE = 4


class Reads(Protocol):
    """What is needed of a consumer to read series."""

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict[str, Answered]:
        """One call of a node's get_data, as blocks."""


@dataclass(slots=True, eq=False)
class _Share:
    """One series of a leaf, which is filled from its first window to its last as the samples come."""

    leaf: Leaf
    row: int
    name: str
    length: int
    values: Floats
    there: Bools
    stamps: Times | None
    done: int = 0
    t: list[Times] = field(default_factory=list)
    v: list[Floats] = field(default_factory=list)
    held: int = 0

    def take(self, block: Block) -> int:
        """Holds the samples of a block; how many there are."""
        column = block.columns.get(self.name)
        if column is None or column.values.dtype.kind == "O":
            return 0
        t, values = block.t, column.values
        if column.valid is not None:
            t, values = t[column.valid], values[column.valid]
        self.t.append(t)
        self.v.append(values.astype(np.float64))
        self.held += len(t)
        return len(t)

    def fill(self, upto: int | None) -> None:
        """Fills the windows for which all samples up to a time are enough; all of them without one. Keeps what others need."""
        at = self.leaf.at
        end = len(at) if upto is None else int(np.searchsorted(at, upto, side="left"))
        t = np.concatenate(self.t) if self.t else np.empty(0, np.int64)
        v = np.concatenate(self.v) if self.v else np.empty(0)
        if self.leaf.function == "samples":
            self.t, self.v = [t], [v]
            if self.held > MAX_HELD:
                raise TooMuch(f"a range by itself may hold {MAX_HELD} samples. Ask for a shorter one.")
            return
        if end > self.done:
            here = slice(self.done, end)
            windows = Windows.of(t, v, at[here], self.length)
            params = [param[here] for param in self.leaf.params]
            self.values[here], self.there[here] = FUNCTIONS[self.leaf.function](windows, *params)
            if self.stamps is not None and len(t):
                self.stamps[here] = t[np.maximum(windows.high - 1, 0)]
            self.done = end
        if end < len(at):
            keep = int(np.searchsorted(t, at[end] - self.length, side="right"))
            t, v = t[keep:].copy(), v[keep:].copy()
            self.t, self.v, self.held = [t], [v], len(t)
        else:
            self.t, self.v, self.held = [], [], 0


@dataclass
class _Budget:
    left: int = MAX_SAMPLES

    def check(self) -> None:
        if self.left < 0:
            raise TooMuch(f"a query may read {MAX_SAMPLES} samples. Ask for a shorter time, or for fewer series.")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows of one timeline of a node, in [start, end)."""

    node: str
    timeline: str
    start: int
    end: int


async def fill(leaves: Sequence[Leaf], chosen: Sequence[Sequence[Source]], consumer: Reads) -> None:
    """Reads what the leaves need of these series, one list a leaf. Raises what a node answered."""
    stretches: dict[_Stretch, list[_Share]] = {}
    for leaf, sources in zip(leaves, chosen, strict=True):
        for stretch, share in _shares(leaf, sources):
            stretches.setdefault(stretch, []).append(share)
    budget = _Budget()
    turns: dict[str, DeferredSemaphore] = {}
    waiting = []
    for stretch, shares in stretches.items():
        turn = turns.setdefault(stretch.node, DeferredSemaphore(CALLS_A_NODE))
        waiting.append(turn.run(_started, _rows, consumer, stretch, shares, budget))
    await _all(waiting)


def _started(function: Callable[..., Any], *args: Any) -> Deferred[None]:
    return Deferred.fromCoroutine(function(*args))


async def _all(waiting: Sequence[Deferred[None]]) -> None:
    """Waits for all; the first error ends the others."""
    from twisted.internet.defer import FirstError

    try:
        await gatherResults(waiting, consumeErrors=True)
    except FirstError as error:
        for one in waiting:
            one.cancel()
        raise error.subFailure.value from None


def _shares(leaf: Leaf, sources: Sequence[Source]) -> Iterable[tuple[_Stretch, _Share]]:
    steps = len(leaf.at)
    check_cells(len(sources), steps)
    values, there = np.zeros((len(sources), steps)), np.zeros((len(sources), steps), np.bool_)
    stamps = np.zeros((len(sources), steps), np.int64) if leaf.stamps else None
    labels = [source.labels for source in sources]
    found = Vector(labels, values, there, stamps=stamps)
    leaf.value = found
    made = []
    for row, source in enumerate(sources):
        length = source.lookback if leaf.length is None else leaf.length
        start = max(EARLIEST_ON_WIRE, int(leaf.at[0]) - length + 1)
        stretch = _Stretch(source.node, source.timeline, start, int(leaf.at[-1]) + 1)
        share = _Share(leaf, row, source.field, length, values[row], there[row], None if stamps is None else stamps[row])
        if stretch.end > stretch.start:
            made.append((stretch, share))
    if leaf.function == "samples":
        leaf.ranges = []
    return made


async def _rows(consumer: Reads, stretch: _Stretch, shares: Sequence[_Share], budget: _Budget) -> None:
    """Reads rows, page by page; what is made of a page is made in a thread."""
    fields = tuple(dict.fromkeys(share.name for share in shares))
    start = stretch.start
    reached: list[int] = []

    def take(timeline: str, block: Block) -> None:
        if timeline == stretch.timeline and len(block):
            reached[:] = [int(block.t[-1])]
            budget.left -= sum(share.take(block) for share in shares)

    while start < stretch.end:
        reached.clear()
        try:
            await consumer.read(stretch.node, Question(fields, start, stretch.end), take)
        except TooMuch:
            budget.check()
            if not reached:
                raise
            start = reached[0] + 1
            await deferToThread(_fill_all, shares, reached[0])
        else:
            budget.check()
            break
    if sum(share.held for share in shares) > _SMALL:
        await deferToThread(_fill_all, shares, None)
    else:
        _fill_all(shares, None)
    for share in shares:
        if share.leaf.ranges is not None and share.held:
            share.leaf.ranges.append((share.leaf.value.labels[share.row], share.t[0], share.v[0]))  # type: ignore[union-attr]


# So many samples are dealt with at once; more in a thread.
_SMALL = 10_000


def _fill_all(shares: Sequence[_Share], upto: int | None) -> None:
    for share in shares:
        share.fill(upto)


def finish(leaf: Leaf) -> None:
    """Gives a leaf that is filled its labels: those of most functions are no longer the metric's."""
    if leaf.value is None:
        leaf.value = Vector.empty(len(leaf.at))
    if leaf.length is not None and leaf.function not in KEEP_NAME and leaf.ranges is None:
        leaf.value = leaf.value.nameless()
