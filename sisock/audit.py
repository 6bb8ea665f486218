"""The audit: a line for each login, refusal, claim and end of a session, in a file of its own, without secrets.

A line is JSON: `time`, `event`, and what is known of `user`, `address`, `door`, `why`. In a flood of one kind the first few of
each second are written out and the others are counted, so that nobody fills the disk.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from twisted.python.logfile import LogFile

log = logging.getLogger(__name__)

Event = Literal["login", "refused", "denied", "joined", "claim", "killed", "left", "rules", "users"]

MAX_BYTES = 5_000_000
KEPT = 5
# Lines of one kind that are written out in a second.
PER_SECOND = 20
MAX_TEXT = 200
# By which unknown names are marked: whoever reads the lines cannot try out what a name was.
_KEY = secrets.token_bytes(32)


class Audit:
    """Writes one process' audit; `path` is `<home>/logs/audit-<door>.log`. It is rotated, and its owner's alone."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._file: Any = None
        self._second = 0
        self._written: dict[str, int] = {}

    def note(self, event: Event, **what: Any) -> None:
        """Writes a line. A text is cut where it is long; None is left out."""
        second = int(self._clock())
        if second != self._second:
            self._tell_counted()
            self._second = second
        self._written[event] = self._written.get(event, 0) + 1
        if self._written[event] <= PER_SECOND:
            self._write({"event": event, **{name: _short(value) for name, value in what.items() if value is not None}})

    def settle(self) -> None:
        """Tells what was only counted, when its second is over; somebody calls it now and then."""
        if int(self._clock()) != self._second:
            self._tell_counted()

    def close(self) -> None:
        """Tells the rest and closes the file."""
        self._tell_counted()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _tell_counted(self) -> None:
        for event, count in self._written.items():
            if count > PER_SECOND:
                self._write({"event": event, "more": count - PER_SECOND})
        self._written.clear()

    def _write(self, entry: dict[str, Any]) -> None:
        now = self._clock()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        try:
            if self._file is None:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = LogFile(
                    self.path.name, str(self.path.parent), rotateLength=MAX_BYTES, defaultMode=0o600, maxRotatedFiles=KEPT
                )
            self._file.write(json.dumps({"time": stamp, **entry}, ensure_ascii=True) + "\n")
            self._file.flush()
        except OSError as error:
            # The disk is full or gone: the site goes on, and says so where it still can.
            log.error("%s cannot be written: %s", self.path, error)
            self._file = None


def _short(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool)) else str(value)[:MAX_TEXT]


def named(name: str, known: object) -> str:
    """A name as a line may hold it. One that nobody has may be a secret in the wrong place: a mark and its length stand for it.

    The mark tells one name from another while a process runs.
    """
    if known or not name:
        return name
    mark = blake2b(name.encode("utf-8", "surrogatepass"), key=_KEY, digest_size=4).hexdigest()
    return f"unknown {mark} ({len(name)} characters)"
