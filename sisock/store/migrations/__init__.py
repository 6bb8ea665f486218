"""The schema's versions, and how a database comes to the newest."""

from __future__ import annotations

from pathlib import Path

from sisock.errors import SetupError
from sisock.store.database import Database

HEAD = "0005"


def upgrade(database: Database, to: str = "head") -> None:
    """Brings the schema to its newest version; SetupError if it is of a newer program."""
    if to == "head" and _version(database) == HEAD:
        return
    _migrate(database, to)


def downgrade(database: Database, to: str) -> None:
    """Takes the schema back to an older version, for an older program; what only the newer one keeps is lost."""
    _migrate(database, to, back=True)


def _migrate(database: Database, to: str, *, back: bool = False) -> None:
    # Alembic is slow to import and seldom needed.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with database.guarded(), database.sql.connect() as connection:
        # Two programs that start at once do not both make the tables.
        if database.engine == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7304531)")
        config.attributes["connection"] = connection
        try:
            (command.downgrade if back else command.upgrade)(config, to)
            connection.exec_driver_sql("COMMIT")
        except CommandError as error:
            connection.exec_driver_sql("ROLLBACK")
            raise SetupError(f"{database.url}: this store was written by a newer sisock; update this one ({error})") from error
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise


def _version(database: Database) -> str | None:
    with database.reading() as tx:
        if database.engine == "sqlite":
            there = tx.one("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        else:
            there = tx.one("SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL")
        row = tx.one("SELECT version_num FROM alembic_version") if there else None
        return None if row is None else str(row[0])
