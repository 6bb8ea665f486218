"""The reactor under programs that do not run it: in a thread of its own, started once, or found if it runs already."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from sisock.errors import NotConnected, SetupError, TimedOut, WouldBlock

T = TypeVar("T")
# What is to be done in the reactor's thread, begun there.
Work = Callable[[], Coroutine[Any, Any, T]]

# Seconds to begin, and to leave at the end of the program.
BEGIN_WITHIN = 10.0
END_WITHIN = 2.0
# Seconds between two looks at work that shows its progress.
TICK = 0.1


class Loop:
    """Hands work to the reactor from other threads. There is one, `loop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: int | None = None
        self._thread: threading.Thread | None = None
        self._pending: set[Future[Any]] = set()

    def ensure(self) -> None:
        """Sees that the reactor runs, in a thread of ours if need be.

        WouldBlock in the reactor's own thread; SetupError in a fork of a process where it ran, and where it has ended.
        """
        from twisted.internet import reactor
        from twisted.python import threadable

        if self._process not in (None, os.getpid()):
            raise SetupError(
                "this process was forked from one that had connected, and a fork has none of its threads. Connect after the "
                'fork, or start processes with multiprocessing\'s "spawn" or "forkserver".'
            )
        if reactor.running and threadable.isInIOThread():
            raise WouldBlock
        with self._lock:
            if self._process is not None and reactor.running:
                return
            if reactor.running:
                reactor.callFromThread(self._found)
            else:
                self._begin(reactor)
            self._process = os.getpid()

    def _begin(self, reactor: Any) -> None:
        # Its threads (it looks up hosts in them) must not keep the program from ending.
        reactor.getThreadPool().threadFactory = partial(threading.Thread, daemon=True)
        running = threading.Event()
        refused: list[Exception] = []

        def run() -> None:
            try:
                reactor.callWhenRunning(running.set)
                reactor.callWhenRunning(self._found)
                reactor.run(installSignalHandlers=False)
            except Exception as error:  # noqa: BLE001
                # It goes to whoever waits below.
                refused.append(error)
                running.set()

        _log_to_logging()
        self._thread = threading.Thread(target=run, name="sisock", daemon=True)
        self._thread.start()
        if not running.wait(BEGIN_WITHIN):
            raise SetupError(f"Twisted's reactor did not begin to run within {BEGIN_WITHIN:g} s.")
        if refused:
            raise SetupError(
                "Twisted's reactor ran in this program before and cannot run again. Keep it running, or use a new process."
            ) from refused[0]
        atexit.register(self._end)

    def _found(self) -> None:
        from twisted.internet import reactor

        # Before the threads of its pool are waited for, as they may wait here.
        reactor.addSystemEventTrigger("before", "shutdown", self._fail_pending)

    def _fail_pending(self) -> None:
        while self._pending:
            done = self._pending.pop()
            if done.set_running_or_notify_cancel():
                done.set_exception(NotConnected("Twisted's reactor has been stopped, and with it all connections."))

    def _end(self) -> None:
        from twisted.internet import reactor

        if self.is_here and self._thread is not None and reactor.running:
            reactor.callFromThread(reactor.stop)
            self._thread.join(END_WITHIN)

    @property
    def is_here(self) -> bool:
        """Whether it was begun, or found, in this process."""
        return self._process == os.getpid()

    def submit(self, work: Work[T]) -> Future[T]:
        """Begins work in the reactor's thread; cancelling the future cancels it."""
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from twisted.python.failure import Failure

        self.ensure()
        done: Future[T] = Future()
        self._pending.add(done)

        def begin() -> None:
            if done.cancelled():
                finish(None)
                return
            deferred = Deferred.fromCoroutine(work())
            # It may have been cancelled just now; then this is called at once.
            done.add_done_callback(lambda _: later(deferred.cancel) if done.cancelled() else None)
            deferred.addBoth(finish)

        def finish(result: Any) -> None:
            if done not in self._pending:
                return
            self._pending.discard(done)
            # What becomes of a future that was cancelled is nobody's.
            if done.set_running_or_notify_cancel():
                if isinstance(result, Failure):
                    done.set_exception(result.value)
                else:
                    done.set_result(result)

        reactor.callFromThread(begin)
        return done

    def wait(self, work: Work[T], within: float | None = None, tick: Callable[[], None] | None = None) -> T:
        """Does work in the reactor's thread and waits for what it answers; TimedOut after `within` seconds.

        Whatever ends the wait, Ctrl-C as well, ends the work. `tick` is called now and then.
        """
        from time import monotonic

        done = self.submit(work)
        ends = None if within is None else monotonic() + within
        try:
            while True:
                left = None if ends is None else max(0.0, ends - monotonic())
                patience = left if tick is None else TICK if left is None else min(TICK, left)
                if wait((done,), patience).done:
                    return done.result()
                if tick is not None:
                    tick()
                if ends is not None and monotonic() >= ends:
                    raise TimedOut(f"it took longer than {within:g} s")
        finally:
            done.cancel()
            # An error's traceback holds this frame, which would hold the error.
            del done


def later(what: Callable[[], Any]) -> None:
    """Has something done in the reactor's thread, if it still runs; nobody waits for it. Does not block."""
    from twisted.internet import reactor

    if reactor.running and loop.is_here:
        reactor.callFromThread(what)


def leave(work: Work[None]) -> None:
    """Has this done in the reactor's thread, as later."""
    from twisted.internet.defer import Deferred
    from twisted.logger import Logger

    def begin() -> None:
        ended = Deferred.fromCoroutine(work())
        ended.addErrback(lambda failure: Logger().failure("while a connection was left", failure))

    later(begin)


def _log_to_logging() -> None:
    """Lets Python's logging have what Twisted logs, which else is kept in memory; nobody has chosen anything else."""
    from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, STDLibLogObserver, globalLogBeginner

    quiet = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(STDLibLogObserver(name="sisock"), [quiet])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


loop = Loop()
