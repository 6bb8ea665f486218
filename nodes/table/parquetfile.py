"""A Parquet file, which is replaced by another one when its table has more rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sisock.errors import SetupError
from sisock.nodes.table.csvtail import Piece
from sisock.nodes.table.problems import Problem, Problems

# Rows that are read together.
BATCH = 1 << 17


class ParquetTable:
    """One file, read whole whenever it is another one. `mark` tells which one was read last."""

    is_open = False

    def __init__(self, path: Path, problems: Problems, columns: list[str], mark: str | None = None) -> None:
        self.path, self.problems, self.columns = path, problems, columns
        self.mark = mark
        self.name = path.name.encode("utf-8", "backslashreplace").decode()

    def close(self) -> None:
        """Nothing is open between two scans."""

    def last(self) -> Iterator[Piece]:
        """Nothing is left of a file whose name is not there any more."""
        return iter(())

    def scan(self, now: float) -> Iterator[Piece]:
        """All rows, if the file is another one than at the last scan."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            there = self.path.stat()
            mark = f"{there.st_ino} {there.st_size} {there.st_mtime_ns}"
            if mark == self.mark:
                return
            with parquet.ParquetFile(self.path) as file:
                present = [name for name in self.columns if name in file.schema_arrow.names]
                total, done = file.metadata.num_rows, 0
                for batch in file.iter_batches(BATCH, columns=present):
                    done += len(batch)
                    arrays = {name: plain(batch.column(name)) for name in present}
                    yield Piece(arrays, there.st_size * done // max(1, total), there.st_size)
            self.mark = mark
        except OSError as error:
            self.problems.once(Problem("unreadable files", self.name, None, f"cannot be read: {error.strerror or error}"))
        except pa.ArrowInvalid as error:
            # One that is still being written has no end yet.
            self.problems.once(Problem("unreadable files", self.name, None, f"is no whole Parquet file: {error}"))
        else:
            self.problems.over(self.name)


def plain(array: Any) -> Any:
    """A column as a CSV file would have it: numbers, booleans, texts, or times."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.cast(kind.value_type))
    if pa.types.is_integer(kind):
        return array.cast(pa.int64(), safe=False)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.float64(), safe=False)
    if pa.types.is_large_string(kind):
        return array.cast(pa.string())
    return array


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file to look at; SetupError where it is none, or not whole yet."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}.") from error
    except pa.ArrowInvalid as error:
        raise SetupError(f"{path} is no whole Parquet file: {error}") from error


def schema(path: Path) -> Any:
    """The columns of a file; SetupError where it is none."""
    with opened(path) as file:
        return file.schema_arrow


def ends_of(path: Path, *, newest: bool) -> dict[str, Any]:
    """The columns of a file's first row group, or of its last; SetupError where it is none."""
    with opened(path) as file:
        groups = file.num_row_groups
        table = file.read_row_group(groups - 1 if newest else 0) if groups else file.read()
    return {name: plain(table.column(name).combine_chunks()) for name in table.column_names}
