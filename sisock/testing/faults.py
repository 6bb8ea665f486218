"""Faults, to try a node or a consumer under: a connection that is cut, stalled or slow, a process that is stopped or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall

TICK = 0.02


class _End(Protocol):
    """One end of a connection through a Link; what comes in at one goes out at the other."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: _End | None = None
        self.waiting: list[bytes] = []

    def connectionMade(self) -> None:  # noqa: N802
        """Takes part in the link's faults."""
        self.transport.setTcpNoDelay(True)
        self.link.ends.append(self)
        if self.link.held:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Passes on, at once or at the link's speed."""
        if self.other is None or self.link.speed is not None:
            self.waiting.append(data)
            if self.link.speed is not None:
                # Whoever sends has to wait as on a slow line.
                self.transport.pauseProducing()
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        """Ends the other end, too."""
        if self in self.link.ends:
            self.link.ends.remove(self)
        if self.other is not None:
            self.other.transport.loseConnection()

    def drip(self, most: int) -> None:
        """Passes on so many bytes."""
        while self.waiting and most > 0 and self.other is not None:
            data = self.waiting.pop(0)
            self.other.transport.write(data[:most])
            if len(data) > most:
                self.waiting.insert(0, data[most:])
            most -= len(data)
        if not self.waiting and not self.link.held:
            self.transport.resumeProducing()


class Link:
    """A TCP connection to a router that can be disturbed: join `url` in place of the router's own address.

    link = await Link(router.ws).start()
    link.cut()           every connection ends at once
    link.hold()          nothing passes, in either direction, until link.release()
    link.slow(10_000)    at most so many bytes a second pass in each direction; None for as fast as can be
    """

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._target, self._scheme, self._path = (where.hostname or "localhost", where.port or 80), where.scheme, where.path
        self.ends: list[_End] = []
        self.held = False
        self.speed: float | None = None
        self._port: Any = None
        self._drips = LoopingCall(self._drip)

    @property
    def url(self) -> str:
        """The address to join."""
        return f"{self._scheme}://localhost:{self._port.getHost().port}{self._path}"

    async def start(self) -> Self:
        """Begins to listen, on a free port."""
        from twisted.internet import reactor

        factory = Factory.forProtocol(_End)
        factory.noisy = False
        factory.buildProtocol = self._accept
        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        return self

    async def stop(self) -> None:
        """Ends all connections and listens no more."""
        self.slow(None)
        self.cut()
        await Deferred.fromCoroutine(_closed(self._port))

    def cut(self) -> None:
        """Ends every connection at once."""
        for end in tuple(self.ends):
            end.transport.abortConnection()

    def hold(self) -> None:
        """Lets nothing pass until `release`, as a network that is gone."""
        self.held = True
        for end in self.ends:
            end.transport.pauseProducing()

    def release(self) -> None:
        """Lets things pass again."""
        self.held = False
        for end in self.ends:
            if not end.waiting:
                end.transport.resumeProducing()

    def slow(self, bytes_a_second: float | None) -> None:
        """Passes at most so many bytes a second in each direction."""
        self.speed = bytes_a_second
        if bytes_a_second is not None and not self._drips.running:
            self._drips.start(TICK)
        elif bytes_a_second is None and self._drips.running:
            self._drips.stop()
            for end in self.ends:
                end.drip(1 << 40)

    def _drip(self) -> None:
        if self.speed is not None and not self.held:
            for end in tuple(self.ends):
                end.drip(max(1, round(self.speed * TICK)))

    def _accept(self, _: Any) -> _End:
        from twisted.internet import reactor

        near = _End(self)
        factory = Factory()
        factory.noisy = False
        far = _End(self)
        factory.buildProtocol = lambda _: far

        def connected(_: Any) -> None:
            near.other, far.other = far, near
            waiting, near.waiting = near.waiting, []
            for data in waiting:
                near.dataReceived(data)

        def refused(_: Any) -> None:
            if near.transport is not None:
                near.transport.loseConnection()

        endpoint = TCP4ClientEndpoint(reactor, *self._target)
        endpoint.connect(factory).addCallbacks(connected, refused)
        return near


async def _closed(port: Any) -> None:
    stopped = port.stopListening()
    if stopped is not None:
        await stopped


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stops a process by SIGSTOP, as one that sleeps or whose machine hangs, and lets it go on at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
