"""Backlogs: what the router holds for readers who do not read.

Crossbar buffers for a slow reader without bound and does not give the memory back. So one whose backlog is long and does
not shrink is cut off; it comes back and resumes by `since`, or reads its page again. A slow reader who goes on reading
is left alone up to what one call may bring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

# Bytes that nobody is cut off for, and bytes that are too many in any case: a little more than one call may bring.
PATIENT_BYTES = 4 << 20
MOST_BYTES = 18 << 20
# Seconds in which a longer backlog has to shrink, and between two looks.
SHRINKS_WITHIN = 2.0
LOOK_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class Stuck:
    """A session whose reader is to be cut off, with so many bytes held for it, and why."""

    session: int
    size: int
    reason: str


class Backlogs:
    """Looks at the sessions' backlogs again and again, and says whose reader is stuck."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # The least backlog of those that are long, and since when it is no less.
        self._least: dict[int, tuple[int, float]] = {}

    def look(self, sizes: Iterable[tuple[int, int]]) -> list[Stuck]:
        """Takes the present backlog of each session, and answers those that are stuck."""
        present = self._seconds()
        stuck, seen = [], {}
        for session, size in sizes:
            if size > MOST_BYTES:
                stuck.append(Stuck(session, size, "more than one call may bring"))
            elif size > PATIENT_BYTES:
                least, since = self._least.get(session, (size, present))
                if size < least:
                    least, since = size, present
                if present - since >= SHRINKS_WITHIN:
                    stuck.append(Stuck(session, size, f"nothing was read of it for {present - since:.0f} s"))
                else:
                    seen[session] = least, since
        self._least = seen
        return stuck


def backlog_of(session: Any) -> int:
    """Bytes that a session's transport holds until its reader takes them.

    Neither WAMP nor Twisted has a procedure for it, so this reaches into the transport: TCP, or TLS on top of it.
    """
    transport = getattr(getattr(session, "_transport", None), "transport", None)
    held = 0
    for _ in range(4):
        if transport is None:
            break
        held += len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
        held += getattr(transport, "_tempDataLen", 0)
        held += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = getattr(transport, "transport", None)
    return held
