"""Paging: a long range is read by calls that each take about a second, so that nothing on the way holds much of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sisock.asking import Answered, Call, Question, ask_arrow
from sisock.blocks import Block
from sisock.errors import NotConnected, TooMuch

# Bytes of the first page, and of the longest: a little less than one call may bring.
FIRST_BYTES = 256 << 10
MOST_BYTES = 14 << 20
# Seconds that a page should take, and how much longer than the one before it may be.
SECONDS = 1.0
GROWTH = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of one timeline that are to be read: about so many in [first, end)."""

    timeline: str
    fields: tuple[str, ...]
    start: int
    end: int
    rows: int
    first: int


async def read_pages(
    call: Call,
    stretch: Stretch,
    take: Callable[[Block], None],
    answered: Callable[[Answered], None] = lambda _: None,
    room: Callable[[], Awaitable[None]] | None = None,
    again: Callable[[NotConnected], Awaitable[None]] | None = None,
) -> None:
    """Reads the rows of a stretch in order; `take` gets blocks as they come, `answered` what each page's answer said.

    `room` is waited for before each page, and `again` after a lost connection, which else ends it.
    """
    from twisted.internet import reactor

    row_bytes = 8 * (1 + len(stretch.fields))
    target = float(FIRST_BYTES)
    # Of how many microseconds a byte is, as far as is known.
    per_byte = max(1, stretch.end - max(stretch.first, stretch.start)) / max(1, stretch.rows * row_bytes)
    at = stretch.start
    # Nothing is before the first row.
    reach = max(at, stretch.first)
    while at < stretch.end:
        if room is not None:
            await room()
        until = min(stretch.end, reach + max(1, round(target * per_byte)))
        began, last, taken = reactor.seconds(), None, 0

        def took(_: str, block: Block) -> None:
            nonlocal last, taken
            if len(block):
                last = int(block.t[-1])
                taken += len(block) * row_bytes
                take(block)

        try:
            answers = await ask_arrow(call, Question(stretch.fields, at, until), took)
        except TooMuch:
            if last is None:
                raise
            # What came is whole and in order; the rest is denser than was thought.
            until = last + 1
        except NotConnected as error:
            if again is None:
                raise
            await again(error)
            if last is None:
                continue
            until = last + 1
        else:
            if stretch.timeline in answers:
                answered(answers[stretch.timeline])
        seconds = max(1e-3, reactor.seconds() - began)
        if taken:
            per_byte = (until - reach) / taken
            target = min(MOST_BYTES, GROWTH * target, SECONDS * taken / seconds)
        else:
            # A gap: the next page reaches further.
            per_byte *= GROWTH
        at = reach = until
