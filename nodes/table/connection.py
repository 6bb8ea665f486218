"""Connections to somebody else's database: they read only, they wait a bounded time, and their errors are sisock's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from sisock.errors import Busy, NodeFailed, NotInstalled, SetupError, StoreAway, TimedOut
from sisock.nodes.table.asked import without_secrets

# Seconds that a statement may take, that a locked file is waited for, and that a server may take to let one in.
STATEMENT, LOCKED, CONNECT = 30, 5, 10
# Connections at the same time: as many as a node answers questions, and one that looks for news.
POOL = 5
# SQLite looks at the clock after so many of its instructions: some milliseconds.
INSTRUCTIONS = 100_000
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


class Connections:
    """A database that is read. Safe to use from any thread."""

    def __init__(self, source: str) -> None:
        """SetupError for what is no address, or a file that is not there."""
        self.shown = without_secrets(source)
        self.engine, self.sql = self._open(source)
        self.is_postgres = self.engine == "postgresql"

    def _open(self, source: str) -> tuple[str, Engine]:
        if "://" not in source:
            return "sqlite", _sqlite(Path(source).expanduser().absolute())
        try:
            url = make_url(source)
        except (ArgumentError, ValueError):
            # What SQLAlchemy says of it would show the password.
            raise SetupError(f"{self.shown} is no database's address; write postgresql://user@host/database.") from None
        if url.get_backend_name() == "sqlite":
            return "sqlite", _sqlite(Path(url.database or "").absolute())
        if url.get_backend_name() not in ("postgresql", "postgres"):
            raise SetupError(f"{self.shown}: SQLite and PostgreSQL are served, not {url.get_backend_name()}.")
        return "postgresql", _postgres(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction of one snapshot; its errors are StoreAway, TimedOut, Busy and NodeFailed."""
        try:
            with self.sql.connect() as connection:
                if not self.is_postgres:
                    # Otherwise each statement would see the database of its own moment.
                    connection.exec_driver_sql("BEGIN")
                yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._named(error) from None

    def _named(self, error: Exception) -> Exception:
        if isinstance(error, PoolTimeout):
            return Busy(f"{self.shown}: all connections were in use; ask again in a moment")
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = " ".join(str(cause).split())
        state = getattr(cause, "pgcode", None) or ""
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreAway(f"{self.shown}: another program has held the database for {LOCKED} s ({text})")
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
            return StoreAway(f"{self.shown}: {text}")
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return SetupError(f"{self.shown} is no SQLite database, or a damaged one ({text}).")
        if state == "57014" or code == sqlite3.SQLITE_INTERRUPT:
            return TimedOut(f"{self.shown} took more than {STATEMENT} s to answer. Ask for a shorter time.")
        if self.is_postgres and (
            (not state and type(cause).__name__ in ("OperationalError", "InterfaceError", "DatabaseError"))
            or state.startswith(("08", "53", "57"))
        ):
            return StoreAway(f"{self.shown}: {text}")
        return NodeFailed(f"{self.shown}: {text}")

    def close(self) -> None:
        """Closes all connections."""
        self.sql.dispose()


class _Bounded(sqlite3.Connection):
    """A connection whose statements end when the time has come that was set before them."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.deadline = inf
        self.set_progress_handler(lambda: time.monotonic() > self.deadline, INSTRUCTIONS)


def _sqlite(path: Path) -> Engine:
    if not path.is_file():
        raise SetupError(f"there is no file {path}.")
    address = f"file:{quote(str(path))}?mode=ro"

    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(address, uri=True, timeout=LOCKED, check_same_thread=False, factory=_Bounded)
        # Bytes that are no UTF-8 stand in many a database.
        made.text_factory = lambda data: data.decode("utf-8", "replace")
        return made

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=POOL, max_overflow=0)

    @event.listens_for(engine, "before_cursor_execute")
    def set_deadline(_connection: Any, cursor: Any, *_: object) -> None:
        cursor.connection.deadline = time.monotonic() + STATEMENT

    return engine


def _postgres(url: URL) -> Engine:
    url = url.set(drivername="postgresql+psycopg2")
    try:
        engine = create_engine(
            url,
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=STATEMENT,
            # A server that was started anew is found out before a question is lost on it.
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
            connect_args={"connect_timeout": CONNECT, "application_name": "sisock serve", **_ALIVE},
        )
    except ModuleNotFoundError as error:
        raise NotInstalled(f"PostgreSQL needs {error.name}, which is missing: pip install 'sisock[postgres]'") from error

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            cursor.execute(f"SET statement_timeout TO {STATEMENT * 1000}")
            cursor.execute(f"SET idle_in_transaction_session_timeout TO {STATEMENT * 1000}")
        connection.commit()

    return engine
