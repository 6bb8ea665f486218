"""One timeline that is followed: a splice says what to ask and what to deliver, and the line does it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from sisock import uris
from sisock.asking import Answered, Call, Question, ask_arrow, is_old
from sisock.blocks import Block
from sisock.errors import (
    Busy,
    InvalidArgument,
    NodeFailed,
    NotConnected,
    PositionLost,
    SisockError,
    StoreAway,
    TimedOut,
    TooMuch,
    UnknownNode,
)
from sisock.followed import Followed, Missing
from sisock.listening import Listening
from sisock.live import LiveBlock
from sisock.paging import Stretch, read_pages
from sisock.polling import sleep_or
from sisock.session import Session
from sisock.splice import Action, AskSince, AskTail, Deliver, Gap, ReadPages, Splice, State

if TYPE_CHECKING:
    from sisock.following import Follower, Resume

log = Logger()

# A node repeats its position every 5 s; after so long it is asked.
SILENCE = 12.0
# Seconds between two tries: the first time, and at most.
RETRY = (0.3, 5.0)
# What another try may not meet again.
PASSING = (Busy, NodeFailed, NotConnected, StoreAway, TimedOut, UnknownNode)


class _NoPositions(Exception):
    """The node keeps no positions: it is of the old kind, or its data live elsewhere."""


class Line:
    """One timeline that is followed."""

    def __init__(self, follower: Follower, timeline: str, fields: list[str], start: int, resume: Resume | None) -> None:
        self.timeline, self.fields = timeline, tuple(fields)
        self._follower = follower
        before = (resume.position, resume.newest, resume.unread) if resume else ()
        self.splice = Splice(fields, start, *before)
        # What is being done now, and what tells it from what was done before.
        self._work: Deferred[None] | None = None
        self._task: object | None = None
        self._retry: Deferred[None] | None = None
        self._live: Listening | None = None
        self._heard = 0.0
        self._tail: Answered | None = None

    async def subscribe(self, session: Session) -> None:
        """Hears the live topic, and only then asks."""
        self._live = session.listen(self._event, uris.live(self._follower.node, self.timeline))
        await self._live.begun
        self._heard = _seconds()
        self._run(self.splice.subscribed())

    def unsubscribe(self) -> None:
        """Hears it no more."""
        live, self._live = self._live, None
        if live is not None:
            live.end()

    def lost(self) -> None:
        """The session is over."""
        self._drop_work()
        self._run(self.splice.lost())

    def retry(self) -> None:
        """The node is there again: what waits for another try need not wait longer."""
        if self._retry is not None and not self._retry.called:
            self._retry.callback(None)

    def resume(self) -> None:
        """The reader takes more."""
        self._run(self.splice.resumed())

    def look(self) -> None:
        """Asks where nothing was heard for too long."""
        if _seconds() - self._heard > SILENCE:
            self._heard = _seconds()
            self._run(self.splice.silent())

    def _event(self, event: Any) -> None:
        try:
            live = LiveBlock.from_wire(event)
        except InvalidArgument as error:
            # What it would have told shows as a hole.
            log.warn("{node}: {error}", node=self._follower.node, error=error)
            return
        if live.timeline == self.timeline:
            self._heard = _seconds()
            self._follower.troubled(None)
            self._run(self.splice.event(live))

    def _run(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Deliver():
                    told = (action.block, action.revises, action.since, action.finalized_until, action.unread)
                    self._follower.put(Followed(self.timeline, *told))
                case Gap():
                    self._follower.put(Missing(self.timeline, action.start, action.end, action.reason))
                case _:
                    self._begin(action)
        if self.splice.state is State.LIVE and self._follower.full:
            self.splice.paused()

    def _begin(self, action: AskTail | ReadPages | AskSince) -> None:
        self._drop_work()
        task = self._task = object()
        work = Deferred.fromCoroutine(self._perform(action, task))
        work.addErrback(self._failed, task)
        if self._task is task:
            self._work = work

    def _drop_work(self) -> None:
        from twisted.internet import reactor

        self._task = None
        work, self._work = self._work, None
        if work is not None and not work.called:
            # Not at once: it may be what is running now. Until then nothing that it does counts.
            reactor.callLater(0, work.cancel)

    def _failed(self, failure: Any, task: object) -> None:
        if self._task is not task:
            return
        if failure.check(_NoPositions):
            self._follower.poll(self.timeline, self.fields, self.splice.start)
        elif failure.check(CancelledError) is None:
            self._follower.fail(failure.value)

    async def _perform(self, action: AskTail | ReadPages | AskSince, task: object) -> None:
        """Does what the splice asks for, as often as it takes, and tells it, unless something else is the task by then."""
        wait, longest = RETRY
        asked: AskTail | ReadPages | AskSince | None = action
        while asked is not None:
            try:
                told = await self._once(asked, task)
            except PositionLost:
                told = self.splice.position_lost
            except TooMuch:
                if not isinstance(asked, AskSince):
                    # Not even a page of it can be read.
                    raise
                told = self.splice.too_much
            except SisockError as error:
                if is_old(error):
                    raise _NoPositions from error
                if not isinstance(error, PASSING):
                    raise
                if self._task is not task or (isinstance(error, NotConnected) and not self._follower.consumer.connected):
                    return
                self._follower.troubled(error)
                self._retry = Deferred()
                await sleep_or(wait, self._retry)
                wait = min(2 * wait, longest)
                # A part of it may have come.
                asked = self.splice.asked if self._task is task else None
                continue
            if self._task is task:
                self._follower.troubled(None)
                self._task = self._work = None
                self._run(told())
            return

    async def _once(self, asked: AskTail | ReadPages | AskSince, task: object) -> Any:
        call = self._follower.consumer.caller(self._follower.node)
        splice = self.splice
        match asked:
            case AskTail(start):
                answers = await ask_arrow(call, Question(self.fields, start, max_points=1, method="last"))
                tail = self._tail = answers.get(self.timeline) or Answered(self.timeline)
                if tail.position is None:
                    raise _NoPositions
                position, newest = tail.position, tail.last
                return lambda: splice.tail(position, newest)
            case ReadPages(start, end):
                if start > splice.start:
                    start = await self._begin_behind(call, start, end, task)
                known = self._tail
                rows, first = (known.rows, known.first) if known is not None else (0, None)
                stretch = Stretch(self.timeline, self.fields, start, end, rows, start if first is None else first)
                await read_pages(call, stretch, partial(self._page, task), self._answered, self._follower.room)
                return splice.pages_done
            case AskSince(since, start, end):
                answers = await ask_arrow(call, Question(self.fields, start, end, since={self.timeline: since}))
                one = answers.get(self.timeline) or Answered(self.timeline)
                if one.position is None:
                    raise _NoPositions
                reached = one.position
                return lambda: splice.changed(one.block, one.revises, reached, one.finalized_until)

    async def _begin_behind(self, call: Call, start: int, end: int, task: object) -> int:
        """Where to begin to read behind what was delivered: rows that nobody keeps any more are named."""
        answers = await ask_arrow(call, Question(self.fields, self.splice.start, end, max_points=1, method="last"))
        tail = answers.get(self.timeline) or Answered(self.timeline)
        self._answered(tail)
        begin = end if tail.last is None else tail.begin
        first = start if begin is None else begin
        if self._task is task:
            self._run(self.splice.begins(first))
        return max(start, min(first, end))

    def _page(self, task: object, block: Block) -> None:
        if self._task is task:
            self._run(self.splice.page(block))

    def _answered(self, page: Answered) -> None:
        mine = self.splice.position
        if mine is not None and page.position is not None and page.position.epoch != mine.epoch:
            raise PositionLost(f"{self.timeline}: its history is another one than was begun to be read")


def _seconds() -> float:
    from twisted.internet import reactor

    return float(reactor.seconds())
