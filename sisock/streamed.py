"""Streamed answers: a long HTTP answer goes out as fast as its reader takes it, and what waits for that has a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer  # type: ignore[import-untyped]

from sisock.errors import TimedOut

log = Logger()

# Seconds after which a reader who takes nothing is let go.
PATIENCE = 60.0

Page = TypeVar("Page")


class Gone(Exception):
    """The reader has gone, or was let go."""


@implementer(IPushProducer)
class Streamed:
    """The answer to a request, written in pieces: each waits while the reader's transport is full."""

    def __init__(self, request: Any, patience: float = PATIENCE) -> None:
        self._request, self._patience = request, patience
        self._waiting: list[Deferred[None]] = []
        self.is_full = False
        self.gone = False
        request.notifyFinish().addBoth(self._finished)
        request.registerProducer(self, True)

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport is full."""
        self.is_full = True

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport takes more."""
        self.is_full = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is lost; whoever waits is told when the request knows it, too."""
        self.gone = True

    def _finished(self, _: Any) -> None:
        self.gone = True
        self.resumeProducing()

    async def write(self, octets: bytes) -> None:
        """Writes, and waits until there is room for more; Gone if nobody reads any more."""
        from twisted.internet import reactor

        if self.gone:
            raise Gone
        if octets:
            self._request.write(octets)
        if self.is_full:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting.addTimeout(self._patience, reactor, lambda *_: _raise(TimedOut("the reader takes nothing")))
            except TimedOut:
                self.abort()
        if self.gone:
            raise Gone

    def abort(self) -> None:
        """Breaks the connection, so that its reader sees that this was not all."""
        self.close()
        self._finished(None)
        channel = self._request.channel
        if channel is not None:
            channel.transport.abortConnection()

    def close(self) -> None:
        """Takes the transport's word no longer."""
        if not self.gone:
            self._request.unregisterProducer()


def _raise(error: Exception) -> None:
    raise error


async def reply_pages(
    request: Any, pages: Iterator[Page], encode: Callable[[Page], bytes], begin: bytes = b"[", end: bytes = b"]"
) -> bytes:
    """Answers a JSON array page by page; `encode` makes one page's items, with commas between them and none around.

    Pages are read and encoded in threads, one at a time. What fails before anything was written is raised; later, the
    connection is broken. What is left to be written is returned.
    """

    def following() -> bytes | None:
        for page in pages:
            if octets := encode(page):
                return octets
        return None

    octets = await deferToThread(following)
    request.setHeader(b"Content-Type", b"application/json; charset=utf-8")
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    if octets is None:
        return begin + end
    answer = Streamed(request)
    before = begin
    try:
        while octets is not None:
            await answer.write(before + octets)
            octets, before = await deferToThread(following), b","
    except (Gone, CancelledError):
        # The reader left; whatever answers its request was cancelled, if it was in the middle of a page.
        return b""
    except Exception:  # noqa: BLE001
        # Its status was sent long ago: only a broken connection tells the reader.
        log.failure("{path} was broken off", path=request.path.decode("utf-8", "backslashreplace")[:200])
        answer.abort()
        return b""
    answer.close()
    return end
