"""Deadlines: what takes too long is given up, and an error says what it was."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from sisock.errors import TimedOut

T = TypeVar("T")


def within(
    seconds: float, trouble: str, call: Coroutine[Any, Any, T] | Deferred[T], clock: IReactorTime | None = None
) -> Deferred[T]:
    """The call, which is cancelled when the time is over: a TimedOut that tells the trouble.

    `clock` is the reactor unless a test passes another.
    """
    if clock is None:
        from twisted.internet import reactor

        clock = IReactorTime(reactor)

    def late(result: T | Failure, _: float) -> T | Failure:
        return Failure(TimedOut(trouble)) if isinstance(result, Failure) and result.check(CancelledError) else result

    begun = call if isinstance(call, Deferred) else Deferred.fromCoroutine(call)
    return begun.addTimeout(seconds, clock, late)
