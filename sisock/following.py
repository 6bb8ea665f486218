"""Following: drives a splice for each timeline of the fields that somebody follows, and hands on what it delivers."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from autobahn.exception import Disconnected
from autobahn.twisted.util import sleep
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock import uris
from sisock.asking import EARLIEST_ON_WIRE, Answered, Call, Question, ask_arrow, is_old
from sisock.blocks import Block
from sisock.errors import (
    Busy,
    InvalidArgument,
    NodeFailed,
    NotAuthorized,
    NotConnected,
    PositionLost,
    SisockError,
    StoreAway,
    TimedOut,
    TooMuch,
    UnknownField,
    UnknownNode,
)
from sisock.fields import Catalogue
from sisock.followed import Followed, Missing
from sisock.listening import Listening
from sisock.live import LiveBlock
from sisock.paging import Stretch, read_pages
from sisock.polling import Polled, sleep_or
from sisock.positions import Position
from sisock.requests import text_size
from sisock.session import Session, error_from_wire
from sisock.splice import Action, AskSince, AskTail, Deliver, Gap, ReadPages, Splice, State, Unread
from sisock.times import now, to_micros

if TYPE_CHECKING:
    from sisock.consumer import Consumer

log = Logger()

# A node repeats its position every 5 s; after so long it is asked.
SILENCE = 12.0
# Values that may wait for the reader; one who has more waiting is not told of live blocks until half are taken.
MAX_WAITING = 4_000_000
# Seconds between two tries: the first time, and at most.
RETRY = (0.3, 5.0)
_PASSING = (Busy, NodeFailed, NotConnected, StoreAway, TimedOut, UnknownNode)


@dataclass(frozen=True, slots=True)
class Resume:
    """How far somebody has followed a timeline before: all up to this position but for what was unread, and the newest time."""

    position: Position
    newest: int
    unread: Unread | None = None


class Follower:
    """Follows fields of one node: `async for` gives Followed and Missing, in order for each timeline.

    It goes on through lost connections and restarts of the node; it ends when it is stopped, or with an error that
    another try would meet again. A reader who is slow is not told of each block, but loses none.
    """

    def __init__(
        self, consumer: Consumer, node: str, fields: Sequence[str], start: float, resume: Mapping[str, Resume] | None = None
    ) -> None:
        self.node, self.fields = uris.check_node_name(node), tuple(fields)
        self.catalogue = Catalogue({})
        self.problem: SisockError | None = None
        self._consumer = consumer
        # Above 0 it is UNIX seconds, else it counts from now, once.
        self._start = max(to_micros(start if start > 0 else now() + start), EARLIEST_ON_WIRE)
        self._resume = dict(resume or {})
        self._lines: dict[str, _Line | Polled] = {}
        self._queue: deque[Followed | Missing] = deque()
        self._held = 0
        self._takers: list[Deferred[None]] = []
        self._makers: list[Deferred[None]] = []
        self._error: Exception | None = None
        self._opening: Deferred[None] | None = None
        self._session: Session | None = None
        self._added: Listening | None = None
        self._watch = LoopingCall(self._look)
        self.stopped = False

    # The reader's side

    def __aiter__(self) -> AsyncIterator[Followed | Missing]:
        return self

    async def __anext__(self) -> Followed | Missing:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self.stopped:
                raise StopAsyncIteration
            taker: Deferred[None] = Deferred()
            self._takers.append(taker)
            try:
                await taker
            finally:
                if taker in self._takers:
                    self._takers.remove(taker)
        return self._take()

    def ready(self) -> list[Followed | Missing]:
        """What waits to be taken, without waiting for more."""
        taken = []
        while self._queue:
            taken.append(self._take())
        return taken

    def _take(self) -> Followed | Missing:
        item = self._queue.popleft()
        self._held -= _size(item)
        if self._held <= MAX_WAITING // 2:
            makers, self._makers = self._makers, []
            for maker in makers:
                maker.callback(None)
            for line in tuple(self._lines.values()):
                line.resume()
        return item

    def stop(self) -> None:
        """Ends it; whoever waits for more is told that there is none."""
        if self.stopped:
            return
        self.stopped = True
        if self._watch.running:
            self._watch.stop()
        self.left()
        self._consumer.forget(self)
        self._wake()

    # The consumer's side

    def joined(self, session: Session) -> None:
        """There is a session."""
        self._session = session
        if not self._watch.running:
            self._watch.start(2.0, now=False).addErrback(lambda failure: log.failure("following stopped", failure))
        self._opening = Deferred.fromCoroutine(self._open(session))
        self._opening.addErrback(self._failed)

    def left(self) -> None:
        """The session is over."""
        self._session = None
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._added is not None:
            self._added.end()
            self._added = None
        for line in self._lines.values():
            line.lost()
            line.unsubscribe()

    async def _open(self, session: Session) -> None:
        """Learns on which timelines the fields are, and follows each."""
        if not self._lines:
            self.catalogue = await self._patiently(self._catalogue)
            by_timeline: dict[str, list[str]] = {}
            for name in self.fields:
                if name not in self.catalogue.fields:
                    raise UnknownField(f"{self.node} has no field {name!r}. `sisock fields {self.node}` lists them.")
                by_timeline.setdefault(self.catalogue.fields[name].timeline, []).append(name)
            for timeline, names in by_timeline.items():
                self._lines[timeline] = _Line(self, timeline, names, self._start, self._resume.get(timeline))
        self._added = session.listen(self._announced, uris.ADDED)
        await self._added.begun
        for line in self._lines.values():
            await line.subscribe(session)

    async def _catalogue(self) -> Catalogue:
        return await self._consumer.get_fields(self.node)

    async def _patiently(self, ask: Any) -> Any:
        """Asks until it is answered; what another try would meet again is raised."""
        wait, longest = RETRY
        while True:
            try:
                return await ask()
            except _PASSING as error:
                self.troubled(error)
            await sleep(wait)
            wait = min(2 * wait, longest)

    def _announced(self, entry: Any) -> None:
        if isinstance(entry, Mapping) and entry.get("name") == self.node:
            for line in self._lines.values():
                line.retry()

    def _look(self) -> None:
        for line in self._lines.values():
            line.look()

    # The lines' side

    @property
    def consumer(self) -> Consumer:
        """Who asks for it."""
        return self._consumer

    async def read(self, question: Question) -> dict[str, Answered]:
        """Asks the node."""
        return await self._consumer.read(self.node, question)

    def put(self, item: Followed | Missing) -> None:
        """Hands something to the reader."""
        self._queue.append(item)
        self._held += _size(item)
        self._wake()

    @property
    def full(self) -> bool:
        """Whether the reader has enough waiting."""
        return self._held > MAX_WAITING

    async def room(self) -> None:
        """Waits until the reader has less waiting."""
        while self.full and not self.stopped:
            maker: Deferred[None] = Deferred()
            self._makers.append(maker)
            await maker

    def troubled(self, error: SisockError | None) -> None:
        """Notes why nothing comes at present; None when it comes again."""
        self.problem = error

    def poll(self, timeline: str, fields: Sequence[str], start: int) -> None:
        """Asks for a timeline again and again from now on, since its node keeps no positions."""
        interval = self.catalogue.timeline(timeline).interval
        self._lines[timeline].unsubscribe()
        polled = self._lines[timeline] = Polled(self, timeline, fields, start, interval)
        polled.begin()

    def fail(self, error: Exception) -> None:
        """Ends it with an error."""
        self._error = self._error or error
        self.stop()

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError, NotConnected, TransportLost, Disconnected) is not None or self._session is None:
            return
        error = failure.value
        if isinstance(error, ApplicationError):
            error = error_from_wire(error, uris.live(self.node, ""))
        if isinstance(error, NotAuthorized):
            error = NotAuthorized(f"this user may not follow {self.node}. A rule of the site with the verb `follow` grants it.")
        self.fail(error)

    def _wake(self) -> None:
        takers, self._takers = self._takers, []
        for taker in takers:
            taker.callback(None)


class _NoPositions(Exception):
    """The node keeps no positions: it is of the old kind, or its data live elsewhere."""


class _Line:
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
                if not isinstance(error, _PASSING):
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


def _size(item: Followed | Missing) -> int:
    """Values that it holds; of text, eight characters count as one."""
    if not isinstance(item, Followed):
        return 64
    texts = sum(text_size(column.to_list()) for column in item.block.columns.values() if column.type == "string")
    return 64 + len(item.block) * (1 + len(item.block.columns)) + texts // 8
