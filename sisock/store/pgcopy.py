"""PostgreSQL's binary COPY and its arrays, made and read by NumPy: text would cost ten times as much."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Bools, Column
from sisock.errors import InvalidArgument, StoreDamaged
from sisock.store.database import Tx

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_ARRAY = struct.Struct(">iiIii")  # dimensions, has nulls, type of the elements, length, lower bound
# Type numbers and element types of the arrays of each kind.
_OIDS = {"f": 701, "i": 20, "b": 16, "s": 25}
_ELEMENTS = {"f": np.dtype(">f8"), "i": np.dtype(">i8"), "b": np.dtype("?")}
# An element of an array with its length, and the type that a column has; made once, since an answer holds many columns.
_FORMS = {kind: np.dtype([("size", ">i4"), ("value", element)]) for kind, element in _ELEMENTS.items()}
_NATIVE = {kind: element.newbyteorder("=") for kind, element in _ELEMENTS.items()}
_short, _long = struct.Struct(">h"), struct.Struct(">i")
COLUMNS = {"f": "numbers", "i": "integers", "b": "flags", "s": "texts"}


def integer(value: int) -> bytes:
    """A bigint."""
    return struct.pack(">q", value)


def integer4(value: int) -> bytes:
    """An integer."""
    return struct.pack(">i", value)


def integer2(value: int) -> bytes:
    """A smallint."""
    return struct.pack(">h", value)


def array(kind: str, column: Column) -> bytes:
    """A column as an array; nulls are nulls."""
    rows = len(column)
    if not rows:
        return struct.pack(">iiI", 0, 0, _OIDS[kind])
    head = _ARRAY.pack(1, int(column.valid is not None), _OIDS[kind], rows, 1)
    if kind == "s":
        texts = [None if text is None else text.encode() for text in column.values.tolist()]
        if any(text and b"\0" in text for text in texts):
            raise InvalidArgument("PostgreSQL keeps no text with the character NUL")
        return head + b"".join(integer4(-1) if text is None else integer4(len(text)) + text for text in texts)
    element = _ELEMENTS[kind]
    body = np.empty(rows, [("size", ">i4"), ("value", element)])
    body["size"], body["value"] = element.itemsize, column.values
    if column.valid is None:
        return head + body.tobytes()
    body["size"][~column.valid] = -1
    return head + body.view(np.uint8).reshape(rows, -1)[_kept(column.valid, element.itemsize)].tobytes()


def _kept(valid: Bools, size: int) -> Bools:
    """Which bytes of each element stand in an array: a null has only its length."""
    kept = np.ones((len(valid), 4 + size), np.bool_)
    kept[~valid, 4:] = False
    return kept


def parse(kind: str, data: memoryview, there: memoryview | None) -> Column:
    """The column of an array; `there` has a bit a row where some are null."""
    if len(data) <= 12:
        return Column(np.empty(0, object if kind == "s" else _NATIVE[kind]))
    _, nulls, _, rows, _ = _ARRAY.unpack_from(data)
    body = data[_ARRAY.size :]
    if kind == "s":
        return _texts(body, rows)
    form, native = _FORMS[kind], _NATIVE[kind]
    if not nulls:
        return Column(np.frombuffer(body, form, rows)["value"].astype(native))
    if there is None:
        raise StoreDamaged("an array has nulls, but nothing says where")
    valid = np.unpackbits(np.frombuffer(there, np.uint8), count=rows).astype(np.bool_)
    whole = np.zeros((rows, form.itemsize), np.uint8)
    whole[_kept(valid, native.itemsize)] = np.frombuffer(body, np.uint8)
    values = whole.view(form)["value"].reshape(-1).astype(native)
    if kind == "f":
        values[~valid] = np.nan
    return Column(values, valid)


def _texts(body: memoryview, rows: int) -> Column:
    values: npt.NDArray[Any] = np.empty(rows, object)
    valid = np.ones(rows, np.bool_)
    at = 0
    for row in range(rows):
        (size,) = struct.unpack_from(">i", body, at)
        at += 4
        if size < 0:
            valid[row] = False
            continue
        values[row] = str(body[at : at + size], "utf-8")
        at += size
    return Column(values, None if valid.all() else valid)


def copy_in(tx: Tx, table: str, columns: Sequence[str], rows: Iterable[Sequence[bytes | None]]) -> None:
    """Inserts rows of encoded values; None is null."""
    out = io.BytesIO()
    out.write(_SIGNATURE)
    for row in rows:
        out.write(struct.pack(">h", len(row)))
        for value in row:
            if value is None:
                out.write(b"\xff\xff\xff\xff")
            else:
                out.write(struct.pack(">i", len(value)))
                out.write(value)
    out.write(b"\xff\xff")
    out.seek(0)
    tx.cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)", out)


def copy_out(tx: Tx, query: str, *parameters: Any) -> Iterator[list[memoryview | None]]:
    """Rows of a query as encoded values."""
    out = io.BytesIO()
    asked = tx.cursor.mogrify(query.replace("?", "%s"), parameters).decode()
    tx.cursor.copy_expert(f"COPY ({asked}) TO STDOUT (FORMAT binary)", out)
    data = out.getbuffer()
    at = len(_SIGNATURE)
    while (count := _short.unpack_from(data, at)[0]) >= 0:
        at += 2
        row: list[memoryview | None] = []
        for _ in range(count):
            size: int = _long.unpack_from(data, at)[0]
            at += 4
            if size < 0:
                row.append(None)
            else:
                row.append(data[at : at + size])
                at += size
        yield row


def number(value: memoryview | None) -> int:
    """An integer of any size."""
    return int.from_bytes(value or b"", "big", signed=True)
