"""Rows that a node keeps beside its timelines: in SQL tables of its own, in the very transaction of the block they come with.

A node that has such tables names the folder of their Alembic migrations, `DataNode.tables`, and gives `append_block` what is
to stand in them. What is kept beside is plain data, so that it waits with its block in an outbox while the database is away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

from sisock.errors import InvalidArgument, shown

Value = str | int | float | bool | None

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KINDS = {str, int, float, bool, type(None)}


@dataclass(frozen=True, slots=True)
class Tables:
    """A node's own tables: the folder that holds their migrations, and the name of the table that has their version."""

    folder: Path
    version_table: str


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows for one table. A row whose `key` is there already is left as it is; or, with `newer`, takes its place.

    With `newer`, a column, a row takes the place of one that has no greater value in it: so a table of newest values is
    right in whatever order they come.
    """

    table: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    key: tuple[str, ...]
    newer: str | None = None

    def __post_init__(self) -> None:
        for name in (self.table, *self.columns, *self.key, *(() if self.newer is None else (self.newer,))):
            if not _NAME.fullmatch(name):
                raise InvalidArgument(f"{shown(name)} is no name of a table or column: small letters, digits and _")
        if not set(self.key) < set(self.columns) or not self.key:
            raise InvalidArgument(f"the key of {self.table} is some of its columns, and not all of them")
        if self.newer is not None and self.newer not in set(self.columns) - set(self.key):
            raise InvalidArgument(f"{self.newer} is no column of {self.table} beside its key")
        # There may be many thousands of them.
        if not ({len(self.columns)} >= set(map(len, self.rows)) and set(map(type, chain.from_iterable(self.rows))) <= _KINDS):
            raise InvalidArgument(f"a row of {self.table} is {len(self.columns)} texts, numbers, booleans or nulls")

    @property
    def statement(self) -> str:
        """The statement that keeps a row, with `?` for each value, in the words of both engines."""
        columns, marks, key = ", ".join(self.columns), ", ".join("?" for _ in self.columns), ", ".join(self.key)
        taken = "NOTHING"
        if self.newer is not None:
            news = ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in self.key)
            taken = f"UPDATE SET {news} WHERE excluded.{self.newer} >= {self.table}.{self.newer}"
        return f"INSERT INTO {self.table} ({columns}) VALUES ({marks}) ON CONFLICT ({key}) DO {taken}"  # noqa: S608  names

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(40 + sum(len(value) if isinstance(value, str) else 8 for value in row) for row in self.rows)

    def to_json(self) -> list[Any]:
        """Itself as JSON has it."""
        return [self.table, self.columns, self.rows, self.key, self.newer]

    @classmethod
    def of_json(cls, told: Any) -> Self:
        """What `to_json` made."""
        table, columns, rows, key, newer = told
        return cls(table, tuple(columns), rows, tuple(key), newer)


def to_text(beside: Sequence[TableRows]) -> str | None:
    """Rows of several tables as a text; None for none."""
    return json.dumps([one.to_json() for one in beside]) if beside else None


def of_text(text: str | None) -> tuple[TableRows, ...]:
    """What `to_text` made."""
    return () if text is None else tuple(TableRows.of_json(told) for told in json.loads(text))
