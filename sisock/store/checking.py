"""Checking: what of a store can be read; and copying it, to the other engine or away from a damaged file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from sisock.blocks import Block
from sisock.errors import SisockError, StoreDamaged
from sisock.store import schema
from sisock.store.database import Tx
from sisock.store.growing import agrees, numbers, parted, readable, summed
from sisock.store.layers import EMPTY, overlay
from sisock.store.lines import Line, Meta, load_all, metas
from sisock.store.packing import kind_of
from sisock.store.pyramid import FAN_BITS, STEP_BITS, TOP, cells_of
from sisock.store.store import Store
from sisock.times import EARLIEST, LATEST, iso, to_seconds

# Called with a node, a timeline, how many of its chunks are done and how many there are.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A part that cannot be read, from `start` to `end` in microseconds: of a field or, where it is None, of all fields.

    So it is of all timelines where that is None.
    """

    node: str
    timeline: str | None
    field: str | None
    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        what = "all fields" if self.field is None else repr(self.field)
        where = f"{self.node} {self.timeline or '(all timelines)'}"
        return f"{where}: {what} from {_shown(self.start)} to {_shown(self.end)}: {self.reason}"


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

    def add(self, damage: Damage) -> None:
        """Notes damage, once."""
        if damage not in self.damage:
            self.damage.append(damage)


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
        # Where they cannot be read any more the report has it already.
        with suppress(StoreDamaged), source.database.reading() as tx:
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
        try:
            with store.database.reading() as tx:
                lines = _lines(tx, node)
        except StoreDamaged as error:
            report.add(Damage(node, None, None, EARLIEST, LATEST, str(error)))
            continue
        for line in lines:
            chunks, ordered = _chunks(store, report, node, line)
            edges = [EARLIEST, *(chunk.first for chunk in chunks[1:]), LATEST]
            for at, (start, end) in enumerate(pairwise(edges)):
                block: Block | None = None
                try:
                    with store.database.reading() as tx:
                        # Those of this moment, where they can be found.
                        some = metas(tx, line, start, end) if ordered else chunks[at : at + 1]
                        block = _rows(tx, store, report, node, line, some, start, end, pyramid)
                except StoreDamaged as error:
                    # After a page that could not be read the engine also complains at the end.
                    if block is None:
                        report.add(Damage(node, line.name, None, start, end, str(error)))
                        continue
                report.rows += len(block)
                yield node, line, block
                if progress is not None:
                    progress(node, line.name, at + 1, len(edges) - 1)
            if pyramid:
                for name in line.ids:
                    _levels(store, report, node, line, name)


def _chunks(store: Store, report: Report, node: str, line: Line) -> tuple[list[Meta], bool]:
    """The chunks of a timeline, and whether they could be found by their times."""
    try:
        with store.database.reading() as tx:
            return metas(tx, line, EARLIEST, LATEST), True
    except StoreDamaged as error:
        found: dict[int, Meta] = {}
        whole = _scan(store, line, found, "ASC")
        if not whole:
            _scan(store, line, found, "DESC")
            report.add(Damage(node, line.name, None, EARLIEST, LATEST, f"of its chunks only {len(found)} are found: {error}"))
    return sorted(found.values(), key=lambda chunk: chunk.first), False


def _scan(store: Store, line: Line, found: dict[int, Meta], way: str) -> bool:
    """Looks for chunks without an index, from one end of the table up to a page that cannot be read; whether there is none."""
    if store.database.engine != "sqlite":
        return False
    columns = "ord, first, last, rows, seq_low, seq, coarse"
    query = f"SELECT {columns} FROM chunks NOT INDEXED WHERE timeline = ? ORDER BY rowid {way}"  # noqa: S608  names of ours
    try:
        with store.database.reading() as tx:
            tx.run(query, line.id)
            while row := tx.cursor.fetchone():
                found[row[0]] = Meta(*row)
    except StoreDamaged:
        return False
    return True


def _rows(
    tx: Tx, store: Store, report: Report, node: str, line: Line, chunks: Iterable[Meta], start: int, end: int, pyramid: bool
) -> Block:
    layers = [_chunk(tx, store, report, node, line, chunk, pyramid) for chunk in chunks]
    query = "SELECT patch, seq, first, last FROM blocks WHERE timeline = ? AND last >= ? AND first < ? ORDER BY seq, patch"
    try:
        with store.database.guarded():
            heads = tx.rows(query, line.id, start, end)
    except StoreDamaged as error:
        report.add(Damage(node, line.name, None, EARLIEST, LATEST, f"what is not sealed: {error}"))
        heads = []
    for patch, seq, first, last in heads:
        try:
            with store.database.guarded():
                found = store.shelf.blocks(tx, line, patch=bool(patch), after=seq - 1, upto=seq)
            layers += [stored.block.between(start, end) for stored in found]
        except SisockError as error:
            report.add(Damage(node, line.name, None, first, last, f"a block that is not sealed: {error}"))
    return overlay(layers, line.kinds)


def _levels(store: Store, report: Report, node: str, line: Line, name: str) -> None:
    """Holds each level of a field's pyramid to the one below it; the lowest is held to the rows."""
    field, kind = line.ids[name], line.kinds[name]
    try:
        with store.database.reading() as tx:
            below, _ = readable(tx, store.shelf, field, 0, numbers(tx, field, 0))
            # What lies above a row that is lost, of which is told already, cannot be known.
            unsure = [int(row) for (row,) in tx.rows("SELECT ord FROM chunk_values WHERE field = ?", field) if row not in below]
            for level in range(1, TOP + 1):
                found, damaged = readable(tx, store.shelf, field, level, numbers(tx, field, level))
                rows = {row: summed({one: below[one] for one in ones}, kind) for row, ones in parted(below, level).items()}
                unsure = list(parted(unsure, level))
                for row in sorted({*found, *damaged, *rows}):
                    if row not in unsure and not (row in found and row in rows and agrees(found[row], rows[row], kind)):
                        start, end = _span(tx, line, level, row)
                        what = "cannot be read" if row in damaged else "does not agree with the one below it"
                        reason = f"level {level} of the pyramid {what}; compact the timeline to make it anew"
                        report.add(Damage(node, line.name, name, start, end, reason))
                below = rows
    except StoreDamaged as error:
        report.add(Damage(node, line.name, name, EARLIEST, LATEST, f"the pyramid: {error}"))


def _span(tx: Tx, line: Line, level: int, row: int) -> tuple[int, int]:
    bits = STEP_BITS + FAN_BITS * level
    found = tx.known(
        "SELECT min(first), max(last) FROM chunks WHERE timeline = ? AND ord >= ? AND ord < ?",
        *(line.id, row << bits, (row + 1) << bits),
    )
    return (EARLIEST, LATEST) if found[0] is None else (int(found[0]), int(found[1]))


def _chunk(tx: Tx, store: Store, report: Report, node: str, line: Line, chunk: Meta, pyramid: bool) -> Block:
    def lost(name: str | None, error: Exception) -> None:
        report.add(Damage(node, line.name, name, chunk.first, chunk.last, str(error)))

    try:
        with store.database.guarded():
            t = store.shelf.read_chunks(tx, line, {}, [chunk]).t
    except SisockError as error:
        lost(None, error)
        return EMPTY
    columns = {}
    for name, kind in line.kinds.items():
        try:
            with store.database.guarded():
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
        raise StoreDamaged("the pyramid does not agree with the rows below it; `sisock store copy` makes it anew")
