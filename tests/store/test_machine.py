"""The store against the model, in any order of appends, corrections, deletions, compaction and restarts."""

import math
import shutil
from pathlib import Path
from tempfile import mkdtemp
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from sisock.blocks import Block, Column
from sisock.errors import LateRow
from sisock.positions import Position
from sisock.store import Store, keeping, mending, overview, windowing
from sisock.times import EARLIEST, LATEST
from sisock.windows import WINDOW_METHODS, Windows

from .model import Model, cells, holds_extremes, same, same_rows

PHASES = [Phase.generate]
FIELDS = ["x", "n", "b", "s"]
VALUES = {
    "x": st.none() | st.floats(allow_infinity=True, width=32),
    "n": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    "b": st.none() | st.booleans(),
    "s": st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4),
}
DTYPES = {"x": np.float64, "n": np.int64, "b": np.bool_, "s": object}


@st.composite
def blocks(draw, low=0, high=400):
    t = sorted(draw(st.sets(st.integers(low, high), min_size=1, max_size=14)))
    columns = {}
    for name in draw(st.lists(st.sampled_from(FIELDS), unique=True)):
        values = draw(st.lists(VALUES[name], min_size=len(t), max_size=len(t)))
        blank = {"x": math.nan, "n": 0, "b": False, "s": None}[name]
        there = np.array([value is not None for value in values])
        filled = np.array([blank if value is None else value for value in values], DTYPES[name])
        columns[name] = Column(filled, None if there.all() else there)
    return Block(np.array(t, np.int64), columns)


class StoreMachine(RuleBasedStateMachine):
    fresh = None

    @initialize()
    def start(self):
        self.address = type(self).fresh()
        self.open()
        self.model, self.copy = Model(), Model()
        self.followed = self.history.position("t")
        self.seq = 0

    def open(self):
        self.store = Store.open(self.address, pool=2)
        self.history = self.store.node("roof")

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    def kept(self, future, block):
        position = future.result(10)
        self.seq += 1
        assert position == Position(self.history.epoch, self.seq)
        if block is not None:
            self.model.append(block)

    @rule(block=blocks())
    def behind(self, block):
        begin = 0 if self.model.newest is None else self.model.newest + 1
        block = Block(block.t - block.t[0] + begin, block.columns)
        self.kept(self.history.append("t", block), block)

    @rule(block=blocks(), lateness=st.sampled_from([0, 1e-6, 1e-5, 1e-4, 1]))
    def any_time(self, block, lateness):
        newest = self.model.newest
        future = self.history.append("t", block, lateness=lateness)
        if newest is not None and block.t[0] <= newest and block.t[0] < newest - round(lateness * 1e6):
            with pytest.raises(LateRow):
                future.result(10)
        else:
            self.kept(future, block)

    @rule(block=blocks(-50, 900))
    def correction(self, block):
        self.kept(self.history.append("t", block, correct=True), block)

    @rule(found=st.lists(blocks(0, 300), min_size=1, max_size=5))
    def together(self, found):
        futures = [self.history.append("t", block, correct=True) for block in found]
        for future, block in zip(futures, found, strict=True):
            self.kept(future, block)

    @rule(start=st.integers(-60, 900), length=st.integers(0, 200))
    def delete(self, start, length):
        # In portions, each with a number of its own.
        self.seq = self.history.delete("t", start, start + length).result(10).seq
        self.model.delete(start, start + length)

    @rule()
    def compact(self):
        self.history.compact("t").result(10)

    @rule()
    def reopen(self):
        epoch = self.history.epoch
        self.store.close()
        self.open()
        assert self.history.epoch == epoch

    @rule()
    def follow(self):
        changes = self.history.changes("t", FIELDS, self.followed)
        for start, end in changes.revises:
            self.copy.delete(start, end)
        self.copy.append(changes.block)
        self.followed = changes.position
        same_rows(self.history.read("t", FIELDS, EARLIEST, LATEST)[0], self.copy.read(FIELDS, EARLIEST, LATEST))

    @rule(start=st.integers(-60, 900), length=st.integers(0, 500))
    def read(self, start, length):
        block, position = self.history.read("t", FIELDS, start, start + length)
        same_rows(block, self.model.read(FIELDS, start, start + length))
        assert position.seq == self.seq

    @rule(times=st.lists(st.integers(-70, 1000), max_size=8))
    def last(self, times):
        block, index = self.history.last_before("t", FIELDS, np.array(times, np.int64))
        rows = self.model.read(FIELDS, EARLIEST, LATEST)[0]
        assert [block.t[at] if at >= 0 else None for at in index] == [
            max((t for t in rows if t <= asked), default=None) for asked in times
        ]
        used = sorted(set(block.t[index[index >= 0]].tolist()))
        same_rows(block.take(np.isin(block.t, used)), (used, {f: [self.model.rows[t].get(f) for t in used] for f in FIELDS}))

    @precondition(lambda self: self.model.rows)
    @rule(start=st.integers(-60, 900), length=st.integers(1, 900), points=st.sampled_from([2, 5, 8, 40]))
    def overview(self, start, length, points):
        shown = self.history.overview("t", ["x", "n"], start, start + length, points).fields
        low, high = max(start, min(self.model.rows)), min(start + length - 1, max(self.model.rows))
        times, columns = self.model.read(["x", "n"], start, start + length)
        for name, block in shown.items():
            assert len(block) <= max(2, points)
            if times:
                rows = [(t, v) for t, v in zip(times, columns[name], strict=True) if v is not None]
                dtype = np.float64 if name == "x" else object
                values = np.array([v for _, v in rows], dtype)
                holds_extremes(block, name, [t for t, _ in rows], values, points, (low, high))

    @rule(
        windows=st.builds(Windows, st.integers(-60, 500), st.integers(0, 900), st.integers(1, 300), st.integers(1, 400)),
        method=st.sampled_from(WINDOW_METHODS),
    )
    def windowed(self, windows, method):
        shown = self.history.windowed("t", FIELDS, windows, method)
        if method == "last":
            # With rows of which nobody asked for the value at hand: a row is never shown in part.
            times = sorted({t for field in FIELDS for t in self.model.last_of_windows(field, windows)})
            assert set(times) <= set(shown.t.tolist())
            same_rows(shown, (shown.t.tolist(), {f: [self.model.rows[t].get(f) for t in shown.t.tolist()] for f in FIELDS}))
            return
        for name in ("x", "n", "b", *(("s",) if method == "count" else ())):
            column = shown.columns.get(name, Column.null(len(shown)))
            got = {t: v for t, v in zip(shown.t.tolist(), cells(column), strict=True) if v is not None}
            expected = self.model.windowed(name, windows, method)
            assert got.keys() == expected.keys(), (name, method)
            for t, (value, scale) in expected.items():
                assert same(got[t], value) or math.isclose(got[t], value, rel_tol=1e-9, abs_tol=1e-12 * scale), (name, t)

    @invariant()
    def whole(self):
        if hasattr(self, "history"):
            assert self.history.newest("t") == self.model.newest
            span = self.history.span("t")
            assert span == ((min(self.model.rows), self.model.newest) if self.model.rows else None)


@pytest.fixture
def small():
    """Everything that happens at many rows happens at few."""
    with (
        mock.patch.multiple(keeping, SEAL_ROWS=24, SMALL_ROWS=8, MANY_SMALL=3),
        mock.patch.multiple(mending, SEAL_ROWS=24, MANY_PATCHES=4, MANY_PATCH_ROWS=60, PORTION=8),
        mock.patch.object(overview, "FEW_CHUNKS", 0),
        mock.patch.object(windowing, "FEW_CHUNKS", 0),
    ):
        yield


def run(fresh, examples, steps):
    machine = type("Machine", (StoreMachine,), {"fresh": staticmethod(fresh)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=PHASES,
        ),
    )


def copies(folder: Path):
    """Answers empty databases: copies of one, since making the tables takes longer than an example."""
    template = folder / "template.db"
    Store.open(template).close()
    return lambda: Path(shutil.copy(template, Path(mkdtemp(dir=folder)) / "h.db"))


def test_sqlite_keeps_what_the_model_keeps(small, tmp_path):
    run(copies(tmp_path), 60, 25)


def test_postgresql_keeps_what_the_model_keeps(small, postgres):
    run(postgres, 12, 25)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_sqlite_for_long(small, tmp_path):
    run(copies(tmp_path), 1000, 50)
