"""A CSV file that grows: what is new in it is read, through rotation, truncation and half-written last lines."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sisock.errors import SetupError
from sisock.nodes.table.asked import Asked
from sisock.nodes.table.csvform import CsvForm, bools_of, look, numbers_of, whole
from sisock.nodes.table.problems import Problem, Problems

# Bytes that are read together, and that one row may have.
CHUNK = 8 << 20
# Bytes at the beginning, and before the place where reading goes on, by which a file is known again.
HEAD, MARK = 4096, 64
# A last line without a line feed counts once the file has not changed for so many seconds.
QUIET = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows as they stand in a table: Arrow arrays by column. `done` of `size` is read with them."""

    arrays: dict[str, Any]
    done: int
    size: int
    # Names the line of a row, for messages.
    line: Any = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read: by which bytes it is known again, and where reading goes on."""

    inode: int
    offset: int
    lines: int
    head: str
    head_size: int
    mark: str

    @classmethod
    def from_wire(cls, told: Any) -> Place | None:
        """A place that was kept; None for what is none."""
        try:
            inode, offset, lines = (int(told[name]) for name in ("inode", "offset", "lines"))
            return cls(inode, offset, lines, str(told["head"]), int(told["head_size"]), str(told["mark"]))
        except (TypeError, ValueError, LookupError):
            return None


class CsvTail:
    """One file. Each `scan` yields what came since the one before; `place` is how far that is."""

    def __init__(self, path: Path, asked: Asked, problems: Problems, kinds: dict[str, str], place: Place | None = None) -> None:
        self.path, self.asked, self.problems = path, asked, problems
        # What columns hold: int, float, bool, string; of the whole table, and learned as rows come.
        self.kinds = kinds
        self.place = place
        self.form: CsvForm | None = None
        self.name = path.name.encode("utf-8", "backslashreplace").decode()
        self._file: BinaryIO | None = None
        # The state of the file that was read last, and whether its last line was counted, too.
        self._seen: tuple[int, int] | None = None
        self._settled = False

    @property
    def is_open(self) -> bool:
        """Whether it keeps its file open, so that it is read to its end wherever it goes."""
        return self._file is not None

    def close(self) -> None:
        """Closes the file; the next scan opens it again, and one that was renamed meanwhile is found by its place."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def scan(self, now: float) -> Iterator[Piece]:
        """What came since the last scan, a few megabytes a piece; `now` is UNIX seconds."""
        try:
            yield from self._scan(now)
        except FileNotFoundError:
            # Rotated away; another one will be there soon. What was open is read to its end above.
            self.problems.once(Problem("missing files", self.name, None, "is not there any more; it is waited for"))
        except OSError as error:
            self.problems.once(Problem("unreadable files", self.name, None, f"cannot be read: {error.strerror}"))
        except SetupError as error:
            self.problems.once(Problem("unreadable files", self.name, None, str(error)))
        else:
            self.problems.over(self.name)

    def last(self) -> Iterator[Piece]:
        """What is left of a file whose name is not there any more."""
        try:
            yield from self._left()
        except (OSError, SetupError) as error:
            self.problems.once(Problem("unreadable files", self.name, None, f"cannot be read to its end: {error}"))

    def _scan(self, now: float) -> Iterator[Piece]:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            if self._seen is not None:
                yield from self._left()
                self._seen = None
            raise
        if not stat.S_ISREG(there.st_mode):
            raise SetupError("is no regular file")
        before = self.place.inode if self._file is None and self.place is not None else None
        if self._file is not None:
            before = os.fstat(self._file.fileno()).st_ino
        if before is not None and before != there.st_ino:
            yield from self._left()
            self.place = self._seen = None
        quiet = abs(now - there.st_mtime) > QUIET
        if self._seen == (there.st_size, there.st_mtime_ns) and (self._settled or not quiet):
            return
        if self._file is None:
            self._file = self.path.open("rb")
        yield from self._news(self._file, quiet=quiet)
        self._seen, self._settled = (there.st_size, there.st_mtime_ns), quiet
        if quiet:
            # Most files of a folder grow no more.
            self.close()

    def _left(self) -> Iterator[Piece]:
        """The rest of the file that was read; closed, it stands beside its old name under another one, or nowhere."""
        if self._file is not None:
            yield from self._rest(self._file)
            self.close()
        elif self.place is not None:
            yield from self._rest_of_rotated(self.place)

    def _rest_of_rotated(self, place: Place) -> Iterator[Piece]:
        for path in self.path.parent.iterdir():
            try:
                there = path.stat()
            except OSError:
                # A link to nowhere, for example.
                continue
            if path != self.path and there.st_ino == place.inode and stat.S_ISREG(there.st_mode):
                with path.open("rb") as file:
                    if continues(file, place):
                        self.form = self.form or look(path, self.asked)
                        yield from self._rest(file)

    def _rest(self, file: BinaryIO) -> Iterator[Piece]:
        """What is left in a file that nobody writes any more, its last line included."""
        if self.place is not None and self.form is not None and continues(file, self.place):
            yield from self._pieces(file, self.place, self.form, quiet=True)

    def _news(self, file: BinaryIO, *, quiet: bool) -> Iterator[Piece]:
        if self.place is not None and not continues(file, self.place):
            # Cut, or written anew: it is read from its beginning.
            self.problems.add(
                Problem("files begun anew", self.name, None, "was cut or written anew; it is read from its start")
            )
            self.place = self.form = None
        if self.place is None or self.form is None:
            form = look(self.path, self.asked)
            if form.header and not form.header.endswith(b"\n"):
                return  # the header is still being written
            self.form = form
            self.place = self.place or self._at(file, form.body, form.lines)
        yield from self._pieces(file, self.place, self.form, quiet=quiet)

    def _at(self, file: BinaryIO, offset: int, lines: int, known: Place | None = None) -> Place:
        if known is not None and known.head_size == HEAD:
            head, size = known.head, HEAD
        else:
            file.seek(0)
            bytes_read = file.read(min(HEAD, offset))
            head, size = hashlib.sha256(bytes_read).hexdigest(), len(bytes_read)
        start = max(0, offset - MARK)
        file.seek(start)
        mark = file.read(offset - start).hex()
        return Place(os.fstat(file.fileno()).st_ino, offset, lines, head, size, mark)

    def _pieces(self, file: BinaryIO, place: Place, form: CsvForm, *, quiet: bool) -> Iterator[Piece]:
        size = os.fstat(file.fileno()).st_size
        while place.offset < size:
            file.seek(place.offset)
            data = file.read(min(CHUNK, size - place.offset))
            end = whole(data, form.separator)
            if not end and (len(data) == CHUNK or quiet):
                # No row ends here as its quotes stand: so they are none.
                end = data.rfind(b"\n") + 1
            if not end and len(data) == CHUNK:
                self.problems.add(Problem("overlong lines", self.name, place.lines + 1, f"is longer than {CHUNK} bytes"))
                end = len(data)
                place = self.place = self._at(file, place.offset + end, place.lines, place)
                continue
            rest = b"" if end else data
            if rest and not quiet:
                return
            piece = self._parse(data[:end] or rest, place.lines, form)
            if end:
                place = self._at(file, place.offset + end, place.lines + data.count(b"\n", 0, end), place)
            if piece:
                yield Piece(piece[0], place.offset, size, piece[1])
            # Only when whoever asked has the rows does reading go on behind them. A last line that is not whole is read
            # again when it is: the same time makes it the same row.
            self.place = place
            if not end:
                return

    def _parse(self, raw: bytes, lines: int, form: CsvForm) -> tuple[dict[str, Any], Any] | None:
        """Columns of whole rows, and what names the line of one of them."""
        import pyarrow as pa

        data = form.utf8(raw)
        refused: list[Any] = []
        types = {name: arrow_type(self.kinds.get(name)) for name in form.names}
        try:
            table = form.parse(data, types, refused.append)
        except pa.ArrowInvalid:
            refused.clear()
            try:
                table = form.parse(data, dict.fromkeys(form.names, pa.string()), refused.append)
            except pa.ArrowInvalid as error:
                self.problems.add(Problem("unreadable parts", self.name, lines + 1, f"{len(raw)} bytes are no rows: {error}"))
                return None
        if refused:
            self._refused(refused, data, lines)

        def line(row: int) -> int | None:
            found = form.line_of(data, row)
            return None if found is None else lines + found

        arrays = {name: table.column(name).combine_chunks() for name in table.column_names}
        return {name: self._typed(name, array, form, line) for name, array in arrays.items()}, line

    def _refused(self, refused: list[Any], data: bytes, lines: int) -> None:
        last = refused[-1]
        at = data.find(last.text.encode())
        line = None if at < 0 else lines + data.count(b"\n", 0, at) + 1
        text = f"has {last.actual_columns} columns, not {last.expected_columns}: {last.text[:60]!r}"
        self.problems.add(Problem("rows of another number of columns", self.name, line, text), len(refused))

    def _typed(self, name: str, array: Any, form: CsvForm, line: Any) -> Any:
        """A column as its kind, which is found by the first values there are; what is of another kind is null, and counted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self.kinds.get(name)
        if kind == "string" or not pa.types.is_string(array.type) or array.null_count == len(array):
            return array
        if kind is None:
            kind = self.kinds[name] = kind_of(array, form.decimal)
            if kind == "string":
                return array
        if kind == "bool":
            typed, bad = bools_of(array)
        else:
            try:
                typed, bad = numbers_of(array, kind, form.decimal)
            except pa.ArrowInvalid:
                typed, bad = numbers_of(array, "float", form.decimal)
                if bad is None:
                    self.kinds[name] = "float"
        count = 0 if bad is None else pc.sum(bad).as_py() or 0
        if count:
            row = pc.index(bad, value=True).as_py()
            what = "bool" if kind == "bool" else "number"
            text = f"{array[row].as_py()[:60]!r} in {name} is no {what}; it is served as null"
            self.problems.add(Problem("values of another type", self.name, line(row), text), count)
        return typed


def continues(file: BinaryIO, place: Place) -> bool:
    """Whether a file begins with what was read of it."""
    if os.fstat(file.fileno()).st_size < place.offset:
        return False
    file.seek(0)
    if hashlib.sha256(file.read(place.head_size)).hexdigest() != place.head:
        return False
    mark = bytes.fromhex(place.mark)
    file.seek(place.offset - len(mark))
    return file.read(len(mark)) == mark


def arrow_type(kind: str | None) -> Any:
    """The Arrow type in which a column of a kind is read."""
    import pyarrow as pa

    return {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}.get(str(kind), pa.string())


def kind_of(array: Any, decimal: str = ".") -> str:
    """What a column of texts holds: int, float, bool or string."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for kind in ("int", "float"):
        try:
            _, bad = numbers_of(array, kind, decimal)
        except pa.ArrowInvalid:
            continue
        if bad is None:
            return kind
    _, bad = bools_of(array)
    return "string" if pc.any(bad).as_py() else "bool"
