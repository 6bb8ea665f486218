"""What the columns of a table are: which one is the time, and which field each of the others is, in which units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sisock.errors import InvalidArgument, SetupError
from sisock.fields import DEFAULT_TIMELINE, Field, FieldType
from sisock.nodes.table.asked import Asked, Described
from sisock.uris import check_field_name

# What a column of times is called, without blanks, in lower case.
TIMES = frozenset(
    (
        *("t", "time", "timestamp", "times", "datetime", "date_time", "ts", "date", "utc", "time_utc", "timestamp_utc"),
        *("epoch", "unixtime", "unix_time", "time_s", "time_ms", "_time", "recorded_at", "measured_at", "observed_at"),
        *("created_at", "sampled_at", "logged_at", "zeit", "datum"),
    )
)
# The one column of values in tables that hold a name, a time and a value in each row.
VALUE = "value"

_UNITS = re.compile(r"(?P<name>.*?\S)\s*(?:\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\])\s*")


@dataclass(frozen=True, slots=True)
class Spec:
    """A column that is served: its place in the table, and the field that it becomes; a type of None is not known yet."""

    column: str
    field: str
    units: str | None = None
    description: str | None = None
    type: FieldType | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table: the time's, the one that names the series, and those that hold values."""

    time: str
    series: str | None
    specs: tuple[Spec, ...]
    # The column of the time of day, where `time` is that of the date alone.
    of_day: str | None = None

    def fields(self, series: str | None = None) -> dict[str, Field]:
        """The fields of a series whose types are known; of the table where no column names a series."""
        timeline = DEFAULT_TIMELINE if series is None else check_field_name(series, "timeline")
        return {
            self.field_name(spec, series): Field(spec.description, spec.units, spec.type, timeline)
            for spec in self.specs
            if spec.type is not None
        }

    def field_name(self, spec: Spec, series: str | None) -> str:
        """What a column is called in a series."""
        if series is None:
            return check_field_name(spec.field)
        return check_field_name(series if len(self.specs) == 1 and spec.field == VALUE else f"{series}.{spec.field}")

    def typed(self, types: Mapping[str, FieldType]) -> Layout:
        """The layout with the types of these columns, where it knew none."""
        return replace(
            self,
            specs=tuple(
                replace(spec, type=types[spec.column]) if spec.type is None and spec.column in types else spec
                for spec in self.specs
            ),
        )


def split_units(header: str) -> tuple[str, str | None]:
    """Name and units of a header such as `air (degC)` or `air [degC]`."""
    match = _UNITS.fullmatch(header.strip())
    if match is None:
        return header.strip(), None
    units = match["round"] if match["round"] is not None else match["square"]
    return match["name"], units.strip() or None


def unique(names: Sequence[str]) -> list[str]:
    """Names of columns, each once: one that stands there again gets a number, one that has none its place."""
    taken: set[str] = set()
    made = []
    for place, name in enumerate(names, 1):
        wanted = name.strip() or f"column_{place}"
        one, number = wanted, 1
        while one in taken or (one != wanted and one in names):
            number += 1
            one = f"{wanted}_{number}"
        taken.add(one)
        made.append(one)
    return made


def lay_out(columns: Mapping[str, str], asked: Asked) -> Layout:
    """The layout of a table with these columns, each with what it holds.

    That is time, date, clock (a time of day), number, text, bool or nothing. SetupError for a column that was named and
    is not there, or where it is not clear which one is the time.
    """
    of_day: str | None = None
    if asked.time is None:
        time = find_time(columns)
        clocks = [name for name, kind in columns.items() if kind == "clock" and _is_time(name)]
        of_day = clocks[0] if columns[time] == "date" and len(clocks) == 1 else None
    elif "+" in asked.time and asked.time not in columns:
        time, of_day = (find(name.strip(), columns, "--time") for name in asked.time.split("+", 1))
    else:
        time = find(asked.time, columns, "--time")
    series = None if asked.series is None else find(asked.series, columns, "--series")
    if series == time:
        raise SetupError(f"the column {time!r} cannot be both the time and the name of the series.")
    for name in asked.columns:
        find(name, columns, "the description")
    said = {find(name, columns, "the description"): one for name, one in asked.columns.items()}
    rest = [name for name in columns if name not in (time, of_day, series) and not said.get(name, Described()).ignore]
    if not rest:
        raise SetupError(f"there is no column beside the time {time!r}, so there is nothing to serve.")
    short = Counter(split_units(name)[0] for name in rest)
    specs = []
    for name in rest:
        one, (plain, units) = said.get(name, Described()), split_units(name)
        # Two columns that differ in their units alone keep them in their names.
        field = one.field or (plain if short[plain] == 1 else name)
        specs.append(Spec(name, field, one.units or units, one.description, one.type))
    twice = [field for field, times in Counter(spec.field for spec in specs).items() if times > 1]
    if twice:
        raise SetupError(f"several columns would become the field {twice[0]!r}; name them in a description.")
    try:
        for spec in specs:
            check_field_name(spec.field)
    except InvalidArgument as error:
        raise SetupError(f"{error}. Name the field in a description.") from error
    return Layout(time, series, tuple(specs), of_day)


def find(name: str, columns: Mapping[str, str], what: str) -> str:
    """The column of that name, with or without its units; SetupError lists those that are there."""
    if name in columns:
        return name
    found = [one for one in columns if split_units(one)[0] == name]
    if len(found) != 1:
        raise SetupError(f"{what} names the column {name!r}, which is not there. There are {listed(columns)}.")
    return found[0]


def find_time(columns: Mapping[str, str]) -> str:
    """The one column that holds the times; SetupError where none or several might."""
    named = [name for name, kind in columns.items() if kind != "clock" and _is_time(name)]
    for candidates in (named, [name for name, kind in columns.items() if kind in ("time", "date")]):
        if len(candidates) == 1:
            return candidates[0]
        sure = [name for name in candidates if columns[name] == "time"]
        if len(sure) == 1:
            return sure[0]
    raise SetupError(f"it is not clear which column holds the times: say it with --time COLUMN. There are {listed(columns)}.")


def _is_time(name: str) -> bool:
    return split_units(name)[0].casefold().replace(" ", "_") in TIMES


def listed(names: Mapping[str, str] | Sequence[str]) -> str:
    """Names for a message, a few dozen at most."""
    shown = [repr(name) for name in list(names)[:40]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "none"
