"""Turns: so many requests are answered at a time, some wait for theirs, and the rest are told to come again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredSemaphore

from sisock.errors import Busy, SisockError

# Requests that are answered at the same time, and that may wait for it: some dashboards full of panels.
AT_ONCE = 64
MAX_WAITING = 512


class Turns:
    """Gives turns, and counts them by what was asked."""

    def __init__(self, at_once: int = AT_ONCE, most_waiting: int = MAX_WAITING) -> None:
        self._turn = DeferredSemaphore(at_once)
        self._most = at_once + most_waiting
        self.inside = 0
        self.asked: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, what: str) -> AsyncIterator[None]:
        """A turn, waited for; Busy where too many wait already."""
        self.asked[what] += 1
        if self.inside >= self._most:
            self.failed[what] += 1
            raise Busy(f"{self.inside} requests are being answered. Try again in a second.")
        self.inside += 1
        began = time.monotonic()
        try:
            await self._turn.acquire()
            try:
                yield
            except SisockError:
                self.failed[what] += 1
                raise
            finally:
                self._turn.release()
        finally:
            self.inside -= 1
            self.seconds[what] += time.monotonic() - began  # type: ignore[assignment]
