"""Paging: a long range is read by calls of half a second each, so that nothing on the way holds much of it.

The next page is asked for when little is left of one, so that the line does not fall silent between them. Its blocks
wait until it is their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sisock.asking import Answered, Call, Question, ask_arrow
from sisock.blocks import Block
from sisock.errors import NotConnected, SisockError, TooMuch, UnknownNode
from sisock.requests import text_size

# Bytes of the first page, and of the longest, which with what is left of another is less than the router holds for a reader.
FIRST_BYTES = 256 << 10
MOST_BYTES = 14 << 20
# Bytes that are left of a page when the next one is asked for; earlier, the node would read both at once for nothing.
LEFT_BYTES = 1 << 20
# Seconds that a page should take, and how much longer than the one before it may be.
SECONDS = 0.5
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
    again: Callable[[SisockError], Awaitable[None]] | None = None,
) -> None:
    """Reads the rows of a stretch in order; `take` gets blocks as they come, `answered` what each page's answer said.

    `room` is waited for before each page, and `again` after a lost connection, or where the node is gone, which else ends it.
    """
    plan = _Plan(stretch)
    pages: deque[_Page] = deque()

    def ask(start: int, end: int, reach: int) -> _Page:
        return _Page(call, Question(stretch.fields, start, end), reach)

    async def ask_next() -> None:
        if room is not None:
            await room()
        pages.append(ask(*plan.next()))

    try:
        while pages or plan.more:
            if not pages:
                await ask_next()
            page = pages[0]
            page.flow(take)
            await page.nears_end
            plan.learn(page)
            if plan.more and len(pages) == 1:
                await ask_next()
            try:
                answers = await page.ends
            except (TooMuch, NotConnected, UnknownNode) as error:
                lost = not isinstance(error, TooMuch)
                if lost and again is not None:
                    await again(error)
                elif lost or page.last is None:
                    raise
                # What came is whole and in order; the rest was denser than was thought, or the line was lost.
                start = page.start if page.last is None else page.last + 1
                pages[0] = ask(start, page.end, max(start, page.reach))
                continue
            if stretch.timeline in answers:
                answered(answers[stretch.timeline])
            plan.learn(page)
            pages.popleft()
    finally:
        for page in pages:
            page.drop()


class _Plan:
    """How long the next page is, by how fast and how dense those before it came."""

    def __init__(self, stretch: Stretch) -> None:
        self._at, self._end = stretch.start, stretch.end
        # Nothing is before the first row.
        self._reach = max(stretch.start, stretch.first)
        self.target, self._longest = float(FIRST_BYTES), float(GROWTH * FIRST_BYTES)
        # Of how many microseconds a byte is, as far as is known: of texts one only knows when some are there.
        self._per_byte = max(1, stretch.end - self._reach) / max(1, stretch.rows * 8 * (1 + len(stretch.fields)))
        # When the page before came to its end: until then the line was not this one's alone.
        self._free = 0.0

    @property
    def more(self) -> bool:
        """Whether there is more to be asked for."""
        return self._at < self._end

    def next(self) -> tuple[int, int, int]:
        """Start and end of the next page, and where its rows begin."""
        start, reach = self._at, self._reach
        self._at = self._reach = min(self._end, reach + max(1, round(self.target * self._per_byte)))
        return start, self._at, reach

    def learn(self, page: _Page) -> None:
        """Takes in what has come of a page, once when it nears its end and once when it has ended."""
        if page.learned:
            return
        page.learned = page.ended
        present = _seconds()
        if page.last is not None:
            per_byte = max(1, (page.end if page.whole else page.last) - page.reach) / page.taken
            # As long as there is more one does not know whether that is as sparse.
            self._per_byte = per_byte if page.ended else min(per_byte, self._per_byte)
        elif page.whole:
            # A gap: the next page reaches further.
            self._per_byte *= GROWTH
        if page.last is not None:
            self._longest = max(self._longest, GROWTH * page.taken)
            speed = page.taken / max(1e-3, present - max(page.asked, self._free))
            self.target = min(MOST_BYTES, self._longest, SECONDS * speed)
        if page.ended:
            self._free = present


class _Page:
    """A page that is on its way. Its blocks wait until they may `flow`."""

    def __init__(self, call: Call, question: Question, reach: int) -> None:
        self.start, self.end, self.reach = question.start, question.end, reach
        self.last: int | None = None
        self.taken = 0
        self.asked = _seconds()
        # All its rows are there; all that it tells is known.
        self.whole = self.learned = False
        # Fires when there are rows and little is left, or when it has come to its end in any way.
        self.nears_end: Deferred[None] = Deferred()
        self._waiting: list[Block] = []
        self._take: Callable[[Block], None] = self._waiting.append
        asked = Deferred.fromCoroutine(ask_arrow(call, question, self._came))
        # Not that one itself: whoever waits for `nears_end` goes on to wait for this within its callbacks, when a Deferred
        # has its error already but cannot raise it yet.
        self.ends: Deferred[dict[str, Answered]] = Deferred(lambda _: asked.cancel())
        asked.addBoth(self._ended)

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        return bool(self.ends.called)

    def flow(self, take: Callable[[Block], None]) -> None:
        """Hands on what waits, and from now on what comes."""
        self._take = take
        for block in self._waiting:
            take(block)
        self._waiting.clear()

    def drop(self) -> None:
        """Wants no more of it."""
        self.ends.addErrback(lambda _: None)
        self.ends.cancel()

    def _came(self, _: str, block: Block) -> None:
        if len(block):
            self.last = int(block.t[-1])
            self.taken += _size(block)
            self._take(block)
            # As much is left as what came lets one think.
            if (self.end - self.last) * self.taken <= LEFT_BYTES * (self.last - self.reach):
                self._near()

    def _ended(self, result: dict[str, Answered] | Failure) -> None:
        self.whole = not isinstance(result, Failure)
        self.ends.callback(result)
        self._near()

    def _near(self) -> None:
        if not self.nears_end.called:
            self.nears_end.callback(None)


def _seconds() -> float:
    from twisted.internet import reactor

    return float(reactor.seconds())


def _size(block: Block) -> int:
    """About how many bytes a block took on its way."""
    texts = sum(text_size(column.to_list()) for column in block.columns.values() if column.type == "string")
    return 8 * len(block) * (1 + len(block.columns)) + texts
