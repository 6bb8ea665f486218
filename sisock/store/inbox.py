"""A queue that is bounded by what is in it: so many blocks, so many bytes of rows."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

from sisock.errors import Busy, StoreAway

MAX_BLOCKS = 256
MAX_BYTES = 64 << 20


class Sized(Protocol):
    """What has a size in bytes."""

    @property
    def size(self) -> int:
        """About how many bytes it holds."""


T = TypeVar("T", bound=Sized)


class Inbox(Generic[T]):
    """Blocks that wait for one thread. A caller who brings more than may wait, waits in turn."""

    def __init__(self) -> None:
        self._blocks: deque[T] = deque()
        self._bytes = 0
        self._woken = self._closed = False
        self._changed = threading.Condition()

    def put(self, block: T, *, wait: bool) -> None:
        """Hands in a block. While the queue is full it waits, or raises Busy; StoreAway once it is closed."""
        with self._changed:
            while not self._closed and (
                len(self._blocks) >= MAX_BLOCKS or (self._blocks and self._bytes + block.size > MAX_BYTES)
            ):
                if not wait:
                    raise Busy("the outbox's queue is full: rows come faster than the disk takes them")
                self._changed.wait()
            if self._closed:
                raise StoreAway("the store is closed")
            self._blocks.append(block)
            self._bytes += block.size
            self._changed.notify_all()

    def take(self, timeout: float | None) -> tuple[list[T], bool]:
        """All that waits, and whether nothing more will come. Waits for a block, a wake or the end, or so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._woken or self._closed, timeout)
            blocks = list(self._blocks)
            self._blocks.clear()
            self._bytes, self._woken = 0, False
            self._changed.notify_all()
            return blocks, self._closed

    def wake(self) -> None:
        """Lets `take` return."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes nothing more in; what waits is still taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
