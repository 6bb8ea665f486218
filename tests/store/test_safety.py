"""Nothing that was acknowledged is lost: a writer killed at any moment, a damaged file, a full disk."""

import copy
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from sisock.blocks import Block, Column
from sisock.store import Store, StoreDamaged, StoreFull, checking
from sisock.times import EARLIEST, LATEST

from .killed import KEEP, rows
from .model import Model, same_rows
from .test_contract import FIELDS, cut, keep, some

CHILD = Path(__file__).with_name("killed.py")


def apply(model, kind, about):
    if kind in ("append", "late"):
        model.append(rows(range(*about[:2]), about[2]))
    elif kind == "delete":
        model.delete(*about[:2])


def kill(address, seed, acts, model, times):
    """Lets a child write, kills it in the middle, and takes in what it said."""
    with subprocess.Popen([sys.executable, str(CHILD), address, str(seed)], stdout=subprocess.PIPE, text=True) as child:
        said = [child.stdout.readline() for _ in range(acts)]
        child.kill()
        said += child.stdout.readlines()
    assert child.wait() == -9
    heard = [json.loads(line) for line in said if line.endswith("\n")]
    pending = None
    for what, kind, about in heard:
        times[kind] = times.get(kind, 0) + 1
        if what == "done":
            apply(model, kind, about)
            pending = None
        else:
            pending = kind, about
    return pending


def holds(address, model, pending):
    """The store has what the model has, or what it would have had with the act that was not answered."""
    with Store.open(address, pool=1) as store:
        history = store.reader("roof")
        block, _ = history.read("t", ["x", "n"], EARLIEST, LATEST)
        assert checking.check(store).damage == []
        shown = history.overview("t", ["x"], EARLIEST, LATEST, 20).fields["x"]
    other = copy.deepcopy(model)
    if pending:
        apply(other, *pending)
    for one in (other, model):
        start = one.newest - KEEP
        try:
            same_rows(block.between(start, LATEST), one.read(["x", "n"], start, LATEST))
        except AssertionError:
            if one is model:
                raise
        else:
            model.rows = one.rows
            break
    assert shown.columns["x"].values.max() == block.columns["x"].values.max()


def killed_often(address, kills, seed=0):
    choice, model, times = random.Random(seed), Model(), {}
    Store.open(address).close()
    for number in range(1, kills + 1):
        pending = kill(address, number, choice.randrange(2, 400), model, times)
        if model.rows or pending:
            holds(address, model, pending)
    # How many acts were begun and acknowledged, of each kind.
    print(f"{kills} kills, begun and acknowledged: {times}")
    assert {"append", "late", "delete", "compact", "retain"} <= set(times)


def test_what_was_acknowledged_is_there_after_kill(address):
    killed_often(address, 4, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_what_was_acknowledged_is_there_after_many_kills(address):
    killed_often(address, 100, seed=2)


def test_a_damaged_file_is_reported_and_the_rest_is_saved(tmp_path):
    path = tmp_path / "h.db"
    block = some(60_000)
    with Store.open(path) as store:
        history = store.node("roof")
        keep(history, "t", *cut(block))
        assert checking.check(store).sound
    # A byte goes wrong in the middle of one chunk's column, without the engine noticing.
    with sqlite3.connect(path) as connection:
        ordinal, data = connection.execute(
            "SELECT ord, data FROM chunk_values WHERE field = 1 ORDER BY ord LIMIT 1 OFFSET 3"
        ).fetchone()
        spoiled = bytearray(data)
        spoiled[len(data) // 2] ^= 1
        connection.execute("UPDATE chunk_values SET data = ? WHERE field = 1 AND ord = ?", (bytes(spoiled), ordinal))
        first, last = connection.execute("SELECT first, last FROM chunks WHERE ord = ?", (ordinal,)).fetchone()
    connection.close()
    with Store.open(path) as store, Store.open(tmp_path / "saved.db") as saved:
        history = store.node("roof")
        with pytest.raises(StoreDamaged, match="'x' of 't' cannot be read between"):
            history.read("t", ["x"], EARLIEST, LATEST)
        assert history.read("t", ["n"], EARLIEST, LATEST)[0].columns["n"] == block.columns["n"]
        (damage,) = checking.check(store).damage
        assert (damage.field, damage.start, damage.end) == ("x", first, last)
        report = checking.copy(store, saved)
        assert report.damage == [damage] or len(report.damage) == 1
        got, _ = saved.reader("roof").read("t", FIELDS, EARLIEST, LATEST)
    gone = (block.t >= first) & (block.t <= last)
    assert (got.t == block.t).all()
    assert not got.columns["x"].mask()[gone].any()
    assert got.take(~gone) == block.take(~gone)
    assert got.columns["s"] == block.columns["s"]


@pytest.fixture
def closed(tmp_path):
    """A store of two nodes that nobody has open: its file, and the rows of each."""
    path, block = tmp_path / "h.db", some(40_000)
    with Store.open(path) as store:
        for name in ("attic", "roof"):
            history = store.node(name)
            keep(history, "t", *cut(block), some(300, seed=1, start=int(block.t[-1])))
            history.release()
        store.shrink()
    return path, block


def spoil(path, statement, *about):
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, about).rowcount > 0
    connection.close()


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("how", ["wrong", "missing"])
def test_damage_in_the_pyramid_is_found_stops_no_append_and_is_mended(closed, level, how):
    path, block = closed
    where = "WHERE level = ? AND field = 1 AND ord = (SELECT min(ord) FROM pyramid WHERE level = ? AND field = 1)"
    if how == "missing":
        spoil(path, f"DELETE FROM pyramid {where}", level, level)
    else:
        wrong = "CAST(substr(items, 1, length(items) - 9) || x'010203040506070809' AS BLOB)"
        spoil(path, f"UPDATE pyramid SET items = {wrong} {where}", level, level)
    with Store.open(path) as store:
        report = checking.check(store)
        assert {(one.node, one.field) for one in report.damage} == {("attic", "x")}
        assert all(one.start <= block.t[0] for one in report.damage)
        assert all("compact the timeline" in one.reason for one in report.damage)
        history = store.node("attic")
        keep(history, "t", some(9000, seed=2, start=int(block.t[-1]) + 10**9))
        history.compact("t").result(60)
        assert checking.check(store).sound
        rows, _ = history.read("t", ["x"], EARLIEST, LATEST)
        shown = history.overview("t", ["x"], EARLIEST, LATEST, 50).fields["x"]
        assert np.nanmax(shown.columns["x"].numbers()) == np.nanmax(rows.columns["x"].numbers())


@pytest.mark.parametrize(
    ("table", "saved"),
    [("blocks", "sealed"), ("chunks", "loose"), ("chunks_by_time", "all"), ("fields", "none"), ("revisions", "all")],
)
def test_one_bad_page_does_not_keep_the_rest_from_being_saved(closed, tmp_path, table, saved):
    path, block = closed
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (loose,) = connection.execute("SELECT sum(rows) FROM blocks").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(np.random.default_rng(3).bytes(4096))
    with Store.open(path) as store, Store.open(tmp_path / "saved.db") as other:
        assert not checking.check(store).sound
        report = checking.copy(store, other)
        whole = 2 * (len(block) + 300)
        assert report.rows == {"all": whole, "none": 0, "loose": loose, "sealed": whole - loose}[saved]
        assert report.sound == (saved == "all")
        for node in other.nodes():
            assert len(other.reader(node).read("t", ["x"], EARLIEST, LATEST)[0]) == report.rows // 2
        for damage in report.damage:
            assert damage.node in str(damage)


def test_a_file_with_a_page_of_rubbish_is_never_silently_shortened(tmp_path):
    path = tmp_path / "h.db"
    block = some(60_000)
    with Store.open(path) as store:
        keep(store.node("roof"), "t", *cut(block))
        store.shrink()
    size = path.stat().st_size
    found = 0
    for at in range(3, size // 4096, size // 4096 // 12):
        copied = tmp_path / f"page{at}.db"
        shutil.copy(path, copied)
        with copied.open("r+b") as file:
            file.seek(at * 4096)
            file.write(np.random.default_rng(at).bytes(4096))
        try:
            with Store.open(copied) as store:
                report = checking.check(store)
                try:
                    got, _ = store.reader("roof").read("t", FIELDS, EARLIEST, LATEST)
                except StoreDamaged:
                    assert not report.sound
                    found += 1
                else:
                    assert got == block
        except StoreDamaged:
            found += 1
    assert found


def test_a_file_that_was_cut_off_is_never_silently_shortened(tmp_path):
    path = tmp_path / "h.db"
    block = some(60_000)
    with Store.open(path) as store:
        keep(store.node("roof"), "t", *cut(block))
        store.shrink()
    size = path.stat().st_size
    for part in (0.2, 0.5, 0.8, 0.99):
        copied = tmp_path / f"cut{part}.db"
        shutil.copy(path, copied)
        with copied.open("r+b") as file:
            file.truncate(int(size * part))
        with pytest.raises(StoreDamaged), Store.open(copied) as store:
            assert not checking.check(store).sound
            store.reader("roof").read("t", FIELDS, EARLIEST, LATEST)


def test_a_full_disk_stops_appends_and_nothing_else(tmp_path):
    with Store.open(tmp_path / "h.db") as store:
        room = {"pages": 2**30}
        event.listen(store.database.sql, "checkout", lambda connection, *_: limit(connection, room["pages"]))
        history = store.node("roof")
        parts = cut(some(100_000))
        keep(history, "t", *parts[:5])
        with store.database.reading() as tx:
            room["pages"] = tx.one("PRAGMA page_count")[0] + 20
        kept = 5
        with pytest.raises(StoreFull, match="make room"):
            for part in parts[5:]:
                keep(history, "t", part)
                kept += 1
        with pytest.raises(StoreFull):
            keep(history, "t", parts[kept])
        rows = Block(np.concatenate([part.t for part in parts[:kept]]))
        assert (history.read("t", FIELDS, EARLIEST, LATEST)[0].t == rows.t).all()
        assert len(history.overview("t", ["x"], EARLIEST, LATEST, 100).fields["x"])
        room["pages"] = 2**30
        positions = keep(history, "t", *parts[kept:])
        assert positions[-1].seq == len(parts)
        assert history.read("t", FIELDS, EARLIEST, LATEST)[0] == some(100_000)
        assert checking.check(store).sound


def limit(connection, pages):
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA max_page_count={pages}")
    cursor.close()


def test_a_store_is_copied_from_one_engine_to_the_other(tmp_path, postgres):
    block = some(20_000)
    with Store.open(tmp_path / "h.db") as store, Store.open(postgres()) as other, Store.open(tmp_path / "back.db") as back:
        history = store.node("roof")
        keep(history, "t", *cut(block))
        keep(history, "t", Block(block.t[5:6], {"x": Column(np.array([1.5]))}), correct=True)
        history.retain("t", keep=1e9).result(10)
        seen = []
        assert checking.copy(store, other, lambda *done: seen.append(done)).sound
        assert seen[-1][2] == seen[-1][3]
        assert checking.copy(other, back).sound
        assert back.reader("roof").read("t", FIELDS, EARLIEST, LATEST)[0] == history.read("t", FIELDS, EARLIEST, LATEST)[0]
