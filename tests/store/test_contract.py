"""What both engines promise, at the sizes that nodes bring."""

import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest

from sisock.blocks import Block, Column
from sisock.errors import Busy, InvalidArgument, LateRow, SisockError, TooMuch, UnknownNode
from sisock.positions import Position
from sisock.store import LostLease, PositionLost, Store, StoreAway, mending
from sisock.store import committer as committing
from sisock.store.migrations import downgrade
from sisock.times import EARLIEST, LATEST

from .model import Model, cells, holds_extremes, same_rows

FIELDS = ["x", "n", "b", "s"]
T0 = 1_500_000_000_000_000


def some(rows, seed=0, start=T0, step=100_000):
    """Rows with everything in them: jitter, gaps, nulls, NaN, infinities, all four kinds."""
    random = np.random.default_rng(seed)
    t = start + np.cumsum(random.integers(1, 2 * step, rows) + (random.random(rows) < 0.001) * 3600_000_000)
    x = np.cumsum(random.normal(size=rows))
    x[random.random(rows) < 0.01] = np.nan
    x[random.random(rows) < 0.001] = np.inf
    texts = np.array([f"state {one}" for one in range(7)], object)[random.integers(0, 7, rows)]
    there = random.random((4, rows)) > 0.05
    texts[~there[3]] = None
    return Block(
        t,
        {
            "x": Column(x, there[0]),
            "n": Column(random.integers(-(2**62), 2**62, rows), there[1]),
            "b": Column(random.random(rows) > 0.5, there[2]),
            "s": Column(texts, there[3]),
        },
    )


def cut(block, seed=0, most=4000):
    """The block in pieces of any length."""
    random = np.random.default_rng(seed)
    edges = np.unique([0, *np.cumsum(random.integers(1, most, 2 * len(block) // most + 2)), len(block)])
    return [block.take(slice(a, b)) for a, b in pairwise(edges) if a < len(block)]


def keep(history, timeline, *blocks, **how):
    return [future.result(30) for future in [history.append(timeline, block, **how) for block in blocks]]


@pytest.fixture
def filled(history):
    """A history of 60,000 rows, and the same in one block."""
    block = some(60_000)
    positions = keep(history, "t", *cut(block))
    assert [position.seq for position in positions] == list(range(1, len(positions) + 1))
    return history, block


def test_what_was_appended_is_read(filled):
    history, block = filled
    for start, end in [
        (EARLIEST, LATEST),
        (block.t[100], block.t[40_000]),
        (block.t[8191], block.t[8192] + 1),
        (LATEST, LATEST),
    ]:
        got, position = history.read("t", FIELDS, int(start), int(end))
        assert got == block.between(int(start), int(end))
    assert position == history.position("t")
    assert history.span("t") == (block.t[0], block.t[-1])
    assert history.newest("t") == block.t[-1]
    assert history.timelines() == ["t"]
    assert history.fields("t") == FIELDS
    assert history.interval("t") == pytest.approx(0.1, rel=0.1)
    assert set(history.read("t", ["n", "none"], 0, LATEST)[0].columns) == {"n"}


def test_a_timeline_that_is_not_there_is_empty(history):
    block, position = history.read("t", ["x"], EARLIEST, LATEST)
    assert len(block) == 0 and position == Position(history.epoch, 0)
    assert history.span("t") is None and history.newest("t") is None and history.interval("t") is None
    assert history.overview("t", ["x"], EARLIEST, LATEST, 10).fields == {}
    assert history.last_before("t", ["x"], np.array([1]))[1].tolist() == [-1]


@pytest.mark.parametrize("patched", [False, True])
def test_overviews_keep_every_pixels_extremes_at_every_zoom(filled, patched):
    history, block = filled
    if patched:
        random = np.random.default_rng(3)
        at = np.sort(random.choice(len(block), 40, replace=False))
        late = Block(np.unique(np.concatenate([block.t[at], block.t[at] + 1])), {})
        late = Block(late.t, {"x": Column(np.linspace(-900, 900, len(late)))})
        keep(history, "t", *cut(late, most=3), correct=True)
        block = history.read("t", FIELDS, EARLIEST, LATEST)[0]
        assert len(block) == 60_040
    for low, high in [(0, 1), (0.1, 0.9), (0.3, 0.35), (0.5, 0.5001), (0.97, 2)]:
        width = int(block.t[-1] - block.t[0])
        start, end = int(block.t[0] + low * width), int(block.t[0] + high * width) + 1
        for points in (2, 50, 1000):
            shown = history.overview("t", FIELDS, start, end, points)
            rows = block.between(start, end)
            span = max(start, int(block.t[0])), min(end - 1, int(block.t[-1]))
            for name in ("x", "n", "b"):
                column = rows.columns[name]
                there = column.mask()
                values = column.values[there].astype(object if name == "n" else float)
                picked = shown.fields[name]
                assert len(picked) <= max(points, 2)
                if name == "b":
                    picked = Block(picked.t, {"b": Column(picked.columns["b"].values.astype(float), picked.columns["b"].valid)})
                holds_extremes(picked, name, rows.t[there], values, points, span)
            texts = shown.fields["s"]
            assert cells(texts.columns["s"]) == cells(rows.columns["s"].take(np.searchsorted(rows.t, texts.t)))


def test_last_rows_before_any_times(filled):
    history, block = filled
    random = np.random.default_rng(1)
    asked = random.integers(block.t[0] - 10**6, block.t[-1] + 10**6, 500)
    for patched in (False, True):
        if patched:
            keep(history, "t", Block(asked[:20][np.argsort(asked[:20])], {"n": Column(np.arange(20))}), correct=True)
            block = history.read("t", FIELDS, EARLIEST, LATEST)[0]
        rows, index = history.last_before("t", FIELDS, asked)
        expected = np.searchsorted(block.t, asked, side="right") - 1
        assert (index >= 0).tolist() == (expected >= 0).tolist()
        assert rows.take(np.unique(index[index >= 0])) == block.take(np.unique(expected[expected >= 0]))
        assert (rows.t[index[index >= 0]] == block.t[expected[expected >= 0]]).all()


def test_late_rows_corrections_and_erasures_lie_over_what_is_sealed(filled):
    history, block = filled
    model = Model()
    model.append(block)
    for number, part in enumerate(cut(some(3000, seed=5, step=1_900_000), most=40)):
        partial = Block(part.t, {name: part.columns[name] for name in FIELDS[number % 4 :]})
        keep(history, "t", partial, correct=True)
        model.append(partial)
    same_rows(history.read("t", FIELDS, EARLIEST, LATEST)[0], model.read(FIELDS, EARLIEST, LATEST))
    history.compact("t").result(60)
    same_rows(history.read("t", FIELDS, EARLIEST, LATEST)[0], model.read(FIELDS, EARLIEST, LATEST))


def test_a_row_older_than_what_is_final_is_refused(history):
    keep(history, "t", Block(np.array([10, 2_000_000]), {"x": Column(np.array([1.0, 2.0]))}))
    old = Block(np.array([999_999]), {"x": Column(np.array([3.0]))})
    with pytest.raises(LateRow, match="correct=True"):
        history.append("t", old, lateness=1.0).result(10)
    with pytest.raises(LateRow):
        history.append("t", old).result(10)
    assert history.position("t").seq == 1
    keep(history, "t", old, correct=True)
    keep(history, "t", Block(np.array([1_000_000]), {"x": Column(np.array([4.0]))}), lateness=1.0)
    assert history.read("t", ["x"], 0, LATEST)[0].columns["x"].values.tolist() == [1, 3, 4, 2]


def test_a_field_has_one_type_and_integers_may_become_floats(history):
    keep(history, "t", Block(np.array([1]), {"x": Column(np.array([1])), "s": Column.null(1)}))
    keep(history, "t", Block(np.array([2]), {"x": Column(np.array([2.5])), "s": Column(np.array(["on"], object))}))
    with pytest.raises(InvalidArgument, match="one type"):
        history.append("t", Block(np.array([3]), {"x": Column(np.array(["on"], object))})).result(10)
    block, _ = history.read("t", ["x", "s"], 0, 10)
    assert cells(block.columns["x"]) == [1.0, 2.5] and cells(block.columns["s"]) == [None, "on"]
    assert history.position("t").seq == 2


def test_a_refused_block_does_not_take_its_neighbours_with_it(history):
    futures = [
        history.append("t", Block(np.array([t]), {"x": Column(np.array([value], object if isinstance(value, str) else float))}))
        for t, value in enumerate([1.0, 2.0, "no", 3.0])
    ]
    assert [future.exception(10) is None for future in futures] == [True, True, False, True]
    assert history.read("t", ["x"], 0, 10)[0].t.tolist() == [0, 1, 3]


def test_whoever_opens_the_node_last_may_write(history, address):
    block = Block(np.array([1]), {"x": Column(np.array([1.0]))})
    keep(history, "t", block)
    with Store.open(address) as other:
        taken = other.node("roof")
        assert taken.epoch == history.epoch
        with pytest.raises(LostLease, match="roof"):
            history.append("t", Block(np.array([2]), {})).result(10)
        with pytest.raises(LostLease):
            history.delete("t", 0, 10).result(10)
        assert keep(taken, "t", Block(np.array([3]), {}))[0].seq == 2
        keep(other.node("shed"), "t", block)
        again = history.store.node("roof")
        assert keep(again, "t", Block(np.array([4]), {}))[0].seq == 3
        with pytest.raises(LostLease):
            taken.append("t", Block(np.array([5]), {})).result(10)
    assert history.read("t", [], 0, 10)[0].t.tolist() == [1, 3, 4]
    with pytest.raises(SisockError, match="to be read"):
        history.store.reader("roof").append("t", block)
    with pytest.raises(UnknownNode):
        history.store.reader("nobody")


def test_a_full_queue_is_busy(history, monkeypatch):
    monkeypatch.setattr(committing, "MAX_JOBS", 2)
    gate, inside = threading.Event(), threading.Event()

    def hold(*_):
        inside.set()
        gate.wait(30)

    waiting = history._task("t", hold)
    inside.wait(30)
    futures = [history.append("t", Block(np.array([t]), {})) for t in (1, 2)]
    with pytest.raises(Busy):
        history.append("t", Block(np.array([3]), {}), wait=False)
    done: Future = Future()
    thread = threading.Thread(target=lambda: done.set_result(history.append("t", Block(np.array([3]), {}))))
    thread.start()
    gate.set()
    waiting.result(30)
    assert [future.result(30).seq for future in [*futures, done.result(30)]] == [1, 2, 3]
    thread.join()


def test_changes_since_a_position(filled):
    history, block = filled
    position = history.position("t")
    assert len(history.changes("t", FIELDS, position).block) == 0
    new = some(100, seed=9, start=int(block.t[-1]))
    keep(history, "t", new)
    changes = history.changes("t", FIELDS, position)
    assert changes.block == new and changes.revises == () and changes.position == history.position("t")
    keep(history, "t", Block(block.t[500:501], {"x": Column(np.array([7.0]))}), correct=True)
    late = history.changes("t", ["x"], changes.position)
    assert late.revises == ((int(block.t[500]), int(block.t[500]) + 1),)
    assert late.block.columns["x"].values.tolist() == [7.0]
    with pytest.raises(PositionLost):
        history.changes("t", ["x"], Position("another life", 1))
    with pytest.raises(PositionLost):
        history.changes("t", ["x"], Position(history.epoch, 10**6))
    with pytest.raises(TooMuch):
        history.changes("t", ["x"], Position(history.epoch, 0), max_rows=1000)


def test_a_history_that_was_forgotten_or_restored_has_a_new_epoch(store, history):
    keep(history, "t", some(10_000))
    store.restored("roof")
    restored = store.reader("roof")
    assert restored.epoch != history.epoch and restored.newest("t") == history.newest("t")
    with pytest.raises(LostLease):
        history.append("t", Block(np.array([LATEST - 1]), {})).result(10)
    store.forget("roof")
    assert store.nodes() == []
    again = store.node("roof")
    assert again.epoch not in (history.epoch, restored.epoch) and again.timelines() == []
    store.shrink()


def test_a_history_is_deleted_while_blocks_are_on_their_way(store, history):
    keep(history, "t", some(10_000))
    # On PostgreSQL, which locks rows, both would wait for each other.
    coming = [history.append("t", some(9000, start=T0 + n * 10**12)) for n in range(1, 12)]
    coming[0].result()
    store.forget("roof")
    for one in coming:
        with suppress(LostLease):
            one.result(30)
    assert store.nodes() == []
    with store.database.reading() as tx:
        for table in ("timelines", "fields", "blocks", "chunks", "chunk_values", "pyramid"):
            assert tx.known(f"SELECT count(*) FROM {table}") == (0,), table


def test_a_writer_of_a_node_that_was_deleted_writes_into_no_other(address):
    """SQLite gives its number, and the next writer begins with the same lease."""
    row = [Block(np.array([t]), {"x": Column(np.array([1.0]))}) for t in range(4)]
    for name in ("attic", "roof"):
        with Store.open(address) as here, Store.open(address) as there:
            old = here.node("roof")
            keep(old, "t", row[0])
            there.forget("roof")
            new = there.node(name)
            keep(new, "t", row[1])
            for _ in range(2):
                with pytest.raises(LostLease):
                    keep(old, "t", row[2], correct=True)
            with pytest.raises(LostLease):
                old.begin_anew()
            old.release()
            assert there.holder(name) is not None
            keep(new, "t", row[3])
            assert new.read("t", ["x"], EARLIEST, LATEST)[0].t.tolist() == [1, 3]
            if name != "roof":
                assert old.timelines() == [] and old.newest("t") is None
                assert len(old.read("t", ["x"], EARLIEST, LATEST)[0]) == 0
            there.forget(name)


def test_what_was_remembered_of_a_node_that_was_deleted_is_not_shown_of_the_next(store):
    for value, start in ((1.0, 0), (7.0, 500)):
        history = store.node("roof")
        keep(history, "t", Block(start + np.arange(20_000) * 1000, {"x": Column(np.full(20_000, value))}))
        history.compact("t").result(30)
        rows, _ = history.last_before("t", ["x"], np.array([5_000_000, 9_000_000]))
        assert rows.t.tolist() == [5_000_000 - start, 9_000_000 - start]
        assert rows.columns["x"].values.tolist() == [value, value]
        assert history.overview("t", ["x"], EARLIEST, LATEST, 10).fields["x"].columns["x"].values.max() == value
        store.forget("roof")


def test_pages_follow_each_other_and_hold_no_transaction(filled, store):
    history, block = filled
    pages = []
    for page, _ in history.pages("t", FIELDS, rows=9000):
        pages.append(page)
        if store.database.engine == "sqlite":
            keep(history, "u", Block(np.array([len(pages)]), {}))
            with store.database.sql.connect() as connection:
                assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert len(pages) > 4 and max(map(len, pages)) < 30_000
    assert sum(map(len, pages)) == len(block)
    assert all(page == block.between(int(page.t[0]), int(page.t[-1]) + 1) for page in pages)


def test_retention_drops_old_chunks_and_coarsens_others(filled):
    history, block = filled
    span = (block.t[-1] - block.t[0]) / 1e6
    assert history.retain("t", keep=span / 2, coarse_after=span / 4, coarse_step=60.0).result(60) > 0
    rows, _ = history.read("t", FIELDS, EARLIEST, LATEST)
    assert block.t[-1] - span / 2 * 1e6 >= rows.t[0] > block.t[0]
    fine = int(block.t[-1] - span / 4 * 1e6)
    assert rows.between(fine, LATEST) == block.between(fine, LATEST)
    coarse = rows.between(int(rows.t[0]), fine)
    was = block.between(int(rows.t[0]), fine)
    assert len(coarse) < len(was) / 4
    assert np.nanmax(coarse.columns["x"].numbers()) == np.nanmax(was.columns["x"].numbers())
    assert np.nanmin(coarse.columns["x"].numbers()) == np.nanmin(was.columns["x"].numbers())
    position = history.position("t")
    keep(history, "t", *cut(some(20_000, seed=2, start=int(block.t[-1]))))
    # It is applied behind the appends that sealed rows.
    history.compact("t").result(60)
    assert history.span("t")[0] > rows.t[0]
    # Who has not much more than what is gone lacks rows that nobody can tell.
    assert history.changes("t", ["x"], position).position == history.position("t")
    with pytest.raises(PositionLost):
        history.changes("t", ["x"], Position(history.epoch, 1))


def test_retention_reaches_what_is_not_sealed(history):
    """A row a day would be sealed after 22 years."""
    day = 86_400_000_000
    rows = [Block(np.array([n * day]), {"x": Column(np.array([1.0]))}) for n in range(300)]
    keep(history, "t", *rows[:200])
    assert history.retain("t", keep=30 * 86400.0).result(30) > 0
    first, last = history.span("t")
    assert last == 199 * day and 30 <= (last - first) // day <= 30 + 64
    keep(history, "t", *rows[200:])
    history.compact("t").result(60)
    first, last = history.span("t")
    assert last == 299 * day and 30 <= (last - first) // day <= 30 + 64
    assert len(history.read("t", ["x"], EARLIEST, LATEST)[0]) == (last - first) // day + 1


def test_who_did_not_read_what_retention_deleted_is_told(history):
    block = some(60_000)
    parts = cut(block)
    first = keep(history, "t", *parts)[0]
    behind = history.position("t")
    keep(history, "t", some(10, start=int(block.t[-1])))
    span = (block.t[-1] - block.t[0]) / 1e6
    history.retain("t", keep=span / 2).result(60)
    with pytest.raises(PositionLost, match="retention"):
        history.changes("t", ["x"], first)
    assert len(history.changes("t", ["x"], behind).block) == 10
    # A correction of what is deleted at once was not read either; what is there was.
    late = keep(history, "t", Block(block.t[-1:] - 5, {"x": Column(np.array([7.0]))}), correct=True)[0]
    keep(history, "t", some(10_000, start=int(block.t[-1]) + 10**12))
    history.compact("t").result(60)
    with pytest.raises(PositionLost):
        history.changes("t", ["x"], behind)
    assert len(history.changes("t", ["x"], late).block) > 0


def test_others_write_while_much_is_deleted(filled, monkeypatch):
    history, block = filled
    monkeypatch.setattr(mending, "PORTION", 4)
    gate, inside = threading.Event(), threading.Event()

    def hold(*_):
        inside.set()
        gate.wait(30)

    held = history._task("t", hold)
    inside.wait(30)
    before = history.position("t")
    deleted = history.delete("t", int(block.t[10]), int(block.t[-10]))
    written = history.append("u", block.take(slice(0, 3)))
    gate.set()
    held.result(30)
    written.result(30)
    assert not deleted.done()
    assert deleted.result(60).seq > before.seq + 1
    assert len(history.read("t", FIELDS, EARLIEST, LATEST)[0]) == 20
    changes = history.changes("t", FIELDS, before)
    assert changes.revises == ((int(block.t[10]), int(block.t[-10])),) and len(changes.block) == 0


def test_a_history_that_was_not_deleted_to_the_end_is_gone_all_the_same(store, monkeypatch):
    keep(store.node("roof"), "t", some(20_000))

    def breaks_off(*_):
        raise StoreAway("killed")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "_sweep", breaks_off)
        with pytest.raises(StoreAway):
            store.forget("roof")
    assert store.nodes() == []
    history = store.node("roof")
    assert history.timelines() == []
    keep(history, "t", some(10))
    history.release()
    store.shrink()
    with store.database.reading() as tx:
        assert tx.known("SELECT count(*) FROM timelines") == (1,)
        for table in ("chunks", "chunk_values", "pyramid"):
            assert tx.known(f"SELECT count(*) FROM {table}") == (0,), table


def test_a_clock_that_ran_ahead_and_jumps_back_is_no_disaster(history):
    ahead = Block(T0 * 2 + np.arange(9000), {"x": Column(np.zeros(9000))})
    keep(history, "t", ahead)
    history.retain("t", keep=86400.0 * 365 * 100).result(30)
    block = some(20_000)
    keep(history, "t", *cut(block, most=300), correct=True)
    rows, _ = history.read("t", FIELDS, T0, T0 * 2)
    assert rows == block
    shown = history.overview("t", ["x"], T0, T0 * 2, 100).fields["x"]
    assert np.nanmax(shown.columns["x"].values) == np.nanmax(block.columns["x"].values[block.columns["x"].mask()])


def test_other_processes_read_while_the_node_writes(history, address):
    script = """
import json, sys
from sisock.store import Store
with Store.open(sys.argv[1], pool=1) as store:
    history = store.reader("roof")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        block, position = history.read("t", ["x"], 0, 2**62)
        shown = history.overview("t", ["x"], 0, 2**62, 10).fields.get("x")
        rows = block.columns["x"].values.tolist() if len(block) else []
        true = rows == [float(one) for one in range(len(rows))] and (not rows or shown.columns["x"].values.max() >= rows[-1])
        print(json.dumps([len(rows), position.seq, bool(true)]), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert json.loads(reader.stdout.readline()) == "ready"
        seen = 0
        for number in range(60):
            t = np.arange(number * 500, (number + 1) * 500)
            future = history.append("t", Block(t, {"x": Column(t.astype(float))}))
            if number % 3 == 0:
                reader.stdin.write("\n")
                reader.stdin.flush()
                rows, seq, true = json.loads(reader.stdout.readline())
                assert true and rows == seq * 500 and rows >= seen
                seen = rows
            future.result(30)
        reader.stdin.close()
        assert reader.wait(30) == 0


def test_the_tables_are_those_of_the_schema(store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from sisock.store.schema import tables

    with store.database.sql.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables(store.database.engine)) == []


def test_plain_rows_for_anyones_sql(postgres):
    with Store.open(postgres()) as store:
        history = store.node("roof")
        block = some(20_000)
        keep(history, "t", *cut(block))
        keep(history, "other", Block(block.t[:9], {"x": Column(np.arange(9.0))}))
        corrected = Block(block.t[5:7], {"x": Column(np.array([1.5, 0.0]), np.array([True, False]))})
        keep(history, "t", corrected, correct=True)
        whole, _ = history.read("t", FIELDS, EARLIEST, LATEST)
        # As its first version said, so does the newest.
        for version in ("head", "0001"):
            if version != "head":
                downgrade(store.database, version)
            with store.database.reading() as tx:
                assert tx.one("SELECT count(*), sum(value) FROM rows WHERE timeline = ?", "other") == (9, 36.0)
                for name in FIELDS:
                    _is_there(tx, name, whole)


def _is_there(tx, name, whole):
    column = "text" if name == "s" else "value"
    got = tx.rows(f"SELECT t, {column} FROM rows WHERE node = ? AND timeline = ? AND field = ? ORDER BY t", "roof", "t", name)
    expected = whole.take(whole.columns[name].mask())
    assert [t for t, _ in got] == expected.t.tolist()
    values = expected.columns[name].values
    if name == "s":
        assert [text for _, text in got] == values.tolist()
    else:
        assert np.array_equal([value for _, value in got], values.astype(float), equal_nan=True)
