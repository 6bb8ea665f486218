"""Files of rows: one timeline's blocks are written to Parquet, Arrow or CSV as they come, and read back.

Parquet and Arrow hold `t` first, as microseconds in UTC, and units and descriptions in the fields' metadata, as Arrow has
them on the wire. CSV holds `t` as UNIX seconds, and has no place for units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sisock.blocks import Block, Column, concat
from sisock.errors import InvalidArgument
from sisock.fields import Field
from sisock.times import MICROS

if TYPE_CHECKING:
    import pyarrow

FORMS = ("parquet", "arrow", "csv")

# Rows that a file's row group, or batch, holds.
GROUP_ROWS = 1 << 16
# Kinds of values in files: what a field's type is, before any value tells whether its numbers are whole.
_KINDS = {"number": "i", "string": "O", "bool": "b"}
_DTYPES: dict[str, np.dtype[Any]] = {"i": np.dtype(np.int64), "O": np.dtype(object), "b": np.dtype(np.bool_)}


class RowsFile:
    """A file of one timeline's rows that is being written: `write` blocks in order of time, then `close`.

    Its columns are the `fields`, in their order. Numbers are int64 until one comes that is not whole: then the file is
    written anew with that field as float64, which happens once a field at most. `metadata` is told to all who read the
    file; CSV has no place for it. OSError is raised as it comes.
    """

    def __init__(
        self, path: Path, form: str, timeline: str, fields: Mapping[str, Field], metadata: Mapping[str, str] | None = None
    ) -> None:
        if form not in FORMS:
            raise InvalidArgument(f"rows are written as {', '.join(FORMS)}, not {form}")
        if form == "csv" and "t" in fields:
            raise InvalidArgument("a field that is called t cannot stand beside the times in CSV; write parquet or arrow")
        self.path, self.form, self.timeline, self.fields = path, form, timeline, dict(fields)
        self.rows = 0
        self._metadata = dict(metadata or {})
        self._waiting: list[Block] = []
        self._held = 0
        self._kinds: dict[str, str] = {}
        self._schema: Any = None
        self._writer: Any = None
        self._file: Any = None

    def write(self, block: Block) -> None:
        """Writes the rows of a block; a field that it lacks is null."""
        if not len(block):
            return
        self._waiting.append(block)
        self._held += len(block)
        self.rows += len(block)
        if self._held >= GROUP_ROWS:
            self.cut()

    def cut(self) -> None:
        """Ends the row group: what follows stands in another one."""
        if self._waiting:
            waiting, self._waiting, self._held = concat(self._waiting), [], 0
            self._write(waiting)

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Ends the file, and waits until the disk has it. `metadata` is added; in Arrow it is left out."""
        self.cut()
        if self._writer is None:
            self._open(self._kinds_of(Block(np.empty(0, np.int64))))
        if metadata and self.form == "parquet":
            self._writer.add_key_value_metadata(dict(metadata))
        self._end()

    def discard(self) -> None:
        """Closes it as it is, and deletes it."""
        for opened in (self._writer, self._file):
            # What could not be written, on a full disk for example, cannot be flushed either.
            with suppress(OSError):
                if opened is not None:
                    opened.close()
        self.path.unlink(missing_ok=True)

    def _write(self, block: Block) -> None:
        from sisock import arrow

        kinds = self._kinds_of(block)
        if self._writer is None:
            self._open(kinds)
        elif kinds != self._kinds:
            self._widen(kinds)
        if self.form == "csv":
            _write_csv(self._file, block, list(self.fields))
        else:
            self._write_batch(arrow.batch(block, self._schema))

    def _write_batch(self, batch: pyarrow.RecordBatch) -> None:
        if self.form == "parquet":
            self._writer.write_batch(batch, row_group_size=max(1, len(batch)))
        else:
            self._writer.write_batch(batch)

    def _kinds_of(self, block: Block) -> dict[str, str]:
        """What the columns hold with this block's values added; InvalidArgument where they mix."""
        kinds = dict(self._kinds) or {name: _KINDS[field.type] for name, field in self.fields.items()}
        for name, column in block.columns.items():
            if name not in kinds or column.is_null:
                continue
            kind, before = column.values.dtype.kind, kinds[name]
            if kind != before and {kind, before} != {"i", "f"}:
                raise InvalidArgument(f"{name} mixes numbers, booleans or strings; a field has one type")
            kinds[name] = "f" if "f" in (kind, before) else kind
        return kinds

    def _open(self, kinds: dict[str, str]) -> None:
        from sisock import arrow

        self._kinds = kinds
        dtypes = {**_DTYPES, "f": np.dtype(np.float64)}
        columns = {name: Column(np.empty(0, dtypes[kind])) for name, kind in kinds.items()}
        layout = arrow.schema(self.timeline, columns, self.fields)
        self._schema = layout.with_metadata({**(layout.metadata or {}), **self._metadata})
        if self.form == "csv":
            self._file = self._writer = self.path.open("w", newline="", encoding="utf-8")
            self._file.write(",".join(["t", *map(quoted, self.fields)]) + "\n")
            return
        self._file = self.path.open("wb")
        self._writer = self._new_writer(self._file)

    def _new_writer(self, file: Any) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        if self.form == "arrow":
            return pa.ipc.new_file(file, self._schema)
        return parquet.ParquetWriter(file, self._schema, compression="zstd")

    def _widen(self, kinds: dict[str, str]) -> None:
        """Writes what is there once more, with columns that hold the new values, too."""
        if self.form == "csv":
            self._kinds = kinds
            return
        self._end()
        before = self.path.with_name(self.path.name + ".narrow")
        self.path.replace(before)
        try:
            self._open(kinds)
            for batch in batches(before, self.form):
                self._write_batch(batch.cast(self._schema, safe=False))
        finally:
            before.unlink()

    def _end(self) -> None:
        if self.form != "csv":
            self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def batches(path: Path, form: str = "parquet") -> Iterator[pyarrow.RecordBatch]:
    """The record batches of a Parquet or Arrow file, read when they are asked for."""
    import pyarrow as pa
    from pyarrow import parquet

    if form == "parquet":
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(GROUP_ROWS)
        return
    with path.open("rb") as source:
        reader = pa.ipc.open_file(source)
        for at in range(reader.num_record_batches):
            yield reader.get_batch(at)


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder."""
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def quoted(text: str) -> str:
    """Text in quotes, so that an empty string is not taken for a null."""
    return '"' + text.replace('"', '""') + '"'


def seconds(micros: int) -> str:
    """All six decimals, as a float would not keep them for ever."""
    sign, size = ("-", -micros) if micros < 0 else ("", micros)
    return f"{sign}{size // MICROS}.{size % MICROS:06d}"


def _write_csv(file: Any, block: Block, names: list[str]) -> None:
    nothing = Column.null(len(block))
    columns = [texts(block.columns.get(name, nothing)) for name in names]
    file.writelines(",".join(row) + "\n" for row in zip(map(seconds, block.t.tolist()), *columns, strict=True))


def texts(column: Column) -> list[str]:
    """Values as CSV has them; nothing for null."""
    forms: dict[str, Callable[[Any], str]] = {"b": lambda value: "true" if value else "false", "O": quoted}
    shown = forms.get(column.values.dtype.kind, repr)
    return [shown(value) if there else "" for value, there in zip(column.values.tolist(), column.mask().tolist(), strict=True)]
