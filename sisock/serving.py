"""Serving a node: its life, its sampling, its two procedures, and how it comes by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.util import sleep
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from sisock import foreign, uris
from sisock.errors import Busy, InvalidArgument, NodeFailed, NotAuthorized, SisockError
from sisock.node import DataNode
from sisock.requests import DataRequest
from sisock.session import Access, Connection, Session, raises_on_the_wire

log = Logger()

# Calls that are read at the same time, and that may wait for it.
READERS = 4
MAX_WAITING = 64
# How often a taken name is asked for again, in seconds: the first time and at most.
RETRY_NAME = (1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node's process is: the instance it belongs to (a UUID kept in its home) and the how-manieth start of it."""

    instance: str
    start: int


class Sampler:
    """Calls a node's `sample` each `interval` seconds in a thread: never two at once; ticks that were missed are counted."""

    def __init__(self, node: DataNode, in_thread: Callable[..., Deferred[Any]]) -> None:
        self._node = node
        self._in_thread = in_thread
        self._shown: str | None = None
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
        except Exception:  # noqa: BLE001
            # The first of a row of equal errors is shown whole; health counts them all.
            if health.last_error != self._shown:
                log.failure("{name}: sample() failed; sampling goes on", name=self._node.name)
                self._shown = health.last_error

    def _tick(self, count: int) -> Deferred[None]:
        self._node.health.missed += count - 1
        return Deferred.fromCoroutine(self._take())


class NodeService:
    """A node on the air: `start` it, and `ended` fires when it was stopped or fails when it had to leave."""

    def __init__(self, node: DataNode, access: Access, identity: Identity) -> None:
        self.node = node
        self.identity = identity
        self.connection = Connection(access, self)
        self.announced = False
        self._own_thread = ThreadPool(1, 1, name=f"{node.name}-sampling")
        self._readers = ThreadPool(1, READERS, name=f"{node.name}-reading")
        self._turn = DeferredSemaphore(READERS)
        self._sampler = Sampler(node, self._on_own_thread)

    @property
    def ended(self) -> Deferred[None]:
        """Fires when the node was stopped; fails when it was refused or superseded."""
        return self.connection.ended

    async def start(self) -> None:
        """Starts the node, then its sampling, then joins the router; what its `start` raises is raised here."""
        self._own_thread.start()
        self._readers.start()
        try:
            await self._on_own_thread(self.node.start)
        except BaseException:
            self._stop_threads()
            raise
        self._sampler.start()
        self.connection.start()

    async def stop(self) -> None:
        """Leaves the router, ends sampling, and lets the node close what it opened."""
        self._sampler.stop()
        await self.connection.stop()
        try:
            await self._on_own_thread(self.node.stop)
        finally:
            self._stop_threads()

    def _stop_threads(self) -> None:
        self._own_thread.stop()
        self._readers.stop()

    def _on_own_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        if inspect.iscoroutinefunction(function):
            return Deferred.fromCoroutine(function(*args))
        return deferToThreadPool(reactor, self._own_thread, function, *args)

    # ---- the name

    async def joined(self, session: Session) -> None:
        """Registers both procedures and is listed by the hub; waits while the name is another's."""
        wait, longest = RETRY_NAME
        while session.is_attached():
            if await self._register(session) and await self._add(session):
                self.announced = True
                log.info("{name} is on the air", name=self.node.name)
                return
            claimed = await session.ask(uris.CLAIM, self.node.name, self.identity.instance, self.identity.start)
            if not claimed:
                log.warn("the name {name} is taken; trying again in {wait:g} s", name=self.node.name, wait=wait)
                await sleep(wait)
                wait = min(2 * wait, longest)

    def left(self) -> None:
        """Notes that the node is off the air."""
        self.announced = False

    async def _register(self, session: Session) -> bool:
        """Registers both procedures, or none and answers False."""
        name = self.node.name
        held: list[Any] = []
        for uri, procedure in ((uris.get_fields(name), self.get_fields), (uris.get_data(name), self.get_data)):
            try:
                held.append(await session.register(raises_on_the_wire(procedure), uri))
            except ApplicationError as error:
                for registration in held:
                    await registration.unregister()
                if error.error == ApplicationError.PROCEDURE_ALREADY_EXISTS:
                    return False
                if error.error == ApplicationError.NOT_AUTHORIZED:
                    raise NotAuthorized(f"this user may not serve a node named {name!r}") from error
                raise
        self._held = held
        return True

    async def _add(self, session: Session) -> bool:
        identity = self.identity
        added = await session.ask(
            uris.ADD,
            self.node.name,
            self.node.description,
            session.session_id,
            instance=identity.instance,
            start=identity.start,
        )
        if not added:
            for registration in self._held:
                await registration.unregister()
        return bool(added)

    # ---- the two procedures

    async def get_fields(self, start: Any, end: Any) -> list[dict[str, Any]]:
        """`consumer.<NAME>.get_fields`: [fields, timelines]."""
        request = DataRequest.of(None, start, end)
        wire: list[dict[str, Any]] = (await self._catalogue(request)).to_wire()
        return wire

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
        whole = foreign.takes_max_points(self.node.get_data)
        resolution = {"max_points": request.max_points, "method": request.method} if whole else {}
        own = type(self.node).get_data is DataNode.get_data
        result = await self._read(self.node.get_data, list(request.fields), *_ends(request), request.min_stride, **resolution)
        if own:
            return result  # type: ignore[no-any-return]
        answer = foreign.checked(result, request)
        return (
            answer
            if whole or request.max_points is None
            else foreign.downsampled(answer, request, await self._catalogue(request))
        )

    async def _catalogue(self, request: DataRequest) -> Any:
        return foreign.catalogue(await self._read(self.node.get_fields, *_ends(request)))

    async def _read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a node's own function: async ones here, others in a thread when it is their turn."""
        if len(self._turn.waiting) >= MAX_WAITING:
            raise Busy(f"{self.node.name} has {MAX_WAITING} calls waiting; ask again in a moment")
        try:
            return await self._turn.run(self._call, function, *args, **kwargs)
        except SisockError:
            raise
        except Exception as error:
            log.failure("{name}: {function} failed", name=self.node.name, function=function.__name__)
            raise NodeFailed(f"{self.node.name}: {function.__name__} raised {type(error).__name__}: {error}") from error

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        if inspect.iscoroutinefunction(function):
            return maybeDeferred(lambda: Deferred.fromCoroutine(function(*args, **kwargs)))
        return deferToThreadPool(reactor, self._readers, function, *args, **kwargs)


def _ends(request: DataRequest) -> tuple[float, float | None]:
    span = request.span
    return span.start, None if span.end == float("inf") else span.end
