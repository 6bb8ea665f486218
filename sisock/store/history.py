"""One node's history in a store: what is written to it, and what is read of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from sisock.beside import TableRows
from sisock.blocks import Block
from sisock.errors import LostLease, SisockError
from sisock.history import Changes, Tail
from sisock.positions import Position
from sisock.store.cells import Index
from sisock.store.committer import AGAIN, Again, Append, Lease, Mark, Task
from sisock.store.database import Tx
from sisock.store.growing import grow_anew
from sisock.store.keeping import SEAL_ROWS, Waiting, save, seal
from sisock.store.lines import Line, load
from sisock.store.mending import PORTION, delete, fold, join_small, retain
from sisock.store.overview import Overview, overview
from sisock.store.reading import changes, count, first_from, last_before, page_end, read, span
from sisock.store.windowing import window
from sisock.times import EARLIEST, LATEST, MICROS, Micros, now, to_micros
from sisock.uris import check_field_name
from sisock.windows import WindowMethod, Windows

if TYPE_CHECKING:
    from sisock.store.store import Store

# Rows of a page, unless the reader says otherwise.
PAGE_ROWS = 1 << 18
# More rows than this are no answer to "what changed": the reader reads anew.
MAX_CHANGES = 1_000_000


class NodeHistory:
    """One node's history. Times are whole microseconds, as in blocks; safe to use from any thread."""

    def __init__(self, store: Store, name: str, node: int, epoch: str, lease: Lease | None) -> None:
        self.store, self.name, self.epoch = store, name, epoch
        self._node, self._lease = node, lease
        self._shelf, self._database = store.shelf, store.database

    # Writing

    def append(
        self,
        timeline: str,
        block: Block,
        *,
        lateness: float = 0.0,
        correct: bool = False,
        wait: bool = True,
        mark: Mark | None = None,
        beside: Sequence[TableRows] = (),
    ) -> Future[Position]:
        """Keeps a block; the Future has its position when it is durably there.

        At a time that is there already the fields that the block names are replaced, the others stay; a null erases.
        The Future raises LateRow for a row older than `newest - lateness` unless `correct`, InvalidArgument for a
        value of another type than its field's, LostLease when another process writes this node now, StoreFull and
        StoreAway; nothing of the block is kept then. A full queue blocks, or raises Busy without `wait`. A `mark` is
        noted in the block's own transaction, for `applied`; so is what is to stand in the node's own tables `beside` it.
        """
        check_field_name(timeline, "timeline")
        for name in block.columns:
            check_field_name(name)
        job = Append(self._writing(), timeline, block, lateness, correct, mark, beside)
        self.store.committer.submit(job, wait=wait)
        return job.done

    def delete(self, timeline: str, start: int, end: int) -> Future[Position]:
        """Deletes the rows in [start, end), in portions; those who follow hear of each as a revision."""
        at = start

        def work(tx: Tx, line: Line, waiting: Waiting) -> Position | Again:
            nonlocal at
            at = delete(tx, self._shelf, line, waiting, at, end)
            return Position(line.epoch, line.seq) if at >= end else AGAIN

        return self._task(timeline, work)

    def retain(
        self, timeline: str, keep: float | None = None, coarse_after: float | None = None, coarse_step: float | None = None
    ) -> Future[int]:
        """Sets how long rows are kept, in seconds, and applies it: now, and whenever rows are sealed.

        Rows older than `keep` go, a chunk or a block of the tail at a time. Of rows older than `coarse_after` only those
        stay that hold the extremes of each `coarse_step`, so that an overview of them still is true. Ages count from the
        newest row. The Future has how many chunks and blocks were touched.
        """
        touched: int | None = None

        def work(tx: Tx, line: Line, waiting: Waiting) -> int | Again:
            nonlocal touched
            if touched is None:
                set_ages(tx, line)
            some, more = retain(tx, self._shelf, line, waiting, to_micros(now()))
            touched = (touched or 0) + some
            return AGAIN if more else touched

        def set_ages(tx: Tx, line: Line) -> None:
            line.keep, line.coarse_after, line.coarse_step = (
                None if one is None else to_micros(one) for one in (keep, coarse_after, coarse_step)
            )
            tx.run(
                "UPDATE timelines SET keep = ?, coarse_after = ?, coarse_step = ? WHERE id = ?",
                *(line.keep, line.coarse_after, line.coarse_step, line.id),
            )

        return self._task(timeline, work)

    def compact(self, timeline: str) -> Future[int]:
        """Seals what waits, folds patches in, joins small chunks and makes anew what the pyramid lacks.

        The Future has how many chunks were joined.
        """
        joined, fields, begun = 0, list[str](), False

        def work(tx: Tx, line: Line, waiting: Waiting) -> int | Again:
            nonlocal joined, fields, begun
            if not begun:
                fold(tx, self._shelf, line, waiting)
                if waiting.rows and line.newest is not None:
                    seal(tx, self._shelf, line, waiting, None, LATEST)
                    save(tx, line)
            if not fields:
                begun = True
                some, more = join_small(tx, self._shelf, line)
                joined += some
                if more:
                    return AGAIN
                fields = list(line.ids)
            looked = 0
            while fields and looked < 64 * PORTION:
                looked += grow_anew(tx, self._shelf, line, fields.pop())
            return AGAIN if fields else joined

        return self._task(timeline, work)

    def _task(self, timeline: str, work: Callable[[Tx, Line, Waiting], Any]) -> Future[Any]:
        job = Task(self._writing(), timeline, work)
        self.store.committer.submit(job)
        return job.done

    def _writing(self) -> Lease:
        if self._lease is None:
            raise SisockError(f"the history of {self.name!r} was opened to be read; Store.node opens it to be written")
        return self._lease

    def applied(self) -> dict[str, int]:
        """The number of the last block of each outbox that was taken in."""
        with self._database.reading() as tx:
            return {
                str(box): int(number) for box, number in tx.rows("SELECT box, number FROM applied WHERE node = ?", self._node)
            }

    def forget_applied(self, boxes: Iterable[str]) -> None:
        """Forgets outboxes that will send no block again."""
        with self._database.writing() as tx:
            tx.many("DELETE FROM applied WHERE node = ? AND box = ?", [(self._node, box) for box in boxes])

    def release(self) -> None:
        """Says in the store that this process writes the node no more, so that others need not ask for it."""
        with self._database.writing() as tx:
            lease = self._writing()
            tx.run(
                "UPDATE nodes SET holder = NULL WHERE id = ? AND lease = ? AND epoch = ?",
                *(lease.node, lease.number, lease.epoch),
            )

    def begin_anew(self) -> NodeHistory:
        """Gives the history a new epoch, under this writer's lease, and the history as it is from then on."""
        lease = self._writing()
        epoch = uuid4().hex
        with self._database.writing() as tx:
            if not tx.run(
                "UPDATE nodes SET epoch = ?, lease = lease + 1 WHERE id = ? AND lease = ? AND epoch = ?",
                *(epoch, lease.node, lease.number, lease.epoch),
            ):
                raise LostLease(f"another process writes the history of {self.name!r} now")
        return NodeHistory(self.store, self.name, self._node, epoch, Lease(self._node, self.name, lease.number + 1, epoch))

    @property
    def number(self) -> int:
        """The number of this writer's lease."""
        return self._writing().number

    @property
    def node(self) -> int:
        """The number of the node in its store."""
        return self._node

    # Reading

    def timelines(self) -> list[str]:
        """Names of the timelines that have come."""
        with self._database.reading() as tx:
            return [
                name
                for (name,) in tx.rows(
                    "SELECT t.name FROM timelines t JOIN nodes n ON n.id = t.node WHERE n.id = ? AND n.name = ? ORDER BY t.id",
                    *(self._node, self.name),
                )
            ]

    def fields(self, timeline: str) -> list[str]:
        """Names of the fields of a timeline."""
        with self._database.reading() as tx:
            return list(self._load(tx, timeline).kinds)

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end) with those of the fields that are there, and the position they reach, of one moment."""
        with self._database.reading() as tx:
            line = self._load(tx, timeline)
            return read(tx, self._shelf, line, fields, start, end), Position(line.epoch, line.seq)

    def pages(
        self, timeline: str, fields: Sequence[str], start: int = EARLIEST, end: int = LATEST, rows: int = PAGE_ROWS
    ) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end) in pages of about `rows`, each of one moment; no transaction spans two pages."""
        while start < end:
            with self._database.reading() as tx:
                line = self._load(tx, timeline)
                after = page_end(tx, line, start, end, rows)
                block = read(tx, self._shelf, line, fields, start, after)
            if len(block):
                yield block, Position(line.epoch, line.seq)
            start = after

    def overview(self, timeline: str, fields: Iterable[str], start: int, end: int, max_points: int) -> Overview:
        """Each field in at most `max_points` rows of [start, end), with every pixel's extremes at their true times."""
        with self._database.reading() as tx:
            line = self._load(tx, timeline)
            shown = overview(tx, self._shelf, line, fields, start, end, max_points)
            return Overview(shown, Position(line.epoch, line.seq))

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """The overview as rows of the history: where one field's extreme stands, the others have their own values."""
        shown = self.overview(timeline, fields, start, end, max_points)
        parts = [part for part in shown.fields.values() if len(part)]
        if len(parts) < 2:
            return shown.block()
        times = np.unique(np.concatenate([part.t for part in parts]))
        return self.last_before(timeline, fields, times)[0]

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says."""
        with self._database.reading() as tx:
            return window(tx, self._shelf, self._load(tx, timeline), fields, windows, method)

    def count(self, timeline: str, start: int, end: int) -> int:
        """About how many rows there are in [start, end): exact but for patches that wait to be folded in."""
        with self._database.reading() as tx:
            return count(tx, self._shelf, self._load(tx, timeline), start, end)

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), about how many rows there are, and the position, of one moment."""
        with self._database.reading() as tx:
            line = self._load(tx, timeline)
            last, _ = last_before(tx, self._shelf, line, fields, np.array([end - 1], np.int64))
            rows = count(tx, self._shelf, line, start, end)
            return Tail(last.between(start, end), rows, first_from(tx, line, start), Position(line.epoch, line.seq))

    def changes(
        self,
        timeline: str,
        fields: Sequence[str],
        since: Position,
        start: int = EARLIEST,
        end: int = LATEST,
        max_rows: int = MAX_CHANGES,
    ) -> Changes:
        """The rows in [start, end) that came after a position, and the ranges that they replace.

        PositionLost if the position is not of this history; TooMuch for more than `max_rows`.
        """
        with self._database.reading() as tx:
            return changes(tx, self._shelf, self._load(tx, timeline), fields, since, (start, end), max_rows)

    def last_before(self, timeline: str, fields: Iterable[str], times: Micros) -> tuple[Block, Index]:
        """The last row at or before each of these times: the rows, and which of them it is for each, -1 for none."""
        with self._database.reading() as tx:
            return last_before(tx, self._shelf, self._load(tx, timeline), fields, np.asarray(times, np.int64))

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""
        with self._database.reading() as tx:
            line = self._load(tx, timeline)
            return Position(line.epoch, line.seq)

    def span(self, timeline: str) -> tuple[int, int] | None:
        """First and last time; None if the timeline has no rows."""
        with self._database.reading() as tx:
            return span(tx, self._load(tx, timeline))

    def newest(self, timeline: str) -> int | None:
        """Last time; None if the timeline has no rows."""
        with self._database.reading() as tx:
            row = tx.one(
                "SELECT newest FROM timelines t JOIN nodes n ON n.id = t.node WHERE n.id = ? AND n.name = ? AND t.name = ?",
                *(self._node, self.name, timeline),
            )
            return None if row is None or row[0] is None else int(row[0])

    def interval(self, timeline: str) -> float | None:
        """Median spacing in seconds of the newest rows; None with fewer than two."""
        with self._database.reading() as tx:
            line = self._load(tx, timeline)
            row = tx.one("SELECT max(first) FROM chunks WHERE timeline = ?", line.id)
            start = EARLIEST if row is None or row[0] is None else int(row[0])
            t = read(tx, self._shelf, line, (), start, LATEST).t[-SEAL_ROWS:]
        return float(np.median(np.diff(t))) / MICROS if len(t) > 1 else None

    def select(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query of the node's own tables, with `?` for each parameter."""
        with self._database.reading() as tx:
            return tx.rows(sql, *parameters)

    def _load(self, tx: Tx, timeline: str) -> Line:
        return load(tx, self._node, self.name, timeline) or Line(-1, timeline, self.epoch)
