"""Answering for a node: its two procedures as the wire calls them, whatever kind of functions stand behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger

from sisock import foreign
from sisock.errors import Busy, NodeFailed, SisockError
from sisock.fields import Catalogue
from sisock.requests import DataRequest

log = Logger()

# Calls that are read at the same time, and that may wait for it.
READERS = 4
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


class Answers:
    """The procedures of one node. `run` calls a function that is not async: in a thread, or right here."""

    def __init__(
        self,
        node: Answerer,
        run: Callable[..., Deferred[Any]],
        *,
        trusted: bool = False,
        ends: Callable[[DataRequest], tuple[float, float | None]] | None = None,
    ) -> None:
        self._node = node
        self._run = run
        # What our own get_data answers is in the wire's form already.
        self._trusted = trusted
        self._ends = ends or _ends
        self._data_turn = DeferredSemaphore(READERS)
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
    ) -> dict[str, Any] | bool:
        """`consumer.<NAME>.get_data`: {"data", "timeline"}, or False."""
        request = DataRequest.of(field, start, end, min_stride, max_points, method)
        if not request.fields or request.span.start >= request.span.end:
            return {"data": {name: [] for name in request.fields}, "timeline": {}}
        thins = foreign.takes_max_points(self._node.get_data)
        resolution = {"max_points": request.max_points, "method": request.method} if thins else {}
        fields = list(request.fields)
        read = self._node.get_data
        result = await self._read(self._data_turn, read, fields, *self._ends(request), request.min_stride, **resolution)
        if self._trusted:
            return result  # type: ignore[no-any-return]
        reduces = request.max_points is not None or request.min_stride is not None
        offered = await self._catalogue(request) if reduces and not thins else None
        return await self._read(self._data_turn, foreign.finished, result, request, offered)  # type: ignore[no-any-return]

    async def _catalogue(self, request: DataRequest) -> Catalogue:
        return foreign.catalogue(await self._read(self._fields_turn, self._node.get_fields, *self._ends(request)))

    async def _read(self, turn: DeferredSemaphore, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a function when it is its turn. A caller who gives up frees no turn: the thread still works on it."""
        name = self._node.name
        if len(turn.waiting) >= MAX_WAITING:
            raise Busy(f"{name} has {MAX_WAITING} calls waiting; ask again in a moment")
        answered: Deferred[Any] = Deferred()
        turn.run(self._call, function, *args, **kwargs).addBoth(answered.callback)
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
