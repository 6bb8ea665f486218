"""Messages that are no readings: counted by reason, the newest kept for the operator to look at."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

from sisock.nodes.sensorhub.source import Malformed
from sisock.times import now

KEPT = 20
MAX_TEXT = 200


class Refused:
    """What was refused, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._newest: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def note(self, way: str, error: Malformed, message: bytes | str) -> None:
        """Counts a message that came on a way: `http`, `channel` or `stream`."""
        text = message if isinstance(message, str) else message[: 4 * MAX_TEXT].decode("utf-8", "backslashreplace")
        with self._lock:
            self._counts[error.reason] += 1
            self._newest.append({"time": now(), "way": way, "why": str(error)[:MAX_TEXT], "message": text[:MAX_TEXT]})

    @property
    def count(self) -> int:
        """How many there were."""
        with self._lock:
            return sum(self._counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many there were, by reason."""
        with self._lock:
            return dict(self._counts)

    def told(self) -> dict[str, Any]:
        """Counts by reason, and the newest, oldest first."""
        with self._lock:
            return {"refused": dict(self._counts), "newest": list(self._newest)}
