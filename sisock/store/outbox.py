"""The outbox: where a node's rows are kept, durably, while its database does not answer.

While the database is there every block goes straight to it. When it is away blocks are committed to a small SQLite file
beside the node, checked and numbered as the database would have done; an fsync there counts as the commit. When the
database is back they are replayed in order.

Two things make that safe. Every block has an id of its own (that of this run of the outbox, and a number), which the
database notes in the block's transaction: a replay passes over what the database has taken in, and nothing else. And
positions that the file gave are told apart from those of the database wherever they may differ: a run that starts
without the database, and without knowing all that it took in, numbers in an epoch of its own; and if a replay gives a
block another position than was acknowledged, the history gets a new epoch. Readers then read anew, instead of missing rows.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import numpy as np

from sisock.blocks import Block
from sisock.errors import Busy, InvalidArgument, LateRow, LostLease, SisockError, StoreAway
from sisock.history import Position
from sisock.store.committer import Mark
from sisock.store.database import Database, Tx
from sisock.store.keeping import checked
from sisock.store.lines import Line, load_all
from sisock.store.packing import pack, unpack
from sisock.store.store import NodeHistory

# Blocks that may wait for the thread; a caller who brings more waits in turn.
MAX_WAITING = 256
# Seconds between two tries to reach a database that is away.
RETRY_SECONDS = 2.0

_COLUMNS = "timeline, epoch, seq, box, number, names, data"
_BLOCK = (
    "id INTEGER PRIMARY KEY, timeline TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, "
    "box TEXT NOT NULL, number INTEGER NOT NULL, names TEXT NOT NULL, data BLOB NOT NULL"
)
_TABLES = {
    "waiting": _BLOCK,
    "refused": f"{_BLOCK}, reason TEXT NOT NULL",
    "known": "timeline TEXT PRIMARY KEY, seq INTEGER NOT NULL, newest INTEGER, kinds TEXT NOT NULL",
    # `epoch`: the one of the numbers in `known`, empty where the database may have gone on since; `runs`: the ids that
    # the database may know; `moved`: whether a block was given another position than was acknowledged.
    "state": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
}


@dataclass(slots=True, eq=False)
class _Job:
    timeline: str
    block: Block
    lateness: float
    correct: bool
    mark: Mark | None = None
    done: Future[Position] = field(default_factory=Future)


_WAKE = _Job("", Block(np.empty(0, np.int64)), 0.0, False)


class Outbox:
    """A node's writer that goes on when its database is away. Safe to use from any thread.

    `connect` opens the node's history to be written, or raises StoreAway; it is called again when the database was away.
    """

    def __init__(self, path: str | Path, connect: Callable[[], NodeHistory], retry: float = RETRY_SECONDS) -> None:
        self._connect, self._retry = connect, retry
        self._run, self._number = uuid4().hex, 0
        self._file = Database(path, pool=2)
        self._history: NodeHistory | None = None
        self._lines: dict[str, Line] = {}
        self._lost: LostLease | None = None
        self._why: str | None = None
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        # A server that is away may take long to say so: it is asked in a thread of its own.
        self._asking = ThreadPoolExecutor(1, "sisock-outbox-connect")
        self._answer: Future[NodeHistory] | None = None
        self._next_try = monotonic() + retry
        try:
            self._load()
            self._reach(connect)
        except BaseException:
            self._file.close()
            raise
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
    def away(self) -> str | None:
        """Why the database is not written now; None while it is."""
        return self._why

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
        self._asking.shutdown()
        if self._answer is not None and self._answer.exception() is None:
            self._answer.result().store.close()
        if self._history is not None:
            with self._file.writing() as tx:
                self._save_known(tx)
        self._lose()
        self._file.close()

    def _work(self) -> None:
        ends = False
        while not ends:
            self._try_again()
            jobs: list[_Job] = []
            with suppress(queue.Empty):
                job = self._jobs.get(timeout=self._until_next_try())
                while True:
                    if job is None:
                        ends = True
                        break
                    if job is not _WAKE:
                        jobs.append(job)
                    if len(jobs) == MAX_WAITING:
                        break
                    job = self._jobs.get_nowait()
            self._keep([job for job in jobs if job.done.set_running_or_notify_cancel()])

    def _until_next_try(self) -> float | None:
        """How long to wait for blocks; None where nothing else is to be done."""
        if self._history is not None or self._lost is not None or self._answer is not None:
            return None
        return max(0.0, self._next_try - monotonic())

    def _try_again(self) -> None:
        """Asks for the database when it is time, and goes on with it when it has answered."""
        if self._history is not None or self._lost is not None:
            return
        if self._answer is None and monotonic() >= self._next_try:
            self._answer = self._asking.submit(self._connect)
            self._answer.add_done_callback(lambda _: self._wake())
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            self._next_try = monotonic() + self._retry
            try:
                self._reach(answer.result)
            except Exception as error:  # noqa: BLE001  blocks are kept here all the same, and `away` says what is wrong
                self._why = str(error)

    def _wake(self) -> None:
        # A full queue wakes the thread as well.
        with suppress(queue.Full):
            self._jobs.put_nowait(_WAKE)

    def _keep(self, jobs: list[_Job]) -> None:
        try:
            if self._lost is not None:
                raise self._lost
            for job in jobs:
                self._number += 1
                job.mark = Mark(self._run, self._number)
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
                how = {"lateness": job.lateness, "correct": job.correct, "mark": job.mark}
                sent.append((job, history.append(job.timeline, job.block, **how)))  # type: ignore[arg-type]
            except SisockError as error:
                job.done.set_exception(error)
        for job, future in sent:
            failed = future.exception()
            if isinstance(failed, StoreAway):
                self._why = str(failed)
                left.append(job)
            elif failed is not None:
                job.done.set_exception(failed)
            else:
                line, position = self._line(job.timeline), future.result()
                _mirror(line, job.block, checked(line, job.block, job.lateness, True))
                # What was deleted is counted, too.
                line.epoch, line.seq = position.epoch, position.seq
                job.done.set_result(position)
        if left:
            self._lose()
        return left

    def _store(self, jobs: list[_Job]) -> None:
        """Commits blocks to the file, numbered as the database would have."""
        kept: list[tuple[_Job, Position]] = []
        before = deepcopy(self._lines)
        try:
            with self._file.writing() as tx:
                for job in jobs:
                    line = self._line(job.timeline)
                    try:
                        kinds = checked(line, job.block, job.lateness, job.correct)
                    except SisockError as error:
                        job.done.set_exception(error)
                        continue
                    _mirror(line, job.block, kinds)
                    line.seq += 1
                    kept.append((job, Position(line.epoch, line.seq)))
                    _put(tx, job, kept[-1][1])
                self._save_known(tx)
        except BaseException:
            self._lines = before
            raise
        for job, position in kept:
            job.done.set_result(position)

    def _line(self, timeline: str) -> Line:
        if timeline not in self._lines:
            self._lines[timeline] = Line(0, timeline, self._epoch)
        return self._lines[timeline]

    def _load(self) -> None:
        with self._file.writing() as tx:
            for table, columns in _TABLES.items():
                tx.run(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            state = dict(tx.rows("SELECT name, value FROM state"))
            self._runs = [*json.loads(state.get("runs", "[]")), self._run]
            _set(tx, "runs", json.dumps(self._runs))
            known = tx.rows("SELECT timeline, seq, newest, kinds FROM known")
        exact = bool(state.get("epoch"))
        # Numbers that the database may have given since to other blocks are not given again in its epoch.
        self._epoch = str(state["epoch"]) if exact else uuid4().hex
        for name, seq, newest, kinds in known:
            self._lines[name] = Line(0, name, self._epoch, seq if exact else 0, newest=newest, kinds=json.loads(kinds))

    def _save_known(self, tx: Tx) -> None:
        tx.run("DELETE FROM known")
        for line in self._lines.values():
            tx.run(
                "INSERT INTO known (timeline, seq, newest, kinds) VALUES (?, ?, ?, ?)",
                *(line.name, line.seq, line.newest, json.dumps(line.kinds)),
            )
        _set(tx, "epoch", self._epoch)

    def _lose(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            history.store.close()

    def _reach(self, connected: Callable[[], NodeHistory]) -> None:
        """Hands over what waited, if the database is there, and writes to it from then on."""
        try:
            history = connected()
        except StoreAway as error:
            self._why = str(error)
            return
        try:
            # What comes after a commit that was not answered must not be taken in before it.
            history.store.committer.stop_when_away = True
            self._replay(history)
            if self._settle(history):
                history.store.close()
                history = self._connect()
                history.store.committer.stop_when_away = True
            with history.store.database.reading() as tx:
                lines = {line.name: line for line in load_all(tx, history.node)}
            with self._file.writing() as tx:
                # From here on the database counts alone, until it is away.
                _set(tx, "epoch", "")
        except StoreAway as error:
            self._why = str(error)
            history.store.close()
        except BaseException as error:
            history.store.close()
            if isinstance(error, LostLease):
                # Another process writes the node now: what waits stays in the file, and nothing more is taken in.
                self._lost = error
            raise
        else:
            self._lines, self._epoch = lines, history.epoch
            self._history, self._why = history, None

    def _replay(self, history: NodeHistory) -> None:
        # The lease was taken before this is read, and every append checks it: so nobody else adds to it meanwhile.
        applied = history.applied()
        while True:
            with self._file.reading() as tx:
                some = tx.rows(f"SELECT id, {_COLUMNS} FROM waiting ORDER BY id LIMIT 64")  # noqa: S608
            if not some:
                return
            futures = []
            for key, timeline, epoch, seq, box, number, names, data in some:
                if number <= applied.get(box, 0):
                    continue
                block = unpack(data, dict(enumerate(json.loads(names))))
                # It was checked when it was acknowledged.
                future = history.append(timeline, block, correct=True, mark=Mark(box, number))
                futures.append((key, Position(epoch, seq), future))
            moved, refused = False, []
            for key, position, future in futures:
                error = future.exception()
                if isinstance(error, InvalidArgument | LateRow):
                    refused.append((str(error), key))
                elif error is not None:
                    raise error
                at = None if error is not None else future.result()
                moved |= position.epoch == history.epoch and position != at
            with self._file.writing() as tx:
                for reason, key in refused:
                    tx.run(
                        f"INSERT INTO refused ({_COLUMNS}, reason) SELECT {_COLUMNS}, ? FROM waiting WHERE id = ?",  # noqa: S608
                        *(reason, key),
                    )
                tx.run("DELETE FROM waiting WHERE id <= ?", some[-1][0])
                if moved:
                    _set(tx, "moved", "1")

    def _settle(self, history: NodeHistory) -> bool:
        """What is left to do when nothing waits any more; whether the history has a new epoch and must be opened anew."""
        with self._file.reading() as tx:
            moved = tx.one("SELECT 1 FROM state WHERE name = 'moved' AND value <> ''") is not None
        history.forget_applied([run for run in self._runs if run != self._run])
        if moved:
            history.store.restored(history.name)
        self._runs = [self._run]
        with self._file.writing() as tx:
            _set(tx, "runs", json.dumps(self._runs))
            _set(tx, "moved", "")
        return moved


def _mirror(line: Line, block: Block, kinds: dict[str, str]) -> None:
    line.kinds.update(kinds)
    if len(block):
        last = int(block.t[-1])
        line.newest = last if line.newest is None else max(line.newest, last)


def _put(tx: Tx, job: _Job, position: Position) -> None:
    names = list(job.block.columns)
    data = pack(job.block, {name: at for at, name in enumerate(names)})
    key: tuple[Any, ...] = ("", 0) if job.mark is None else (job.mark.box, job.mark.number)
    tx.run(
        f"INSERT INTO waiting ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        *(job.timeline, position.epoch, position.seq, *key, json.dumps(names), data),
    )


def _set(tx: Tx, name: str, value: str) -> None:
    tx.run("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)", name, value)
