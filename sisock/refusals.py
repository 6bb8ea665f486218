"""Refusals: what came to a node and was not taken, counted by where it came from, with the newest reason of each."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

# Sources that are told apart, and characters of a reason.
MAX_SOURCES = 1000
MAX_REASON = 500
OTHERS = "others"


class Refusals:
    """Counts what is refused. Safe to use from any thread."""

    def __init__(self, name: str) -> None:
        self.counts: dict[str, int] = {}
        self.newest: dict[str, str] = {}
        self._name = name
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """All there were."""
        return sum(tuple(self.counts.values()))

    def say(self, source: str, why: str) -> None:
        """Counts one; the first of each source is logged."""
        with self._lock:
            if source not in self.counts and len(self.counts) >= MAX_SOURCES:
                source = OTHERS
            first = source not in self.counts
            self.counts[source] = self.counts.get(source, 0) + 1
            self.newest[source] = why[:MAX_REASON]
        if first:
            log.warning(
                "%s: something from %s is refused, and so will be others like it: %s", self._name, source, why[:MAX_REASON]
            )
