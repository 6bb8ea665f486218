"""Polling: a timeline whose node keeps no positions is followed by asking for its newest rows again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred

from sisock.asking import Answered, Question
from sisock.blocks import Block, news
from sisock.errors import NotConnected, SisockError
from sisock.followed import Followed, Missing
from sisock.session import Session
from sisock.times import MICROS, to_micros

# Seconds between two questions, at least and at most, and after one that failed.
PERIOD = (0.5, 60.0)
RETRY = 2.0
# Seconds before the newest row that are asked again at most, where later rows may be told.
TAIL = 30.0


class Reader(Protocol):
    """Whom the rows are for: a Follower."""

    node: str

    def put(self, item: Followed | Missing) -> None:
        """Takes rows."""

    def room(self) -> Awaitable[None]:
        """Waits until more is taken."""

    def troubled(self, error: SisockError | None) -> None:
        """Is told why nothing comes."""

    def fail(self, error: Exception) -> None:
        """Is told that nothing comes any more."""

    def read(self, question: Question) -> Awaitable[dict[str, Answered]]:
        """Asks the node."""


class Polled:
    """One timeline that is asked for again and again."""

    def __init__(self, reader: Reader, timeline: str, fields: Sequence[str], start: int, interval: float | None) -> None:
        self.timeline, self.fields = timeline, tuple(fields)
        self._reader = reader
        self._from, self._newest = start, start - 1
        self._known = Block.of([], {})
        self._period = min(max(interval or 1.0, PERIOD[0]), PERIOD[1])
        self._work: Deferred[None] | None = None
        self._retry: Deferred[None] | None = None

    def begin(self) -> None:
        """Begins to ask."""
        self._work = Deferred.fromCoroutine(self._ask())
        self._work.addErrback(lambda failure: None if failure.check(CancelledError) else self._reader.fail(failure.value))

    async def subscribe(self, session: Session) -> None:
        """Asks again after a lost connection."""
        self.begin()

    def unsubscribe(self) -> None:
        """Nothing is subscribed."""

    def lost(self) -> None:
        """The session is over."""
        work, self._work = self._work, None
        if work is not None and not work.called:
            work.cancel()

    def retry(self) -> None:
        """The node is there again."""
        if self._retry is not None and not self._retry.called:
            self._retry.callback(None)

    def resume(self) -> None:
        """It waits for room by itself."""

    def look(self) -> None:
        """It asks by itself."""

    async def _ask(self) -> None:
        while True:
            await self._reader.room()
            self._retry = Deferred()
            try:
                answers = await self._reader.read(Question(self.fields, self._from))
            except NotConnected as error:
                self._reader.troubled(error)
            except SisockError as error:
                if error.status < 500 and error.status != 404:
                    raise
                self._reader.troubled(error)
                await sleep_or(RETRY, self._retry)
                continue
            else:
                self._reader.troubled(None)
                if self.timeline in answers:
                    self._take(answers[self.timeline])
            await sleep_or(self._period, self._retry)

    def _take(self, answer: Answered) -> None:
        block = answer.block
        if not len(block):
            return
        fresh = news(self._known, block)
        old = [(t, t + 1) for t in fresh.t[: int(fresh.t.searchsorted(self._newest, side="right"))].tolist()]
        if len(fresh):
            self._reader.put(Followed(self.timeline, fresh, tuple(old), None, answer.finalized_until))
        self._newest = max(self._newest, int(block.t[-1]))
        final = self._newest if answer.finalized_until is None else to_micros(answer.finalized_until)
        self._from = max(self._from, min(self._newest, max(final, self._newest - round(TAIL * MICROS))))
        self._known = block.between(self._from, self._newest + 1)


async def sleep_or(seconds: float, sooner: Deferred[Any]) -> None:
    """Waits so long, or until `sooner` fires."""
    from twisted.internet import reactor

    def over() -> None:
        if not sooner.called:
            sooner.callback(None)

    timer = reactor.callLater(seconds, over)
    try:
        await sooner
    finally:
        if timer.active():
            timer.cancel()
