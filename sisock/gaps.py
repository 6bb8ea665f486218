"""Gaps: where a node's timelines have holes, found in its history at a bounded cost.

Up to MAX_READ rows of a timeline are read, times and one field, by pages of which none is kept. Of more, an overview
tells which pixels hold no rows: any hole of two pixels and more shows there, and what lies between is read. A row in
which that one field has no value looks like a hole, so where rows are missing the holes are asked for the other fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sisock.asking import Answered, Question
from sisock.blocks import Block
from sisock.consumer import Consumer
from sisock.errors import TooMuch
from sisock.times import LATEST, Micros, to_micros, to_seconds

# Rows that are read; of a range with more, an overview is.
MAX_READ = 20_000_000
# Points of an overview: two a pixel.
OVERVIEW = 200_000
# Holes of one timeline that are listed.
MAX_HOLES = 10_000
# A hole is longer than so many usual spacings.
FACTOR = 2.0

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """The holes of a timeline that are longer than `longer` seconds: pairs of times, in microseconds, without rows between.

    `longer` may be more than was `asked` for, where that would have cost too much. Both are None where nothing tells
    what is usual; `usual` is the timeline's spacing in seconds, if it has one.
    """

    timeline: str
    rows: int
    asked: float | None
    longer: float | None
    holes: tuple[Pair, ...] = ()
    usual: float | None = None


def spaces(t: Micros, before: int | None, longer: int) -> list[Pair]:
    """Pairs of times that follow each other, the first one after `before`, and are more than `longer` microseconds apart."""
    whole = t if before is None else np.concatenate(([before], t))
    at = np.flatnonzero(np.diff(whole) > longer)
    return list(zip(whole[at].tolist(), whole[at + 1].tolist(), strict=True))


async def find(
    consumer: Consumer, node: str, longer: float | None = None, start: int = 1, end: int = LATEST, *, exact: bool = False
) -> list[Found]:
    """The holes in each timeline of a node that are longer than so many seconds, or than twice the usual spacing.

    Times are microseconds. `exact` reads all rows, however many there are. TooMuch for more holes than anybody reads.
    """
    catalogue = await consumer.get_fields(node)
    found = []
    for timeline in catalogue.timelines:
        # A number, if there is one, has extremes to show in an overview.
        names = sorted(
            (name for name, spec in catalogue.fields.items() if spec.timeline == timeline),
            key=lambda name: catalogue.fields[name].type != "number",
        )
        if names:
            interval = catalogue.timeline(timeline).interval
            asked = longer if longer is not None or not interval else FACTOR * interval
            one = await _Search(consumer, node, timeline, names, exact=exact).find(asked, start, end)
            found.append(replace(one, usual=interval))
    return found


class _Search:
    """Looks for holes in one timeline."""

    def __init__(self, consumer: Consumer, node: str, timeline: str, names: list[str], *, exact: bool) -> None:
        self._consumer, self._node = consumer, node
        self._timeline, self._names = timeline, names
        self._most = None if exact else MAX_READ

    async def find(self, asked: float | None, start: int, end: int) -> Found:
        tail = await self._tail(start, end)
        last = tail.last
        if asked is None or last is None:
            return Found(self._timeline, tail.rows, asked, None)
        # A microsecond more, as times are rounded to these.
        least = to_micros(asked) + 1
        first, rest = self._names[:1], self._names[1:]
        if self._most is None or tail.rows <= self._most:
            seen = await self._read(first, start, last + 1, least)
            pairs, longer = seen.pairs, asked
            whole = seen.rows >= tail.rows
        else:
            pairs, least = await self._overview(first, start, last + 1, least)
            whole, longer = False, max(asked, to_seconds(least - 1))
        if not whole and rest:
            pairs = [one for pair in pairs for one in await self._without_others(pair, least)]
        return Found(self._timeline, tail.rows, asked, longer, tuple(pairs))

    async def _read(self, names: list[str], start: int, end: int, least: int) -> _Spaces:
        """The holes between rows of these fields; times are looked at as they come, and let go."""
        seen = _Spaces(self._timeline, least)
        await self._consumer.read_all(self._node, Question(names, start, end), seen.take)
        if len(seen.pairs) > MAX_HOLES:
            raise TooMuch(
                f"{self._timeline} has more than {MAX_HOLES} holes longer than {to_seconds(least):g} s. Ask for longer ones."
            )
        return seen

    async def _overview(self, names: list[str], start: int, end: int, least: int) -> tuple[list[Pair], int]:
        """The holes that pixels without rows show, and how long one must be to show for certain."""
        t = (await self._ask(Question(names, start, end, max_points=OVERVIEW))).block.t
        if len(t) < 2:
            return [], least
        pixel = -(-int(t[-1] - t[0]) // (OVERVIEW // 2))
        longest = max(least, 2 * pixel)
        pairs: list[Pair] = []
        for low, high in spaces(t, None, max(least, pixel)):
            # What shows are extremes; the other rows of their pixels stand beside them.
            pairs += (await self._read(names, low, high + 1, longest)).pairs
        return pairs, longest

    async def _without_others(self, pair: Pair, least: int) -> list[Pair]:
        """What is left of a hole when the other fields are looked at."""
        start, end = pair
        within = await self._tail(start + 1, end)
        if within.last is None:
            return [pair]
        if self._most is not None and within.rows > self._most:
            raise TooMuch(
                f"{self._names[0]} of {self._timeline} has no values in {within.rows} rows, so that all fields must be read. "
                "Ask for a shorter time, or for all to be read."
            )
        seen = await self._read(self._names, start + 1, end, least)
        if seen.first is None or seen.last is None:
            return [pair]
        return [one for one in ((start, seen.first), *seen.pairs, (seen.last, end)) if one[1] - one[0] > least]

    async def _tail(self, start: int, end: int) -> Answered:
        return await self._ask(Question(self._names, start, end, max_points=1, method="last"))

    async def _ask(self, question: Question) -> Answered:
        answers: dict[str, Answered] = await self._consumer.read(self._node, question)
        return answers.get(self._timeline) or Answered(self._timeline)


class _Spaces:
    """Looks at rows as they come, and keeps what is far apart."""

    def __init__(self, timeline: str, least: int) -> None:
        self.pairs: list[Pair] = []
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self._timeline, self._least = timeline, least

    def take(self, timeline: str, block: Block) -> None:
        if timeline != self._timeline or not len(block):
            return
        if len(self.pairs) <= MAX_HOLES:
            self.pairs += spaces(block.t, self.last, self._least)
        self.first = int(block.t[0]) if self.first is None else self.first
        self.last = int(block.t[-1])
        self.rows += len(block)
