"""A folder of weather files, read as they grow.

A file is named `<field>.dat` and begins with `# <description>`, `# <timeline>`, `# <units>`; rows follow. Each scan
reads only what is new. A file that was replaced or cut is read from its start again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sisock.nodes.weather.rows import Floats, parse

SUFFIX = ".dat"

# Bytes parsed in one go: the interpreter is held for some 20 ms.
CHUNK = 1 << 20
# Bytes of one piece, which bounds the memory that a large file takes while it is read.
PIECE = 64 << 20
# The three header lines stand within so many bytes.
HEADER = 1 << 16
# Bytes before the place where reading goes on; they tell whether it still is the file that was read.
MARK = 64
# Bad lines of one piece that are reported one by one.
REPORTED = 10
# A last line without a line feed counts once the file has not changed for so many seconds.
QUIET = 10.0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that could not be served; `line` counts from 1, None is the whole file."""

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.line is None else f"{self.file}, line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's first three lines say."""

    description: str | None
    timeline: str
    units: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """New rows of one file, in its order, with its duplicates; `t` in UNIX seconds. There may be none."""

    field: str
    header: Header
    t: Floats
    values: Floats


class Archive:
    """The folder. Each `scan` yields what came since the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, _File] = {}
        self._unlisted = False

    def scan(self, now: float) -> Iterator[Piece | Problem]:
        """New rows and new problems of all files, by name; `now` in UNIX seconds. A deleted file is forgotten."""
        try:
            # A hidden file is one that another program is still copying.
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
        except OSError as error:
            if not self._unlisted:
                yield Problem(str(self.folder), None, f"cannot be listed: {error.strerror}")
            self._unlisted = True
            return
        self._unlisted = False
        for gone in self._files.keys() - {path.stem for path in paths}:
            self._files[gone].reset()
        for path in paths:
            if path.stem not in self._files:
                self._files[path.stem] = _File(path)
            yield from self._files[path.stem].scan(now)

    def forget(self, field: str) -> None:
        """Reads this field's file from its start at the next scan, as its rows could not be kept."""
        self._files[field].stale = True

    def refuse(self, field: str) -> None:
        """Leaves this field's file alone until it is replaced, as it cannot be served."""
        file = self._files[field]
        file.refused, file.timeline = True, None


class _File:
    """One file and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.field = path.stem
        # A file name need not be UTF-8.
        self.shown = path.name.encode("utf-8", "backslashreplace").decode()
        # What the field's first header said: a field does not move to another timeline.
        self.timeline: str | None = None
        self.complaint: str | None = None
        self.reset()

    def reset(self) -> None:
        """As if nothing had been read."""
        self.header: Header | None = None
        self.announced = False
        self.refused = False
        self.stale = False
        self.head = b""
        self.mark = b""
        self.offset = 0
        self.lines = 0
        # In the middle of a line that is longer than a chunk.
        self.overlong = False
        # The state of the file that was read last, and whether its last line was counted too.
        self.seen: os.stat_result | None = None
        self.settled = False

    def scan(self, now: float) -> Iterator[Piece | Problem]:
        try:
            status = self.path.stat()
            if not self._has_news(status, now):
                return
            # Opening a named pipe would wait for its writer.
            if not stat.S_ISREG(status.st_mode):
                yield from self._complain(None, "is no regular file")
                return
            with self.path.open("rb") as stream:
                yield from self._read(stream, now)
        except OSError as error:
            yield from self._complain(None, f"cannot be read: {error.strerror}")

    def _complain(self, line: int | None, text: str) -> Iterator[Problem]:
        if self.complaint != text:
            self.complaint = text
            yield Problem(self.shown, line, text)

    def _has_news(self, status: os.stat_result, now: float) -> bool:
        if self.seen is None or self.stale or not _same(self.seen, status):
            return True
        return not self.settled and _is_quiet(status, now)

    def _read(self, stream: BinaryIO, now: float) -> Iterator[Piece | Problem]:
        # Bytes that come after this are for the next scan.
        status = os.fstat(stream.fileno())
        if not self._continues(stream, status):
            self.reset()
        quiet = _is_quiet(status, now)
        if self.header is None and not self.refused:
            yield from self._read_header(stream, quiet)
        while self.header is not None and not self.refused:
            before = self.offset
            yield from self._read_piece(stream, status.st_size, quiet)
            if self.stale:
                return
            if self.offset == before:
                break
        self.seen = status
        self.settled = quiet or self.refused or self.offset == status.st_size

    def _continues(self, stream: BinaryIO, status: os.stat_result) -> bool:
        """Whether the file begins with what was read of it."""
        seen = self.seen
        if seen is None or self.stale or (seen.st_dev, seen.st_ino) != (status.st_dev, status.st_ino):
            return False
        if status.st_size < seen.st_size or (status.st_size == seen.st_size and not _same(seen, status)):
            return False
        return stream.read(len(self.head)) == self.head and _at(stream, self.offset - len(self.mark), MARK).startswith(
            self.mark
        )

    def _read_header(self, stream: BinaryIO, quiet: bool) -> Iterator[Problem]:
        data = _at(stream, 0, HEADER)
        texts: list[str] = []
        end = 0
        for number in (1, 2, 3):
            start, end = end, data.find(b"\n", end) + 1
            line = data[start : end or None]
            wrong = _header_fault(line)
            if not wrong and not end:
                if len(data) < HEADER and not quiet:
                    return  # it is still being written
                wrong = "is not the end of a header: three lines '# <description>', '# <timeline>', '# <units>' open a file"
            text = line[1:].decode("ascii", "replace").strip()
            if not wrong and number == 2:
                wrong = self._timeline_fault(text)
            if wrong:
                self.refused = True
                self.head = data[: end or None]
                yield from self._complain(number, wrong)
                return
            texts.append(text)
        self.header = Header(texts[0] or None, texts[1], texts[2] or None)
        self.timeline = texts[1]
        self.complaint = None
        self.head, self.offset, self.lines = data[:end], end, 3

    def _timeline_fault(self, text: str) -> str | None:
        if not text:
            return "names no timeline"
        if self.timeline not in (None, text):
            return f"names the timeline {text!r:.80}, but the field is on {self.timeline!r:.80}; the file is left out"
        return None

    def _read_piece(self, stream: BinaryIO, size: int, quiet: bool) -> Iterator[Piece | Problem]:
        """Up to PIECE bytes of whole lines, and the last line if it is whole by now."""
        t: list[Floats] = []
        values: list[Floats] = []
        bad: dict[int, str] = {}
        unreported = 0
        until = min(size, self.offset + PIECE)
        while self.offset < until:
            data = _at(stream, self.offset, min(CHUNK, size - self.offset))
            if not data:
                break  # it was cut just now
            whole = data.rfind(b"\n") + 1
            if self.overlong or (not whole and len(data) == CHUNK):
                if not self.overlong:
                    bad[self.lines + 1] = f"is longer than {CHUNK} bytes"
                self._pass_over(data)
                continue
            if not whole and not quiet:
                break
            rows = parse(data[:whole] or data)
            t.append(rows.t)
            values.append(rows.values)
            room = max(0, REPORTED - len(bad))
            bad.update({self.lines + 1 + number: text for number, text in list(rows.bad.items())[:room]})
            unreported += max(0, len(rows.bad) - room)
            if not whole:
                # Reading goes on at this line's start: it may still become longer.
                break
            self._advance(data[:whole], data.count(b"\n", 0, whole))
        for line, text in bad.items():
            yield Problem(self.shown, line, text)
        if unreported:
            yield Problem(self.shown, None, f"{unreported} more lines up to line {self.lines} are not '<unix seconds> <value>'")
        if self.header is not None and (not self.announced or any(map(len, t))):
            self.announced = True
            none = np.empty(0, np.float64)
            yield Piece(self.field, self.header, np.concatenate([none, *t]), np.concatenate([none, *values]))

    def _pass_over(self, data: bytes) -> None:
        """Skips what belongs to a line that is too long."""
        end = data.find(b"\n") + 1
        self.overlong = not end
        self._advance(data[: end or None], 1 if end else 0)

    def _advance(self, data: bytes, lines: int) -> None:
        self.offset += len(data)
        self.lines += lines
        self.mark = (self.mark + data[-MARK:])[-MARK:]


def _at(stream: BinaryIO, offset: int, length: int) -> bytes:
    stream.seek(offset)
    return stream.read(length)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nothing happened to a file between the two."""
    keys = [(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) for status in (one, other)]
    return keys[0] == keys[1]


def _is_quiet(status: os.stat_result, now: float) -> bool:
    # The clock of a file server may run ahead of ours.
    return abs(now - status.st_mtime) > QUIET


def _header_fault(line: bytes) -> str | None:
    if line and not line.startswith(b"#"):
        return f"is no header line, which would begin with '#': {line[:60]!r}"
    return None if line.isascii() else f"is not ASCII: {line[:60]!r}"
