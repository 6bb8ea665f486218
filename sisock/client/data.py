"""What a client is given: rows with their units, and what they turn into - pandas, Arrow, NumPy, xarray, a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import Block, Bools, Column, merge
from sisock.client.gathering import copied
from sisock.errors import InvalidArgument, NotInstalled, UnknownField
from sisock.fields import Field
from sisock.followed import Followed, Missing
from sisock.positions import Position
from sisock.times import MICROS, iso, to_seconds

# A field's column where no row of it came.
_EMPTY: dict[str, npt.DTypeLike] = {"number": np.float64, "bool": np.bool_, "string": object}
EXTRA = "notebook"


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one timeline, with all that is known of them.

    `timeline`         the timeline's name
    `fields`           what was asked for: {name: Field}, each with `units`, `description`, `type`
    `t`, `time`        the times: UNIX seconds (float64), and datetime64[us] in UTC
    `columns`, [name]  the values as arrays; a null is NaN in numbers and None in texts and booleans
    `finalized_until`  before it (UNIX seconds) nothing will change any more; None: not at all, or nothing is said of it
    `position`         how far the timeline had come: {"epoch", "seq"} once it is `to_wire()`; None for a node that keeps none
    `revises`          while it is followed: in each of these ranges [start, end), in seconds, these rows replace all before

        rows = hub["sensors"].get(["cpu_load"], start="-10m")
        rows.time[-1], rows["cpu_load"][-1], rows.fields["cpu_load"].units
        rows.to_pandas(); rows.to_arrow(); rows.to_numpy(); rows.to_xarray(); rows.plot()
    """

    node: str
    timeline: str
    fields: Mapping[str, Field]
    block: Block = field(repr=False)
    finalized_until: float | None = None
    position: Position | None = None
    revises: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, node: str, fields: Mapping[str, Field], item: Followed) -> Rows:
        """Rows that were followed; `fields` are the node's."""
        mine = {name: spec for name, spec in fields.items() if spec.timeline == item.timeline}
        revises = tuple((to_seconds(start), to_seconds(end)) for start, end in item.revises)
        return cls(node, item.timeline, mine, whole(copied([item.block]), mine), item.finalized_until, item.position, revises)

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self.block.columns:
            raise UnknownField(f"{name!r} was not asked for; there are {', '.join(self.fields) or 'no fields'}")
        return _plain(self.block.columns[name])

    def __repr__(self) -> str:
        span = f", {iso(float(self.t[0]))} to {iso(float(self.t[-1]))}" if len(self) else ""
        return f"<{len(self)} rows of {self.node}: {', '.join(self.fields)}{span}>"

    def _repr_html_(self) -> str:
        from sisock.client.html import rows_html

        return rows_html(self)

    @property
    def t(self) -> npt.NDArray[np.float64]:
        """The times in UNIX seconds."""
        seconds: npt.NDArray[np.float64] = self.block.t / MICROS
        return seconds

    @property
    def time(self) -> npt.NDArray[np.datetime64]:
        """The times as datetime64[us], in UTC."""
        return self.block.t.view("datetime64[us]")

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The values of each field."""
        return {name: self[name] for name in self.fields}

    def to_numpy(self) -> tuple[npt.NDArray[np.datetime64], dict[str, npt.NDArray[Any]]]:
        """(`time`, `columns`). Numbers without nulls are not copied, so write into a copy.

        time, values = hub["sensors"].get(["cpu_load"]).to_numpy()
        """
        return self.time, self.columns

    def to_pandas(self) -> Any:
        """A DataFrame, by UTC time, which shares its numbers' memory with these rows.

        Nulls are NaN in floats and NA in integers, booleans and texts. `attrs` holds the units, the descriptions,
        `finalized_until` and `position`. NotInstalled without pandas.

            df = hub["apex_archive"].get(["apex_temperature"], start="-10y", max_points=2000).to_pandas()
            df.attrs["units"]["apex_temperature"]
        """
        pandas = needed("pandas")

        def series(column: Column) -> Any:
            kind, valid = column.values.dtype.kind, column.valid
            if kind == "O":
                return pandas.array(_plain(column), dtype="string")
            if valid is None or kind == "f":
                return _plain(column)
            form = pandas.arrays.IntegerArray if kind == "i" else pandas.arrays.BooleanArray
            return form(column.values, ~valid)

        # Of whole numbers no copy is made, as it would be of datetime64.
        index = pandas.DatetimeIndex(self.block.t, dtype=pandas.DatetimeTZDtype("us", "UTC"), name="time", copy=False)
        frame = pandas.DataFrame({n: series(c) for n, c in self.block.columns.items()}, index=index, copy=False)
        frame.attrs.update(self._about())
        return frame

    def to_arrow(self) -> Any:
        """A pyarrow.Table: `t` (timestamp[us, UTC]), then the fields, nulls as nulls; units in the fields' metadata."""
        import pyarrow as pa

        from sisock import arrow

        layout = arrow.schema(self.timeline, self.block.columns, self.fields)
        about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self._about().items()}
        table = pa.Table.from_batches([arrow.batch(self.block, layout)], layout)
        return table.replace_schema_metadata({"timeline": self.timeline, **about})

    def to_xarray(self) -> Any:
        """An xarray.Dataset on the dimension `time` (UTC); each variable has `units` and `long_name`. NotInstalled without.

        ds = hub["apex_archive"].get(["apex_temperature"], start="-10y", max_points=2000).to_xarray()
        """
        xarray = needed("xarray")
        if "time" in self.fields:
            raise InvalidArgument("a field named 'time' cannot stand beside the times in a Dataset; use to_arrow or to_pandas")
        variables = {}
        for name, values in self.columns.items():
            spec = self.fields[name]
            labels = {"units": spec.units, "long_name": spec.description or name}
            variables[name] = ("time", values, {key: label for key, label in labels.items() if label is not None})
        about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self._about().items()}
        return xarray.Dataset(variables, {"time": ("time", self.time)}, about)

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """Draws the numbers over time and answers the axes: one above the other for each unit, or all in `ax`.

        `style` goes to matplotlib's plot. Fields of text are left out; InvalidArgument if there is nothing else.
        NotInstalled without matplotlib.
        """
        from sisock.client.plotting import plot

        return plot(list(self.lines()), ax, style)

    def lines(self) -> Iterator[Rows]:
        """The rows of each timeline: itself, of one that is one alone."""
        yield self

    def _about(self) -> dict[str, Any]:
        """What goes along as attributes: plain, so that it can be kept as JSON."""
        return {
            "node": self.node,
            "units": {name: spec.units for name, spec in self.fields.items()},
            "descriptions": {name: spec.description for name, spec in self.fields.items()},
            "finalized_until": {self.timeline: self.finalized_until},
            "position": {self.timeline: None if self.position is None else self.position.to_wire()},
        }


@dataclass(frozen=True, eq=False, repr=False)
class Gap(Rows):
    """No rows, but a gap: those in [start, end), UNIX seconds, may be missing or other than delivered; `reason` says why.

    `get` of that range reads what the node has. It has no rows, so code that only looks at rows goes on.

        for block in hub["sensors"].follow(["cpu_load"], start="-10m"):
            if isinstance(block, sisock.Gap):
                print(block.start, block.end, block.reason)
    """

    start: float = 0.0
    end: float = 0.0
    reason: str = ""

    @classmethod
    def named(cls, node: str, fields: Mapping[str, Field], item: Missing) -> Gap:
        """The gap that a follower named."""
        mine = {name: spec for name, spec in fields.items() if spec.timeline == item.timeline}
        empty = whole(Block(np.empty(0, np.int64)), mine)
        ends = to_seconds(item.start), to_seconds(item.end)
        return cls(node, item.timeline, mine, empty, start=ends[0], end=ends[1], reason=item.reason)

    def __repr__(self) -> str:
        return f"<gap in {self.node}/{self.timeline}, {iso(self.start)} to {iso(self.end)}: {self.reason}>"


class Data(Rows):
    """What `get` answers: the rows of all fields that were asked for, of one timeline or several.

    `timelines` has the rows of each. The data themselves, and all that they turn into, are those rows joined on time: where
    a field has no row, it is null. `finalized_until` is that of the timeline that says the least.
    """

    def __init__(self, node: str, fields: Mapping[str, Field], timelines: Mapping[str, Rows]) -> None:
        finals = [rows.finalized_until for rows in timelines.values() if rows.finalized_until is not None]
        only = next(iter(timelines.values())) if len(timelines) == 1 else None
        # A frozen dataclass is filled in by its own __init__; the rows are joined when they are first looked at.
        told = {
            "node": node,
            "timeline": ", ".join(timelines),
            "fields": fields,
            "finalized_until": min(finals, default=None),
            "position": only.position if only else None,
            "timelines": timelines,
        }
        self.__dict__.update(told)

    timelines: Mapping[str, Rows]

    @cached_property
    def block(self) -> Block:
        """The rows of all timelines, joined on time."""
        joined = Block(np.empty(0, np.int64))
        for rows in self.timelines.values():
            joined = merge(joined, rows.block)
        return whole(joined, self.fields)

    def lines(self) -> Iterator[Rows]:
        """The rows of each timeline."""
        yield from self.timelines.values()

    def _about(self) -> dict[str, Any]:
        about = super()._about()
        each = [rows._about() for rows in self.timelines.values()]
        joined = {
            key: {name: one for part in each for name, one in part[key].items()} for key in ("finalized_until", "position")
        }
        return about | joined


def whole(block: Block, fields: Mapping[str, Field]) -> Block:
    """The block with a column of each of these fields, in this order: nulls where it has none."""
    columns = {
        name: block.columns[name] if name in block.columns else Column.null(len(block), _EMPTY[spec.type])
        for name, spec in fields.items()
    }
    if not len(block):
        # A column of nothing says its field's type.
        columns = {name: Column(np.empty(0, _EMPTY[spec.type])) for name, spec in fields.items()}
    return Block(block.t, columns)


def _plain(column: Column) -> npt.NDArray[Any]:
    """Values as NumPy has them: nulls as NaN in numbers, None in texts and booleans."""
    values, valid = column.values, column.valid
    if valid is None or valid.all():
        return values
    missing: Bools = ~valid
    if values.dtype.kind == "i":
        return column.numbers()
    if values.dtype.kind == "f":
        if np.isnan(values[missing]).all():
            return values
        return column.numbers()
    plain = values.astype(object)
    plain[missing] = None
    return plain


def needed(package: str) -> Any:
    """An optional package; NotInstalled says what to install."""
    try:
        return import_module(package)
    except ImportError as error:
        raise NotInstalled(
            f"{package} is not installed here: `pip install 'sisock[{EXTRA}]'`, or `pip install {package.partition('.')[0]}`."
        ) from error
