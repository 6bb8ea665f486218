"""The pump: blocks come from a node, are encoded in threads and go out as fast as their reader takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from sisock.asking import Answered, Take
from sisock.blocks import Block
from sisock.errors import SisockError
from sisock.grafana_bridge.data.forms import Form
from sisock.streamed import Gone, Streamed

log = Logger()

# Bytes of blocks that may wait before the next page is asked for.
MOST_WAITING = 4 << 20
# Rows that are encoded at a time.
PART_ROWS = 1 << 16

Room = Callable[[], Awaitable[None]]


class Pump:
    """Takes blocks as they come, encodes them in a thread and writes them, one behind the other."""

    def __init__(self, answer: Streamed, form: Form) -> None:
        self._answer, self._form = answer, form
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
            if self._answer.gone:
                raise Gone
            await self._change()
        if self._answer.gone:
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
        except (Gone, CancelledError):
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
            self._answer.abort()
        finally:
            self._answer.close()

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
        await self._answer.write(octets)

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
