"""A node's history on a PostgreSQL server that is killed, frozen and brought back: nothing is lost, and all is told."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from sisock import DataNode, Field
from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument, LostLease
from sisock.history import Keeping
from sisock.store import Store, StoreAway, StoreFull, checking, handover
from sisock.store import committer as committing
from sisock.store.boxes import Box, contents
from sisock.store.database import Database
from sisock.store.lasting import LastingHistory, open_history
from sisock.store.leases import Tenure, Writer, may_take
from sisock.times import EARLIEST, LATEST, now

ME, OTHER = Writer("me", 1), Writer("other", 1)


def row(t, value=0.0):
    return Block(np.array([t]), {"x": Column(np.array([value]))})


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.005)
    return found


def times(address, node="roof"):
    with Store.open(address) as store:
        return store.reader(node).read("t", ["x"], EARLIEST, LATEST)[0].t.tolist()


@pytest.fixture
def made(tmp_path):
    """Makes histories of a home and closes them at the end."""
    open_ones = []

    def make(address, writer=ME, home="home", **more):
        history = LastingHistory(address, "roof", writer, tmp_path / home, retry=0.1, **more)
        open_ones.append(history)
        return history

    yield make
    for history in open_ones:
        history.close()


def test_rows_are_kept_while_the_server_is_dead_and_at_a_start_without_it(server, made, tmp_path):
    told = []
    history = made(server.address, changed=told.append)
    first = [history.append("t", row(t)).result(30) for t in range(3)]
    assert history.keeping == Keeping()
    server.kill()
    before = now()
    away = [history.append("t", row(t)).result(30) for t in range(3, 6)]
    assert [p.seq for p in away] == [4, 5, 6] and {p.epoch for p in away} == {first[0].epoch}
    assert history.keeping.away and history.keeping.waiting == 3
    assert before - 1 <= history.keeping.since <= now()
    with pytest.raises(StoreAway, match="history cannot be read now"):
        history.read("t", ["x"], EARLIEST, LATEST)
    assert history.newest("t") == 5
    history.close()
    # A start of the node, while the server still is away.
    again = made(server.address, Writer("me", 2))
    assert again.append("t", row(6)).result(30).seq == 7
    assert contents(tmp_path / "home").waiting == 4
    server.start()
    until(lambda: not again.keeping.away)
    assert again.append("t", row(7)).result(30) == type(first[0])(first[0].epoch, 8)
    assert again.read("t", ["x"], EARLIEST, LATEST)[0].t.tolist() == list(range(8))
    assert contents(tmp_path / "home") == type(contents(tmp_path))(0, None, 0)
    until(lambda: told and told[-1].waiting == 3)


def test_how_long_rows_are_kept_is_set_when_the_server_is_back(server, made):
    def kept():
        database = Database(server.address)
        try:
            with database.reading() as tx:
                return dict(tx.rows("SELECT name, keep FROM timelines"))
        finally:
            database.close()

    history = made(server.address)
    for timeline in ("t", "u"):
        history.append(timeline, row(0)).result(30)
    assert history.retain("t", 5.0).result(30) == 0
    assert kept() == {"t": 5_000_000, "u": None}
    server.kill()
    history.append("v", row(1)).result(30)
    for timeline in ("u", "v"):
        assert history.retain(timeline, 60.0).result(30) == 0
    server.start()
    until(lambda: not history.keeping.away)
    until(lambda: kept() == {"t": 5_000_000, "u": 60_000_000, "v": 60_000_000})


def test_readers_are_answered_after_a_restart_without_a_failure(server, made):
    """The connections that the server broke are not tried one after the other."""
    history = made(server.address)
    for t in range(3):
        history.append("t", row(t)).result(30)
    threads = [threading.Thread(target=history.read, args=("t", ["x"], EARLIEST, LATEST)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.kill()
    server.start()
    # The outbox has not noticed: nothing was appended.
    for _ in range(12):
        assert len(history.read("t", ["x"], EARLIEST, LATEST)[0]) == 3
    assert history.append("t", row(3)).result(30).seq == 4


def test_a_server_that_only_does_not_answer_keeps_nothing_back(server, made, monkeypatch):
    history = made(server.address)
    history.append("t", row(0)).result(30)
    server.freeze()
    try:
        with monkeypatch.context() as hurried:
            hurried.setattr(handover, "ANSWER_WITHIN", 0.5)
            kept = [history.append("t", row(t)) for t in range(1, 4)]
            assert [future.result(30).seq for future in kept] == [2, 3, 4]
        assert "has not answered" in history.keeping.away
    finally:
        server.thaw()
    until(lambda: not history.keeping.away)
    assert history.append("t", row(4)).result(30).seq == 5
    assert times(server.address) == list(range(5))


def test_a_node_goes_on_and_says_so(server, made):
    class Roof(DataNode):
        """Air on the roof."""

        name = "roof"
        fields = {"x": Field()}

    node = Roof()
    node.history = made(server.address)
    node.append("t", 1.0, {"x": 1.0}).result(30)
    assert node.get_fields(1, None).to_wire()[1]["t"]["interval"] is None
    node.append("t", 3.0, {"x": 1.0}).result(30)
    assert node.get_fields(1, None).to_wire()[1]["t"]["interval"] == 2.0
    server.kill()
    # What is corrected cannot be compared with what is there, so all of it is kept.
    node.append("t", [1.0, 2.0], {"x": [1.0, 7.0]}, correct=True).result(30)
    assert node.get_fields(1, None).to_wire()[1]["t"]["interval"] == 2.0
    with pytest.raises(StoreAway):
        node.get_data(["x"], 1.0, None)
    server.start()
    until(lambda: not node.history.keeping.away)
    assert node.get_data(["x"], 1.0, None)["data"]["x"] == [1.0, 7.0, 1.0]


def test_rows_that_come_while_others_are_handed_over_do_not_wait_for_it(server, made, monkeypatch):
    monkeypatch.setattr(handover, "HANDED_TOGETHER", 4)
    history = made(server.address)
    server.kill()
    for t in range(40):
        history.append("t", row(t)).result(30)
    server.start()
    t = 40
    while history.keeping.away:
        history.append("t", row(t)).result(30)
        t += 1
    assert times(server.address) == list(range(t))


def test_a_file_that_is_read_again_without_the_database_changes_nothing(server, made, monkeypatch):
    monkeypatch.setattr(handover, "MANY_ROWS", 100)
    history = made(server.address)
    block = Block(np.arange(200), {"x": Column(np.arange(200.0))})
    history.append("t", block).result(30)
    server.kill()
    history.append("t", block, correct=True).result(30)
    server.start()
    until(lambda: not history.keeping.away)
    with Store.open(server.address) as store, store.database.reading() as tx:
        assert tx.one("SELECT sum(rows) FROM blocks") == (200,)


def test_what_postgresql_does_not_keep_is_said_before_it_is_acknowledged(server, made):
    history = made(server.address)
    server.kill()
    with pytest.raises(InvalidArgument, match="NUL"):
        history.append("t", Block(np.array([1]), {"s": Column.of(["a\0b"], "s")}))
    history.append("t", Block(np.array([1]), {"s": Column.of(["ab"], "s")})).result(30)
    server.start()
    until(lambda: not history.keeping.away)
    assert history.keeping.refused == 0


def test_rows_are_not_read_in_part_while_the_database_is_full(address, made, monkeypatch):
    named = {"me": False}
    first = made(address, OTHER, "there")
    first.append("t", row(0)).result(30)
    second = made(address, ME, "here", has_name=lambda: named["me"])
    second.append("t", row(1)).result(30)
    assert second.read("t", ["x"], EARLIEST, LATEST)[0].t.tolist() == [0]
    full, keep = threading.Event(), committing.keep

    def refuse(*args):
        if full.is_set():
            raise StoreFull("full")
        return keep(*args)

    monkeypatch.setattr(committing, "keep", refuse)
    full.set()
    named["me"] = True
    second.named()
    until(lambda: "full" in (second.keeping.away or ""))
    for read in (lambda: second.read("t", ["x"], EARLIEST, LATEST), lambda: second.select("SELECT 1")):
        with pytest.raises(StoreAway, match="cannot be read now"):
            read()
    full.clear()
    until(lambda: not second.keeping.away)
    assert second.read("t", ["x"], EARLIEST, LATEST)[0].t.tolist() == [0, 1]


# Leases


def test_a_stand_by_of_another_home_waits_for_the_name_and_nobody_takes_the_lease_back(address, made):
    named = {"me": True, "other": False}
    first = made(address, ME, "here", has_name=lambda: named["me"])
    second = made(address, OTHER, "there", has_name=lambda: named["other"])
    assert first.append("t", row(0)).result(30).seq == 1
    assert "the lease" in second.keeping.away
    kept = second.append("t", row(5)).result(30)
    # What is in the database may be read meanwhile.
    assert second.read("t", ["x"], EARLIEST, LATEST)[0].t.tolist() == [0]
    assert first.append("t", row(1)).result(30).seq == 2
    named.update(me=None, other=True)
    second.named()
    until(lambda: not second.keeping.away)
    last = second.append("t", row(6)).result(30)
    assert last.epoch != kept.epoch
    # The first wakes up: it is told, and does not come back by itself, whatever it can know.
    with pytest.raises(LostLease):
        first.append("t", row(2)).result(30)
    with pytest.raises(LostLease):
        first.append("t", row(3)).result(30)
    again = made(address, Writer("me", 2), "here again", has_name=lambda: named["me"])
    assert again.append("t", row(3)).result(30).epoch != last.epoch
    assert second.append("t", row(7)).result(30).seq == last.seq + 1
    assert times(address) == [0, 1, 5, 6, 7]


def test_a_node_whose_database_was_away_during_a_takeover_does_not_take_the_lease_back(server, made):
    named = {"me": None, "other": None}
    first = made(server.address, ME, "here", has_name=lambda: named["me"])
    first.append("t", row(0)).result(30)
    server.kill()
    first.append("t", row(1)).result(30)
    server.start()
    # The router is away for the first; the other one gets the name and the lease, before or after the first came back.
    named["other"] = True
    second = made(server.address, OTHER, "there", has_name=lambda: named["other"])
    until(lambda: not second.keeping.away)
    second.append("t", row(2)).result(30)
    number = Store.open(server.address)
    with number:
        taken = number.tenure("roof")
        for t in (3, 4):
            first.append("t", row(t)).add_done_callback(lambda future: future.exception())
            second.append("t", row(t + 10)).result(30)
        assert number.tenure("roof") == taken
    # It comes by the name again, properly, and what waited is there.
    named.update(me=True, other=False)
    waiting = made(server.address, Writer("me", 2), "here again", has_name=lambda: named["me"])
    until(lambda: not waiting.keeping.away)
    assert set(times(server.address)) >= {0, 2, 13, 14}


def test_one_that_wakes_without_its_name_is_told_and_leaves(server, made):
    named, asked = {"me": None}, threading.Event()
    asked.set()
    first = made(server.address, ME, "here", has_name=lambda: asked.wait() and named["me"])
    first.append("t", row(0)).result(30)
    server.kill()
    # It sleeps between the number and the name.
    asked.clear()
    waits = first.append("t", row(1)).result(30)
    server.start()
    with Store.open(server.address) as store:
        store.node("roof", writer=OTHER).append("t", row(2)).result(30)
        asked.set()
        # It may have the name still, for all it knows: it goes on beside.
        first.append("t", row(3)).result(30)
        named["me"] = False
        first.named()
        until(lambda: "another process writes" in (first.keeping.away or ""))
        with pytest.raises(LostLease):
            first.append("t", row(4)).result(30)
    first.close()
    # What was acknowledged is handed over by the next start that has the name.
    again = made(server.address, Writer("me", 2), "here", has_name=lambda: True)
    until(lambda: not again.keeping.away)
    assert times(server.address) == [0, 1, 2, 3]
    assert again.append("t", row(5)).result(30).epoch != waits.epoch


HERE = "no-such-host 1"


@pytest.mark.parametrize(
    ("held", "named", "mine", "may"),
    [
        (None, None, None, True),
        (None, False, None, False),
        (Tenure(5, None, ME), None, None, True),
        (Tenure(5, None, ME), False, None, False),
        (Tenure(5, HERE, OTHER), None, None, False),
        (Tenure(5, HERE, OTHER), True, None, True),
        (Tenure(5, HERE, OTHER), None, 5, True),
        (Tenure(6, HERE, OTHER), None, 5, False),
        (Tenure(5, HERE, Writer("me", 1)), None, None, True),
        (Tenure(5, HERE, Writer("me", 3)), None, None, False),
        (Tenure(5, HERE, None), None, None, False),
    ],
)
def test_who_may_take_the_lease(held, named, mine, may):
    assert may_take(held, Writer("me", 2), named, mine) is may


def test_an_older_start_that_still_lives_keeps_the_lease_until_the_name_is_ours(monkeypatch):
    import socket

    here = f"{socket.gethostname()} {{}}"
    assert not may_take(Tenure(1, here.format(1), ME), Writer("me", 2), None, None)
    assert may_take(Tenure(1, here.format(2**22 + 1), ME), Writer("me", 2), None, None)


def test_two_that_look_at_the_same_number_do_not_both_get_the_lease(address):
    with Store.open(address) as store:
        store.node("roof", writer=ME, after=0)
        with pytest.raises(LostLease):
            store.node("roof", writer=OTHER, after=0)
        number = store.tenure("roof").number
        taken = store.node("roof", writer=OTHER, after=number)
        with pytest.raises(LostLease):
            store.node("roof", writer=ME, after=number)
        assert store.tenure("roof").writer == OTHER
        anew = taken.begin_anew()
        assert anew.epoch != taken.epoch
        with pytest.raises(LostLease):
            taken.append("t", row(0)).result(30)
        with pytest.raises(LostLease):
            taken.begin_anew()
        anew.append("t", row(0)).result(30)


def test_a_file_is_written_directly_unless_its_lease_is_anothers(tmp_path):
    history, close = open_history(str(tmp_path / "h.db"), "roof", ME, tmp_path / "box")
    assert not isinstance(history, LastingHistory)
    history.append("t", row(0)).result(30)
    other, close_other = open_history(str(tmp_path / "h.db"), "roof", OTHER, tmp_path / "other")
    assert isinstance(other, LastingHistory)
    other.append("t", row(1)).result(30)
    history.append("t", row(2)).result(30)
    close()
    other.named()
    until(lambda: not other.keeping.away)
    close_other()
    assert times(tmp_path / "h.db") == [0, 1, 2]


# Boxes


def test_each_process_of_a_home_has_a_file_of_its_own_and_what_one_left_the_next_hands_over(server, made, tmp_path):
    first = made(server.address)
    first.append("t", row(0)).result(30)
    server.kill()
    first.append("t", row(1)).result(30)
    second = made(server.address, Writer("me", 2))
    second.append("t", row(2)).result(30)
    assert len(list((tmp_path / "home").glob("*.db"))) == 2
    assert contents(tmp_path / "home").waiting == 2
    first.close()
    second.close()
    third = made(server.address, Writer("me", 3))
    third.append("t", row(3)).result(30)
    server.start()
    until(lambda: not third.keeping.away)
    assert third.append("t", row(4)).result(30)
    assert times(server.address) == [0, 1, 2, 3, 4]
    assert len(list((tmp_path / "home").glob("*.db"))) == 1


def test_a_box_is_for_one_process(tmp_path):
    box = Box(tmp_path / "1.db")
    with pytest.raises(BlockingIOError):
        Box(tmp_path / "1.db")
    box.close()
    Box(tmp_path / "1.db").close()


# The server killed


KILLS = 3


def test_every_row_that_was_acknowledged_is_there_after_the_server_was_killed(server, made, monkeypatch):
    """kill -9 of the postmaster while rows, late rows, sealing, retention and compaction go on; several times."""
    from sisock.store import keeping, mending

    monkeypatch.setattr(keeping, "SEAL_ROWS", 256)
    monkeypatch.setattr(mending, "SEAL_ROWS", 256)
    monkeypatch.setattr(mending, "MANY_PATCHES", 8)
    history = made(server.address)
    acknowledged, ends, failed = {}, threading.Event(), []
    allowed = threading.Semaphore(0)

    def write():
        t, version = 0, 0
        while allowed.acquire() and not ends.is_set():
            version += 1
            late = version % 7 == 0 and t > 500
            low = t - 450 if late else t
            span = np.arange(low, low + (3 if late else 20))
            block = Block(span, {"x": Column(np.full(len(span), float(version)))})
            try:
                history.append("t", block, correct=late).result(60)
            except Exception as error:
                failed.append(error)
                raise
            acknowledged.update(dict.fromkeys(span.tolist(), version))
            written.append(version)
            t = max(t, int(span[-1]) + 1)

    keep, written = 2000, []

    def mend():
        """Work of the kind that an operator asks for, on the same node, by its present writer."""
        while not ends.wait(0.01):
            writer = history._outbox._history
            if writer is not None:
                with suppress(StoreAway, LostLease):
                    writer.retain("t", keep=keep / 1e6).result(60)
                    writer.compact("t").result(60)

    def more(blocks):
        goal = len(written) + blocks
        allowed.release(blocks)
        until(lambda: failed or len(written) >= goal, 120)

    threads = [threading.Thread(target=work, daemon=True) for work in (write, mend)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            more(60)
            # It dies while others are under way.
            base = len(written)
            allowed.release(20)
            until(lambda base=base: failed or len(written) >= base + 2)
            server.kill()
            until(lambda base=base: failed or len(written) == base + 20, 120)
            server.start()
            until(lambda: failed or not history.keeping.away, 120)
    finally:
        ends.set()
        allowed.release()
        for thread in threads:
            thread.join(120)
    assert failed == []
    assert history.keeping.refused == 0
    got, position = history.read("t", ["x"], EARLIEST, LATEST)
    there = dict(zip(got.t.tolist(), got.columns["x"].values.tolist(), strict=True))
    assert there.items() <= acknowledged.items()
    young = {t for t in acknowledged if t >= max(acknowledged) - keep}
    assert young <= set(there)
    assert len(there) < len(acknowledged), "retention took part in it"
    assert history.append("t", row(LATEST // 2)).result(30).seq == position.seq + 1
    with Store.open(server.address) as store:
        assert checking.check(store).sound


def test_a_clock_that_jumps_back_while_the_database_is_away_loses_no_sample(server, made):
    class Roof(DataNode):
        """Air on the roof."""

        name = "roof"
        interval = 1.0
        fields = {"x": Field()}

        def sample(self):
            return {"x": 1.0}

    node = Roof()
    node.history = made(server.address)
    node.append("t", 4e9, {"x": 0.0}).result(30)
    server.kill()
    node.take_sample()
    node.take_sample()
    assert node.health.errors == 0 and node.health.samples == 2
    server.start()
    until(lambda: not node.history.keeping.away)
    assert node.get_data(["x"], 1.0, None)["data"]["x"] == [1.0, 1.0, 0.0]


def test_a_damaged_file_of_an_outbox_is_left_and_said_and_the_rest_is_handed_over(server, made, tmp_path, caplog):
    folder = tmp_path / "home"
    history = made(server.address)
    server.kill()
    for t in range(6):
        history.append("t", row(t)).result(30)
    history.close()
    # One block goes wrong without the engine's notice: it is kept beside, and the others go.
    (path,) = folder.glob("*.db")
    with sqlite3.connect(path) as file:
        (data,) = file.execute("SELECT data FROM waiting WHERE id = 3").fetchone()
        file.execute("UPDATE waiting SET data = ? WHERE id = 3", (data[:-1] + bytes([data[-1] ^ 1]),))
    file.close()
    server.start()
    again = made(server.address, Writer("me", 2))
    until(lambda: not again.keeping.away)
    assert again.keeping.refused == 1
    assert times(server.address) == [0, 1, 3, 4, 5]
    again.close()
    # The whole file is rubbish: the node goes on with another one.
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    third = made(server.address, Writer("me", 3))
    third.append("t", row(6)).result(30)
    assert "is left as it is" in caplog.text
    assert path.stat().st_size == 20_000


def test_a_copy_that_broke_off_with_its_connection_is_a_database_that_is_away(tmp_path):
    """psycopg2 then raises a SystemError, behind which stands what the server said."""
    import psycopg2

    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreAway, match="unexpected postmaster exit"):
        try:
            try:
                raise psycopg2.OperationalError("terminating connection due to unexpected postmaster exit")
            except psycopg2.Error as error:
                raise SystemError("decode returned a result with an exception set") from error
        except SystemError as error:
            database.raise_named(error)
            raise
