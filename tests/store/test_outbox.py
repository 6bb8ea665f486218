"""With its database away a node goes on keeping rows, and nothing of it is lost or doubled."""

import threading

import numpy as np
import pytest

from sisock.blocks import Block, Column
from sisock.errors import LateRow
from sisock.store import Store, StoreAway
from sisock.store.outbox import Outbox
from sisock.times import EARLIEST, LATEST


class Switch:
    """A database that can be cut off: connections break in the middle and cannot be made anew."""

    def __init__(self, address):
        self.address, self.there, self.back = address, True, threading.Event()
        self.store = None

    def connect(self):
        if not self.there:
            raise StoreAway("away")
        self.store = Store.open(self.address)
        history = self.store.node("roof")
        self.back.set()
        return history

    def cut(self, monkeypatch, *, after_commit=False):
        self.there = False
        self.back.clear()
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
    switch.there = True
    assert switch.back.wait(30)
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


def test_a_database_that_was_never_reached_cannot_number(tmp_path):
    def away():
        raise StoreAway("away")

    with pytest.raises(StoreAway, match="never reached"):
        Outbox(tmp_path / "outbox.db", away)
