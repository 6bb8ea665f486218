"""Moving rows in and out: Parquet, CSV, and the `.dat` files of the weather archive.

Whatever the form, `t` is UNIX seconds in CSV and `.dat`, and microseconds with the zone UTC in Parquet. An import may be
interrupted and begun again: rows that are there already are written over themselves, and pages that are there are skipped.
Parquet keeps the types of fields; CSV does not, so strings of digits come back as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sisock.blocks import Block, Bools, Column
from sisock.errors import InvalidArgument
from sisock.files import quoted, seconds, texts
from sisock.store.history import PAGE_ROWS, NodeHistory
from sisock.store.layers import as_kind
from sisock.store.packing import kind_of
from sisock.times import EARLIEST, LATEST, MICROS

if TYPE_CHECKING:
    import pyarrow

# Called with how much is done and how much there is: microseconds of an export's range, bytes of an import's file.
Progress = Callable[[int, int], None]

FORMS = ("parquet", "csv", "dat")


def form_of(path: Path) -> str:
    """The form that a file's name says; InvalidArgument for any other."""
    form = path.suffix.lower().lstrip(".")
    if form not in FORMS:
        raise InvalidArgument(f"{path.name}: a file's name ends in .parquet, .csv or .dat")
    return form


def export(
    history: NodeHistory,
    timeline: str,
    path: Path,
    *,
    fields: Iterable[str] | None = None,
    start: int = EARLIEST,
    end: int = LATEST,
    progress: Progress | None = None,
) -> int:
    """Writes the rows of a timeline in [start, end) to a Parquet or CSV file; how many there were.

    The file is written beside its name and moved there when it is whole.
    """
    form = form_of(path)
    names = list(history.fields(timeline)) if fields is None else list(fields)
    span = history.span(timeline)
    low, high = (0, 0) if span is None else (max(start, span[0]), min(end, span[1] + 1))
    partial = path.with_name(path.name + ".part")
    write = {"parquet": _write_parquet, "csv": _write_csv}.get(form)
    if write is None:
        raise InvalidArgument("rows are exported to .parquet or .csv")
    rows = 0

    def counted() -> Iterator[Block]:
        nonlocal rows
        for block, _ in history.pages(timeline, names, start, end):
            yield block
            rows += len(block)
            if progress is not None:
                progress(int(block.t[-1]) + 1 - low, max(0, high - low))

    try:
        write(partial, names, counted())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _write_csv(path: Path, names: list[str], blocks: Iterator[Block]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(",".join(["t", *map(quoted, names)]) + "\n")
        for block in blocks:
            columns = [texts(block.columns[name]) for name in names]
            rows = zip(map(seconds, block.t.tolist()), *columns, strict=True)
            file.writelines(",".join(row) + "\n" for row in rows)


def _write_parquet(path: Path, names: list[str], blocks: Iterator[Block]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    try:
        for block in blocks:
            arrays = [pa.array(block.t, pa.timestamp("us", "UTC")), *(_arrow(block.columns[name]) for name in names)]
            table = pa.table(dict(zip(["t", *names], arrays, strict=True)))
            writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        writer = writer or parquet.ParquetWriter(path, pa.schema([("t", pa.timestamp("us", "UTC"))]))
    finally:
        if writer is not None:
            writer.close()


def _arrow(column: Column) -> pyarrow.Array[Any]:
    import pyarrow as pa

    kinds = {"f": pa.float64(), "i": pa.int64(), "b": pa.bool_(), "s": pa.string()}
    mask = None if column.valid is None else ~column.valid
    # NaN is a number that is none; only a null is missing.
    return pa.array(column.values, kinds[kind_of(column)], mask=mask, from_pandas=False)


def import_file(history: NodeHistory, timeline: str, path: Path, *, progress: Progress | None = None) -> int:
    """Keeps the rows of a Parquet, CSV or `.dat` file as corrections; how many there were.

    What is there up to the end of a page as it stands in the file is skipped, so a second run goes on where the first
    one stopped. InvalidArgument names the line or column that does not fit.
    """
    size = path.stat().st_size
    read = {"parquet": read_parquet, "csv": _read_csv, "dat": _read_dat}[form_of(path)]
    rows = 0
    for block, done in read(path):
        rows += len(block)
        if len(block) and not _there(history, timeline, block):
            history.append(timeline, block, correct=True).result()
        if progress is not None:
            progress(min(done, size), size)
    return rows


def _there(history: NodeHistory, timeline: str, block: Block) -> bool:
    """Whether the store has these very rows."""
    old, _ = history.read(timeline, block.columns, int(block.t[0]), int(block.t[-1]) + 1)
    at = np.searchsorted(old.t, block.t)
    if not len(old) or (at >= len(old)).any() or (old.t[at] != block.t).any():
        return False
    found = old.take(at)
    return all(
        name in found.columns and found.columns[name] == as_kind(column, kind_of(found.columns[name]))
        for name, column in block.columns.items()
    )


def read_parquet(path: Path) -> Iterator[tuple[Block, int]]:
    """The rows of a Parquet file in blocks, as they stand in it, each with how many bytes of the file are read."""
    import pyarrow as pa
    from pyarrow import parquet

    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        total, done = max(1, file.metadata.num_rows), 0
        for batch in file.iter_batches(PAGE_ROWS):
            if "t" not in batch.schema.names:
                raise InvalidArgument(f"{path.name} has no column t")
            t = batch.column("t")
            if not pa.types.is_timestamp(t.type):
                raise InvalidArgument(f"{path.name}: the column t holds {t.type}, not timestamps")
            try:
                # A time that is missing is none of those that there are.
                micros = np.asarray(t.cast(pa.timestamp("us", t.type.tz)).cast(pa.int64()).fill_null(EARLIEST))
            except pa.ArrowInvalid as error:
                raise InvalidArgument(f"{path.name}: the column t: {error}") from error
            _refuse_times(path, done, (micros > EARLIEST) & (micros < LATEST))
            columns = {name: _from_arrow(batch.column(name), name) for name in batch.schema.names if name != "t"}
            done += len(batch)
            yield _sorted(micros, columns), size * done // total


def _refuse_times(path: Path, rows: int, good: Bools) -> None:
    """Raises InvalidArgument where a time is none that a history can hold; `rows` are those before these."""
    if not good.all():
        raise InvalidArgument(
            f"{path.name}, row {rows + int(good.argmin()) + 1}: its time is missing, or beyond the ends of time"
        )


def _from_arrow(array: pyarrow.Array[Any], name: str) -> Column:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        array = array.cast(pa.int64() if pa.types.is_integer(kind) else pa.float64())
    elif pa.types.is_large_string(kind) or pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return Column.of(array.to_pylist(), name)
    elif pa.types.is_binary(kind):
        raise InvalidArgument(f"{name} holds what is no UTF-8 text")
    elif not pa.types.is_boolean(kind):
        raise InvalidArgument(f"{name} holds {kind}; a field takes numbers, booleans or strings")
    valid = None if not array.null_count else np.asarray(array.is_valid())
    blank: Any = False if pa.types.is_boolean(array.type) else 0
    return Column(np.asarray(array.fill_null(blank) if array.null_count else array), valid)


def _read_csv(path: Path) -> Iterator[tuple[Block, int]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    size, done, rows = path.stat().st_size, 0, 0
    # Types are of the whole file, not of its first page: an early integer may be followed by a fraction.
    kinds: dict[str, Any] = {}
    convert = arrow_csv.ConvertOptions(
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["true"],
        false_values=["false"],
    )
    read = arrow_csv.ReadOptions(block_size=max(1 << 20, size + 1) if size < 1 << 28 else 1 << 26)
    try:
        parse = arrow_csv.ParseOptions(newlines_in_values=True)
        with arrow_csv.open_csv(path, read, parse, convert) as reader:
            kinds = {name: reader.schema.field(name).type for name in reader.schema.names}
            if "t" not in kinds or not (pa.types.is_floating(kinds["t"]) or pa.types.is_integer(kinds["t"])):
                raise InvalidArgument(f"{path.name} needs a column t of UNIX seconds")
            for batch in reader:
                with np.errstate(over="ignore"):
                    micros = np.rint(np.asarray(batch.column("t").cast(pa.float64())) * MICROS)
                _refuse_times(path, rows, (micros > EARLIEST) & (micros < LATEST))
                rows += len(batch)
                columns = {
                    name: Column.null(len(batch)) if pa.types.is_null(kinds[name]) else _from_arrow(batch.column(name), name)
                    for name in kinds
                    if name != "t"
                }
                done += batch.nbytes
                yield _sorted(micros.astype(np.int64), columns), done
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path.name}: {error}") from error


def _read_dat(path: Path) -> Iterator[tuple[Block, int]]:
    """A file of the weather archive: comments begin with #, rows are a time and a value; the name is the field's."""
    t: list[float] = []
    values: list[float] = []
    done = 0
    with path.open("rb") as file:
        for number, octets in enumerate(file, 1):
            done += len(octets)
            if octets.startswith(b"#") or not octets.strip():
                continue
            line = octets.decode("utf-8", "replace")
            try:
                moment, value = map(float, line.split())
                if not EARLIEST < moment * MICROS < LATEST:
                    raise ValueError
            except ValueError:
                raise InvalidArgument(
                    f"{path.name}, line {number}: a row is a time and a value, not {line.strip()!r:.60}"
                ) from None
            t.append(moment)
            values.append(value)
            if len(t) == PAGE_ROWS:
                yield Block.of(t, {path.stem: values}), done
                t, values = [], []
    if t:
        yield Block.of(t, {path.stem: values}), done


def _sorted(t: Any, columns: dict[str, Column]) -> Block:
    block = Block(np.ascontiguousarray(t, np.int64), columns)
    if len(t) > 1 and not (np.diff(block.t) > 0).all():
        order = np.argsort(block.t, kind="stable")
        ordered = block.t[order]
        block = block.take(order[np.append(ordered[1:] != ordered[:-1], True)])
    return block
