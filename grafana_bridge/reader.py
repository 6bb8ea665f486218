"""Reading for all dialects: many nodes asked at once, each within its deadline, each failing for itself alone."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sisock.asking import Answered, Question, Take
from sisock.errors import NotConnected, SisockError, TimedOut, TooMuch, UnknownNode
from sisock.fields import Catalogue
from sisock.grafana_bridge.notes import Note, find
from sisock.grafana_bridge.queries import Query, Source
from sisock.grafana_bridge.series import Ask, Result, Series, lacks_catalogue, results
from sisock.grafana_bridge.within import within

log = Logger()

T = TypeVar("T")

# Seconds. Grafana gives a query 30.
SEARCH_DEADLINE = 5.0
QUERY_DEADLINE = 20.0

# Points that one query may hold in memory, of all nodes together.
MAX_POINTS = 1_000_000


class Consumer(Protocol):
    """What the bridge needs of a consumer. Each call has a timeout of its own and raises sisock's errors."""

    @property
    def connected(self) -> bool:
        """Whether there is a session with the router."""

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there, each {"name", "description"}."""

    async def get_fields(self, node: str, start: float, end: float | None) -> Catalogue:
        """What a node offers."""

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict[str, Answered]:
        """One call of a node's get_data, read as blocks."""


class NoSession(NotConnected):
    """There is no session with the router. Status and text are those that users of the first bridge know."""

    status = 500

    def __init__(self) -> None:
        super().__init__("No WAMP session")


@dataclass
class _Found:
    by_source: dict[Source, Result] = field(default_factory=dict)
    points: int = 0


class Reader:
    """Asks the nodes for the bridge. `clock` counts the deadlines; it is the reactor unless a test passes another."""

    def __init__(self, consumer: Consumer, clock: IReactorTime | None = None) -> None:
        self._consumer = consumer
        self._clock = clock

    @property
    def connected(self) -> bool:
        """Whether there is a session with the router."""
        return self._consumer.connected

    def check_session(self) -> None:
        """Raises NoSession if there is none."""
        if not self.connected:
            raise NoSession

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there."""
        self.check_session()
        try:
            return await self._within(SEARCH_DEADLINE, "the hub", self._consumer.nodes())
        except NotConnected:
            raise NoSession from None

    async def catalogue(
        self, node: str, start: float = 1.0, end: float | None = None, within: float = SEARCH_DEADLINE
    ) -> Catalogue:
        """What one node offers."""
        self.check_session()
        return await self._within(within, node, self._consumer.get_fields(node, start, end))

    async def ask(self, node: str, question: Question, within: float = QUERY_DEADLINE) -> dict[str, Answered]:
        """One call of one node."""
        return await self._within(within, node, self._consumer.read(node, question))

    async def catalogues(self) -> dict[str, Catalogue]:
        """What each node offers, of all nodes that answer in time, in the hub's order."""
        names = [node["name"] for node in await self.nodes()]
        answers = await _all(self._within(SEARCH_DEADLINE, name, self._consumer.get_fields(name, 1.0, None)) for name in names)
        found: dict[str, Catalogue] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Failure):
                log.warn("{node} is left out of the search: {error}", node=name, error=_error(answer))
            else:
                found[name] = answer
        return found

    async def read(self, asks: Sequence[Ask]) -> dict[Source, Result]:
        """The series of each source, or what is wrong with it alone."""
        found = _Found()
        outcomes = await _all(self._within(QUERY_DEADLINE, ask.node, self._fill(ask, found)) for ask in asks)
        for ask, outcome in zip(asks, outcomes, strict=True):
            if isinstance(outcome, Failure):
                error = _error(outcome)
                for name in ask.fields:
                    found.by_source.setdefault((ask.node, name, ask.method), error)
        return found.by_source

    async def notes(self, query: Query) -> dict[str, Sequence[Note] | SisockError]:
        """The notes of each query of them, or what is wrong with it alone."""
        wanted = list(dict.fromkeys(target.note for target in query.targets if target.note is not None))
        outcomes = await _all(self.find_notes(text, query.start, query.end) for text in wanted)
        return {
            text: _error(found) if isinstance(found, Failure) else found for text, found in zip(wanted, outcomes, strict=True)
        }

    async def find_notes(self, text: str, start: float, end: float) -> list[Note]:
        """The notes of one query."""
        return await self._within(QUERY_DEADLINE, f"what {text!r:.80} asks", find(self._consumer, text, start, end))

    async def _fill(self, ask: Ask, found: _Found) -> None:
        try:
            answered = await self._ask(ask, found)
        except SisockError as error:
            if len(ask.fields) == 1 or isinstance(error, (UnknownNode, TimedOut, NotConnected)):
                found.by_source.update({(ask.node, name, ask.method): error for name in ask.fields})
                return
            # One field can be what the node refuses all of them for, so each is asked alone.
            for name in ask.fields:
                await self._fill(replace(ask, fields=(name,)), found)
        else:
            found.by_source.update({(ask.node, name, ask.method): result for name, result in answered.items()})

    async def _ask(self, ask: Ask, found: _Found) -> dict[str, Result]:
        answer = await self._consumer.read(ask.node, ask.question())
        catalogue = None
        if lacks_catalogue(ask, answer):
            catalogue = await self._consumer.get_fields(ask.node, 1.0, None)
        answered = results(ask, answer, catalogue)
        points = sum(len(result) for result in answered.values() if isinstance(result, Series))
        if found.points + points > MAX_POINTS:
            raise TooMuch(f"a query may hold {MAX_POINTS} points. Ask for a shorter time, or with maxDataPoints.")
        found.points += points
        return answered

    async def _within(self, seconds: float, who: str, call: Coroutine[Any, Any, T]) -> T:
        return await within(
            seconds, f"{who} did not answer within {seconds:g} s. It may be busy or stopped.", call, self._clock
        )


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | Failure]:
    """What each of the calls returned or how it failed; they run at the same time."""
    outcomes = await DeferredList([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)
    values: list[Any] = [value for _, value in outcomes]
    # The list survives when it is cancelled; the coroutine that waits for it shall not.
    if any(isinstance(value, Failure) and value.check(CancelledError) for value in values):
        raise CancelledError
    return values


def _error(failure: Failure) -> SisockError:
    if isinstance(failure.value, SisockError):
        return failure.value
    log.failure("an error inside the bridge", failure)
    return SisockError("an error inside the bridge; its log has the traceback")
