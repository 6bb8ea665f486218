"""The schema's versions, and how a database comes to the newest."""

from __future__ import annotations

from pathlib import Path

from sisock.beside import Tables
from sisock.errors import SetupError
from sisock.store.database import Database

HEAD = "0006"
STORE = Tables(Path(__file__).parent, "alembic_version")


def upgrade(database: Database, to: str = "head", *, tables: Tables = STORE) -> None:
    """Brings the schema, or a node's own tables, to its newest version; SetupError if it is of a newer program."""
    if to == "head" and _version(database, tables) == _newest(tables):
        return
    _migrate(database, to, tables)


def downgrade(database: Database, to: str, *, tables: Tables = STORE) -> None:
    """Takes the schema back to an older version, for an older program; what only the newer one keeps is lost."""
    _migrate(database, to, tables, back=True)


def _migrate(database: Database, to: str, tables: Tables, *, back: bool = False) -> None:
    # Alembic is slow to import and seldom needed.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # What Alembic runs is ours; the versions are those of the folder.
    config.set_main_option("script_location", str(STORE.folder))
    config.set_main_option("version_locations", str(tables.folder / "versions"))
    config.set_main_option("path_separator", "newline")
    config.attributes["version_table"] = tables.version_table
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


def _newest(tables: Tables) -> str:
    """The newest version, which the files' names tell: to ask Alembic for it would load it at each start."""
    return HEAD if tables is STORE else max(path.name.partition("_")[0] for path in (tables.folder / "versions").glob("0*.py"))


def _version(database: Database, tables: Tables) -> str | None:
    name = tables.version_table
    with database.reading() as tx:
        if database.engine == "sqlite":
            there = tx.one("SELECT 1 FROM sqlite_master WHERE name = ?", name)
        else:
            there = tx.one("SELECT 1 WHERE to_regclass(?) IS NOT NULL", name)
        row = tx.one(f"SELECT version_num FROM {name}") if there else None  # noqa: S608  a name of ours
        return None if row is None else str(row[0])
