"""Lines of a weather file as arrays: `<unix seconds> <value>`, `#` begins a comment."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Years 1 to 9999: what a calendar can show.
EARLIEST = -62_135_596_800.0
LATEST = 253_402_300_800.0

# Below this many bytes the plain loop is as quick as NumPy's reader.
SMALL = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What some lines hold: times and values in the file's order, and the lines that are neither rows nor comments.

    `bad` maps the number of such a line, counted from 0, to what is wrong with it.
    """

    t: Floats
    values: Floats
    bad: dict[int, str]


def parse(lines: bytes) -> Rows:
    """Rows of whole lines; never raises, whatever the bytes are."""
    if len(lines) >= SMALL and lines.isascii():
        rows = _all_at_once(lines)
        if rows is not None:
            return rows
    return _line_by_line(lines)


def _all_at_once(lines: bytes) -> Rows | None:
    """All lines by NumPy's reader; None if any of them is no row."""
    try:
        # The row of ours keeps it from warning of input without data, and makes two the number of columns.
        table = np.loadtxt(io.BytesIO(b"0 0\n" + lines), np.float64, comments="#", ndmin=2)[1:]
    except ValueError:
        return None
    t = table[:, 0]
    # NaN compares as False, so it is refused here as well.
    if not ((t >= EARLIEST) & (t < LATEST)).all():
        return None
    return Rows(t.copy(), table[:, 1].copy(), {})


def _line_by_line(lines: bytes) -> Rows:
    t: list[float] = []
    values: list[float] = []
    bad: dict[int, str] = {}
    for number, line in enumerate(lines.split(b"\n")):
        words = line.partition(b"#")[0].decode("ascii", "replace").split()
        if not words:
            continue
        row = _row(words)
        if row is None:
            bad[number] = f"is not '<unix seconds> <value>': {line[:60]!r}"
        else:
            t.append(row[0])
            values.append(row[1])
    return Rows(np.array(t, np.float64), np.array(values, np.float64), bad)


def _row(words: list[str]) -> tuple[float, float] | None:
    # float() would take the underscores of Python's own literals.
    if len(words) != 2 or any("_" in word for word in words):
        return None
    try:
        t, value = float(words[0]), float(words[1])
    except ValueError:
        return None
    return (t, value) if math.isfinite(t) and EARLIEST <= t < LATEST else None
