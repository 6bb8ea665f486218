"""The files of a table: which they are, what their columns are taken for, and how their times are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sisock.errors import SetupError
from sisock.nodes.table import csvform, parquetfile
from sisock.nodes.table.asked import FILES, Asked
from sisock.nodes.table.blocks import type_of
from sisock.nodes.table.clock import Clock, guess_unit
from sisock.nodes.table.layout import Layout, lay_out, listed
from sisock.nodes.table.parquetfile import ParquetTable
from sisock.nodes.table.problems import Problems
from sisock.times import to_seconds

log = logging.getLogger(__name__)


class TableFiles:
    """One file, or those of a folder, as a table. What it did not know at first it learns of what is read."""

    def __init__(self, asked: Asked) -> None:
        """SetupError for files that cannot be served."""
        self.asked = asked
        self.notes: list[str] = []
        self.path = Path(asked.source).expanduser().absolute()
        self.kinds: dict[str, str] = {}
        self.layout, self.clock = self._look()

    def paths(self) -> list[Path]:
        """The files of the table: the one that was named, or those of the folder, by name."""
        if not self.path.is_dir():
            return [self.path]
        # A hidden file is one that another program is still copying.
        return sorted(p for p in self.path.iterdir() if p.suffix.lower() in FILES and not p.name.startswith("."))

    def _look(self) -> tuple[Layout, Clock]:
        paths = self.paths()
        if not paths:
            raise SetupError(f"{self.path} has no files that end in {', '.join(FILES)}.")
        path = paths[0] if len(paths) == 1 else next((one for one in paths if not _unfinished(one)), paths[0])
        if not path.exists():
            raise SetupError(f"there is no file {path}.")
        if is_parquet(path):
            schema = parquetfile.schema(path)
            kinds = {name: _kind(schema.field(name).type) for name in schema.names}
            left = [name for name, kind in kinds.items() if kind == "other"]
            if left:
                self.notes.append(f"left out, as no field holds them: {listed(left)}")
            layout = lay_out({name: kind for name, kind in kinds.items() if kind != "other"}, self.asked)
            types = {name: type_of(schema.field(name).type) for name in schema.names}
            self.layout = layout
            wanted = [layout.time, *([layout.of_day] if layout.of_day else [])]
            first = next(ParquetTable(path, Problems(), wanted).scan(0.0), None)
            values = None if first is None else self.times(first.arrays)
        else:
            form = csvform.look(path, self.asked)
            self._tell_form(form)
            table = csvform.sample(path, form)
            kinds = {name: _kind(table.schema.field(name).type) for name in form.names}
            layout = lay_out(kinds, self.asked)
            types = {name: type_of(table.schema.field(name).type) for name in form.names}
            for name in form.names:
                self._learn(name, table.schema.field(name).type, layout)
            self.layout = layout
            values = self.times({name: table.column(name) for name in form.names})
            self._tell_texts(table, layout, form)
        said = {spec.column: spec.type for spec in layout.specs if spec.type is not None}
        self.kinds.update({name: {"number": "float"}.get(kind, kind) for name, kind in said.items()})
        layout = layout.typed({name: kind for name, kind in types.items() if kind is not None})
        return layout, self._clock(layout.time, values)

    def _learn(self, name: str, kind: Any, layout: Layout) -> None:
        import pyarrow as pa

        if pa.types.is_null(kind):
            return
        found = {"number": "int" if pa.types.is_integer(kind) else "float", "bool": "bool"}.get(str(type_of(kind)), "string")
        self.kinds[name] = "string" if name == layout.series else found

    def _tell_form(self, form: csvform.CsvForm) -> None:
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        if form.separator != ",":
            self.notes.append(f"columns are parted by {names.get(form.separator, repr(form.separator))}")
        if form.decimal != ".":
            self.notes.append(f"numbers have a decimal {form.decimal!r}")

    def _tell_texts(self, table: Any, layout: Layout, form: csvform.CsvForm) -> None:
        """Says which columns are texts for the sake of some values alone."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for spec in layout.specs:
            array = table.column(spec.column).combine_chunks()
            if spec.type is not None or not pa.types.is_string(array.type):
                continue
            _, bad = csvform.numbers_of(array, "float", form.decimal)
            count = 0 if bad is None else pc.sum(bad).as_py() or 0
            if 0 < count < (len(array) - array.null_count) / 2:
                example = array[pc.index(bad, value=True).as_py()].as_py()
                self.notes.append(
                    f"{spec.column} is text for {example[:40]!r}; --null {example[:40]!r} takes that for no value, and "
                    'type = "number" in a description all that is no number'
                )

    def _clock(self, column: str, values: Any) -> Clock:
        """How the times are to be read, and that it was guessed is said."""
        import pyarrow as pa

        if self.layout.of_day is not None:
            self.notes.append(f"times are of {column} and {self.layout.of_day} together")
        clock = Clock(self.asked.time_unit, self.asked.zone, self.asked.time_format)
        if values is None or not len(values):
            return clock
        kind = values.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            unit = clock.unit or guess_unit(values.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy())
            self.notes.append(f"{column} counts {unit} since 1970" + ("" if clock.unit else " (guessed; --time-unit says it)"))
            return replace(clock, unit=unit)
        if getattr(kind, "tz", None) is None and not clock.zone:
            self.notes.append("times that name no zone are taken for UTC (--zone says another)")
        _, valid = clock.micros(values.cast(pa.string()) if pa.types.is_string(kind) else values)
        if not valid.any():
            raise SetupError(
                f"no value of {column!r} is a time, {values[0].as_py()!r} for example. Name another column with --time, or "
                "say how they are written with --time-format '%d.%m.%Y %H:%M:%S'."
            )
        return clock

    def found(self) -> dict[str, Any]:
        """What there is, for people and programs: fields, about how many rows, the first and the last time."""
        files = self.paths()
        rows = sum(map(_rows, files))
        first, last = (self._end_of(path, newest=newest) for path, newest in ((files[0], False), (files[-1], True)))
        return {
            "node": self.asked.node,
            "source": self.asked.shown,
            "kind": "files",
            "files": len(files),
            "time": self.layout.time,
            "series": self.layout.series,
            "rows": rows,
            "first": first,
            "last": last,
            "columns": [
                {
                    "column": spec.column,
                    "field": spec.field,
                    "units": spec.units,
                    "type": spec.type,
                    "description": spec.description,
                }
                for spec in self.layout.specs
            ],
            "notes": self.notes,
        }

    def _end_of(self, path: Path, *, newest: bool) -> float | None:
        """The first time among a file's first rows, or the last among its last, in seconds."""
        try:
            if is_parquet(path):
                values = self.times(parquetfile.ends_of(path, newest=newest))
            else:
                form = csvform.look(path, self.asked)
                table = csvform.sample(path, form, newest=newest)
                values = self.times({name: table.column(name) for name in form.names})
            micros, valid = self.clock.micros(values)
        except (SetupError, OSError, KeyError):
            return None
        return to_seconds(int(micros[valid].max() if newest else micros[valid].min())) if valid.any() else None

    def times(self, arrays: Any) -> Any:
        """The column of the times, with that of the time of day where there are two."""
        import pyarrow as pa
        import pyarrow.compute as pc

        of_day = self.layout.of_day
        if of_day is None:
            return arrays[self.layout.time]
        both = (arrays[name].cast(pa.string()) for name in (self.layout.time, of_day))
        return pc.binary_join_element_wise(*both, " ")

    def know_unit(self, times: Any) -> None:
        """Of a file that was empty at first, the first numbers say what all count."""
        if self.clock.unit is None and len(times) > times.null_count and type_of(times.type) == "number":
            self.clock = replace(self.clock, unit=guess_unit(times.cast("float64", safe=False).drop_null().to_numpy()))
            log.warning("%s: %s is taken to count %s since 1970", self.asked.node, self.layout.time, self.clock.unit)

    def know_types(self, arrays: Any) -> bool:
        """Whether there are columns whose first values came only now; they become fields."""
        unknown = [spec.column for spec in self.layout.specs if spec.type is None and spec.column in arrays]
        types = {name: type_of(arrays[name].type) for name in unknown if len(arrays[name]) > arrays[name].null_count}
        if types:
            self.layout = self.layout.typed({name: kind for name, kind in types.items() if kind is not None})
        return bool(types)


def is_parquet(path: Path) -> bool:
    """Whether a file's name says that it is Parquet."""
    return path.suffix.lower() == ".parquet"


def _unfinished(path: Path) -> bool:
    """Whether a Parquet file is not whole: another program may still be writing it."""
    if is_parquet(path):
        try:
            parquetfile.schema(path)
        except SetupError:
            return True
    return False


def _kind(kind: Any) -> str:
    """What a column may be taken for: time, number, text, bool; "" for one that holds nothing."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return ""
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return "date" if pa.types.is_date(kind) else "clock"
    if pa.types.is_timestamp(kind):
        return "time"
    return {"number": "number", "bool": "bool", "string": "text"}.get(str(type_of(kind)), "other")


def _rows(path: Path) -> int:
    """How many rows a file has, by its line feeds; none where it cannot be read yet."""
    if is_parquet(path):
        with suppress(SetupError), parquetfile.opened(path) as file:
            return int(file.metadata.num_rows)
        return 0
    with path.open("rb") as file:
        return max(0, sum(part.count(b"\n") for part in _parts(file)) - 1)


def _parts(file: Any) -> Iterator[bytes]:
    while part := file.read(1 << 20):
        yield part
