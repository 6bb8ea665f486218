"""The files of outboxes: blocks that wait for a database, and what is known of its numbers.

A node's folder of boxes has a file for each process that needs one at the same time; nearly always that is one file.
What a process left in its file the next one hands over.
"""

# ruff: noqa: S608  the names in these statements are our own
from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from sisock.beside import TableRows, of_text, to_text
from sisock.blocks import Block
from sisock.errors import StoreDamaged, StoreFull
from sisock.positions import Position
from sisock.store.committer import Mark
from sisock.store.database import Database, Tx
from sisock.store.lines import Line
from sisock.store.packing import pack, unpack
from sisock.times import now

log = logging.getLogger(__name__)

# Bytes of a file above which it is made anew when nothing waits in it.
LARGE = 16 << 20

# A block that is to wait: its timeline, the position that is acknowledged, its id, its rows, and what goes beside it.
Waits = tuple[str, Position, Mark, Block, Sequence[TableRows]]

_COLUMNS = "timeline, epoch, seq, box, number, names, data, beside"
_BLOCK = (
    "id INTEGER PRIMARY KEY, timeline TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, "
    "box TEXT NOT NULL, number INTEGER NOT NULL, names TEXT NOT NULL, data BLOB NOT NULL, beside TEXT"
)
_TABLES = {
    "waiting": _BLOCK,
    "refused": f"{_BLOCK}, reason TEXT NOT NULL",
    "known": "timeline TEXT PRIMARY KEY, seq INTEGER NOT NULL, newest INTEGER, kinds TEXT NOT NULL",
    # `epoch`: the one of the numbers in `known`, empty where the database may have gone on since; `runs`: the ids that
    # the database may know; `moved`: whether a block was given another position than was acknowledged; `since`: when
    # the first of those that wait came.
    "state": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A block that waits: its place in the file, the position that was acknowledged, and its id.

    A block that cannot be read any more is the error that says so.
    """

    key: int
    timeline: str
    position: Position
    mark: Mark
    block: Block | StoreDamaged
    beside: tuple[TableRows, ...] = ()


class Box:
    """One file of an outbox, for one process: another may not open it meanwhile."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(self._lock, LOCK_EX | LOCK_NB)
            self._file = self._opened()
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def in_folder(cls, folder: Path) -> tuple[Self, list[Self]]:
        """A file of this folder for this process, and the others there that no process has open now."""
        found: list[Self] = []
        for path in sorted(folder.glob("*.db")):
            try:
                found.append(cls(path))
            except BlockingIOError:
                continue
            except StoreDamaged as error:
                # It stays as it is, for whoever mends it; `sisock doctor` names it.
                log.error("%s is left as it is, and another file is begun: %s", path, error)
        # The one with the most in it knows the most; the others need only be handed over.
        found.sort(key=lambda box: box.waiting, reverse=True)
        for number in count(1):
            if found:
                break
            with suppress(BlockingIOError, StoreDamaged):
                found.append(cls(folder / f"{number}.db"))
        return found[0], found[1:]

    def _opened(self) -> Database:
        """Opens the file, makes its tables where there are none, and reads what is known."""
        file = Database(self.path, pool=2)
        try:
            with file.writing() as tx:
                for table, columns in _TABLES.items():
                    tx.run(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
                for table in ("waiting", "refused"):
                    # A file of an earlier release has nothing beside its blocks.
                    if "beside" not in {row[1] for row in tx.rows(f"PRAGMA table_info({table})")}:
                        tx.run(f"ALTER TABLE {table} ADD COLUMN beside TEXT")
                state = dict(tx.rows("SELECT name, value FROM state"))
                known = tx.rows("SELECT timeline, seq, newest, kinds FROM known")
                self.waiting, self.refused = (
                    int(tx.known(f"SELECT count(*) FROM {table}")[0]) for table in ("waiting", "refused")
                )
        except BaseException:
            file.close()
            raise
        # Up to where blocks are handed over that could not be crossed off, since the disk is full.
        self._handed = 0
        self.runs: list[str] = json.loads(state.get("runs", "[]"))
        self.moved = bool(state.get("moved"))
        self.since = float(state["since"]) if state.get("since") else None
        exact = bool(state.get("epoch"))
        # Numbers that the database may have given since to other blocks are not given again in its epoch.
        self.epoch = str(state["epoch"]) if exact else uuid4().hex
        self.lines = {
            name: Line(0, name, self.epoch, seq if exact else 0, newest=newest, kinds=json.loads(kinds))
            for name, seq, newest, kinds in known
        }
        return file

    def add_run(self, run: str) -> None:
        """Notes the id of a run of the outbox, which the file knows before the database hears of it."""
        self.runs = [*self.runs, run]

    def put(self, blocks: Sequence[Waits], lines: Mapping[str, Line], epoch: str) -> None:
        """Commits blocks and what goes beside them, durably, and how far these lines came with them."""
        since = self.since or now()
        with self._file.writing() as tx:
            for timeline, position, mark, block, beside in blocks:
                names = list(block.columns)
                tx.run(
                    f"INSERT INTO waiting ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    *(timeline, position.epoch, position.seq, mark.box, mark.number, json.dumps(names)),
                    pack(block, {name: at for at, name in enumerate(names)}),
                    to_text(beside),
                )
            _know(tx, lines.values())
            _set(tx, "epoch", epoch)
            _set(tx, "since", repr(since))
            _set(tx, "runs", json.dumps(self.runs))
        self.since = since
        self.waiting += len(blocks)

    def know(self, lines: Mapping[str, Line], epoch: str) -> None:
        """Notes how far the database came, all of it: what the file knew before does not count any more."""
        with self._file.writing() as tx:
            tx.run("DELETE FROM known")
            _know(tx, lines.values())
            _set(tx, "epoch", epoch)

    def first(self, most: int, most_bytes: int) -> list[Kept]:
        """The blocks that wait longest: at most so many, and one at least."""
        with self._file.reading() as tx:
            sizes = tx.rows(
                "SELECT id, length(data) + coalesce(length(beside), 0) FROM waiting WHERE id > ? ORDER BY id LIMIT ?",
                *(self._handed, most),
            )
            upto, held = 0, 0
            for key, size in sizes:
                held += size
                if upto and held > most_bytes:
                    break
                upto = key
            rows = tx.rows(f"SELECT id, {_COLUMNS} FROM waiting WHERE id > ? AND id <= ? ORDER BY id", self._handed, upto)
        return [
            Kept(key, timeline, Position(epoch, seq), Mark(box, number), _block(data, names), of_text(beside))
            for key, timeline, epoch, seq, box, number, names, data, beside in rows
        ]

    def done(self, upto: int, count: int, refused: Sequence[tuple[int, str]], *, moved: bool) -> None:
        """Crosses off `count` blocks up to a place; those that the database refused are kept beside, with the reason.

        A full disk does not keep what waits from being handed over: then it is only remembered how far that came.
        """
        try:
            with self._file.writing() as tx:
                for key, reason in refused:
                    tx.run(
                        f"INSERT INTO refused ({_COLUMNS}, reason) SELECT {_COLUMNS}, ? FROM waiting WHERE id = ?",
                        *(reason, key),
                    )
                tx.run("DELETE FROM waiting WHERE id <= ?", upto)
                if moved:
                    _set(tx, "moved", "1")
                if count == self.waiting:
                    _set(tx, "since", "")
        except StoreFull:
            if refused:
                raise
            self._handed = upto
        self.moved = self.moved or moved
        self.refused += len(refused)
        self.waiting -= count
        if not self.waiting:
            self.since = None

    def settle(self, runs: list[str]) -> None:
        """Notes that nothing waits, that the database counts alone from here on, and which ids it still may know.

        A file that has grown is made anew, which gives its room back; so is one on a full disk.
        """
        if not self.refused and (self._handed or self.path.stat().st_size > LARGE):
            self._make_anew()
        try:
            self._note(runs)
        except StoreFull:
            if self.refused:
                raise
            self._make_anew()
            self._note(runs)
        self.runs, self.moved = runs, False

    def _note(self, runs: list[str]) -> None:
        with self._file.writing() as tx:
            _set(tx, "runs", json.dumps(runs))
            _set(tx, "moved", "")
            _set(tx, "epoch", "")

    def _make_anew(self) -> None:
        self._file.close()
        self._unlink()
        self._file = self._opened()

    def _unlink(self) -> None:
        # The file before its log, which is nothing without it.
        for path in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file, and lets others have it."""
        self._file.close()
        os.close(self._lock)

    def remove(self) -> None:
        """Closes the file and deletes it, if nothing that anybody may miss is in it."""
        self._file.close()
        if not self.waiting and not self.refused:
            # Not its lock: another process may have opened that by now, and a third would make one of its own.
            self._unlink()
        os.close(self._lock)


@dataclass(frozen=True, slots=True)
class Contents:
    """What waits in a folder of boxes: how many blocks, since when (UNIX seconds), how many a database refused."""

    waiting: int
    since: float | None
    refused: int


def contents(folder: Path) -> Contents:
    """What waits in a folder of boxes, whether or not processes have them open."""
    waiting, refused, since = 0, 0, []
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            try:
                waiting += file.execute("SELECT count(*) FROM waiting").fetchone()[0]
                refused += file.execute("SELECT count(*) FROM refused").fetchone()[0]
                since += [float(value) for (value,) in file.execute("SELECT value FROM state WHERE name = 'since'") if value]
            except sqlite3.OperationalError as error:
                # A file that is only just being made has no tables yet.
                if "no such table" not in str(error):
                    raise
    return Contents(waiting, min(since, default=None), refused)


def _block(data: bytes, names: str) -> Block | StoreDamaged:
    try:
        return unpack(data, dict(enumerate(json.loads(names))))
    except StoreDamaged as error:
        return error


def _know(tx: Tx, lines: Iterable[Line]) -> None:
    tx.many(
        "INSERT OR REPLACE INTO known (timeline, seq, newest, kinds) VALUES (?, ?, ?, ?)",
        [(line.name, line.seq, line.newest, json.dumps(line.kinds)) for line in lines],
    )


def _set(tx: Tx, name: str, value: Any) -> None:
    tx.run("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)", name, value)
