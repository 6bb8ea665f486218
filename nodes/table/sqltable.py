"""One table of a database: what its columns are, and its rows, asked by their time and by its index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from sisock.blocks import Block
from sisock.errors import SetupError
from sisock.fields import FieldType
from sisock.nodes.table.asked import Asked
from sisock.nodes.table.clock import FIRST as YEAR_ONE
from sisock.nodes.table.clock import LAST as YEAR_TEN_THOUSAND
from sisock.nodes.table.clock import guess_unit
from sisock.nodes.table.connection import Connections
from sisock.nodes.table.layout import Layout, lay_out, listed
from sisock.nodes.table.sqlvalues import TEXT, TYPES, SqlClock, column_of, is_moment, kind_of
from sisock.times import MICROS

# Rows that are counted one by one; of more the database's own estimate is told.
COUNTED = 200_000
# With a year to spare, since zones move times beyond the ends of the calendar. An infinite time is left out with that.
FIRST, LAST = YEAR_ONE + 366 * 86_400 * MICROS, YEAR_TEN_THOUSAND - 366 * 86_400 * MICROS


class SqlTable:
    """A table, or a view. Ranges are half-open, in microseconds; StoreAway, TimedOut, Busy as its Connections raise them."""

    def __init__(self, asked: Asked) -> None:
        """SetupError lists the tables, or the columns, where one that was named is not there."""
        self.asked = asked
        self.connections = Connections(asked.source)
        self.notes: list[str] = []
        try:
            self._reflect()
        except BaseException:
            self.connections.close()
            raise

    def close(self) -> None:
        """Closes the connections."""
        self.connections.close()

    # What is there

    def _reflect(self) -> None:
        with self.connections.reading() as connection:
            inspector = sa.inspect(connection)
            schema, name = self._find_table(inspector)
            columns = {str(one["name"]): one["type"] for one in inspector.get_columns(name, schema)}
            kinds = {one: kind_of(kind) for one, kind in columns.items()}
            left = [one for one, kind in kinds.items() if kind == "other"]
            self.name, self.columns = name, columns
            self.relation = sa.table(name, *(sa.column(one) for one in columns), schema=schema)
            self.shown = self._quoted(connection, schema, name)
            if not self.connections.is_postgres:
                kinds = self._sampled_kinds(connection, kinds)
            self.layout: Layout = lay_out({one: kind for one, kind in kinds.items() if kind != "other"}, self.asked)
            self.layout = self.layout.typed({one: TYPES[kind] for one, kind in kinds.items() if kind in TYPES})
            if left:
                self.notes.append(f"left out, as no field holds them: {listed(left)}")
            self.t: Any = sa.column(self.layout.time)
            self.clock = self._find_clock(connection)
            self._look_at_indexes(connection, inspector, schema, name)

    def _find_table(self, inspector: Any) -> tuple[str | None, str]:
        asked = self.asked.table
        schema, dot, name = (asked or "").rpartition(".")
        tables = [*inspector.get_table_names(), *inspector.get_view_names()]
        if asked in tables:
            return None, str(asked)
        known = inspector.get_schema_names() if dot else []
        if schema in known and name in [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]:
            return schema, name
        if asked is None and len(tables) == 1:
            return None, str(tables[0])
        what = "say which with --table" if asked is None else f"there is no table {asked!r}"
        raise SetupError(f"{self.connections.shown}: {what}. There are {listed(sorted(tables))}.")

    def _quoted(self, connection: Any, schema: str | None, name: str) -> str:
        quote = connection.dialect.identifier_preparer.quote
        return ".".join(quote(one) for one in (schema, name) if one)

    def _sampled_kinds(self, connection: Any, kinds: dict[str, str]) -> dict[str, str]:
        """What SQLite's columns hold, which their types need not say."""
        rows = connection.execute(sa.select(*(sa.column(one) for one in kinds)).select_from(self.relation).limit(100)).all()
        found = {}
        for place, (name, kind) in enumerate(kinds.items()):
            values = [row[place] for row in rows if row[place] is not None]
            numbers = bool(values) and all(isinstance(value, (int, float)) for value in values)
            texts = bool(values) and all(isinstance(value, str) for value in values)
            if kind == "time" or (kind == "text" and texts and all(map(is_moment, values))):
                found[name] = "number" if numbers else "time"
            elif kind in ("text", "other") and numbers:
                found[name] = "number"
            elif kind in ("number", "other") and texts:
                found[name] = "text"
            else:
                found[name] = kind
        return found

    def _find_clock(self, connection: Any) -> SqlClock:
        kind, asked = self.columns[self.layout.time], self.asked
        ends = [
            value
            for order in (self.t.asc(), self.t.desc())
            for value in connection.scalars(
                sa.select(self.t).select_from(self.relation).where(self.t.is_not(None)).order_by(order).limit(50)
            )
        ]
        if self.connections.is_postgres and isinstance(kind, (sa.DateTime, sa.Date)):
            aware = bool(getattr(kind, "timezone", False))
            if not aware and not asked.zone:
                self.notes.append("times that name no zone are taken for UTC (--zone says another)")
            return SqlClock("moment", zone=asked.zone, aware=aware)
        if isinstance(kind, (sa.Numeric, sa.Integer, sa.Float)) or (
            ends and all(isinstance(one, (int, float)) for one in ends)
        ):
            unit = asked.time_unit or guess_unit([float(one) for one in ends])
            self.notes.append(
                f"{self.layout.time} counts {unit} since 1970" + ("" if asked.time_unit else " (guessed; --time-unit says it)")
            )
            return SqlClock("number", unit, isinstance(kind, sa.Integer) and all(isinstance(one, int) for one in ends))
        if self.connections.is_postgres:
            raise SetupError(
                f"{self.layout.time!r} holds {kind}, and neither timestamps nor numbers. Name another column with --time, or "
                "make a view that has it as a timestamp."
            )
        return self._text_clock([str(one) for one in ends])

    def _text_clock(self, texts: list[str]) -> SqlClock:
        forms = {match.groups() for one in texts if (match := re.fullmatch(TEXT, one))}
        clocks = {(between, len(fraction or "."), ending or "") for between, fraction, ending in forms}
        if len({(between, ending) for between, _, ending in clocks}) == 1 and not max(clocks)[2]:
            clocks = {max(clocks)}
        if texts and (len(clocks) != 1 or not all(re.fullmatch(TEXT, one) for one in texts)):
            raise SetupError(
                f"the texts in {self.layout.time!r} are not written as times in one way ({texts[0]!r}, {texts[-1]!r}), "
                "so that the database cannot compare them. Make a view, or an index on an expression, that has them as numbers."
            )
        between, digits, ending = next(iter(clocks), (" ", 1, ""))
        if not ending and not self.asked.zone:
            self.notes.append("times that name no zone are taken for UTC (--zone says another)")
        return SqlClock("text", zone=self.asked.zone, between=between, digits=digits - 1, ending=ending)

    def _look_at_indexes(self, connection: Any, inspector: Any, schema: str | None, name: str) -> None:
        keys = [one["column_names"] for one in inspector.get_indexes(name, schema)]
        keys += [inspector.get_pk_constraint(name, schema).get("constrained_columns") or []]
        keys += [one["column_names"] for one in inspector.get_unique_constraints(name, schema)]
        first = {tuple(key[:2]) for key in keys if key}
        time, series = self.layout.time, self.layout.series
        quote = connection.dialect.identifier_preparer.quote
        self.by_time = any(key[0] == time for key in first)
        # Whether what is asked of one series in a range of time is found by an index.
        self.has_index = self.by_time if series is None else any(key[:2] == (series, time) for key in first)
        self.by_series = series is None or any(key[0] == series for key in first)
        if name in inspector.get_view_names(schema):
            return
        wanted: list[tuple[str, ...]] = [(time,)] if not self.by_time else []
        if series is not None and not any(key[:2] == (series, time) for key in first):
            wanted.append((series, time))
        for key in wanted:
            sql = f"CREATE INDEX ON {self.shown} ({', '.join(map(quote, key))});"
            if not self.connections.is_postgres:
                sql = f"CREATE INDEX {quote(f'{name}_by_' + '_'.join(key))} ON {self.shown} ({', '.join(map(quote, key))});"
            self.notes.append(
                f"no index begins with {', '.join(key)}, so whatever is asked reads the whole table. To make one: {sql}"
            )

    # Asking

    def where(self, start: int, end: int, series: str | None) -> list[Any]:
        """The conditions that rows of a range, and of a series, meet."""
        low, high = max(start, FIRST), min(end, LAST)
        found = [self.t >= self.clock.bound(low), self.t < self.clock.bound(high)]
        if self.layout.series is not None and series is not None:
            found.append(sa.column(self.layout.series) == series)
        return found

    def series(self) -> list[str]:
        """The names of the series, by the index of that column where there is one."""
        column: Any = sa.column(str(self.layout.series))
        with self.connections.reading() as connection:
            if not self.by_series:
                query = sa.select(column).select_from(self.relation).where(column.is_not(None)).distinct()
                return sorted(str(one) for one in connection.scalars(query))
            found: list[str] = []
            query = sa.select(column).select_from(self.relation).where(column.is_not(None)).order_by(column).limit(1)
            value = connection.scalar(query)
            while value is not None:
                found.append(str(value))
                value = connection.scalar(query.where(column > value))
            return found

    def ends(self, series: str | None) -> tuple[int, int] | None:
        """The first and the last time; None without rows."""
        where = self.where(FIRST, LAST, series)
        with self.connections.reading() as connection:
            found = [
                connection.scalar(sa.select(self.t).select_from(self.relation).where(*where).order_by(order).limit(1))
                for order in (self.t.asc(), self.t.desc())
            ]
        low, high = (None if one is None else self.clock.micros(one) for one in found)
        return None if low is None or high is None else (low, high)

    def rows(
        self,
        columns: Sequence[str],
        start: int,
        end: int,
        series: str | None,
        limit: int | None = None,
        *,
        newest: bool = False,
    ) -> list[Any]:
        """Rows (time in microseconds, value, ...) in order of time; with `newest` the last so many, in reverse."""
        order = self.t.desc() if newest else self.t.asc()
        query = sa.select(self.t, *map(self._value, columns)).select_from(self.relation).where(*self.where(start, end, series))
        with self.connections.reading() as connection:
            found = connection.execute(query.order_by(order).limit(limit)).all()
        return self._timed(found)

    def at(self, columns: Sequence[str], times: Iterable[Any], series: str | None) -> list[Any]:
        """The rows at these times, as the database has them, in order."""
        listed_times = list(times)
        where = self.where(FIRST, LAST, series)[2:]
        found: list[Any] = []
        with self.connections.reading() as connection:
            for part in range(0, len(listed_times), 500):
                some = self.t.in_(listed_times[part : part + 500])
                query = sa.select(self.t, *map(self._value, columns)).select_from(self.relation).where(some, *where)
                found += connection.execute(query).all()
        return sorted(self._timed(found), key=lambda row: int(row[0]))

    def _value(self, name: str) -> Any:
        kind = self.columns[name]
        column: Any = sa.column(name)
        if self.connections.is_postgres:
            if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
                return sa.cast(column, sa.Float)
            if kind_of(kind) == "time" or isinstance(kind, (sa.Uuid, sa.Enum)):
                return sa.cast(column, sa.Text)
        return column

    def _timed(self, rows: Sequence[Any]) -> list[Any]:
        timed = ((self.clock.micros(row[0]), *row[1:]) for row in rows)
        return [row for row in timed if row[0] is not None]

    def count(self, start: int, end: int, series: str | None) -> int:
        """How many rows there are: exactly where they are few, the planner's estimate where they are many."""
        where = self.where(start, end, series)
        with self.connections.reading() as connection:
            exact = self._counted(connection, where, COUNTED)
            if exact <= COUNTED:
                return exact
            if not self.connections.is_postgres:
                # There is no estimate to be had; the share of the table's time has to do.
                return max(exact, self._share(connection, start, end))
            query = sa.select(self.t).select_from(self.relation).where(*where)
            compiled = query.compile(connection, compile_kwargs={"render_postcompile": True})
            plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", dict(compiled.params)).scalar()
            told: Any = json.loads(plan) if isinstance(plan, str) else plan
            return max(exact, int(told[0]["Plan"]["Plan Rows"]))

    def exceeds(self, start: int, end: int, series: str | None, rows: int) -> bool:
        """Whether there are more rows than so many."""
        with self.connections.reading() as connection:
            return self._counted(connection, self.where(start, end, series), rows) > rows

    def _counted(self, connection: Any, where: list[Any], limit: int) -> int:
        """How many rows there are, of which at most one beyond the limit is counted."""
        some = sa.select(sa.literal_column("1")).select_from(self.relation).where(*where).limit(limit + 1).subquery()
        return int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)

    def _share(self, connection: Any, start: int, end: int) -> int:
        try:
            rows = connection.scalar(sa.select(sa.func.max(sa.literal_column("rowid"))).select_from(self.relation)) or 0
        except sa.exc.DBAPIError:
            # A view, and a table that was made without them, have no numbers of rows.
            rows = connection.scalar(sa.select(sa.func.count()).select_from(self.relation)) or 0
        ends = self.ends(None)
        if ends is None or ends[1] <= ends[0]:
            return int(rows)
        low, high = max(start, ends[0]), min(end, ends[1] + 1)
        return int(rows * max(0, high - low) / (ends[1] + 1 - ends[0]))

    def type_of(self, column: str) -> FieldType:
        """The type of the field that a column is."""
        return next((spec.type for spec in self.layout.specs if spec.column == column and spec.type), "string")

    def block(self, rows: Sequence[Any], columns: Sequence[str], names: Sequence[str]) -> Block:
        """Rows in order of time as a block, each time once: of equal ones the last."""
        t = np.array([row[0] for row in rows], np.int64)
        keep = np.append(t[1:] != t[:-1], True) if len(t) else np.zeros(0, np.bool_)
        made = {
            name: column_of([row[place] for row in rows], self.type_of(column)).take(keep)
            for place, (column, name) in enumerate(zip(columns, names, strict=True), 1)
        }
        return Block(t[keep], made)
