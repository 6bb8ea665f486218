"""Flights: what several ask at the same time is asked of a node once, and all get the answer.

Who may ask what was looked at before. A caller who leaves takes the call along only if nobody else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from sisock.asking import Answered, Question, Take
from sisock.errors import Busy
from sisock.fields import Catalogue

# Calls to nodes that are under way at a time; beyond, Busy.
MAX_CALLS = 1000


class _Flight:
    """One call that is under way, and those who wait for it."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.call: Deferred[Any] | None = None

    def landed(self, result: Any) -> None:
        """Gives the answer, or the failure, to all."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            if isinstance(result, Failure):
                one.errback(Failure(result.value, result.type, result.getTracebackObject()))
            else:
                one.callback(result)

    def leave(self, one: Deferred[Any]) -> None:
        """Takes one of those who wait off; the last one takes the call along."""
        if one in self.waiting:
            self.waiting.remove(one)
        if not self.waiting and self.call is not None:
            self.call.cancel()


class Flights:
    """A consumer whose equal calls are shared while they are under way. Answers are not to be changed by who gets them."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._flights: dict[Hashable, _Flight] = {}
        self._alone = 0
        self.asked = self.shared = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    @property
    def under_way(self) -> int:
        """Calls that are under way."""
        return len(self._flights) + self._alone

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there."""
        found: list[dict[str, str]] = await self._share("nodes", self._consumer.nodes)
        return found

    async def get_fields(self, node: str, start: float = 1.0, end: float | None = None) -> Catalogue:
        """What a node offers."""
        found: Catalogue = await self._share((node, start, end), lambda: self._consumer.get_fields(node, start, end))
        return found

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict[str, Answered]:
        """One call of a node's get_data, read as blocks."""
        found: dict[str, Answered]
        if take is not None or question.since is not None:
            self._check()
            self._alone += 1
            self.asked += 1
            try:
                found = await self._consumer.read(node, question, take)
            finally:
                self._alone -= 1
            return found
        key = node, replace(question, fields=tuple(question.fields))
        found = await self._share(key, lambda: self._consumer.read(node, question))
        return found

    def _check(self) -> None:
        if self.under_way >= MAX_CALLS:
            raise Busy(f"{self.under_way} calls to nodes are under way. Try again in a moment.")

    async def _share(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        flight = self._flights.get(key)
        one: Deferred[Any] = Deferred()
        if flight is None:
            self._check()
            self.asked += 1
            flight = self._flights[key] = _Flight()
            flight.waiting.append(one)
            begun = Deferred.fromCoroutine(call())
            flight.call = begun
            begun.addBoth(lambda result: self._landed(key, flight, result))
        else:
            self.shared += 1
            flight.waiting.append(one)
        try:
            return await one
        except CancelledError:
            if one in flight.waiting or not flight.waiting:
                self._forget(key, flight)
                flight.leave(one)
            raise

    def _landed(self, key: Hashable, flight: _Flight, result: Any) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.landed(result)

    def _forget(self, key: Hashable, flight: _Flight) -> None:
        """Lets nobody join a call that is about to be given up."""
        if len(flight.waiting) <= 1 and self._flights.get(key) is flight:
            del self._flights[key]
