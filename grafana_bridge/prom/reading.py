"""Reading: the leaves of a query, filled. Series that a node keeps together are asked for together.

Where the node's own overviews answer, it is asked for them; else rows are read, and what is made of them goes on as they
come, so that few of them are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from sisock.asking import EARLIEST_ON_WIRE, Answered, Question, Take
from sisock.blocks import Block
from sisock.errors import InvalidArgument, SisockError, TooMuch
from sisock.grafana_bridge.prom.leaves import Leaf
from sisock.grafana_bridge.prom.names import Source
from sisock.grafana_bridge.prom.values import Bools, Floats, Times, Vector, check_cells
from sisock.grafana_bridge.prom.windows import FUNCTIONS, KEEP_NAME, Windows
from sisock.grafana_bridge.within import within
from sisock.windows import MAX_WINDOWS

# Samples that one query may read, and those that are held before something is made of them.
MAX_SAMPLES = 50_000_000
MAX_HELD = 1_000_000
# What a node makes of windows for a function of ranges; a plain selector is the last value of each.
METHODS = {
    "avg_over_time": "mean",
    "count_over_time": "count",
    "last_over_time": "last",
    "max_over_time": "max",
    "min_over_time": "min",
    "present_over_time": "count",
    "sum_over_time": "sum",
}
# Windows are a millisecond or longer.
SHORTEST = 1000
# Values that one call may answer of windows.
MAX_WINDOW_VALUES = 500_000
# Calls that one query has at one node at the same time, and that all queries together have.
CALLS_A_NODE = 4
ALL_CALLS_A_NODE = 32
# Seconds that a call has, and that a query waits for one, with those before it: less than it has itself, so that a node
# that is slow with all of them is left out, and the others are not.
NODE_DEADLINE = 10.0
NODE_PATIENCE = 20.0


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

    def place(self, block: Block, start: int, step: int) -> None:
        """Takes in the values of windows, each of which stands at its window's beginning."""
        column = block.columns.get(self.name)
        if column is None:
            return
        at = (block.t - start) // step
        # Windows behind the last are what is left of the range.
        known = column.mask() & (at < len(self.values))
        found = np.asarray(column.values[known], np.float64)
        self.values[at[known]] = 1.0 if self.leaf.function == "present_over_time" else found
        self.there[at[known]] = True

    def fill(self, upto: int | None) -> None:
        """Fills the windows for which all samples up to a time are enough; all of them without one. Keeps what others need."""
        at = self.leaf.times
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
    left: int

    def check(self) -> None:
        if self.left < 0:
            raise TooMuch(f"a query may read {MAX_SAMPLES} samples. Ask for a shorter time, or for fewer series.")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows of one timeline of a node, in [start, end); or one value of each window, where `method` says which."""

    node: str
    timeline: str
    start: int
    end: int
    method: str = ""
    step: int = 0
    width: int = 0

    @property
    def fields_a_call(self) -> int:
        """Of how many fields one call can answer the windows."""
        return max(1, MAX_WINDOW_VALUES // (1 + (self.end - self.start) // self.step) - 1) if self.method else 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One or more calls of a node, and the shares that are filled by them."""

    stretch: _Stretch
    fields: Sequence[str]
    shares: Sequence[_Share]


class Calls:
    """The calls that all queries together have at each node: more wait, and hold up no other node's."""

    def __init__(self) -> None:
        # A node that nobody asks is forgotten.
        self._nodes: WeakValueDictionary[str, DeferredSemaphore] = WeakValueDictionary()

    def of(self, node: str) -> DeferredSemaphore:
        """What a call waits for."""
        turns = self._nodes.get(node)
        if turns is None:
            turns = self._nodes[node] = DeferredSemaphore(ALL_CALLS_A_NODE)
        return turns


async def fill(
    leaves: Sequence[Leaf],
    chosen: Sequence[Sequence[Source]],
    consumer: Reads,
    calls: Calls,
    clock: IReactorTime | None = None,
) -> list[str]:
    """Reads what the leaves need of these series, one list a leaf.

    A node that does not answer in time, or says that something is wrong with it, is left out, and so answered here; but
    what it says is raised where a leaf has nothing else.
    """
    stretches: dict[_Stretch, list[_Share]] = {}
    for leaf, sources in zip(leaves, chosen, strict=True):
        for stretch, share in _shares(leaf, sources):
            stretches.setdefault(stretch, []).append(share)
    budget = _Budget(MAX_SAMPLES)
    turns: dict[str, DeferredSemaphore] = {}
    jobs = [job for stretch, shares in stretches.items() for job in _jobs(stretch, shares)]
    waiting = []
    for job in jobs:
        node = job.stretch.node
        turn = turns.setdefault(node, DeferredSemaphore(CALLS_A_NODE))
        asked = turn.run(calls.of(node).run, _started, consumer, job, budget, clock)
        waiting.append(_patiently(NODE_PATIENCE, node, asked, clock))
    return _left_out(leaves, jobs, await _all(waiting))


def _jobs(stretch: _Stretch, shares: Sequence[_Share]) -> Iterable[_Job]:
    names = list(dict.fromkeys(share.name for share in shares))
    for at in range(0, len(names), stretch.fields_a_call):
        fields = names[at : at + stretch.fields_a_call]
        wanted = set(fields)
        yield _Job(stretch, fields, [share for share in shares if share.name in wanted])


def _left_out(leaves: Sequence[Leaf], jobs: Sequence[_Job], outcomes: Sequence[SisockError | None]) -> list[str]:
    """Takes off what could not be read, and says so."""
    warnings: dict[str, None] = {}
    missing: dict[int, list[int]] = {}
    answered = {id(share.leaf) for job, error in zip(jobs, outcomes, strict=True) if error is None for share in job.shares}
    for job, error in zip(jobs, outcomes, strict=True):
        if error is None:
            continue
        for share in job.shares:
            if id(share.leaf) not in answered:
                raise error
            missing.setdefault(id(share.leaf), []).append(share.row)
        warnings[f"{job.stretch.node} is left out: {error}"] = None
    for leaf in leaves:
        if leaf.value is not None and id(leaf) in missing:
            # A copy of the others: a thread may be filling what came too late still.
            leaf.value = leaf.value.only(np.delete(np.arange(len(leaf.value.labels)), missing[id(leaf)]))
    return list(warnings)


def _started(consumer: Reads, job: _Job, budget: _Budget, clock: IReactorTime | None) -> Deferred[SisockError | None]:
    reads = _windows if job.stretch.method else _rows
    return _patiently(NODE_DEADLINE, job.stretch.node, Deferred.fromCoroutine(reads(consumer, job, budget)), clock)


def _patiently(
    seconds: float, node: str, call: Deferred[SisockError | None], clock: IReactorTime | None
) -> Deferred[SisockError | None]:
    """The call, and what is wrong with the node if it fails."""

    def failed(failure: Failure) -> Any:
        # What is wrong with the query is wrong whatever the other nodes say.
        if not failure.check(SisockError) or failure.check(TooMuch, InvalidArgument):
            return failure
        return failure.value

    trouble = f"{node} did not answer within {seconds:g} s. It may be busy or stopped."
    return within(seconds, trouble, call, clock).addErrback(failed)


async def _all(waiting: Sequence[Deferred[SisockError | None]]) -> list[SisockError | None]:
    """Waits for all; the first that fails ends the others."""
    try:
        return await gatherResults(waiting, consumeErrors=True)
    except FirstError as error:
        for one in waiting:
            one.cancel()
        raise error.subFailure.value from None


def _shares(leaf: Leaf, sources: Sequence[Source]) -> Iterable[tuple[_Stretch, _Share]]:
    steps = len(leaf.at)
    check_cells(len(sources), steps)
    values, there = np.zeros((len(sources), steps)), np.zeros((len(sources), steps), np.bool_)
    stamps = np.zeros((len(sources), steps), np.int64) if leaf.stamps else None
    leaf.value = Vector([source.labels for source in sources], values, there, stamps=stamps)
    if leaf.function == "samples":
        leaf.ranges = []
    made = []
    for row, source in enumerate(sources):
        length = source.lookback if leaf.length is None else leaf.length
        stretch = _stretch(leaf, source, length)
        share = _Share(leaf, row, source.field, length, values[row], there[row], None if stamps is None else stamps[row])
        if stretch.end > stretch.start:
            made.append((stretch, share))
    return made


def _stretch(leaf: Leaf, source: Source, length: int) -> _Stretch:
    """What is asked for: windows where the node can answer them, or else rows."""
    start, end = leaf.at[0] - length + 1, leaf.at[-1] + 1
    method = METHODS.get(leaf.function)
    if (
        method is None
        or start < EARLIEST_ON_WIRE
        or length < SHORTEST
        or len(leaf.at) + (length // leaf.step if len(leaf.at) > 1 else 0) > MAX_WINDOWS
    ):
        return _Stretch(source.node, source.timeline, max(EARLIEST_ON_WIRE, start), end)
    step = leaf.step if len(leaf.at) > 1 else length
    return _Stretch(source.node, source.timeline, start, end, method, step, length)


async def _windows(consumer: Reads, job: _Job, budget: _Budget) -> None:
    """Asks for what the node makes of each window."""
    stretch, shares = job.stretch, job.shares
    question = Question(job.fields, stretch.start, stretch.end, method=stretch.method, step=stretch.step, width=stretch.width)
    blocks: list[Block] = []

    def take(timeline: str, block: Block) -> None:
        if timeline == stretch.timeline and len(block):
            blocks.append(block)
            budget.left -= len(block) * len(block.columns)

    await consumer.read(stretch.node, question, take)
    budget.check()
    for block in blocks:
        for share in shares:
            if stretch.method == "last":
                share.take(block)
            else:
                share.place(block, stretch.start, stretch.step)
    if stretch.method == "last":
        for share in shares:
            share.fill(None)


async def _rows(consumer: Reads, job: _Job, budget: _Budget) -> None:
    """Reads rows, page by page; what is made of a page is made in a thread."""
    stretch, shares = job.stretch, job.shares
    start = stretch.start
    reached: list[int] = []

    def take(timeline: str, block: Block) -> None:
        if timeline == stretch.timeline and len(block):
            reached[:] = [int(block.t[-1])]
            budget.left -= sum(share.take(block) for share in shares)

    while start < stretch.end:
        reached.clear()
        try:
            await consumer.read(stretch.node, Question(job.fields, start, stretch.end), take)
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
