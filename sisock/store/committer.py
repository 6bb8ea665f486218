"""The committing thread: appends of several callers in the same few milliseconds share one durable commit."""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sisock.beside import TableRows
from sisock.blocks import Block
from sisock.errors import Busy, LostLease, SisockError, StoreAway, StoreFull
from sisock.positions import Position
from sisock.store.database import Database, Tx
from sisock.store.keeping import Waiting, checked, counted, keep
from sisock.store.lines import Line, create, load
from sisock.store.mending import due, fold, old, retain
from sisock.store.shelf import Shelf
from sisock.times import now, to_micros

log = logging.getLogger(__name__)

# What may wait: so many jobs, so many bytes of rows. A caller who brings more waits in turn.
MAX_JOBS = 1024
MAX_BYTES = 64 << 20
# What one transaction takes in.
MAX_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a node's history: lost when another writer takes the next number.

    The epoch belongs to it, since SQLite gives the number of a node that was deleted to the next one.
    """

    node: int
    name: str
    number: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The id of an outbox's block: the outbox's own, and a number that ascends with the blocks."""

    box: str
    number: int


@dataclass(slots=True, eq=False)
class Append:
    """A block that is to be kept."""

    lease: Lease
    timeline: str
    block: Block
    lateness: float
    correct: bool
    mark: Mark | None = None
    beside: Sequence[TableRows] = ()
    done: Future[Position] = field(default_factory=Future)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return 200 + 8 * len(self.block) * (1 + len(self.block.columns)) + sum(one.size for one in self.beside)


@dataclass(slots=True, eq=False)
class Task:
    """Work on one timeline, in a transaction of its own."""

    lease: Lease
    timeline: str
    work: Callable[[Tx, Line, Waiting], Any]
    done: Future[Any] = field(default_factory=Future)
    size: int = 200


Job = Append | Task


class Again:
    """What a task answers that has more to do: it comes again, in another transaction, behind what waits by then."""


AGAIN = Again()


class Committer:
    """One thread that writes all of a process's histories in a database, in the order the jobs came."""

    def __init__(self, database: Database, shelf: Shelf) -> None:
        self._database, self._shelf = database, shelf
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        # Errors of a block after which nothing more is taken in, so that the order of blocks stays, until `go_on`.
        self.stops_at: tuple[type[BaseException], ...] = ()
        self._stopped: BaseException | None = None
        # What is known of each timeline under a lease; forgotten when a transaction fails.
        self._lines: dict[tuple[Lease, str], tuple[Line, Waiting]] = {}
        # Timelines whose retention is to be applied.
        self._retaining: set[tuple[Lease, str]] = set()
        self._thread = threading.Thread(target=self._work, name="sisock-store", daemon=True)
        self._thread.start()

    def submit(self, job: Job, *, wait: bool = True) -> None:
        """Hands in a job. While the queue is full it waits, or raises Busy."""
        with self._changed:
            while len(self._jobs) >= MAX_JOBS or (self._jobs and self._bytes + job.size > MAX_BYTES):
                if not wait:
                    raise Busy("the store's queue is full: rows come faster than the disk takes them")
                if self._closed:
                    break
                self._changed.wait()
            if self._closed:
                raise StoreAway("the store is closed")
            self._jobs.append(job)
            self._bytes += job.size
            self._changed.notify_all()

    def go_on(self) -> None:
        """Takes blocks in again after one at which it stopped; all that were handed in have their answer by then."""
        self._stopped = None

    def close(self) -> None:
        """Commits what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _take(self) -> list[Job]:
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            jobs: list[Job] = []
            while self._jobs and len(jobs) < MAX_TOGETHER and (not jobs or isinstance(self._jobs[0], Append)):
                jobs.append(self._jobs.popleft())
                self._bytes -= jobs[-1].size
                if isinstance(jobs[-1], Task):
                    break
            self._changed.notify_all()
            return jobs

    def _work(self) -> None:
        while jobs := self._take():
            self._run(jobs)
        self._lines.clear()

    def _run(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.done.running() or job.done.set_running_or_notify_cancel()]
        if self._stopped is not None:
            for job in jobs:
                job.done.set_exception(self._stopped)
            return
        results: list[tuple[Job, Any]] = []
        errors: list[tuple[Job, BaseException]] = []
        try:
            with self._database.writing() as tx:
                leases = sorted({job.lease for job in jobs}, key=lambda lease: lease.node)
                held = {lease: self._lost(tx, lease) for lease in leases}
                for at, job in enumerate(jobs):
                    lost = held[job.lease]
                    try:
                        if lost is not None:
                            raise _Refused(lost)
                        results.append((job, self._one(tx, job)))
                    except _Refused as refused:
                        if isinstance(refused.reason, self.stops_at):
                            errors += [(one, refused.reason) for one in jobs[at:]]
                            break
                        errors.append((job, refused.reason))
                _note_marks(tx, [job for job, _ in results])
        except Exception as error:  # noqa: BLE001  every error goes to those who wait for it
            self._lines.clear()
            if len(jobs) > 1 and not isinstance(error, (StoreFull, StoreAway)):
                # One of them brought it about: each is tried by itself.
                for job in jobs:
                    self._alone(job)
                return
            for job in jobs:
                self._stop(job, error)
                job.done.set_exception(error)
            return
        for job, reason in errors:
            self._stop(job, reason)
        self._hand_on(results, errors)

    def _stop(self, job: Job, error: BaseException) -> None:
        """Takes nothing more in, if this is what it stops at; a task's own error is no block's."""
        if isinstance(error, self.stops_at) and (isinstance(job, Append) or isinstance(error, StoreAway)):
            self._stopped = error

    def _alone(self, job: Job) -> None:
        if self._stopped is not None:
            job.done.set_exception(self._stopped)
            return
        try:
            with self._database.writing() as tx:
                lost = self._lost(tx, job.lease)
                if lost is not None:
                    raise lost
                result = self._one(tx, job)
                _note_marks(tx, [job])
        except _Refused as refused:
            self._stop(job, refused.reason)
            job.done.set_exception(refused.reason)
        except Exception as error:  # noqa: BLE001
            self._lines.clear()
            self._stop(job, error)
            job.done.set_exception(error)
        else:
            job.done.set_result(result)

    def _hand_on(self, results: list[tuple[Job, Any]], errors: list[tuple[Job, BaseException]]) -> None:
        for job, error in errors:
            job.done.set_exception(error)
        for job, result in results:
            if result is AGAIN:
                self._put(job)
            else:
                job.done.set_result(result)

    def _put(self, job: Job) -> None:
        """Puts a task behind what waits, also where that is much."""
        with self._changed:
            self._jobs.append(job)
            self._bytes += job.size

    def _lost(self, tx: Tx, lease: Lease) -> LostLease | None:
        lock = " FOR UPDATE" if self._database.engine == "postgresql" else ""
        row = tx.one(f"SELECT lease FROM nodes WHERE id = ? AND epoch = ?{lock}", lease.node, lease.epoch)
        if row is not None and row[0] == lease.number:
            return None
        for key in [key for key in self._lines if key[0] == lease]:
            del self._lines[key]
        return LostLease(f"another process writes the history of {lease.name!r} now, so nothing was kept. Stop one of the two.")

    def _one(self, tx: Tx, job: Job) -> Any:
        line, waiting = self._line(tx, job.lease, job.timeline)
        if isinstance(job, Task):
            return job.work(tx, line, waiting)
        try:
            kinds = checked(line, job.block, job.lateness, job.correct)
        except SisockError as error:
            # Nothing was written for it, so the others are kept.
            raise _Refused(error) from error
        sealed = line.sealed
        position = keep(tx, self._shelf, line, waiting, job.block, kinds, job.lateness)
        for rows in job.beside:
            tx.many(rows.statement, rows.rows)
        if due(waiting):
            fold(tx, self._shelf, line, waiting)
        if (line.keep or line.coarse_after) and (line.sealed != sealed or old(line, waiting, to_micros(now()))):
            self._retain_soon(job.lease, job.timeline)
        return position

    def _retain_soon(self, lease: Lease, timeline: str) -> None:
        """Applies the timeline's retention, in transactions of its own: what it meets does not keep a block from being kept."""

        def work(tx: Tx, line: Line, waiting: Waiting) -> int | Again:
            touched, more = retain(tx, self._shelf, line, waiting, to_micros(now()))
            return AGAIN if more else touched

        def tell(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None and not isinstance(error, (LostLease, StoreAway)):
                log.warning("%s: old rows of %s stay for now: %s", lease.name, timeline, error)

        if (lease, timeline) not in self._retaining:
            self._retaining.add((lease, timeline))
            job = Task(lease, timeline, work)
            job.done.add_done_callback(lambda _: self._retaining.discard((lease, timeline)))
            job.done.add_done_callback(tell)
            self._put(job)

    def _line(self, tx: Tx, lease: Lease, timeline: str) -> tuple[Line, Waiting]:
        known = self._lines.get((lease, timeline))
        if known is None:
            line = load(tx, lease.node, lease.name, timeline) or create(tx, lease.node, timeline)
            known = self._lines[lease, timeline] = line, counted(tx, line)
        return known


def _note_marks(tx: Tx, jobs: list[Job]) -> None:
    """Writes the last block of each outbox that this transaction takes in; of one outbox they come in order."""
    last = {(job.lease.node, job.mark.box): job.mark.number for job in jobs if isinstance(job, Append) and job.mark}
    for (node, box), number in last.items():
        tx.run(
            "INSERT INTO applied (node, box, number) VALUES (?, ?, ?) "
            "ON CONFLICT (node, box) DO UPDATE SET number = excluded.number",
            *(node, box, number),
        )


class _Refused(Exception):
    """A job that cannot be done, with nothing written for it."""

    def __init__(self, reason: SisockError) -> None:
        super().__init__(reason)
        self.reason = reason
