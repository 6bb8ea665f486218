"""TimescaleDB and Citus cannot be had here: what is tried is the guard, and that a server takes the statements.

Stand-ins have the names and the arguments of the functions that the extensions' own documentation gives, and note what
they are called with. What the real ones make of it has not been tried.
"""

import pytest

from sisock.errors import SisockError
from sisock.store import Store
from sisock.store.extensions import spread
from sisock.times import EARLIEST, LATEST

from .test_contract import FIELDS, keep, some

TIMESCALE = """
CREATE FUNCTION create_hypertable(relation regclass, time_column_name name, chunk_time_interval anyelement,
    if_not_exists boolean DEFAULT false, migrate_data boolean DEFAULT false) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO called VALUES ('hypertable', relation::text, time_column_name::text) $$;
"""
CITUS = """
CREATE TABLE pg_dist_partition (logicalrelid regclass);
CREATE FUNCTION create_reference_table(table_name regclass) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO called VALUES ('reference', table_name::text, NULL);
       INSERT INTO pg_dist_partition VALUES (table_name) $$;
CREATE FUNCTION create_distributed_table(table_name regclass, distribution_column text) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO called VALUES ('distributed', table_name::text, distribution_column);
       INSERT INTO pg_dist_partition VALUES (table_name) $$;
"""
INSTALLED = """
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES ({oid}, '{name}', 10, 'public'::regnamespace, true, '1');
"""
FUNCTIONS = {"timescaledb": TIMESCALE, "citus": CITUS}


def install(store, name, *, works=True):
    """Stands in for an extension of this name in the store's database."""
    with store.database.writing() as tx:
        tx.cursor.execute("CREATE TABLE IF NOT EXISTS called (what text, relation text, by text)")
        if works:
            tx.cursor.execute(FUNCTIONS[name])
        tx.cursor.execute(INSTALLED.format(oid=16000 + len(name), name=name))


def called(store):
    with store.database.reading() as tx:
        return tx.rows("SELECT what, relation, by FROM called ORDER BY what, relation")


@pytest.fixture
def on_server(postgres):
    with Store.open(postgres()) as opened:
        yield opened


def test_a_server_without_extensions_is_left_as_it_is(store):
    assert spread(store.database) == []


def test_with_timescaledb_the_tables_of_chunks_are_parted_by_their_number(on_server):
    install(on_server, "timescaledb")
    assert spread(on_server.database) == ["timescaledb"]
    assert called(on_server) == [("hypertable", "chunk_values", "ord"), ("hypertable", "chunks", "ord")]
    assert spread(on_server.database) == ["timescaledb"]


def test_with_citus_what_is_read_together_lies_together_and_again_changes_nothing(on_server):
    install(on_server, "citus")
    for _ in range(2):
        assert spread(on_server.database) == ["citus"]
    found = called(on_server)
    assert [row[1:] for row in found if row[0] == "distributed"] == [
        ("block_values", "timeline"),
        ("blocks", "timeline"),
        ("chunk_values", "field"),
        ("chunks", "timeline"),
        ("pyramid", "field"),
    ]
    assert [row[1] for row in found if row[0] == "reference"] == ["applied", "fields", "nodes", "revisions", "timelines"]
    with on_server.database.reading() as tx:
        tables = {name for (name,) in tx.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    # None is forgotten but what is not the store's own.
    assert tables - {row[1] for row in found} == {"alembic_version", "called", "pg_dist_partition"}


def test_every_key_holds_the_column_that_the_extension_parts_it_by(on_server):
    """Both ask for it: a key that does not hold that column could not be unique over all parts."""
    install(on_server, "timescaledb")
    install(on_server, "citus")
    assert spread(on_server.database) == ["timescaledb", "citus"]
    for what, relation, by in called(on_server):
        if what == "reference":
            continue
        with on_server.database.reading() as tx:
            keys = tx.rows(
                "SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = ANY(i.indkey) WHERE i.indrelid = to_regclass(?) AND i.indisunique GROUP BY i.indexrelid",
                relation,
            )
        assert keys and all(by in columns for (columns,) in keys), (relation, by, keys)


def test_a_server_whose_extension_refuses_says_so_and_the_store_works_all_the_same(on_server):
    install(on_server, "citus", works=False)
    with pytest.raises(SisockError, match="the server has citus, but it does not take the store's tables"):
        spread(on_server.database)
    history, block = on_server.node("roof"), some(1000)
    keep(history, "t", block)
    assert history.read("t", FIELDS, EARLIEST, LATEST)[0] == block
