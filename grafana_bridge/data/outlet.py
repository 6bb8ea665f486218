"""Outlet: a long answer goes out as fast as its reader takes it, and what waits for that has a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer  # type: ignore[import-untyped]

from sisock.asking import Answered, Take
from sisock.blocks import Block
from sisock.errors import SisockError, TimedOut
from sisock.grafana_bridge.data.forms import Form

log = Logger()

# Bytes of blocks that may wait before the next page is asked for.
MOST_WAITING = 4 << 20
# Rows that are encoded at a time.
PART_ROWS = 1 << 16
# Seconds after which a reader who takes nothing is let go.
PATIENCE = 60.0

Room = Callable[[], Awaitable[None]]


class Gone(Exception):
    """The reader has gone, or was let go."""


@implementer(IPushProducer)
class Outlet:
    """Writes to a request, and waits while its transport is full."""

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


class Pump:
    """Takes blocks as they come, encodes them in a thread and writes them, one behind the other."""

    def __init__(self, outlet: Outlet, form: Form) -> None:
        self._outlet, self._form = outlet, form
        self._waiting: deque[tuple[str, Block]] = deque()
        self._held = 0
        self._changed: list[Deferred[None]] = []
        self._ended = False
        self.begun = False

    def take(self, timeline: str, block: Block) -> None:
        """Takes in a block."""
        for at in range(0, len(block), PART_ROWS):
            self._waiting.append((timeline, block.take(slice(at, at + PART_ROWS))))
        self._held += _size(block)
        self._wake()

    async def room(self) -> None:
        """Waits until little is left to be written."""
        while self._held > MOST_WAITING:
            if self._outlet.gone:
                raise Gone
            await self._change()
        if self._outlet.gone:
            raise Gone

    async def run(self, read: Callable[[Take, Room], Awaitable[Mapping[str, Answered]]]) -> None:
        """Writes all that `read` brings. An error before anything was written is raised; later, the connection is broken."""
        reading: Deferred[Mapping[str, Answered]] = Deferred.fromCoroutine(self._read(read))
        try:
            while True:
                while self._waiting:
                    timeline, block = self._waiting.popleft()
                    await self._write(self._form.part, timeline, block)
                    self._held -= _size(block)
                    self._wake()
                if self._ended and not self._waiting:
                    break
                await self._change()
            answers = await reading
            await self._write(self._form.end, answers)
        except Gone:
            reading.addErrback(lambda _: None)
            reading.cancel()
        except Exception as error:
            reading.addErrback(lambda _: None)
            reading.cancel()
            if not self.begun:
                raise
            # Its status was sent long ago: only a broken connection tells the reader.
            if isinstance(error, SisockError):
                log.warn("an answer was broken off: {error}", error=error)
            else:
                log.failure("an answer was broken off")
            self._outlet.abort()
        finally:
            self._outlet.close()

    async def _read(self, read: Callable[[Take, Room], Awaitable[Mapping[str, Answered]]]) -> Mapping[str, Answered]:
        try:
            return await read(self.take, self.room)
        finally:
            self._ended = True
            self._wake()

    async def _write(self, encode: Callable[..., bytes], *args: Any) -> None:
        first = b"" if self.begun else self._form.begin()
        octets: bytes = first + await deferToThread(encode, *args)
        self.begun = True
        await self._outlet.write(octets)

    def _change(self) -> Deferred[None]:
        changed: Deferred[None] = Deferred()
        self._changed.append(changed)
        return changed

    def _wake(self) -> None:
        changed, self._changed = self._changed, []
        for one in changed:
            if not one.called:
                one.callback(None)


def _size(block: Block) -> int:
    return len(block) * 8 * (1 + len(block.columns))
