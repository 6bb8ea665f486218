"""Arrow: blocks as record batches, and the messages of Arrow's IPC stream in which they travel.

One stream a timeline: its schema, then a record batch a block. `t` comes first, microseconds since 1970 in UTC; each
field follows as float64, int64, bool or string with its units and description in the field's metadata. The messages of
a stream, put one behind the other, are what every Arrow library reads as an IPC stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sisock.blocks import Block, Bools, Column
from sisock.errors import InvalidArgument
from sisock.fields import Field
from sisock.times import Micros

TIME = "t"

_TIME_TYPE = pa.timestamp("us", tz="UTC")
_ARROW = {"f": pa.float64(), "i": pa.int64(), "b": pa.bool_(), "O": pa.string()}


def schema(timeline: str, columns: Mapping[str, Column], fields: Mapping[str, Field] | None = None) -> pa.Schema:
    """The schema of a timeline's batches with these columns; `fields` says their units and descriptions."""
    known = fields or {}
    described = [
        pa.field(name, _ARROW[column.values.dtype.kind], metadata=_metadata(known.get(name)))
        for name, column in columns.items()
    ]
    return pa.schema([pa.field(TIME, _TIME_TYPE, nullable=False), *described], metadata={"timeline": timeline})


def _metadata(field: Field | None) -> dict[str, str] | None:
    if field is None:
        return None
    told = {"units": field.units, "description": field.description}
    return {key: text for key, text in told.items() if text is not None} or None


def batch(block: Block, layout: pa.Schema) -> pa.RecordBatch:
    """The rows of a block as a record batch; numbers are not copied. A column that the block lacks is null."""
    rows = len(block)
    arrays = [pa.Array.from_buffers(_TIME_TYPE, rows, [None, _buffer(block.t)])]
    for field in list(layout)[1:]:
        column = block.columns.get(field.name)
        arrays.append(pa.nulls(rows, field.type) if column is None else _array(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=layout)


def _buffer(values: npt.NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(values))


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    rows = len(column)
    if kind == pa.string():
        mask = None if column.valid is None else ~column.valid
        return pa.array(column.values, pa.string(), mask=mask)
    if column.is_null:
        return pa.nulls(rows, kind)
    valid = None if column.valid is None else _bits(column.valid)
    values = _bits(column.values) if kind == pa.bool_() else _buffer(column.cast(np.dtype(kind.to_pandas_dtype())).values)
    return pa.Array.from_buffers(kind, rows, [valid, values])


def _bits(flags: Bools) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def message(part: pa.Schema | pa.RecordBatch) -> bytes:
    """A schema or a record batch as one message of an IPC stream."""
    octets: bytes = part.serialize().to_pybytes()
    return octets


def stream(timeline: str, blocks: Iterable[Block], fields: Mapping[str, Field] | None = None) -> bytes:
    """All blocks of a timeline as one whole IPC stream; they have the same columns."""
    parts = list(blocks)
    layout = schema(timeline, parts[0].columns if parts else {}, fields)
    return b"".join([message(layout), *(message(batch(part, layout)) for part in parts)])


class Reader:
    """Reads the messages of one timeline's stream as they come: `feed` each, and take the blocks."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None

    def feed(self, octets: bytes) -> list[Block]:
        """The blocks of these whole messages; InvalidArgument for bytes that are none."""
        blocks = []
        source = pa.BufferReader(octets)
        try:
            while source.tell() < len(octets):
                found = pa.ipc.read_message(source)
                if found.type == "schema":
                    self.schema = pa.ipc.read_schema(found)
                elif self.schema is None:
                    raise InvalidArgument("a stream of Arrow begins with its schema")
                else:
                    blocks.append(block(pa.ipc.read_record_batch(found, self.schema)))
        except (pa.ArrowException, EOFError, OSError) as error:
            raise InvalidArgument(f"what was answered is no Arrow: {error}") from error
        return blocks

    @property
    def fields(self) -> dict[str, Field]:
        """Units and descriptions, as the schema has them."""
        return {} if self.schema is None else fields_of(self.schema)


def fields_of(layout: pa.Schema) -> dict[str, Field]:
    """Units, descriptions and types of the fields of a schema that begins with `t`."""
    found = {}
    for one in list(layout)[1:]:
        told = {key.decode(): text.decode() for key, text in (one.metadata or {}).items()}
        found[one.name] = Field(told.get("description"), told.get("units"), _kind(one.type))
    return found


def _kind(kind: pa.DataType) -> Any:
    return "bool" if pa.types.is_boolean(kind) else "string" if pa.types.is_string(kind) else "number"


def block(rows: pa.RecordBatch) -> Block:
    """The block of a record batch; numbers without nulls are not copied."""
    t, *columns = rows.columns
    names = rows.schema.names[1:]
    return Block(_times(t), {name: _column(column) for name, column in zip(names, columns, strict=True)})


def _times(t: pa.Array) -> Micros:
    micros: Micros = t.cast(pa.int64()).to_numpy(zero_copy_only=True)
    return micros


def _column(array: pa.Array) -> Column:
    valid = None if not array.null_count else array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(array.type):
        return Column(array.to_numpy(zero_copy_only=False), valid)
    if pa.types.is_boolean(array.type):
        return Column((array if valid is None else array.fill_null(False)).to_numpy(zero_copy_only=False), valid)
    if valid is None:
        return Column(array.to_numpy(zero_copy_only=True))
    blank = np.nan if pa.types.is_floating(array.type) else 0
    return Column(array.fill_null(blank).to_numpy(zero_copy_only=False), valid)
