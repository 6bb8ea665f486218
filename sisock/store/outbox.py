"""The outbox: where a node's rows are kept, durably, while its database does not answer.

While the database is there every block goes straight to it. When it is away blocks are committed to a small SQLite file
beside the node, checked and numbered as the database would have done; an fsync there counts as the commit. When the
database is back they are replayed in order. A block whose fate was unknown when the connection broke has the number
that the database would have given it, so a replay sees whether it is there already.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from sisock.blocks import Block
from sisock.errors import Busy, SisockError, StoreAway
from sisock.history import Position
from sisock.store.database import Database
from sisock.store.keeping import checked
from sisock.store.lines import Line, load_all
from sisock.store.packing import pack, unpack
from sisock.store.store import NodeHistory

# Blocks that may wait for the thread; a caller who brings more waits in turn.
MAX_WAITING = 256
# Seconds between two tries to reach a database that is away.
RETRY_SECONDS = 2.0

_BLOCK = "id INTEGER PRIMARY KEY, timeline TEXT NOT NULL, seq INTEGER NOT NULL, names TEXT NOT NULL, data BLOB NOT NULL"
_LINE = "timeline TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, newest INTEGER, kinds TEXT NOT NULL"
_TABLES = {"waiting": _BLOCK, "refused": f"{_BLOCK}, reason TEXT NOT NULL", "known": _LINE}


@dataclass(slots=True, eq=False)
class _Job:
    timeline: str
    block: Block
    lateness: float
    correct: bool
    done: Future[Position] = field(default_factory=Future)


class Outbox:
    """A node's writer that goes on when its database is away. Safe to use from any thread.

    `connect` opens the node's history to be written, or raises StoreAway; it is called again when the database was away.
    """

    def __init__(self, path: str | Path, connect: Callable[[], NodeHistory], retry: float = RETRY_SECONDS) -> None:
        self._connect, self._retry = connect, retry
        self._file = Database(path, pool=2)
        with self._file.writing() as tx:
            for table, columns in _TABLES.items():
                tx.run(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        self._history: NodeHistory | None = None
        self._lines: dict[str, Line] = {}
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._load()
        self._reach()
        if self._history is None and not self._lines:
            self._file.close()
            raise StoreAway("the database is away and was never reached from here, so nothing can be numbered yet")
        self._thread = threading.Thread(target=self._work, name="sisock-outbox", daemon=True)
        self._thread.start()

    def append(
        self, timeline: str, block: Block, *, lateness: float = 0.0, correct: bool = False, wait: bool = True
    ) -> Future[Position]:
        """Keeps a block as NodeHistory.append does; the Future is done when it is durable, here or there."""
        job = _Job(timeline, block, lateness, correct)
        try:
            self._jobs.put(job, block=wait)
        except queue.Full:
            raise Busy("the outbox's queue is full") from None
        return job.done

    @property
    def waiting(self) -> int:
        """How many blocks wait here for the database."""
        return self._count("waiting")

    @property
    def refused(self) -> int:
        """How many blocks the database would not take in when they were replayed; they stay in the file."""
        return self._count("refused")

    def _count(self, table: str) -> int:
        with self._file.reading() as tx:
            return int(tx.known(f"SELECT count(*) FROM {table}")[0])  # noqa: S608  one of two names

    def close(self) -> None:
        """Keeps what is queued, and ends the thread; what waits for the database stays in the file."""
        self._jobs.put(None)
        self._thread.join()
        self._lose()
        self._file.close()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._retry if self._history is None else None)
            except queue.Empty:
                self._reach()
                continue
            if job is None:
                return
            jobs = [job]
            while len(jobs) < MAX_WAITING and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
            self._keep([job for job in jobs if job.done.set_running_or_notify_cancel()])

    def _keep(self, jobs: list[_Job]) -> None:
        try:
            if self._history is not None:
                jobs = self._hand_over(self._history, jobs)
            if jobs:
                self._store(jobs)
        except Exception as error:  # noqa: BLE001  every error goes to those who wait for it
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(error)

    def _hand_over(self, history: NodeHistory, jobs: list[_Job]) -> list[_Job]:
        """Gives blocks to the database; those that it did not answer."""
        sent: list[tuple[_Job, Future[Position]]] = []
        left: list[_Job] = []
        for job in jobs:
            try:
                how = {"lateness": job.lateness, "correct": job.correct}
                sent.append((job, history.append(job.timeline, job.block, **how)))  # type: ignore[arg-type]
            except SisockError as error:
                job.done.set_exception(error)
        for job, future in sent:
            failed = future.exception()
            if isinstance(failed, StoreAway):
                left.append(job)
            elif failed is not None:
                job.done.set_exception(failed)
            else:
                self._mirror(job, checked(self._line(job.timeline), job.block, job.lateness, True))
                job.done.set_result(future.result())
        if left:
            self._lose()
        return left

    def _store(self, jobs: list[_Job]) -> None:
        """Commits blocks to the file, numbered as the database would have."""
        kept: list[tuple[_Job, Position]] = []
        with self._file.writing() as tx:
            for job in jobs:
                line = self._line(job.timeline)
                try:
                    kinds = checked(line, job.block, job.lateness, job.correct)
                except SisockError as error:
                    job.done.set_exception(error)
                    continue
                self._mirror(job, kinds)
                names = list(job.block.columns)
                data = pack(job.block, {name: at for at, name in enumerate(names)})
                tx.run(
                    "INSERT INTO waiting (timeline, seq, names, data) VALUES (?, ?, ?, ?)",
                    *(job.timeline, line.seq, json.dumps(names), data),
                )
                kept.append((job, Position(line.epoch, line.seq)))
            for line in self._lines.values():
                tx.run(
                    "INSERT OR REPLACE INTO known (timeline, epoch, seq, newest, kinds) VALUES (?, ?, ?, ?, ?)",
                    *(line.name, line.epoch, line.seq, line.newest, json.dumps(line.kinds)),
                )
        for job, position in kept:
            job.done.set_result(position)

    def _line(self, timeline: str) -> Line:
        if timeline not in self._lines:
            epoch = next(iter(self._lines.values())).epoch if self._history is None else self._history.epoch
            self._lines[timeline] = Line(0, timeline, epoch)
        return self._lines[timeline]

    def _mirror(self, job: _Job, kinds: dict[str, str]) -> None:
        line = self._line(job.timeline)
        line.kinds.update(kinds)
        line.seq += 1
        if len(job.block):
            last = int(job.block.t[-1])
            line.newest = last if line.newest is None else max(line.newest, last)

    def _load(self) -> None:
        with self._file.reading() as tx:
            for name, epoch, seq, newest, kinds in tx.rows("SELECT timeline, epoch, seq, newest, kinds FROM known"):
                self._lines[name] = Line(0, name, epoch, seq, newest=newest, kinds=json.loads(kinds))

    def _lose(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            history.store.close()

    def _reach(self) -> None:
        """Tries to reach the database, and hands over what waited."""
        try:
            history = self._connect()
        except StoreAway:
            return
        try:
            # What comes after a commit that was not answered must not be taken in before it.
            history.store.committer.stop_when_away = True
            self._replay(history)
            with history.store.database.reading() as tx:
                self._lines = {line.name: line for line in load_all(tx, history.node)}
            self._history = history
        except StoreAway:
            history.store.close()

    def _replay(self, history: NodeHistory) -> None:
        there = {name: history.position(name).seq for name in history.timelines()}
        while True:
            with self._file.reading() as tx:
                some = tx.rows("SELECT id, timeline, seq, names, data FROM waiting ORDER BY id LIMIT 64")
            if not some:
                return
            futures = []
            for number, timeline, seq, names, data in some:
                if seq <= there.get(timeline, 0):
                    continue
                block = unpack(data, dict(enumerate(json.loads(names))))
                # It was checked when it was acknowledged.
                futures.append((number, history.append(timeline, block, correct=True)))
            refused = []
            for number, future in futures:
                error = future.exception()
                if isinstance(error, StoreAway):
                    raise error
                if error is not None:
                    refused.append((str(error), number))
            with self._file.writing() as tx:
                for reason, number in refused:
                    tx.run(
                        "INSERT INTO refused SELECT id, timeline, seq, names, data, ? FROM waiting WHERE id = ?", reason, number
                    )
                tx.run("DELETE FROM waiting WHERE id <= ?", some[-1][0])
