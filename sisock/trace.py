"""Tracing: with SISOCK_TRACE=1 every call, answer and event of a program is printed with its time, on standard error."""

from __future__ import annotations

import sys
import time
from typing import Any

MAX_LINE = 300

# These carry what proves who one is.
_SECRET = ("Hello", "Challenge", "Authenticate")

_enabled = False


def enable() -> None:
    """Begins to print."""
    global _enabled  # noqa: PLW0603
    _enabled = True


def enabled() -> bool:
    """Whether messages are printed."""
    return _enabled


def show(direction: str, message: Any) -> None:
    """Prints a WAMP message that was sent (`>`) or received (`<`), shortened."""
    if not _enabled:
        return
    kind = type(message).__name__
    parts = [kind]
    if kind not in _SECRET:
        named = (getattr(message, part, None) for part in ("procedure", "topic", "error", "uri", "reason"))
        parts += [str(part) for part in named if part]
        payload = [getattr(message, "args", None), getattr(message, "kwargs", None)]
        parts += [repr(part) for part in payload if part]
        request = getattr(message, "request", None)
        parts += [f"#{request}"] if request is not None else []
    present = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(present)) + f".{int(present % 1 * 1e6):06d}"
    line = " ".join(parts)
    sys.stderr.write(f"{clock} {direction} {line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + '...'}\n")
