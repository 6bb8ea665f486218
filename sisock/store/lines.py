"""A timeline as the store knows it in one transaction: its number, how far it came, its fields."""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sisock.blocks import Block
from sisock.store.database import Tx

FIRST_ORD = 1 << 40
ORD_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A block that is not sealed: of the tail, or a patch that lies over chunks. It came in the seqs `seq_low` to `seq`."""

    patch: bool
    seq_low: int
    seq: int
    block: Block


@dataclass(frozen=True, slots=True)
class Meta:
    """What is known of a chunk without reading it."""

    ord: int
    first: int
    last: int
    rows: int
    seq_low: int
    seq: int
    coarse: int


@dataclass
class Line:
    """A timeline; `kinds` and `ids` are those of its fields."""

    id: int
    name: str
    epoch: str
    seq: int = 0
    mended: int = 0
    newest: int | None = None
    sealed: int | None = None
    keep: int | None = None
    coarse_after: int | None = None
    coarse_step: int | None = None
    dropped: int | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def life(self) -> str:
        """Names it as it is until chunks that were there change or go, and no other: numbers are given again."""
        return f"{self.id}.{self.epoch}.{self.mended}"

    @property
    def names(self) -> dict[int, str]:
        """The fields' names by their numbers."""
        return {number: name for name, number in self.ids.items()}

    def only(self, fields: Iterable[str]) -> dict[str, str]:
        """The kinds of those of these fields that there are."""
        return {name: self.kinds[name] for name in dict.fromkeys(fields) if name in self.kinds}


_COLUMNS = "t.id, t.name, n.epoch, t.seq, t.mended, t.newest, t.sealed, t.keep, t.coarse_after, t.coarse_step, t.dropped"


def load(tx: Tx, node: int, name: str, timeline: str) -> Line | None:
    """The timeline of a node as this transaction sees it; None if there is none.

    By the node's number and name: SQLite gives the number of a node that was deleted to the next one.
    """
    row = tx.one(
        f"SELECT {_COLUMNS} FROM timelines t JOIN nodes n ON n.id = t.node WHERE t.node = ? AND n.name = ? AND t.name = ?",
        *(node, name, timeline),
    )
    return None if row is None else _with_fields(tx, row)


def create(tx: Tx, node: int, timeline: str) -> Line:
    """A new timeline."""
    (number,) = tx.known("INSERT INTO timelines (node, name, seq, mended) VALUES (?, ?, 0, 0) RETURNING id", node, timeline)
    (epoch,) = tx.known("SELECT epoch FROM nodes WHERE id = ?", node)
    return Line(number, timeline, epoch)


def load_all(tx: Tx, node: int) -> list[Line]:
    """All of a node's timelines."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM timelines t JOIN nodes n ON n.id = t.node WHERE t.node = ? ORDER BY t.id", node)
    return [_with_fields(tx, row) for row in rows]


def _with_fields(tx: Tx, row: tuple[Any, ...]) -> Line:
    line = Line(*row)
    for number, name, kind in tx.rows("SELECT id, name, kind FROM fields WHERE timeline = ? ORDER BY id", line.id):
        line.ids[name], line.kinds[name] = number, kind
    return line


def metas(tx: Tx, line: Line, start: int, end: int, most: int | None = None) -> list[Meta]:
    """The chunks that may have rows in [start, end); of the first `most` from `start` on, where that is given."""
    limit = "" if most is None else f" LIMIT {most}"
    rows = tx.rows(
        "SELECT ord, first, last, rows, seq_low, seq, coarse FROM chunks WHERE timeline = ? AND first < ? AND first >= "
        f"COALESCE((SELECT max(first) FROM chunks WHERE timeline = ? AND first <= ?), ?) ORDER BY first{limit}",
        *(line.id, end, line.id, start, start),
    )
    return [meta for meta in (Meta(*row) for row in rows) if meta.last >= start]
