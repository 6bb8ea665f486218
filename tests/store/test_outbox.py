"""With its database away a node goes on keeping rows, and nothing of it is lost or doubled."""

import threading
import time

import numpy as np
import pytest

from sisock.beside import TableRows
from sisock.blocks import Block, Column
from sisock.errors import Busy, LateRow, SisockError
from sisock.positions import Position
from sisock.store import NodeHistory, Store, StoreAway, StoreFull, handover
from sisock.store import committer as committing
from sisock.store.boxes import Box
from sisock.store.committer import Mark
from sisock.store.migrations import downgrade
from sisock.store.outbox import Outbox
from sisock.times import EARLIEST, LATEST


class Switch:
    """A database that can be cut off: connections break in the middle and cannot be made anew."""

    def __init__(self, address):
        self.address, self.there = address, True
        self.store = None

    def connect(self, mine=None):
        if not self.there:
            raise StoreAway("away")
        self.store = Store.open(self.address)
        return self.store.node("roof")

    def reconnect(self, outbox):
        """Brings the database back, and waits until the outbox writes to it."""
        self.there = True
        end = time.monotonic() + 30
        while outbox.away is not None:
            assert time.monotonic() < end, outbox.away
            time.sleep(0.005)

    def cut(self, monkeypatch, *, after_commit=False):
        self.there = False
        run = type(self.store.committer)._run

        def broken(committer, jobs):
            if after_commit:
                futures = [job.done for job in jobs]
                for job in jobs:
                    job.done = type(job.done)()
                run(committer, jobs)
                for job, done in zip(jobs, futures, strict=True):
                    job.done = done
            for job in jobs:
                job.done.set_exception(StoreAway("cut"))

        monkeypatch.setattr(self.store.committer, "_run", broken.__get__(self.store.committer))


def row(t, value=0.0):
    return Block(np.array([t]), {"x": Column(np.array([value]))})


@pytest.mark.parametrize("after_commit", [False, True], ids=["before its commit", "after its commit, unanswered"])
def test_rows_go_on_while_the_database_is_away(address, tmp_path, monkeypatch, after_commit):
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    positions = [outbox.append("t", row(t)).result(30) for t in range(3)]
    switch.cut(monkeypatch, after_commit=after_commit)
    positions += [outbox.append("t", row(t)).result(30) for t in range(3, 6)]
    with pytest.raises(LateRow):
        outbox.append("t", row(1)).result(30)
    positions.append(outbox.append("t", row(1, 7.0), correct=True).result(30))
    assert outbox.waiting == 4
    # The node is started anew while the database still is away.
    outbox.close()
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    positions.append(outbox.append("t", row(6)).result(30))
    assert [position.seq for position in positions] == list(range(1, 9))
    assert len({position.epoch for position in positions}) == 1
    switch.reconnect(outbox)
    positions.append(outbox.append("t", row(7)).result(30))
    assert positions[-1].seq == 9
    assert outbox.waiting == outbox.refused == 0
    outbox.close()
    with Store.open(address) as store:
        block, position = store.reader("roof").read("t", ["x"], EARLIEST, LATEST)
        assert position == positions[-1]
        assert block.t.tolist() == list(range(8))
        assert block.columns["x"].values.tolist() == [0, 7, 0, 0, 0, 0, 0, 0]
    switch.store.close()


def crash(outbox):
    """What is left of it is what a kill would leave: the file as it is, without a last word."""
    outbox._box.know = lambda *_: None
    outbox.close()


def read(address, timeline="t"):
    with Store.open(address) as store:
        return store.reader("roof").read(timeline, ["x"], EARLIEST, LATEST)


def test_a_crash_before_the_database_goes_away_loses_nothing(address, tmp_path, monkeypatch):
    switch = Switch(address)
    path = tmp_path / "outbox.db"
    # An outage lets the file know some numbers; then the database takes in more, and the process is killed.
    outbox = Outbox(path, switch.connect, retry=0.01)
    outbox.append("t", row(0)).result(30)
    switch.cut(monkeypatch)
    outbox.append("t", row(1)).result(30)
    switch.reconnect(outbox)
    direct = [outbox.append("t", row(t)).result(30) for t in range(2, 8)]
    crash(outbox)
    # It starts again while the database is away, and its blocks are not taken for those of the same numbers.
    switch.there = False
    outbox = Outbox(path, switch.connect, retry=0.01)
    assert outbox.away
    apart = [outbox.append("t", row(t)).result(30) for t in range(8, 11)]
    assert {position.epoch for position in apart}.isdisjoint({position.epoch for position in direct})
    crash(outbox)
    outbox = Outbox(path, switch.connect, retry=0.01)
    assert outbox.append("t", row(11)).result(30).epoch == apart[0].epoch
    switch.reconnect(outbox)
    last = outbox.append("t", row(12)).result(30)
    assert outbox.away is None
    outbox.close()
    block, position = read(address)
    assert block.t.tolist() == list(range(13))
    assert position == last
    assert (last.epoch, last.seq) == (direct[0].epoch, 13)


def test_a_node_whose_database_was_never_there_keeps_its_rows(address, tmp_path):
    switch = Switch(address)
    switch.there = False
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    first = [outbox.append("t", row(t)).result(30) for t in range(3)]
    assert [position.seq for position in first] == [1, 2, 3]
    switch.reconnect(outbox)
    position = outbox.append("t", row(3)).result(30)
    outbox.close()
    # A reader with a position of the epoch apart is told to read anew.
    assert position.epoch != first[0].epoch and position.seq == 4
    assert read(address)[0].t.tolist() == [0, 1, 2, 3]


def test_a_replay_that_is_killed_in_the_middle_takes_in_each_block_once(address, tmp_path, monkeypatch):
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    outbox.append("t", row(0)).result(30)
    switch.cut(monkeypatch)
    for t in range(1, 4):
        outbox.append("t", row(t)).result(30)
    outbox.close()
    # A replay that took in two of three, and died before it could cross them off.
    switch.there = True
    history = switch.connect()
    box = Box(tmp_path / "outbox.db")
    marks = [kept.mark for kept in box.first(100, 1 << 20)]
    box.close()
    assert history.applied() == {marks[0].box: marks[0].number - 1}
    for t, mark in enumerate(marks[:2], 1):
        history.append("t", row(t, 5.0), mark=mark).result(30)
    history.store.close()
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    assert outbox.append("t", row(4)).result(30).seq == 5
    outbox.close()
    block, position = read(address)
    assert position.seq == 5
    assert block.columns["x"].values.tolist() == [0, 5, 5, 0, 0]


def test_positions_that_another_writer_took_meanwhile_end_with_their_epoch(address, tmp_path, monkeypatch):
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    before = outbox.append("t", row(0)).result(30)
    switch.cut(monkeypatch)
    away = outbox.append("t", row(1)).result(30)
    assert away == Position(before.epoch, 2)
    with Store.open(address) as store:
        assert store.node("roof").append("t", row(2)).result(30) == away
    switch.reconnect(outbox)
    after = outbox.append("t", row(3)).result(30)
    outbox.close()
    assert after.epoch != before.epoch and after.seq == 4
    block, _ = read(address)
    assert block.t.tolist() == [0, 1, 2, 3]


def test_a_busy_node_comes_back_to_its_database(address, tmp_path, monkeypatch):
    """Blocks that come more often than the database is asked for do not keep it from being asked for."""
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.2)
    outbox.append("t", row(0)).result(30)
    switch.cut(monkeypatch)
    outbox.append("t", row(1)).result(30)
    switch.there = True
    t = 2
    while outbox.away is not None:
        outbox.append("t", row(t)).result(30)
        t += 1
        assert t < 100_000
    outbox.append("t", row(t)).result(30)
    outbox.close()
    assert read(address)[0].t.tolist() == list(range(t + 1))


def test_what_the_database_does_not_take_in_is_kept_beside(address, tmp_path, monkeypatch):
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    outbox.append("t", row(0)).result(30)
    for which in (1, 2):
        switch.cut(monkeypatch)
        outbox.append(f"new{which}", row(0)).result(30)
        with Store.open(address) as store:
            text = Block(np.array([0]), {"x": Column.of(["text"], "x")})
            store.node("roof").append(f"new{which}", text).result(30)
        switch.reconnect(outbox)
        outbox.append("t", row(which)).result(30)
        assert outbox.refused == which
    outbox.close()


@pytest.fixture
def waits(address, tmp_path):
    """An outbox in whose file blocks wait for a database, and the switch that brings it back."""
    switch = Switch(address)
    switch.there = False
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    yield outbox, switch
    outbox.close()


def fails_once(monkeypatch, t, error):
    """The database fails at the block of this time, once, and is well right afterwards."""
    keep, failed = committing.keep, []

    def once(tx, shelf, line, waiting, block, *more):
        if block.t[0] == t and not failed:
            failed.append(t)
            raise error
        return keep(tx, shelf, line, waiting, block, *more)

    monkeypatch.setattr(committing, "keep", once)


@pytest.mark.parametrize("error", [StoreFull("full"), StoreAway("away"), Busy("busy")], ids=lambda error: type(error).__name__)
def test_a_replay_that_breaks_off_loses_nothing(waits, address, monkeypatch, error):
    outbox, switch = waits
    monkeypatch.setattr(committing, "MAX_TOGETHER", 4)
    for t in range(20):
        outbox.append("t", row(t)).result(30)
    fails_once(monkeypatch, 5, error)
    switch.reconnect(outbox)
    assert (outbox.waiting, outbox.refused) == (0, 0)
    assert read(address)[0].t.tolist() == list(range(20))


@pytest.mark.parametrize("at", [[1], [2], [0, 1, 2], [0, 2]], ids=str)
def test_a_block_that_cannot_be_kept_is_put_beside_wherever_it_stands(waits, address, at):
    outbox, switch = waits
    for t in range(3):
        # There is no such table.
        beside = [TableRows("notes", ("id", "w"), [("a", "b")], ("id",))] if t in at else ()
        outbox.append("t", row(t), beside=beside).result(30)
    switch.reconnect(outbox)
    assert (outbox.waiting, outbox.refused) == (0, len(at))
    assert read(address)[0].t.tolist() == [t for t in range(3) if t not in at]


def test_what_was_refused_before_a_replay_broke_off_is_known(waits, address, monkeypatch):
    outbox, switch = waits
    monkeypatch.setattr(committing, "MAX_TOGETHER", 4)
    with Store.open(address) as store:
        store.node("roof").append("t", Block(np.array([0]), {"x": Column.of(["text"], "x")})).result(30)
    for t in range(1, 4):
        outbox.append("t", row(t)).result(30)
    for t in range(20):
        outbox.append("u", row(t)).result(30)
    fails_once(monkeypatch, 15, StoreAway("killed"))
    switch.reconnect(outbox)
    assert (outbox.waiting, outbox.refused) == (0, 3)
    assert read(address, "u")[0].t.tolist() == list(range(20))


def test_positions_that_nobody_heard_of_are_held_to_those_that_were_acknowledged(address, tmp_path, monkeypatch):
    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    before = outbox.append("t", row(0)).result(30)
    switch.cut(monkeypatch)
    assert outbox.append("t", row(1)).result(30) == Position(before.epoch, 2)
    outbox.close()
    # Somebody else took that number, and a replay died before it could say that it gave the block another one.
    switch.there = True
    history = switch.connect()
    history.append("t", row(5)).result(30)
    box = Box(tmp_path / "outbox.db")
    (kept,) = box.first(100, 1 << 20)
    box.close()
    assert history.append("t", row(1), correct=True, mark=kept.mark).result(30).seq == 3
    history.store.close()
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01)
    after = outbox.append("t", row(6)).result(30)
    outbox.close()
    assert after.epoch != before.epoch and after.seq == 4


def test_a_database_that_hangs_when_it_is_asked_keeps_nothing_back(waits, address, monkeypatch):
    outbox, switch = waits
    outbox.append("t", row(0)).result(30)
    answers = threading.Event()
    applied = NodeHistory.applied

    def hangs(history):
        answers.wait(60)
        return applied(history)

    with monkeypatch.context() as hurried:
        hurried.setattr(handover, "ANSWER_WITHIN", 0.05)
        hurried.setattr(NodeHistory, "applied", hangs)
        switch.there = True
        while "has not answered" not in (outbox.away or ""):
            time.sleep(0.005)
        outbox.append("t", row(1)).result(30)
        answers.set()
    switch.reconnect(outbox)
    assert read(address)[0].t.tolist() == [0, 1]


def test_a_full_disk_does_not_keep_a_node_from_its_database(waits, monkeypatch):
    outbox, switch = waits
    box = outbox._box
    outbox.append("t", row(0)).result(30)
    note, full = box._note, [True]

    def once(runs):
        if full.pop() if full else False:
            raise StoreFull("full")
        note(runs)

    monkeypatch.setattr(box, "_note", once)
    switch.reconnect(outbox)
    assert outbox.append("t", row(1)).result(30).seq == 2
    assert not full


def test_whoever_is_told_may_fail(address, tmp_path, caplog):
    def told(_):
        raise RuntimeError("cannot hear")

    switch = Switch(address)
    outbox = Outbox(tmp_path / "outbox.db", switch.connect, retry=0.01, changed=told)
    for t in range(2):
        outbox.append("t", row(t)).result(30)
    outbox.close()
    assert "cannot hear" in caplog.text


def test_the_schema_goes_up_and_down(address):
    with Store.open(address) as store:
        store.node("roof").append("t", row(0), mark=Mark("box", 7)).result(30)
        downgrade(store.database, "0001")
        with store.database.reading() as tx:
            assert tx.one("SELECT version_num FROM alembic_version") == ("0001",)
        with pytest.raises(SisockError, match="applied"):
            store.reader("roof").applied()
    with Store.open(address) as store:
        history = store.node("roof")
        assert history.applied() == {}
        history.append("t", row(1), mark=Mark("box", 8)).result(30)
        assert history.applied() == {"box": 8}
        store.forget("roof")
        assert store.node("roof").applied() == {}
    assert read(address)[0].t.tolist() == []
