"""Following: the fields of a node that somebody follows, a line for each of their timelines, and what waits to be taken."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autobahn.exception import Disconnected
from autobahn.twisted.util import sleep
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock import uris
from sisock.asking import EARLIEST_ON_WIRE, Answered, Question
from sisock.errors import NotAuthorized, NotConnected, SisockError, UnknownField
from sisock.fields import Catalogue
from sisock.followed import Followed, Missing
from sisock.line import PASSING, RETRY, Line
from sisock.listening import Listening
from sisock.polling import Polled
from sisock.positions import Position
from sisock.requests import text_size
from sisock.session import Session
from sisock.splice import Unread
from sisock.times import now, to_micros
from sisock.wire_errors import error_from_wire

if TYPE_CHECKING:
    from sisock.consumer import Consumer

log = Logger()

# Values that may wait for the reader; one who has more waiting is not told of live blocks until half are taken.
MAX_WAITING = 4_000_000


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
        self._lines: dict[str, Line | Polled] = {}
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
                self._lines[timeline] = Line(self, timeline, names, self._start, self._resume.get(timeline))
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
            except PASSING as error:
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


def _size(item: Followed | Missing) -> int:
    """Values that it holds; of text, eight characters count as one."""
    if not isinstance(item, Followed):
        return 64
    texts = sum(text_size(column.to_list()) for column in item.block.columns.values() if column.type == "string")
    return 64 + len(item.block) * (1 + len(item.block.columns)) + texts // 8
