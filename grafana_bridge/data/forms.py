"""Forms: rows as JSON, CSV, Arrow or Parquet, written block by block as they come. No I/O; to be called in a thread.

Times are UNIX seconds in JSON and CSV, microseconds in UTC in Arrow and Parquet, which also hold units and descriptions.
Numbers are floats there: whether the next block's are whole nobody knows when the first is written.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from sisock.asking import Answered
from sisock.blocks import EXACT, Block, Column
from sisock.errors import InvalidArgument, NodeFailed
from sisock.fields import Field
from sisock.files import quoted, seconds, texts
from sisock.grafana_bridge.series import cells, rows_json
from sisock.times import MICROS, Micros

FORMS = ("json", "csv", "arrow", "parquet")
TYPES = {
    "json": "application/json; charset=utf-8",
    "csv": "text/csv; charset=utf-8; header=present",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
# Rows of Parquet that are compressed together.
GROUP_ROWS = 1 << 16


class Form(Protocol):
    """Writes the blocks of timelines, those of one behind those of another."""

    def begin(self) -> bytes:
        """What stands before all rows."""

    def part(self, timeline: str, block: Block) -> bytes:
        """The rows of a block."""

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """What stands behind all rows; the answers say what was told of them."""


def make(form: str, node: str, lines: Mapping[str, Mapping[str, Field]]) -> Form:
    """What writes a form of these fields by timeline; InvalidArgument if it holds one timeline alone and there are more."""
    if form == "json":
        return Json(node, lines)
    if len(lines) > 1:
        raise InvalidArgument(
            f"{form} holds the rows of one timeline, and these fields are on {', '.join(sorted(lines))}. "
            "Ask for those of each by themselves, or for json."
        )
    timeline, fields = next(iter(lines.items()), ("", {}))
    if form == "csv":
        return Csv(timeline, fields)
    return Arrow(timeline, fields) if form == "arrow" else Parquet(timeline, fields)


class Json:
    """{"node", "timelines": [{"timeline", "fields", "columns", "rows", ...}]}: of each timeline its rows, times first."""

    def __init__(self, node: str, lines: Mapping[str, Mapping[str, Field]]) -> None:
        self._node, self._lines = node, lines
        self._open: str | None = None
        self._written: list[str] = []
        self._has_rows = False
        self._counts: dict[str, int] = {}

    def begin(self) -> bytes:
        """The beginning of the object."""
        return b'{"node":' + orjson.dumps(self._node) + b',"timelines":['

    def part(self, timeline: str, block: Block) -> bytes:
        """Rows; what stands around them where another timeline begins."""
        before = b"" if timeline == self._open else self._turn_to(timeline)
        self._counts[timeline] = self._counts.get(timeline, 0) + len(block)
        columns = [block.columns.get(name) for name in self._lines[timeline]]
        nulls = [b"null"] * len(block)
        times = orjson.dumps(block.t / MICROS, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(block) else []
        rows = rows_json(times, *(nulls if column is None else cells(column) for column in columns))[1:-1]
        if not rows:
            return before
        comma = b"," if self._has_rows else b""
        self._has_rows = True
        return before + comma + rows

    def _turn_to(self, timeline: str) -> bytes:
        fields = {
            name: {"units": spec.units, "description": spec.description, "type": spec.type}
            for name, spec in self._lines[timeline].items()
        }
        head = orjson.dumps({"timeline": timeline, "fields": fields, "columns": ["t", *fields]})
        before = b"" if self._open is None else b"]},"
        self._open, self._has_rows = timeline, False
        self._written.append(timeline)
        return before + head[:-1] + b',"rows":['

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """The timelines that have no rows, and what was told of all."""
        rest = b"".join(self._turn_to(name) for name in self._lines if name not in self._written)
        told = {
            name: {
                "finalized_until": answer.finalized_until,
                "position": answer.position.to_wire() if answer.position else None,
                "from": max(answer.rows, self._counts.get(name, 0)),
            }
            for name, answer in answers.items()
        }
        return rest + (b"]}" if self._open is not None else b"") + b'],"answered":' + orjson.dumps(told) + b"}"


class Csv:
    """A line a row, its time first; nothing for null, text in quotes."""

    def __init__(self, timeline: str, fields: Mapping[str, Field]) -> None:
        if "t" in fields:
            raise InvalidArgument("a field that is called t cannot stand beside the times in csv; ask for another form")
        self._fields = fields

    def begin(self) -> bytes:
        """The names of the columns."""
        return (",".join(["t", *map(quoted, self._fields)]) + "\n").encode()

    def part(self, timeline: str, block: Block) -> bytes:
        """Lines."""
        nothing = Column.null(len(block))
        columns = [_texts(block.columns.get(name, nothing)) for name in self._fields]
        rows = b"\n".join(map(b",".join, zip(_seconds(block.t), *columns, strict=True)))
        return rows + b"\n" if rows else b""

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """Nothing."""
        return b""


def _seconds(t: Micros) -> list[bytes]:
    if not len(t) or int(t[0]) < MICROS:
        return [seconds(one).encode() for one in t.tolist()]
    return [text[:-6] + b"." + text[-6:] for text in _split(t)]


def _texts(column: Column) -> list[bytes]:
    """Values as CSV has them; numbers that are all there are written together, ten times as fast."""
    values = column.values
    if (
        len(values)
        and column.valid is None
        and (values.dtype.kind == "i" or (values.dtype.kind == "f" and np.isfinite(values).all()))
    ):
        return _split(values)
    return [text.encode() for text in texts(column)]


def _split(numbers: npt.NDArray[Any]) -> list[bytes]:
    return orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


_KINDS: dict[str, np.dtype[Any]] = {"number": np.dtype(np.float64), "string": np.dtype(object), "bool": np.dtype(np.bool_)}


class _Batches:
    """Blocks as record batches of one schema."""

    def __init__(self, timeline: str, fields: Mapping[str, Field]) -> None:
        from sisock import arrow

        self._fields = fields
        columns = {name: Column(np.empty(0, _KINDS[spec.type])) for name, spec in fields.items()}
        self.schema = arrow.schema(timeline, columns, fields)

    def batch(self, block: Block) -> Any:
        from sisock import arrow

        columns = {name: self._cast(name, column) for name, column in block.columns.items() if name in self._fields}
        return arrow.batch(Block(block.t, columns), self.schema)

    def _cast(self, name: str, column: Column) -> Column:
        kind = _KINDS[self._fields[name].type]
        if column.is_null:
            return Column.null(len(column), kind)
        if column.type != self._fields[name].type:
            raise NodeFailed(f"{name} holds values of another type than its node says")
        values = column.values[column.mask()]
        if values.dtype.kind == "i" and (values.max() > EXACT or values.min() < -EXACT):
            raise InvalidArgument(f"{name} holds whole numbers that no float holds; ask for json or csv")
        return column.cast(kind)


class Arrow(_Batches):
    """An Arrow IPC stream, a record batch a block."""

    def begin(self) -> bytes:
        """The schema."""
        from sisock import arrow

        return arrow.message(self.schema)

    def part(self, timeline: str, block: Block) -> bytes:
        """A record batch."""
        from sisock import arrow

        return arrow.message(self.batch(block))

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """The stream's own mark of its end."""
        return b"\xff\xff\xff\xff\x00\x00\x00\x00"


class _Sink:
    """What PyArrow writes to: the bytes are taken away as they come."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, octets: Any) -> int:
        self._parts.append(bytes(octets))
        self._at += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class Parquet(_Batches):
    """A Parquet file, compressed by zstd, in row groups of GROUP_ROWS."""

    def __init__(self, timeline: str, fields: Mapping[str, Field]) -> None:
        super().__init__(timeline, fields)
        self._sink = _Sink()
        self._writer: Any = None
        self._waiting: list[Any] = []
        self._held = 0

    def begin(self) -> bytes:
        """The mark of such a file."""
        from pyarrow import parquet

        # Numbers that are measured hardly ever repeat.
        texts = [name for name, spec in self._fields.items() if spec.type == "string"]
        self._writer = parquet.ParquetWriter(self._sink, self.schema, compression="zstd", use_dictionary=texts)
        return self._sink.taken()

    def part(self, timeline: str, block: Block) -> bytes:
        """A row group, whenever enough rows have come."""
        self._waiting.append(self.batch(block))
        self._held += len(block)
        return self._cut() if self._held >= GROUP_ROWS else b""

    def _cut(self) -> bytes:
        import pyarrow as pa

        if self._held:
            table = pa.Table.from_batches(self._waiting, self.schema)
            self._writer.write_table(table, row_group_size=max(GROUP_ROWS, self._held))
            self._waiting, self._held = [], 0
        return self._sink.taken()

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """The last rows, and where all of them stand."""
        last = self._cut()
        self._writer.close()
        return last + self._sink.taken()


class Zipped:
    """Another form, compressed as it comes."""

    def __init__(self, form: Form) -> None:
        self._form = form
        # 31: with the head and the tail of gzip.
        self._zip = zlib.compressobj(1, zlib.DEFLATED, 31)

    def begin(self) -> bytes:
        """The beginning of the other."""
        return self._zip.compress(self._form.begin())

    def part(self, timeline: str, block: Block) -> bytes:
        """Rows; what was compressed goes out with them, so that a reader has them."""
        return self._zip.compress(self._form.part(timeline, block)) + self._zip.flush(zlib.Z_SYNC_FLUSH)

    def end(self, answers: Mapping[str, Answered]) -> bytes:
        """The end of both."""
        return self._zip.compress(self._form.end(answers)) + self._zip.flush()
