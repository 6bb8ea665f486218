"""The form of a block that is not sealed yet: its arrays as they are, one after the other, and a checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Column
from sisock.errors import StoreDamaged

_HEAD = struct.Struct("<II")  # rows, columns
_COLUMN = struct.Struct("<qcB")  # field, kind, has nulls
_KINDS = {"f": "<f8", "i": "<i8", "b": "?"}


def kind_of(column: Column) -> str:
    """The letter a column's kind has in the store: f, i, b or s."""
    kind = column.values.dtype.kind
    return "s" if kind == "O" else kind


def pack(block: Block, ids: Mapping[str, int]) -> bytes:
    """A block as bytes; `ids` are the fields' numbers."""
    parts = [_HEAD.pack(len(block), len(block.columns)), block.t.astype("<i8", copy=False).tobytes()]
    for name, column in block.columns.items():
        kind = kind_of(column)
        parts.append(_COLUMN.pack(ids[name], kind.encode(), column.valid is not None))
        if column.valid is not None:
            parts.append(np.packbits(column.valid).tobytes())
        if kind == "s":
            texts = [b"" if text is None else text.encode() for text in column.values.tolist()]
            parts.append(np.array([len(text) for text in texts], "<u4").tobytes())
            parts.extend(texts)
        else:
            parts.append(column.values.astype(_KINDS[kind], copy=False).tobytes())
    body = b"".join(parts)
    return body + struct.pack("<I", zlib.crc32(body))


def unpack(data: bytes, names: Mapping[int, str]) -> Block:
    """The block of these bytes, with the fields that have a name; StoreDamaged where they are not what was written."""
    body = memoryview(data)[:-4]
    if len(data) < 4 or struct.pack("<I", zlib.crc32(body)) != data[-4:]:
        raise StoreDamaged("a block does not have the checksum it was written with")
    rows, count = _HEAD.unpack_from(body)
    at = _HEAD.size
    t = np.frombuffer(body, "<i8", rows, at)
    at += 8 * rows
    columns: dict[str, Column] = {}
    for _ in range(count):
        field, letter, nulls = _COLUMN.unpack_from(body, at)
        at += _COLUMN.size
        valid = None
        if nulls:
            valid = np.unpackbits(np.frombuffer(body, np.uint8, -(-rows // 8), at), count=rows).astype(np.bool_)
            at += -(-rows // 8)
        kind = letter.decode()
        values: npt.NDArray[Any]
        if kind == "s":
            values, at = _texts(body, rows, at)
            if valid is not None:
                values[~valid] = None
        else:
            values = np.frombuffer(body, _KINDS[kind], rows, at)
            at += values.nbytes
        if field in names:
            columns[names[field]] = Column(values, valid)
    return Block(t, columns)


def _texts(body: memoryview, rows: int, at: int) -> tuple[npt.NDArray[Any], int]:
    sizes = np.frombuffer(body, "<u4", rows, at).tolist()
    at += 4 * rows
    values = np.empty(rows, object)
    for row, size in enumerate(sizes):
        values[row] = str(body[at : at + size], "utf-8")
        at += size
    return values, at
