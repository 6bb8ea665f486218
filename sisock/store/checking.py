"""Checking: what of a store can be read; and copying it, to the other engine or away from a damaged file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sisock.blocks import Block
from sisock.errors import SisockError, StoreDamaged
from sisock.store import schema
from sisock.store.database import Tx
from sisock.store.layers import EMPTY, overlay
from sisock.store.lines import Line, Meta, load_all, metas
from sisock.store.packing import kind_of
from sisock.store.pyramid import cells_of
from sisock.store.store import Store
from sisock.times import EARLIEST, LATEST, iso, to_seconds

# Called with a node, a timeline, how many of its chunks are done and how many there are.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A part that cannot be read: of a field, or all fields where it is None, from `start` to `end` in microseconds."""

    node: str
    timeline: str
    field: str | None
    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        what = "all fields" if self.field is None else repr(self.field)
        return f"{self.node} {self.timeline}: {what} from {_shown(self.start)} to {_shown(self.end)}: {self.reason}"


def _shown(t: int) -> str:
    return iso(to_seconds(t)) if abs(t) < 2**57 else "the end"


@dataclass
class Report:
    """What a check found: what the engine itself says is wrong, what is lost, how many rows can be read."""

    engine: list[str] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    rows: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.engine and not self.damage


def check(store: Store, progress: Progress | None = None) -> Report:
    """Reads all there is, and holds the pyramid to the rows below it."""
    report = Report(_engine(store))
    for _ in _readable(store, report, progress, pyramid=True):
        pass
    return report


def copy(source: Store, target: Store, progress: Progress | None = None) -> Report:
    """Copies all that can be read into another store, with its retention; the report names what could not be.

    It may be interrupted and begun again: what is there already is written once more over itself.
    """
    report = Report()
    writers = {}
    for node, line, block in _readable(source, report, progress):
        if node not in writers:
            writers[node] = target.node(node)
        if len(block):
            writers[node].append(line.name, block, correct=True).result()
    for node, history in writers.items():
        for name in history.timelines():
            history.compact(name).result()
        with source.database.reading() as tx:
            for line in _lines(tx, node):
                ages = [None if one is None else to_seconds(one) for one in (line.keep, line.coarse_after, line.coarse_step)]
                if any(age is not None for age in ages):
                    history.retain(line.name, *ages).result()
    return report


def beside(store: Store) -> list[str]:
    """The tables that nodes keep beside their histories, which `copy` does not take along."""
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        if store.database.engine == "sqlite"
        else "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    own = schema.tables(store.database.engine).tables
    with store.database.reading() as tx:
        found = sorted(str(name) for (name,) in tx.rows(names))
    return [name for name in found if name not in own and not name.endswith("_version")]


def _engine(store: Store) -> list[str]:
    if store.database.engine != "sqlite":
        return []
    try:
        with store.database.reading() as tx:
            said = [str(text) for (text,) in tx.rows("PRAGMA integrity_check(20)")]
    except StoreDamaged as error:
        return [str(error)]
    return [] if said == ["ok"] else said


def _lines(tx: Tx, node: str) -> list[Line]:
    row = tx.one("SELECT id FROM nodes WHERE name = ?", node)
    return [] if row is None else load_all(tx, int(row[0]))


def _readable(
    store: Store, report: Report, progress: Progress | None, *, pyramid: bool = False
) -> Iterator[tuple[str, Line, Block]]:
    """Rows of all timelines, a chunk's time at once, each in a transaction of its own."""
    for node in store.nodes():
        with store.database.reading() as tx:
            lines = _lines(tx, node)
        for line in lines:
            for done, total, start, end in _ranges(store, report, node, line):
                with store.database.reading() as tx:
                    block = _rows(tx, store, report, node, line, start, end, pyramid)
                report.rows += len(block)
                yield node, line, block
                if progress is not None:
                    progress(node, line.name, done, total)


def _ranges(store: Store, report: Report, node: str, line: Line) -> list[tuple[int, int, int, int]]:
    try:
        with store.database.reading() as tx:
            firsts = [chunk.first for chunk in metas(tx, line, EARLIEST, LATEST)]
    except StoreDamaged as error:
        report.damage.append(Damage(node, line.name, None, EARLIEST, LATEST, str(error)))
        return []
    edges = [EARLIEST, *firsts[1:], LATEST]
    return [(at + 1, len(edges) - 1, edges[at], edges[at + 1]) for at in range(len(edges) - 1)]


def _rows(tx: Tx, store: Store, report: Report, node: str, line: Line, start: int, end: int, pyramid: bool) -> Block:
    layers = [_chunk(tx, store, report, node, line, chunk, pyramid) for chunk in metas(tx, line, start, end)]
    for patch, seq, first, last in tx.rows(
        "SELECT patch, seq, first, last FROM blocks WHERE timeline = ? AND last >= ? AND first < ? ORDER BY seq, patch",
        *(line.id, start, end),
    ):
        try:
            found = store.shelf.blocks(tx, line, patch=bool(patch), after=seq - 1, upto=seq)
            layers += [stored.block.between(start, end) for stored in found]
        except SisockError as error:
            report.damage.append(Damage(node, line.name, None, first, last, f"a block that is not sealed: {error}"))
    return overlay(layers, line.kinds)


def _chunk(tx: Tx, store: Store, report: Report, node: str, line: Line, chunk: Meta, pyramid: bool) -> Block:
    def lost(name: str | None, error: Exception) -> None:
        report.damage.append(Damage(node, line.name, name, chunk.first, chunk.last, str(error)))

    try:
        t = store.shelf.read_chunks(tx, line, {}, [chunk]).t
    except SisockError as error:
        lost(None, error)
        return EMPTY
    columns = {}
    for name, kind in line.kinds.items():
        try:
            columns[name] = store.shelf.read_chunks(tx, line, {name: kind}, [chunk]).columns[name]
            if pyramid:
                _pyramid(tx, store, line, chunk, Block(t, {name: columns[name]}), name)
        except SisockError as error:
            lost(name, error)
    return Block(t, columns)


def _pyramid(tx: Tx, store: Store, line: Line, chunk: Meta, block: Block, name: str) -> None:
    found = dict(store.shelf.items(tx, line.ids[name], 0, [chunk.ord])).get(chunk.ord)
    column = block.columns[name]
    if column.valid is not None and not column.valid.any():
        return
    expected = cells_of(block.t, column)
    if found is None or len(found) != len(expected):
        raise StoreDamaged("the pyramid lacks a row; compact the timeline to make it anew")
    names = ["start", "end", "rows", "nulls", "nans", "min_t", "max_t"]
    if kind_of(column) != "f" or found.dtype == expected.dtype:
        names += ["min", "max"]
    if not all(np.array_equal(found[one], expected[one]) for one in names):
        raise StoreDamaged("the pyramid does not agree with the rows below it")
