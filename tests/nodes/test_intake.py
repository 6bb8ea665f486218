"""The intake that nodes share: nothing ends its thread but the end of the node or another who writes."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from sisock.blocks import Block, Column
from sisock.errors import StoreFull
from sisock.history import MemoryHistory
from sisock.intake import Intake, Storing

T = np.array([1_000_000], np.int64)


def row(t, value=1.0):
    return Block(T * t, {"x": Column(np.array([value]))})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sisock.intake.RETRY", 0.01)


def failed(error):
    made = Future()
    made.set_exception(error)
    return made


def test_rows_that_a_commit_brought_after_its_time_are_there_once(monkeypatch):
    """The first answer never comes, though its rows are kept; the store then calls them late."""
    monkeypatch.setattr("sisock.intake.KEEPING", 0.01)
    history, tries = MemoryHistory(), []

    def keep(timeline, block, correct):
        tries.append(correct)
        kept = history.append(timeline, block, correct=correct)
        if len(tries) == 1:
            history.append(timeline, row(9)).result(10)
            return Future()
        return kept

    storing = Storing("test", keep)
    assert storing.store({"t": row(5)}) is None
    assert tries == [False, False, True]
    assert storing.problem is None
    assert history.read("t", ["x"], 0, 2**60)[0].t.tolist() == [5_000_000, 9_000_000]


def test_why_it_waits_is_said_also_of_a_time_that_is_over(monkeypatch):
    monkeypatch.setattr("sisock.intake.KEEPING", 0.01)
    said = []

    def keep(_timeline, _block, _correct):
        said.append(storing.problem)
        if len(said) == 1:
            return Future()
        if len(said) == 2:
            return failed(StoreFull("no room"))
        storing.end()
        raise RuntimeError("a defect")

    storing = Storing("test", keep)
    over = storing.store({"t": row(1)})
    assert said == [None, "TimeoutError: no answer in 0.01 seconds", "StoreFull: no room"]
    assert "RuntimeError: a defect" in str(over)


def test_an_error_of_any_kind_does_not_end_its_thread():
    wrong, told, failed_both, all_told = ["blocks", "told"], [], threading.Event(), threading.Event()
    history = MemoryHistory()

    def blocks(batch):
        if "blocks" in wrong:
            wrong.remove("blocks")
            raise RuntimeError("a defect")
        return {"t": row(batch[0])}

    def stored(batch):
        if "told" in wrong:
            wrong.remove("told")
            failed_both.set()
            raise RuntimeError("a defect")
        told.extend(batch)
        all_told.set()

    intake = Intake("test", lambda timeline, block, correct: history.append(timeline, block, correct=correct), blocks, stored)
    intake.take(1)
    intake.start()
    assert failed_both.wait(10)
    intake.take(2)
    assert all_told.wait(10)
    intake.stop()
    assert told == [2]
    assert intake.problem is None
    assert history.read("t", ["x"], 0, 2**60)[0].t.tolist() == [1_000_000, 2_000_000]
