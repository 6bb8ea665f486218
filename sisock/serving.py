"""Serving a node: its life, its sampling, and its place on the router."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from sisock import uris
from sisock.answering import FIELD_READERS, OVERVIEW_READERS, READERS, Answers
from sisock.errors import InvalidArgument, LostLease
from sisock.naming import Applicant, Claim, Identity, take_name
from sisock.node import DataNode
from sisock.publishing import Publisher
from sisock.session import Access, Connection, Session
from sisock.times import now
from sisock.wire_errors import raises_on_the_wire

log = Logger()

# How long a node's own code may keep the program from ending, in seconds.
PATIENCE = 2.0
# Seconds between two tracebacks of a sample() that goes on failing.
SHOW_EVERY = 60.0
# Seconds within which the router answers a node that asks from a thread of its own.
ASK_WITHIN = 5.0


class _DaemonPool(ThreadPool):
    """Threads that do not keep the program from ending, whatever they wait for."""

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> Thread:  # noqa: N802
        return Thread(*args, **kwargs, daemon=True)

    def leave(self) -> None:
        """Stops the threads; one that is blocked is left behind."""
        joining = Thread(target=self.stop, daemon=True)
        joining.start()
        joining.join(PATIENCE)


class Sampler:
    """Calls a node's `sample` each `interval` seconds in a thread: never two at once; ticks that were missed are counted."""

    def __init__(
        self, node: DataNode, in_thread: Callable[..., Deferred[Any]], rests: Callable[[], bool] = lambda: False
    ) -> None:
        self._node = node
        self._in_thread = in_thread
        self._rests = rests
        self._shown: float | None = None
        self._loop = LoopingCall.withCount(self._tick)

    def start(self) -> None:
        """Begins to sample, if the node has an interval."""
        interval = self._node.interval
        if interval is not None:
            if not interval > 0:
                raise InvalidArgument(f"{self._node.name}: interval is a number of seconds above 0, not {interval!r}")
            self._loop.start(interval).addErrback(lambda failure: log.failure("sampling stopped", failure))

    def stop(self) -> None:
        """Ends sampling; a sample that is being taken is not waited for."""
        if self._loop.running:
            self._loop.stop()

    async def _take(self) -> None:
        health = self._node.health
        try:
            await self._in_thread(self._node.take_sample)
        except LostLease:
            # Another start of this node has taken over; the service leaves and says so.
            return
        except Exception:  # noqa: BLE001
            # One error a minute is shown whole; health counts them all.
            if self._shown is None or now() - self._shown > SHOW_EVERY:
                log.failure(
                    "{name}: sample() failed ({errors} times); sampling goes on", name=self._node.name, errors=health.errors
                )
                self._shown = now()

    def _tick(self, count: int) -> Deferred[None] | None:
        if self._rests():
            return None
        self._node.health.missed += count - 1
        return Deferred.fromCoroutine(self._take())


def _ask_from_thread(session: Session, procedure: str, *args: Any) -> Any:
    from twisted.internet import reactor

    return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(session.ask(procedure, *args, timeout=ASK_WITHIN)))


class NodeService:
    """A node on the air: `start` it, and `ended` fires when it was stopped or fails when it had to leave."""

    def __init__(self, node: DataNode, access: Access, identity: Identity) -> None:
        self.node = node
        self.identity = identity
        self.connection = Connection(access, self)
        self.announced = False
        self._started = False
        self._own_thread = _DaemonPool(1, 1, name=f"{node.name}-sampling")
        self._readers = _DaemonPool(1, READERS + OVERVIEW_READERS + FIELD_READERS, name=f"{node.name}-reading")
        node.on_lost = self._lost
        own = type(node).get_data is DataNode.get_data
        self.answers = Answers(node, self._in_reader, keeper=node if own else None)
        # Who answers from elsewhere has no positions that one could follow.
        self.publisher = Publisher(node, self._in_reader) if own else None
        node.on_kept = self.publisher.kept if self.publisher else None
        self._claim = Claim(node.history, node.name, identity)
        self._sampler = Sampler(node, self._on_own_thread, lambda: self._claim.stands_by)

    @property
    def ended(self) -> Deferred[None]:
        """Fires when the node was stopped; fails when it was refused or superseded."""
        return self.connection.ended

    async def start(self) -> None:
        """Starts the node, then its sampling, then joins the router; what its `start` raises is raised here."""
        self._own_thread.start()
        self._readers.start()
        try:
            if self.publisher is not None:
                await self._in_reader(self.publisher.prepare)
            await self._on_own_thread(self.node.start)
        except BaseException:
            self._stop_threads()
            raise
        self._started = True
        self._sampler.start()
        self.connection.start()

    async def stop(self) -> None:
        """Leaves the router, ends sampling, and lets the node close what it opened; nothing if it never started."""
        if not self._started:
            return
        self._sampler.stop()
        await self.connection.stop()
        from twisted.internet import reactor

        try:
            await self._on_own_thread(self.node.stop).addTimeout(PATIENCE, reactor)
        except DeferredTimeout:
            log.warn("{name}: its thread is blocked; stop() is not called", name=self.node.name)
        finally:
            self._stop_threads()

    def _stop_threads(self) -> None:
        self._own_thread.leave()
        self._readers.leave()

    def _in_reader(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        return deferToThreadPool(reactor, self._readers, function, *args, **kwargs)

    def _on_own_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        if inspect.iscoroutinefunction(function):
            return Deferred.fromCoroutine(function(*args))
        return deferToThreadPool(reactor, self._own_thread, function, *args)

    def _lost(self, error: LostLease) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(self.connection.fail, error)

    async def joined(self, session: Session) -> None:
        """Takes the node's name; waits while it is another's."""
        applicant = Applicant(
            self.node.name,
            self.node.description,
            self.identity,
            self.answers.get_fields,
            self.answers.get_data,
            self._claim.taken,
        )
        self.announced = await take_name(session, applicant)
        if self.announced:
            self._claim.gained(session)
            self.node.ask_router = partial(_ask_from_thread, session)
            for name, procedure in self.node.procedures.items():
                await session.register(raises_on_the_wire(procedure), uris.procedure(self.node.name, name))
            if self.publisher is not None:
                await self.publisher.joined(session)

    def left(self) -> None:
        """Notes that the node is off the air."""
        self.announced = False
        self.node.ask_router = None
        self._claim.lost()
        if self.publisher is not None:
            self.publisher.left()
