"""Files of rows in time, read batch by batch: CSV, Parquet and JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from sisock.errors import SisockError
from sisock.times import MICROS, Micros

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".csv", ".json", ".jsonl")
BATCH = 65_536
# A JSON array is read whole; longer inputs are written as lines.
MAX_JSON = 64 << 20


class InputError(SisockError, ValueError):
    """A source's input is not as it should be; the message names the file and what it lacks."""

    uri = "sisock.error.geom_input"
    status = 400


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of texts: the different `words`, and which of them stands in each row."""

    words: Sequence[str]
    codes: npt.NDArray[np.int64]

    def take(self, index: Any) -> Texts:
        """These rows."""
        return Texts(self.words, self.codes[index])

    def numbers(self, known: Mapping[str, int]) -> npt.NDArray[np.int64]:
        """The number of each row's text; -1 for one that is not known."""
        return np.array([known.get(word, -1) for word in self.words], np.int64)[self.codes]

    def distinct(self) -> set[str]:
        """The different texts of these rows."""
        return {self.words[code] for code in np.unique(self.codes).tolist()}


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows: their times in microseconds, ascending, and their columns of numbers and of texts."""

    t: Micros
    numbers: Mapping[str, npt.NDArray[np.float64]]
    texts: Mapping[str, Texts]

    def __len__(self) -> int:
        return len(self.t)

    def take(self, index: Any) -> Rows:
        """These rows."""
        return Rows(
            self.t[index],
            {name: column[index] for name, column in self.numbers.items()},
            {name: column.take(index) for name, column in self.texts.items()},
        )


def find(folder: Path, name: str) -> Path:
    """The file of that name with one of the endings; InputError if there is none, or more than one."""
    there = [folder / (name + ending) for ending in ENDINGS if (folder / (name + ending)).is_file()]
    if len(there) != 1:
        what = "is missing" if not there else "is there more than once"
        raise InputError(f"{folder / name} {what}: it is one file, {name}{' or '.join(ENDINGS)}")
    return there[0]


def find_optional(folder: Path, name: str) -> Path | None:
    """The same where there need be none."""
    return find(folder, name) if any((folder / (name + ending)).is_file() for ending in ENDINGS) else None


def records(path: Path) -> list[dict[str, Any]]:
    """A small file as a list of dicts; what a row leaves empty is left out. The values of a CSV file are texts."""
    try:
        listed = (
            _listed(path) if path.suffix != ".parquet" else [row for one in _parquet(path, None) for row in one.to_pylist()]
        )
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error
    return [{name: value for name, value in row.items() if value is not None} for row in listed]


def _listed(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return [
                    {name: value or None for name, value in row.items() if name is not None} for row in csv.DictReader(file)
                ]
        case ".jsonl":
            with path.open("rb") as lines:
                return _objects(path, [orjson.loads(line) for line in lines if line.strip()])
        case _:
            if path.stat().st_size > MAX_JSON:
                raise InputError(f"{path} is too long for one list, which is read whole: write an object a line, into a .jsonl")
            return _objects(path, orjson.loads(path.read_bytes()))


def _objects(path: Path, told: Any) -> list[dict[str, Any]]:
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise InputError(f"{path} is no list of objects" if path.suffix == ".json" else f"{path}: a line is no object")
    return told


def _unreadable(path: Path, error: Exception) -> InputError:
    return error if isinstance(error, InputError) else InputError(f"{path} cannot be read: {error}")


def rows_of(path: Path, numbers: Sequence[str], texts: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Rows]:
    """Rows with the column `timestamp` and these; InputError where one is missing, or the times do not ascend.

    `optional` columns are numbers (or, if they are among the texts, texts) that may be missing.
    """
    last = None
    for batch in _located(path, {"timestamp": False, **dict.fromkeys(numbers, True), **dict.fromkeys(texts, False)}):
        missing = {"timestamp", *numbers, *texts} - set(optional) - set(batch.schema.names)
        if missing:
            raise InputError(f"{path} has no column {', '.join(sorted(missing))}")
        t = _times(path, batch.column("timestamp"))
        if len(t) and ((np.diff(t) < 0).any() or (last is not None and t[0] < last)):
            raise InputError(f"{path}: times must ascend, since it is read once from its beginning. Sort it by timestamp.")
        last = t[-1] if len(t) else last
        there = set(batch.schema.names)
        yield Rows(
            t,
            {name: _numbers(path, name, batch.column(name)) for name in numbers if name in there},
            {name: _texts(path, name, batch.column(name)) for name in texts if name in there},
        )


def _located(path: Path, wanted: Mapping[str, bool]) -> Iterator[pa.RecordBatch]:
    try:
        match path.suffix:
            case ".parquet":
                yield from _parquet(path, list(wanted))
            case ".csv":
                yield from _csv(path, wanted)
            case ".jsonl":
                yield from _lines(path, list(wanted))
            case _:
                yield from _columns(_listed(path), list(wanted))
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _parquet(path: Path, wanted: list[str] | None) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    # A reader holds what it read ahead until it is closed: so none is read ahead, and each group has a reader's turn.
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        there = None if wanted is None else [name for name in wanted if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            yield from file.iter_batches(BATCH, row_groups=[group], columns=there, use_threads=False)


def _csv(path: Path, wanted: Mapping[str, bool]) -> Iterator[pa.RecordBatch]:
    """A CSV file. What a column holds is said and not guessed: its first portion may look like integers, or be empty."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    with path.open(newline="", encoding="utf-8-sig") as file:
        there = [name for name in next(csv.reader(file), []) if name in wanted]
    convert = arrow.ConvertOptions(
        column_types={name: pa.float64() if wanted[name] else pa.string() for name in there},
        include_columns=there,
        null_values=["", "NULL", "null", "NaN", "nan"],
        strings_can_be_null=True,
    )
    with arrow.open_csv(path, read_options=arrow.ReadOptions(block_size=4 << 20), convert_options=convert) as reader:
        yield from reader


def _lines(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as lines:
        while some := list(islice(lines, BATCH)):
            yield from _columns(_objects(path, [orjson.loads(line) for line in some if line.strip()]), wanted)


def _columns(rows: list[dict[str, Any]], wanted: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    # A name may be missing in any row.
    there = [name for name in wanted if any(name in row for row in rows)]
    if rows:
        yield pa.RecordBatch.from_arrays([pa.array([row.get(name) for row in rows]) for name in there], there)


def _times(path: Path, column: pa.Array) -> Micros:
    """Microseconds of UNIX seconds, or of ISO times, which are in UTC unless they name a zone."""
    import pyarrow as pa

    if column.null_count:
        raise InputError(f"{path}: a row has no timestamp")
    kind = column.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = _of_texts(column)
            kind = column.type
        if pa.types.is_timestamp(kind):
            micros: Micros = (
                column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
            )
            return micros
        seconds = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: timestamp is UNIX seconds or YYYY-MM-DDThh:mm:ss: {error}") from error
    if not (np.abs(seconds) < 253_402_300_799).all():
        raise InputError(f"{path}: a timestamp is no time in UNIX seconds")
    found: Micros = np.rint(seconds * MICROS).astype(np.int64)
    return found


def _of_texts(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    from pyarrow import compute

    with suppress(pa.ArrowInvalid):
        return column.cast(pa.float64())
    zone = compute.any(compute.match_substring_regex(column, r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$")).as_py()
    return column.cast(pa.timestamp("us", "UTC" if zone else None))


def _numbers(path: Path, name: str, column: pa.Array) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    try:
        found: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{path}: {name} holds what is no number: {error}") from error
    return found


def _texts(path: Path, name: str, column: pa.Array) -> Texts:
    import pyarrow as pa

    if column.null_count:
        raise InputError(f"{path}: a row has no {name}")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Texts([str(word) for word in column.dictionary.to_pylist()], codes)


def numbered(words: Iterable[str]) -> dict[str, int]:
    """Words by the order in which they come."""
    return {word: at for at, word in enumerate(words)}
