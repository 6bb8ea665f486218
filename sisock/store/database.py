"""Connections and transactions: the one place that knows how the engines are spoken to.

SQLAlchemy keeps the connections; the statements go to the driver itself, since an append of one row is to cost no more
than its fsync. They are written with `?` for a parameter.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from sisock.errors import Busy, InvalidArgument, SetupError, SisockError, StoreAway, StoreDamaged, StoreFull

# How long a transaction waits for another process's, in seconds.
BUSY_SECONDS = 30
# How long PostgreSQL lets a transaction be that does nothing.
IDLE_SECONDS = 10
# A server that is gone without a word (power, a cable) is found out in half a minute, not in the two hours of TCP.
_POSTGRESQL = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


def url_of(address: str | Path) -> URL:
    """What an address, or a file's path, says; SisockError, without its password, where it is none."""
    text = str(address)
    if "://" not in text:
        return make_url(f"sqlite:///{Path(address).absolute()}")
    try:
        # As libpq has it, too.
        return make_url(re.sub("^postgres://", "postgresql://", text))
    except (ArgumentError, ValueError) as error:
        shown = re.sub("//[^/]*@", "//...@", text)
        raise SisockError(f"{shown} is no database's address. One is postgresql://user@host:5432/database.") from error


class Tx:
    """A transaction: what is read in it is one moment's."""

    def __init__(self, cursor: Any, mark: str) -> None:
        self.cursor = cursor
        self._mark = mark

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        self.run(sql, *parameters)
        return list(self.cursor.fetchall())

    def one(self, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row of a query."""
        self.run(sql, *parameters)
        row = self.cursor.fetchone()
        return None if row is None else tuple(row)

    def known(self, sql: str, *parameters: Any) -> tuple[Any, ...]:
        """The first row of a query that always has one."""
        row = self.one(sql, *parameters)
        if row is None:
            raise StoreDamaged(f"the store has no answer to {sql}")
        return row

    def run(self, sql: str, *parameters: Any) -> int:
        """Executes a statement; how many rows it touched."""
        self.cursor.execute(sql if self._mark == "?" else sql.replace("?", self._mark), parameters)
        return int(self.cursor.rowcount)

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Executes a statement for each of several sets of parameters."""
        self.cursor.executemany(sql if self._mark == "?" else sql.replace("?", self._mark), list(parameters))


class Transaction:
    """A transaction of a connection of its own, as a context."""

    __slots__ = ("_begin", "_connection", "_database")

    def __init__(self, database: Database, begin: str) -> None:
        self._database, self._begin = database, begin

    def __enter__(self) -> Tx:
        try:
            self._connection = self._database.sql.raw_connection()
        except Exception as error:
            self._database.raise_named(error)
            raise
        try:
            cursor = self._connection.cursor()
            cursor.execute(self._begin)
        except BaseException as error:
            self._undo()
            self._database.raise_named(error)
            raise
        return Tx(cursor, self._database.mark)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._undo()
            self._database.raise_named(error)
            return
        try:
            self._connection.cursor().execute("COMMIT")
        except BaseException as failed:
            self._undo()
            self._database.raise_named(failed)
            raise
        self._connection.close()

    def _undo(self) -> None:
        driver: Any = self._connection.driver_connection
        try:
            if self._database.engine == "postgresql" or driver.in_transaction:
                driver.cursor().execute("ROLLBACK")
        except Exception:  # noqa: BLE001  whatever stands in the way of a rollback, this connection is not used again
            self._connection.invalidate()
        self._connection.close()


class Database:
    """A database of one of the two engines, `sqlite` or `postgresql`."""

    def __init__(self, address: str | Path, *, pool: int = 8, patience: int = 10) -> None:
        """`pool` bounds the connections; `patience` is how many seconds a server may take to let one in."""
        url = url_of(address)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg2")
        self.url = url
        self.engine = url.get_backend_name()
        if self.engine not in ("sqlite", "postgresql"):
            raise SisockError(f"the store is kept in SQLite or PostgreSQL, not in {self.engine}")
        arguments: dict[str, Any] = {"connect_timeout": patience, **_POSTGRESQL}
        if self.engine == "sqlite":
            arguments = {"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False, "cached_statements": 256}
        # Connections are bounded: a reader waits for one.
        try:
            self.sql: Engine = create_engine(
                url,
                poolclass=QueuePool,
                pool_size=pool,
                max_overflow=0,
                pool_timeout=BUSY_SECONDS,
                pool_reset_on_return=None,
                connect_args=arguments,
            )
        except ArgumentError as error:
            raise SisockError(f"{self.shown} is no database's address: {error}") from error
        except ModuleNotFoundError as error:
            raise SetupError(f"PostgreSQL needs {error.name}, which is missing: pip install 'sisock[postgres]'") from error
        event.listen(self.sql, "connect", _set_up_sqlite if self.engine == "sqlite" else _set_up_postgresql)
        self.mark = "?" if self.engine == "sqlite" else "%s"

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self.url.database) if self.engine == "sqlite" and self.url.database else None

    @property
    def shown(self) -> str:
        """Its address as people may see it, without a password."""
        if self.engine == "sqlite":
            return str(self.path)
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    def reading(self) -> Transaction:
        """A transaction that reads one snapshot, as a context."""
        return Transaction(self, "BEGIN" if self.engine == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def writing(self) -> Transaction:
        """A transaction that writes, as a context; committed, durably, when the block ends, and undone if it raises."""
        return Transaction(self, "BEGIN IMMEDIATE" if self.engine == "sqlite" else "BEGIN")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turns the driver's errors into the store's."""
        try:
            yield
        except Exception as error:
            self.raise_named(error)
            raise

    def raise_named(self, error: BaseException) -> None:
        """Raises the store's error for a driver's; does nothing for any other."""
        if isinstance(error, SystemError):
            # psycopg2 raises it where a COPY broke off with the connection; what happened stands behind it.
            error = error.__cause__ or error.__context__ or error
        if isinstance(error, PoolTimeout):
            raise Busy(f"all connections to the store were in use for {BUSY_SECONDS} s; ask again in a moment") from error
        if isinstance(error, DBAPIError):
            raise self._named(error.orig or error) from error
        if isinstance(error, sqlite3.Error) or type(error).__module__.startswith("psycopg2"):
            raise self._named(error) from error

    def _named(self, error: BaseException) -> Exception:
        text = " ".join(str(error).split())
        where = self.shown
        code = getattr(error, "sqlite_errorcode", None)
        state = getattr(error, "pgcode", None) or ""
        if code is not None:
            code &= 0xFF
            # SQLite reports a disk without room also as an I/O error, when the shared memory of the log cannot grow.
            if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._no_room()):
                return StoreFull(f"{where}: {text}. Nothing of this was kept. Reads go on; make room, and appends work again.")
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                return StoreDamaged(f"{where}: {text}. `sisock store check` lists what is lost and saves the rest.")
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return StoreAway(f"{where}: another process has held the database for {BUSY_SECONDS} s ({text})")
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                return StoreAway(f"{where}: {text}")
            return SisockError(f"{where}: {type(error).__name__}: {text}")
        if state in ("53100", "53400"):
            return StoreFull(f"{where}: {text}. Nothing of this was kept. Reads go on; make room, and appends work again.")
        if state.startswith("XX"):
            return StoreDamaged(f"{where}: {text}")
        if state.startswith("22"):
            return InvalidArgument(f"{where}: {text}")
        # 25006: the server takes no writes now, as one that only follows another does.
        lost = not state and type(error).__name__ in ("OperationalError", "InterfaceError", "DatabaseError")
        if lost or state == "25006" or state.startswith(("08", "53", "57")):
            return StoreAway(f"{where}: {text}")
        return SisockError(f"{where}: {type(error).__name__}: {text}")

    def _no_room(self) -> bool:
        if self.path is None:
            return False
        import shutil

        return shutil.disk_usage(self.path.parent).free < 1 << 20

    def close(self) -> None:
        """Closes all connections."""
        self.sql.dispose()


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA cache_size=-16000")
    cursor.execute("PRAGMA temp_store=MEMORY")
    # A checkpoint costs two fsyncs, so it waits for 16 MB of log.
    cursor.execute("PRAGMA wal_autocheckpoint=4096")
    # What a large transaction made of the log is given back after a checkpoint.
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    cursor = connection.cursor()
    # An acknowledged row is on the server's disk, whatever the server's own default is.
    cursor.execute("SET synchronous_commit TO on")
    # A writer that was stopped in the middle holds its node's row: the server ends it, so that another can take over.
    cursor.execute(f"SET idle_in_transaction_session_timeout TO {IDLE_SECONDS * 1000}")
    cursor.close()
