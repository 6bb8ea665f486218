"""Twisted's reactor under a command: a coroutine that ends, or a service that runs until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, STDLibLogObserver, globalLogBeginner
from twisted.python.failure import Failure

T = TypeVar("T")


def finish(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine to its end and answers its result; Ctrl-C ends the program with status 130."""
    from twisted.internet import reactor

    ended: list[T | Failure] = []

    def end(result: T | Failure) -> None:
        ended.append(result)
        if reactor.running:
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(end))
    reactor.run()
    if not ended:
        sys.exit(130)
    result = ended[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


def serve(
    start: Callable[[], Awaitable[Deferred[Any] | None]], stop: Callable[[], Awaitable[None]], *, ends: bool = False
) -> None:
    """Runs a service until SIGINT or SIGTERM, then stops it. An error in `start`, or of the Deferred it answers, is raised.

    With `ends` it is stopped, too, when that Deferred fires.
    """
    from twisted.internet import reactor

    failed: list[Failure] = []
    stopping = False

    def end_reactor() -> None:
        nonlocal stopping
        if reactor.running and not stopping:
            stopping = True
            reactor.stop()

    def fail(failure: Failure) -> None:
        if not failed:
            failed.append(failure)
        end_reactor()

    def end_by_itself(_: Any) -> None:
        if ends:
            end_reactor()

    async def begin() -> None:
        ended = await start()
        if ended is not None:
            ended.addCallbacks(end_by_itself, fail)

    async def end() -> None:
        nonlocal stopping
        stopping = True
        # Whoever presses Ctrl-C again does not want to wait; parts end with their supervisor.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(130))
        await stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(begin()).addErrback(fail))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(end()).addErrback(fail))
    reactor.run()
    if failed:
        failed[0].raiseException()


def guarded(main: Deferred[Any], *others: Deferred[Any]) -> Deferred[Any]:
    """Ends with `main`, or with the first of all these that fails; what fails later is of no account."""
    ended: Deferred[Any] = Deferred()

    def end(result: Any) -> None:
        if not ended.called:
            ended.callback(result)

    main.addBoth(end)
    for other in others:
        other.addErrback(end)
    return ended


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends what Twisted, Autobahn and nodes log to standard error, a line an event."""
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    # It tells of each of its parts at each start.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    quiet = LogLevelFilterPredicate(LogLevel.info)
    for namespace in ("autobahn", "twisted", "txaio"):
        quiet.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer = FilteringLogObserver(STDLibLogObserver(name="sisock"), [quiet])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
