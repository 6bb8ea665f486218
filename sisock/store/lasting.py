"""A node's history that goes on when its database is away, or is another process's to write."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sisock.beside import TableRows, Tables
from sisock.blocks import Block
from sisock.errors import InvalidArgument, SisockError, StoreAway, UnknownNode
from sisock.history import Changes, Described, History, Keeping, MemoryHistory, Tail
from sisock.positions import Position
from sisock.store.boxes import Box
from sisock.store.database import Database
from sisock.store.history import NodeHistory
from sisock.store.leases import HasName, Writer, take
from sisock.store.outbox import Outbox
from sisock.store.store import Store
from sisock.windows import WindowMethod, Windows

log = logging.getLogger(__name__)

T = TypeVar("T")
# How long rows are kept, in seconds; after how long they are made coarse, and how coarse.
Ages = tuple[float | None, float | None, float | None]

# Connections: the writer's own, and the readers'.
WRITES, READS = 2, 6


def open_history(
    address: str,
    name: str,
    writer: Writer,
    folder: Path,
    changed: Callable[[Keeping], None] = lambda _: None,
    tables: Tables | None = None,
) -> tuple[History, Callable[[], None]]:
    """A node's history to write and to read, with the node's own tables, and what closes it.

    In a file it is written at once where nobody else has the lease. In PostgreSQL, or while the lease is another's, rows
    are kept in `folder` until the database is there and the lease can be had.
    """
    if Database(address).engine == "sqlite":
        store = Store.open(address, tables=tables)
        try:
            history = take(store, name, writer, lambda: None)
        except BaseException:
            store.close()
            raise
        if history is not None:
            return history, lambda: _close(store, history)
        store.close()
    lasting = LastingHistory(address, name, writer, folder, changed=changed, tables=tables)
    return lasting, lasting.close


def _close(store: Store, history: NodeHistory) -> None:
    # Whoever has taken over by now need not be told; and a disk that is full keeps nothing from ending.
    with suppress(SisockError):
        history.release()
    store.close()


class LastingHistory:
    """A node's history that takes rows in at any time. Safe to use from any thread.

    Rows go to the database while it is there and the lease is this process's; else to the box, a file in `folder`, until
    it is so. What cannot be read meanwhile raises StoreAway. `has_name` says whether this process has the node's name:
    then the lease is taken from whoever has it. `changed` is called whenever `keeping` is another.
    """

    def __init__(
        self,
        address: str,
        name: str,
        writer: Writer,
        folder: Path,
        *,
        has_name: HasName = lambda: None,
        changed: Callable[[Keeping], None] = lambda _: None,
        retry: float | None = None,
        tables: Tables | None = None,
    ) -> None:
        self._tables = tables
        self.name, self.has_name, self.changed = name, has_name, changed
        self._address, self._writer = address, writer
        # What is no address at all is not kept trying.
        database = Database(address)
        self._where = database.shown
        database.close()
        self._reading: Store | None = None
        self._lock = threading.Lock()
        self._intervals: dict[str, float | None] = {}
        self._retaining: dict[str, Ages] = {}
        self._was: Keeping | None = None
        box, others = Box.in_folder(folder)
        self._outbox = Outbox(
            box,
            self._connect,
            others=others,
            check=_check_text if database.engine == "postgresql" else lambda _: None,
            changed=self._tell,
            **({} if retry is None else {"retry": retry}),
        )

    # Writing

    def append(
        self,
        timeline: str,
        block: Block,
        *,
        lateness: float = 0.0,
        correct: bool = False,
        wait: bool = True,
        beside: Sequence[TableRows] = (),
    ) -> Future[Position]:
        """Keeps a block, in the database or on this machine's disk; the Future has its position when it is durable."""
        return self._outbox.append(timeline, block, lateness=lateness, correct=correct, wait=wait, beside=beside)

    def retain(
        self, timeline: str, keep: float | None = None, coarse_after: float | None = None, coarse_step: float | None = None
    ) -> Future[int]:
        """Sets how long rows are kept, as NodeHistory.retain does.

        While the database is away it is remembered, and set when that is back; the Future then says that nothing went.
        """
        # Until it is set: it may be told at the very moment in which the database comes or goes.
        ages = self._retaining[timeline] = keep, coarse_after, coarse_step
        history = self._outbox.history
        if history is not None:
            return self._retain(history, timeline, ages)
        done: Future[int] = Future()
        done.set_result(0)
        return done

    def _retain(self, history: NodeHistory, timeline: str, ages: Ages) -> Future[int]:
        done: Future[int] = Future()

        def set_or_kept(kept: Future[int]) -> None:
            error = kept.exception()
            if error is not None and not isinstance(error, StoreAway):
                done.set_exception(error)
                return
            if error is None and self._retaining.get(timeline) == ages:
                del self._retaining[timeline]
            done.set_result(0 if error is not None else kept.result())

        try:
            history.retain(timeline, *ages).add_done_callback(set_or_kept)
        except StoreAway:
            done.set_result(0)
        return done

    def _retain_rest(self) -> None:
        """Sets what could not be set while the database was away; called in the outbox's thread."""
        for timeline, ages in list(self._retaining.items()):
            history = self._outbox.history
            if history is not None:
                # An error is of a database that is away again, or of a lease that is another's.
                self._retain(history, timeline, ages)

    def named(self) -> None:
        """Says that this process has come by the node's name: it may write now."""
        self._outbox.try_now()

    @property
    def keeping(self) -> Keeping:
        """Whether the database is away, since when, and how many blocks wait for it."""
        return self._outbox.keeping

    def close(self) -> None:
        """Keeps what is queued, gives the lease up, and closes all there is."""
        self._outbox.close()
        with self._lock:
            self._drop()

    def _connect(self, mine: int | None) -> NodeHistory | None:
        store = Store.open(self._address, pool=WRITES, tables=self._tables)
        try:
            history = take(store, self.name, self._writer, lambda: self.has_name(), mine)  # noqa: PLW0108  it is set later
        except BaseException:
            store.close()
            raise
        if history is None:
            store.close()
        return history

    def _tell(self, keeping: Keeping) -> None:
        was, self._was = self._was, keeping
        if keeping.away and (was is None or was.away is None):
            log.warning("%s: rows are kept on this machine's disk for now: %s", self.name, keeping.away)
        elif keeping.away is None and was is not None and was.away:
            log.info("%s: rows go to %s", self.name, self._where)
        if keeping.away is None:
            self._retain_rest()
        if keeping.refused > (0 if was is None else was.refused):
            log.warning("%s: the database refused %d blocks; they stay on this machine's disk", self.name, keeping.refused)
        self.changed(keeping)

    # Reading

    def read(self, timeline: str, fields: Iterable[str], start: int, end: int) -> tuple[Block, Position]:
        """The rows in [start, end) and their position; StoreAway while the database is."""
        names = list(fields)
        return self._read(lambda history: history.read(timeline, names, start, end))

    def pages(self, timeline: str, fields: Sequence[str], start: int, end: int, rows: int) -> Iterator[tuple[Block, Position]]:
        """The rows in [start, end) in pages of about so many, each with its position."""
        yield from self._read(lambda history: history.pages(timeline, fields, start, end, rows))

    def thinned(self, timeline: str, fields: Sequence[str], start: int, end: int, max_points: int) -> Block:
        """Rows in [start, end) that hold the extremes of `max_points / 2` pixels of each field."""
        return self._read(lambda history: history.thinned(timeline, fields, start, end, max_points))

    def windowed(self, timeline: str, fields: Sequence[str], windows: Windows, method: WindowMethod) -> Block:
        """One value of each window of each field, as `sisock.windows` says."""
        return self._read(lambda history: history.windowed(timeline, fields, windows, method))

    def count(self, timeline: str, start: int, end: int) -> int:
        """About how many rows there are in [start, end)."""
        return self._read(lambda history: history.count(timeline, start, end))

    def tail(self, timeline: str, fields: Sequence[str], start: int, end: int) -> Tail:
        """The last row in [start, end), how many rows there are, and the position, of one moment."""
        return self._read(lambda history: history.tail(timeline, fields, start, end))

    def changes(self, timeline: str, fields: Sequence[str], since: Position, start: int, end: int) -> Changes:
        """The rows in [start, end) that came after a position, and the ranges that they replace."""
        return self._read(lambda history: history.changes(timeline, fields, since, start, end))

    def timelines(self) -> list[str]:
        """Names of the timelines that have come."""
        return self._read(lambda history: history.timelines())

    def fields(self, timeline: str) -> list[str]:
        """Names of the fields that the timeline has had."""
        return self._read(lambda history: history.fields(timeline) if isinstance(history, Described) else [])

    def position(self, timeline: str) -> Position:
        """How far the timeline has come."""
        return self._read(lambda history: history.position(timeline))

    def select(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query of the node's own tables; StoreAway while they cannot be read.

        What waits on this machine's disk is not in them yet.
        """
        self._refuse_reads("its tables")
        try:
            return self._store().reader(self.name).select(sql, *parameters)
        except StoreAway:
            with self._lock:
                self._drop()
            return self._store().reader(self.name).select(sql, *parameters)

    def newest(self, timeline: str) -> int | None:
        """The last time that was acknowledged; None if the timeline has no rows, as far as is known."""
        if self._outbox.writing:
            return self._read(lambda history: history.newest(timeline))
        return self._outbox.newest(timeline)

    def interval(self, timeline: str) -> float | None:
        """Median spacing in seconds; while the database is away, what it was when it last was asked for."""
        try:
            self._intervals[timeline] = self._read(lambda history: history.interval(timeline))
        except StoreAway:
            return self._intervals.get(timeline)
        return self._intervals[timeline]

    def _read(self, read: Callable[[History], T]) -> T:
        """What the database has to say; StoreAway while it is away, or has not yet all that was acknowledged."""
        self._refuse_reads("history")
        try:
            return read(self._reader())
        except StoreAway:
            # Its connections were broken by a server that has been back since, or it is away.
            with self._lock:
                self._drop()
            return read(self._reader())

    def _refuse_reads(self, what: str) -> None:
        """Raises StoreAway where the database would answer with a part of what was acknowledged."""
        trouble = self._outbox.trouble
        if isinstance(trouble, StoreAway) or (trouble is not None and self._outbox.waiting):
            raise StoreAway(f"{self.name}: {what} cannot be read now, and rows go on being kept: {trouble}") from trouble

    def _store(self) -> Store:
        with self._lock:
            if self._reading is None:
                self._reading = Store.open(self._address, pool=READS, tables=self._tables)
            return self._reading

    def _reader(self) -> History:
        try:
            return self._store().reader(self.name)
        except UnknownNode:
            # It has no history in the database yet, so there is nothing to read.
            return MemoryHistory()

    def _drop(self) -> None:
        store, self._reading = self._reading, None
        if store is not None:
            store.close()


def _check_text(block: Block) -> None:
    """InvalidArgument for what PostgreSQL would not keep, said before it is acknowledged."""
    for name, column in block.columns.items():
        if column.type == "string" and any(text is not None and "\0" in text for text in column.values.tolist()):
            raise InvalidArgument(f"{name}: PostgreSQL keeps no text with the character NUL")
