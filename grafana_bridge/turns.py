"""Turns: so many requests are answered at a time, some wait for theirs, and the rest are told to come again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from sisock.errors import Busy, InvalidArgument

# Requests that are answered at the same time, and that may wait for it: some dashboards full of panels.
AT_ONCE = 64
MAX_WAITING = 512


class Turns:
    """Gives turns, and counts all requests by what was asked."""

    def __init__(self, at_once: int = AT_ONCE, most_waiting: int = MAX_WAITING) -> None:
        self._turn = DeferredSemaphore(at_once)
        self._most = at_once + most_waiting
        self._taken = 0
        self.inside = 0
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._turn.waiting)

    @asynccontextmanager
    async def take(self, what: str) -> AsyncIterator[None]:
        """A turn, waited for; Busy where too many wait already."""
        async with self.count(what):
            if self._taken >= self._most:
                raise Busy(f"{self._taken} requests are being answered. Try again in a second.")
            self._taken += 1
            try:
                await self._turn.acquire()
                try:
                    yield
                finally:
                    self._turn.release()
            finally:
                self._taken -= 1

    @asynccontextmanager
    async def count(self, what: str) -> AsyncIterator[None]:
        """Counts a request that needs no turn, or has others."""
        self.asked[what] += 1
        self.inside += 1
        began = time.monotonic()
        try:
            yield
        except (InvalidArgument, CancelledError):
            # Who asks for what there cannot be, or leaves, is no trouble of ours.
            raise
        except Exception:
            self.failed[what] += 1
            raise
        finally:
            self.inside -= 1
            self.seconds[what] += time.monotonic() - began  # type: ignore[assignment]


class Room:
    """Room for so much: whoever comes when the rest is too little waits, behind those who wait already."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def take(self, amount: int) -> AsyncIterator[None]:
        """So much of it, which is no more than there is at all."""
        entered: Deferred[None] = Deferred()
        self._waiting.append((amount, entered))
        self._let_in()
        try:
            await entered
        except CancelledError:
            self._waiting.remove((amount, entered))
            self._let_in()
            raise
        try:
            yield
        finally:
            self._free += amount
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            amount, entered = self._waiting.popleft()
            self._free -= amount
            entered.callback(None)
