"""What a PostgreSQL server may have beside: TimescaleDB's hypertables, Citus's distributed tables.

Both are used only where the server has the extension, best while the tables are still empty or small, and only when
`sisock store spread` asks for it; nothing else in the store knows of them. Neither could be tried here: no registry has
them. The tests hold the statements to a server's parser and to stand-ins of the extensions' functions.
"""

from __future__ import annotations

from sisock.errors import SisockError
from sisock.store.database import Database
from sisock.store.lines import ORD_STEP

# Chunks of a hypertable's partition, of one timeline: about two million rows.
_PARTITION = 256 * ORD_STEP

# The tables that grow with the rows, and what keeps together what is read together.
_BY_KEY = {"chunks": "timeline", "blocks": "timeline", "chunk_values": "field", "pyramid": "field"}

# Those that do not, which each worker has whole.
_SMALL = ("nodes", "timelines", "fields", "revisions", "applied")


def spread(database: Database) -> list[str]:
    """Uses the extensions that the server has; which ones. Safe to call again.

    TimescaleDB parts the chunks' tables by their number, which ascends with time. Citus spreads the tables that grow
    over the workers, a timeline's or a field's rows together, and gives each worker the small ones.
    """
    if database.engine != "postgresql":
        return []
    used = []
    for name, statements in (("timescaledb", _timescale()), ("citus", _citus())):
        with database.reading() as tx:
            if tx.one("SELECT 1 FROM pg_extension WHERE extname = ?", name) is None:
                continue
        try:
            with database.writing() as tx:
                for statement in statements:
                    tx.run(statement)
        except SisockError as error:
            raise SisockError(f"the server has {name}, but it does not take the store's tables: {error}") from error
        used.append(name)
    return used


def _timescale() -> list[str]:
    return [
        f"SELECT create_hypertable('{table}', 'ord', chunk_time_interval => {_PARTITION}, "
        "if_not_exists => true, migrate_data => true)"
        for table in ("chunks", "chunk_values")
    ]


def _citus() -> list[str]:
    there = "SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = '{0}'::regclass) THEN {1} END"
    small = [there.format(table, f"create_reference_table('{table}')") for table in _SMALL]
    grown = [there.format(table, f"create_distributed_table('{table}', '{key}')") for table, key in _BY_KEY.items()]
    return [*small, *grown, there.format("block_values", "create_distributed_table('block_values', 'timeline')")]
