"""A node's own tables: what stands beside a block is there when the block is, once, and not otherwise."""

from __future__ import annotations

import pytest

from sisock import DataNode, Field
from sisock.beside import TableRows, Tables, of_text, to_text
from sisock.errors import InvalidArgument, LateRow, SetupError, SisockError, StoreAway
from sisock.history import MemoryHistory
from sisock.store import Store
from sisock.store.migrations import downgrade, upgrade
from tests.store.test_lasting import made, row, until  # noqa: F401  a fixture

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade():
    op.create_table("notes", sa.Column("id", sa.Text, primary_key=True), sa.Column("words", sa.Text, nullable=False))
    newest = sa.Column("t", sa.BigInteger), sa.Column("v", sa.Float)
    op.create_table("newest", sa.Column("id", sa.Text, primary_key=True), *newest)
def downgrade():
    op.drop_table("newest")
    op.drop_table("notes")
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    op.add_column("newest", sa.Column("unit", sa.Text))
def downgrade():
    op.drop_column("newest", "unit")
"""


@pytest.fixture
def tables(tmp_path):
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(FIRST)
    (versions / "0002_unit.py").write_text(SECOND)
    return Tables(tmp_path / "migrations", "roof_version")


def note(key, words="w"):
    return TableRows("notes", ("id", "words"), [(key, words)], ("id",))


def newest(key, *pairs):
    return TableRows("newest", ("id", "t", "v"), [(key, t, v) for t, v in pairs], ("id",), "t")


def notes(history):
    return history.select("SELECT id, words FROM notes ORDER BY id")


def test_it_is_kept_with_its_block_and_read_back(address, tables):
    with Store.open(address, tables=tables) as store:
        history = store.node("roof")
        kept = [history.append("t", row(t), beside=[note(f"k{t}"), newest("a", (t, t / 2))]) for t in range(5)]
        assert [one.result(30).seq for one in kept] == [1, 2, 3, 4, 5]
        assert notes(history) == [(f"k{t}", "w") for t in range(5)]
        assert history.select("SELECT t, v FROM newest WHERE id = ?", "a") == [(4, 2.0)]
    # Whoever opens the store without knowing of the tables leaves them as they are.
    with Store.open(address) as store:
        assert len(notes(store.reader("roof"))) == 5


def test_a_newer_row_takes_the_place_in_whatever_order_they_come(address, tables):
    with Store.open(address, tables=tables) as store:
        history = store.node("roof")
        history.append("t", row(1), beside=[newest("a", (5, 5.0), (9, 9.0), (7, 7.0)), newest("b", (1, 1.0))]).result(30)
        history.append("t", row(2), beside=[newest("a", (8, 8.0)), newest("b", (1, 2.0))]).result(30)
        assert history.select("SELECT id, t, v FROM newest ORDER BY id") == [("a", 9, 9.0), ("b", 1, 2.0)]


def test_a_block_that_is_refused_keeps_nothing_beside_it_and_the_others_theirs(address, tables):
    with Store.open(address, tables=tables) as store:
        history = store.node("roof")
        history.append("t", row(10), beside=[note("first")]).result(30)
        late = history.append("t", row(1), beside=[note("late")])
        wrong = history.append("t", row(11), beside=[note("null", None)])
        twice = history.append("t", row(12), beside=[note("first", "again"), note("second")])
        with pytest.raises(LateRow):
            late.result(30)
        with pytest.raises(SisockError):
            wrong.result(30)
        twice.result(30)
        assert notes(history) == [("first", "w"), ("second", "w")]
        assert history.read("t", ["x"], 0, 100)[0].t.tolist() == [10, 12]


def test_what_waited_in_an_outbox_is_there_once(server, made, tables):  # noqa: F811
    history = made(server.address, tables=tables)
    history.append("t", row(0), beside=[note("k0")]).result(30)
    server.kill()
    away = [history.append("t", row(t), beside=[note(f"k{t}"), newest("a", (t, 0.0))]) for t in range(1, 50)]
    assert [one.result(30).seq for one in away] == list(range(2, 51))
    with pytest.raises(StoreAway, match="tables cannot be read now"):
        notes(history)
    history.close()
    again = made(server.address, tables=tables)
    again.append("t", row(50), beside=[note("k50")]).result(30)
    server.start()
    until(lambda: again.keeping.away is None)
    assert {key for key, _ in notes(again)} == {f"k{t}" for t in range(51)}
    assert again.select("SELECT t FROM newest") == [(49,)]
    again.append("t", row(51), beside=[note("k51")]).result(30)
    assert len(notes(again)) == 52


def test_its_migrations_go_from_empty_to_the_newest_and_back(address, tables):
    with Store.open(address) as store:
        with pytest.raises(SisockError):
            store.node("roof").select("SELECT * FROM notes")
        for _ in range(2):
            upgrade(store.database, tables=tables)
            store.node("roof").select("SELECT unit FROM newest")
            upgrade(store.database, tables=tables)
            downgrade(store.database, "0001", tables=tables)
            with pytest.raises(SisockError):
                store.node("roof").select("SELECT unit FROM newest")
            upgrade(store.database, tables=tables)
            downgrade(store.database, "base", tables=tables)
            with pytest.raises(SisockError):
                store.node("roof").select("SELECT * FROM notes")
        assert store.nodes() == ["roof"], "the store's own tables are another matter"
        upgrade(store.database, tables=tables)
        (tables.folder / "versions" / "0002_unit.py").unlink()
        with pytest.raises(SetupError, match="newer"):
            upgrade(store.database, tables=tables)


class Noting(DataNode):
    """A node with tables."""

    name = "roof"
    fields = {"x": Field()}


def test_a_node_gives_it_with_its_blocks_also_where_the_block_says_nothing_new(address, tables):
    node = Noting()
    with Store.open(address, tables=tables) as store:
        node.history = store.node("roof")
        for key in ("k1", "k2"):
            node.append_block("t", row(5), correct=True, beside=[note(key)]).result(30)
        assert [key for key, _ in notes(node.history)] == ["k1", "k2"]


def test_a_history_in_memory_has_no_tables():
    with pytest.raises(InvalidArgument, match="no tables"):
        MemoryHistory().append("t", row(1), beside=[note("k")])


@pytest.mark.parametrize(
    "wrong",
    [
        ("notes; DROP TABLE nodes", ("id", "words"), [], ("id",)),
        ("notes", ("id", 'w"'), [], ("id",)),
        ("notes", ("id", "words"), [("a",)], ("id",)),
        ("notes", ("id", "words"), [("a", b"b")], ("id",)),
        ("notes", ("id", "words"), [], ()),
        ("notes", ("id", "words"), [], ("key",)),
        ("notes", ("id", "words"), [], ("id", "words")),
        ("notes", ("id", "words"), [], ("id",), "t"),
        ("notes", ("id", "words"), [], ("id",), "id"),
    ],
)
def test_what_is_no_row_of_a_table_is_said_before_it_is_sent(wrong):
    with pytest.raises(InvalidArgument):
        TableRows(*wrong)


def test_it_waits_as_text():
    beside = (note("k", 'w"\u2028'), newest("a", (1, 0.1), (2, None)))
    assert to_text(of_text(to_text(beside))) == to_text(beside)
    assert to_text(()) is None
    assert of_text(None) == ()


def test_a_node_that_was_deleted_is_written_anew_in_the_same_store(address):
    with Store.open(address) as store:
        store.node("roof").append("t", row(1)).result(30)
        store.forget("roof")
        history = store.node("roof")
        history.append("t", row(2)).result(30)
        assert history.read("t", ["x"], 0, 100)[0].t.tolist() == [2]
