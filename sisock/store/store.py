"""A store: which nodes have a history in it, who may write it, and how one goes away."""

# ruff: noqa: S608  the names in these statements are our own, and so are the numbers
from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from sisock.beside import Tables
from sisock.errors import LostLease, UnknownNode
from sisock.store.committer import Committer, Lease
from sisock.store.database import Database
from sisock.store.history import NodeHistory
from sisock.store.leases import Tenure, Writer
from sisock.store.mending import PORTION
from sisock.store.migrations import upgrade
from sisock.store.postgres import PostgresShelf
from sisock.store.shelf import Shelf
from sisock.store.sqlite import SqliteShelf
from sisock.uris import check_node_name


class Store:
    """Histories on disk: in an SQLite file, or in a PostgreSQL database. Safe to use from any thread.

    Any number of processes may read while one writes each node's history.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.shelf: Shelf = SqliteShelf() if database.engine == "sqlite" else PostgresShelf()
        self._committer: Committer | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, address: str | Path, *, pool: int = 8, tables: Tables | None = None) -> Self:
        """Opens the store at a path (SQLite) or an address (`postgresql://...`), and makes or updates its tables.

        `pool` bounds the connections; `tables` are a node's own, which are kept beside. StoreAway, StoreFull or
        StoreDamaged say why it cannot be opened.
        """
        database = Database(address, pool=pool)
        if database.path is not None:
            database.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            upgrade(database)
            if tables is not None:
                upgrade(database, tables=tables)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def committer(self) -> Committer:
        """The thread that writes; it starts with the first writer."""
        with self._lock:
            if self._committer is None:
                self._committer = Committer(self.database, self.shelf)
            return self._committer

    def nodes(self) -> list[str]:
        """Names of the nodes that have a history here."""
        with self.database.reading() as tx:
            return [name for (name,) in tx.rows("SELECT name FROM nodes ORDER BY name")]

    def node(self, name: str, *, writer: Writer | None = None, after: int | None = None) -> NodeHistory:
        """A node's history, to write and to read; whoever wrote it until now gets LostLease.

        With `after` the lease is taken only if its number still is that one (0 where the node has no history yet), and
        else it raises LostLease: so a process that slept does not take it from one that came by it meanwhile.
        """
        check_node_name(name)
        holder = f"{socket.gethostname()} {os.getpid()}"
        instance, start = (None, None) if writer is None else (writer.instance, writer.start)
        with self.database.writing() as tx:
            if after:
                row = tx.one(
                    "UPDATE nodes SET lease = lease + 1, holder = ?, instance = ?, start = ? WHERE name = ? AND lease = ? "
                    "RETURNING id, lease, epoch",
                    *(holder, instance, start, name, after),
                )
            else:
                there = "NOTHING"
                if after is None:
                    there = (
                        "UPDATE SET lease = nodes.lease + 1, holder = excluded.holder, instance = excluded.instance, "
                        "start = excluded.start"
                    )
                row = tx.one(
                    "INSERT INTO nodes (name, epoch, lease, holder, instance, start) VALUES (?, ?, 1, ?, ?, ?) "
                    f"ON CONFLICT (name) DO {there} RETURNING id, lease, epoch",
                    *(name, uuid4().hex, holder, instance, start),
                )
        if row is None:
            raise LostLease(f"another process took the lease of {name!r} meanwhile, so it was not taken")
        number, lease, epoch = int(row[0]), int(row[1]), str(row[2])
        return NodeHistory(self, name, number, epoch, Lease(number, name, lease, epoch))

    def tenure(self, name: str) -> Tenure | None:
        """Who took the lease of a node last, and its number; None if the node has no history yet."""
        with self.database.reading() as tx:
            row = tx.one("SELECT lease, holder, instance, start FROM nodes WHERE name = ?", name)
        if row is None:
            return None
        writer = None if row[2] is None else Writer(str(row[2]), int(row[3]))
        return Tenure(int(row[0]), None if row[1] is None else str(row[1]), writer)

    def holder(self, name: str) -> str | None:
        """The host and the process that took the lease of a node last; None if nobody did or it was released."""
        held = self.tenure(name)
        return None if held is None else held.holder

    def reader(self, name: str) -> NodeHistory:
        """A node's history, to read only; UnknownNode if there is none."""
        with self.database.reading() as tx:
            row = tx.one("SELECT id, epoch FROM nodes WHERE name = ?", name)
        if row is None:
            raise UnknownNode(f"{name!r} has no history in this store")
        return NodeHistory(self, name, int(row[0]), str(row[1]), None)

    def forget(self, name: str) -> None:
        """Deletes a node's history for good; what is written under its name later has a new epoch."""
        # As whoever writes does it: so the blocks that are on their way come before, or find no lease any more.
        lock = " FOR UPDATE" if self.database.engine == "postgresql" else ""
        with self.database.writing() as tx:
            row = tx.one(f"SELECT id FROM nodes WHERE name = ?{lock}", name)
            if row is None:
                raise UnknownNode(f"{name!r} has no history in this store")
            # Nobody sees them any more from here on.
            tx.run("UPDATE timelines SET node = -id WHERE node = ?", row[0])
            tx.run("DELETE FROM applied WHERE node = ?", row[0])
            tx.run("DELETE FROM nodes WHERE id = ?", row[0])
        self.sweep()

    def sweep(self) -> None:
        """Deletes what is left of histories that were forgotten, in portions: other nodes of the same file wait meanwhile."""
        with self.database.reading() as tx:
            lines = [int(line) for (line,) in tx.rows("SELECT id FROM timelines WHERE node < 0")]
        for line in lines:
            with self.database.reading() as tx:
                fields = [int(field) for (field,) in tx.rows("SELECT id FROM fields WHERE timeline = ?", line)]
            for field in fields:
                for table in ("chunk_values", "pyramid"):
                    self._sweep(table, "field", field)
            self._sweep("chunks", "timeline", line)
            more = ("block_values",) if self.database.engine == "postgresql" else ()
            with self.database.writing() as tx:
                for table in ("blocks", *more, "revisions", "fields"):
                    tx.run(f"DELETE FROM {table} WHERE timeline = ?", line)
                tx.run("DELETE FROM timelines WHERE id = ?", line)

    def _sweep(self, table: str, owner: str, number: int) -> None:
        some = f"SELECT ord FROM {table} WHERE {owner} = ? ORDER BY ord LIMIT {PORTION}"
        gone = PORTION
        while gone >= PORTION:
            with self.database.writing() as tx:
                gone = tx.run(f"DELETE FROM {table} WHERE {owner} = ? AND ord IN ({some})", number, number)

    def restored(self, name: str) -> None:
        """Gives a node's history a new epoch, as it must have after it was brought back from a copy."""
        with self.database.writing() as tx:
            if not tx.run("UPDATE nodes SET epoch = ?, lease = lease + 1, holder = NULL WHERE name = ?", uuid4().hex, name):
                raise UnknownNode(f"{name!r} has no history in this store")

    def shrink(self) -> None:
        """Gives back to the disk what was deleted. Nobody else writes meanwhile, and on PostgreSQL nobody reads either."""
        self.sweep()
        with self.database.guarded():
            connection = self.database.sql.raw_connection()
            try:
                cursor = connection.cursor()
                if self.database.engine == "sqlite":
                    cursor.execute("VACUUM")
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                else:
                    for table in ("blocks", "block_values", "chunks", "chunk_values", "pyramid"):
                        cursor.execute(f"VACUUM FULL {table}")
                cursor.close()
            finally:
                connection.close()

    def close(self) -> None:
        """Commits what waits, and closes the connections."""
        if self._committer is not None:
            self._committer.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
