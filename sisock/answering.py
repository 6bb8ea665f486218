"""Answering for a node: its two procedures as the wire calls them, whatever kind of functions stand behind."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from autobahn.wamp.exception import TransportLost
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, maybeDeferred
from twisted.logger import Logger

from sisock import foreign
from sisock.errors import Busy, NodeFailed, PositionLost, SisockError, TooMuch
from sisock.fields import Catalogue
from sisock.requests import DataRequest, Rows

log = Logger()

# Calls that are read at the same time, and that may wait for it.
READERS = 4
# What overviews answer takes some milliseconds of many short steps, at which two threads hinder each other more than they
# get done: twenty at once took a third less time one behind the other.
OVERVIEW_READERS = 1
FIELD_READERS = 2
MAX_WAITING = 64


class Answerer(Protocol):
    """What can be asked: get_fields and get_data, plain, blocking or async."""

    @property
    def name(self) -> Any:
        """What consumers call it."""

    def get_fields(self, start: float, end: float | None) -> Any:
        """Answers a Catalogue or [fields, timelines]."""

    def get_data(self, field: list[str], start: float, end: float | None, min_stride: float | None) -> Any:
        """Answers {"data", "timeline"} or False."""


@runtime_checkable
class Keeper(Answerer, Protocol):
    """One that keeps what it offers in a history, and so knows positions and can be read block by block."""

    def answer(self, request: DataRequest) -> dict[str, Any] | bool:
        """The answer in lists; False for more than one may hold."""

    def rows(self, request: DataRequest) -> Iterator[Rows]:
        """The rows as blocks of each timeline."""


class Answers:
    """The procedures of one node. `run` calls a function that is not async: in a thread, or right here.

    Of a `keeper` the own answers are given; others are asked by get_fields and get_data, and what they return is checked.
    """

    def __init__(
        self,
        node: Answerer,
        run: Callable[..., Deferred[Any]],
        *,
        keeper: Keeper | None = None,
        ends: Callable[[DataRequest], tuple[float, float | None]] | None = None,
    ) -> None:
        self._node = node
        self._run = run
        self._keeper = keeper
        self._ends = ends or _ends
        self._data_turn = DeferredSemaphore(READERS)
        self._overview_turn = DeferredSemaphore(OVERVIEW_READERS)
        # Whether a node is alive is asked by get_fields, so it does not queue behind long reads.
        self._fields_turn = DeferredSemaphore(FIELD_READERS)

    async def get_fields(self, start: Any, end: Any) -> list[dict[str, Any]]:
        """`consumer.<NAME>.get_fields`: [fields, timelines]."""
        return (await self._catalogue(DataRequest.of(None, start, end))).to_wire()

    async def get_data(
        self,
        field: Any,
        start: Any,
        end: Any,
        min_stride: Any = None,
        max_points: Any = None,
        method: Any = None,
        encoding: Any = None,
        since: Any = None,
        step: Any = None,
        width: Any = None,
        *,
        details: Any = None,
    ) -> dict[str, Any] | bool:
        """`consumer.<NAME>.get_data`: {"data", "timeline"} or False in lists; {"arrow", "timeline"} in Arrow.

        In Arrow the messages come as progressive results to a caller who takes them.
        """
        request = DataRequest.of(field, start, end, min_stride, max_points, method, encoding, since, step, width)
        if not request.fields or request.span.start >= request.span.end:
            data: dict[str, Any] = {name: [] for name in request.fields}
            return {"timeline": {}} | ({"data": data} if request.encoding == "lists" else {"arrow": {}})
        if request.encoding == "arrow":
            return await self._in_arrow(request, getattr(details, "progress", None))
        if self._keeper is not None:
            return await self._read(self._turn(request), self._keeper.answer, request)  # type: ignore[no-any-return]
        result, offered = await self._foreign(request, always=False)
        return await self._read(self._data_turn, foreign.finished, result, request, offered)  # type: ignore[no-any-return]

    async def _in_arrow(self, request: DataRequest, progress: Callable[..., Any] | None) -> dict[str, Any]:
        # Arrow is loaded by who asks for it.
        from sisock import streaming

        given_up = threading.Event()
        send = None if progress is None else _in_reactor(progress, given_up)
        if self._keeper is not None:
            answered = self._read(self._turn(request), _streamed, streaming.answer, self._keeper.rows, request, send, given_up)
        else:
            result, offered = await self._foreign(request, always=True)
            if result is False:
                raise TooMuch(f"{self._node.name} has more in that time than one answer may hold. Ask for a shorter time.")
            readings = await self._read(self._data_turn, foreign.rows, result, request, offered)
            answered = self._read(self._data_turn, streaming.answer, request, readings, send, given_up)
        try:
            return await answered  # type: ignore[no-any-return]
        except CancelledError:
            given_up.set()
            raise

    def _turn(self, request: DataRequest) -> DeferredSemaphore:
        return self._overview_turn if request.is_overview else self._data_turn

    async def _foreign(self, request: DataRequest, *, always: bool) -> tuple[Any, Catalogue | None]:
        """What a node that keeps its data elsewhere returned, and what it offers where that is needed to go on."""
        if request.since is not None:
            raise PositionLost(f"{self._node.name} keeps no positions. Read anew.")
        read = self._node.get_data
        # Windows are made of what it returns, whatever it makes fewer by itself.
        thins = foreign.takes_max_points(read) and request.step is None
        resolution = {"max_points": request.max_points, "method": request.method} if thins else {}
        fields, ends = list(request.fields), self._ends(request)
        result = await self._read(self._data_turn, read, fields, *ends, request.min_stride, **resolution)
        needed = always or (request.reduces and not thins)
        return result, await self._catalogue(request) if needed else None

    async def _catalogue(self, request: DataRequest) -> Catalogue:
        return foreign.catalogue(await self._read(self._fields_turn, self._node.get_fields, *self._ends(request)))

    async def _read(self, turn: DeferredSemaphore, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a function when it is its turn. A caller who gives up before gives up his place, too.

        One who does so later frees no turn: the thread still works on it.
        """
        name = self._node.name
        if len(turn.waiting) >= MAX_WAITING:
            raise Busy(f"{name} has {MAX_WAITING} calls waiting; ask again in a moment")
        await turn.acquire()
        answered: Deferred[Any] = Deferred()

        def done(result: Any) -> None:
            turn.release()
            answered.callback(result)

        maybeDeferred(self._call, function, *args, **kwargs).addBoth(done)
        try:
            return await answered
        except (SisockError, CancelledError):
            raise
        except Exception as error:
            log.failure("{name}: {function} failed", name=name, function=function.__name__)
            raise NodeFailed(f"{name}: {function.__name__} raised {type(error).__name__}: {error}") from error

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        if inspect.iscoroutinefunction(function):
            return Deferred.fromCoroutine(function(*args, **kwargs))
        return self._run(function, *args, **kwargs)


def _ends(request: DataRequest) -> tuple[float, float | None]:
    span = request.span
    return span.start, None if span.end == float("inf") else span.end


def _streamed(answer: Callable[..., Any], rows: Callable[[DataRequest], Any], request: DataRequest, *more: Any) -> Any:
    """Reads and encodes in one thread."""
    return answer(request, rows(request), *more)


# Messages that may wait for the reactor to send them.
MAX_UNSENT = 4
UNSENT_SECONDS = 30.0


def _in_reactor(progress: Callable[..., Any], given_up: threading.Event) -> Callable[[dict[str, Any]], None]:
    """Sends a progressive result from another thread, which waits while the reactor has several to send."""
    from twisted.internet import reactor

    room = threading.BoundedSemaphore(MAX_UNSENT)

    def send(message: dict[str, Any]) -> None:
        if not room.acquire(timeout=UNSENT_SECONDS):
            raise Busy("the answer could not be sent in time; ask again")
        reactor.callFromThread(sent, message)

    def sent(message: dict[str, Any]) -> None:
        try:
            if not given_up.is_set():
                progress(message)
        except (TransportLost, AttributeError):
            # Nobody is there to take the rest; of a session that has ended Autobahn has no transport at all.
            given_up.set()
        finally:
            room.release()

    return send
