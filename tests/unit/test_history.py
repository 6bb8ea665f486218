"""The history in memory, against a dict of dicts that does the same one row at a time."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import Block
from sisock.errors import InvalidArgument, LateRow, PositionLost
from sisock.history import MAX_TAIL, MemoryHistory
from sisock.positions import Position
from tests.unit.strategies import FIELDS, block_of, is_sound, many, rows, table_of, told

ALWAYS = (-(2**62), 2**62)


def kept(history, timeline="t"):
    return history.read(timeline, FIELDS, *ALWAYS)[0]


class Model:
    """What the history should hold: {time: {field: value}}, in seconds."""

    def __init__(self):
        self.rows = {}
        self.seq = 0

    def refuses(self, table, lateness, correct):
        return bool(table and self.rows) and not correct and min(table) < max(self.rows) - lateness

    def append(self, table):
        for t, row in table.items():
            self.rows.setdefault(t, {}).update(row)
        self.seq += bool(table)

    def forget(self, count):
        for t in sorted(self.rows)[:count]:
            del self.rows[t]


# Blocks come late, correct, erase, leave fields out, and sometimes follow what is there.
appends = st.tuples(rows(max_rows=5), st.booleans(), st.integers(0, 20), st.booleans(), st.booleans())


@many
@given(st.lists(appends, max_size=12), st.sampled_from([1, 4, 10, 1000]))
def test_it_holds_what_a_dict_would(operations, max_rows):
    history, model = MemoryHistory(max_rows), Model()
    for drawn, follows, lateness, correct, look in operations:
        ahead = max(model.rows) + 1 if follows and model.rows else 0
        table = {t + ahead: row for t, row in drawn.items()}
        if model.refuses(table, lateness, correct):
            with pytest.raises(LateRow):
                history.keep("t", block_of(table), lateness=lateness)
            assert table_of(kept(history)) == told(model.rows), "nothing of a refused block is kept"
            continue
        position = history.keep("t", block_of(table), lateness=lateness, correct=correct)
        model.append(table)
        assert (position.epoch, position.seq) == (history.epoch, model.seq)
        if len(model.rows) > max_rows + max_rows // 10:
            model.forget(len(model.rows) - max_rows)
        if look:
            assert table_of(kept(history)) == told(model.rows)
    block, position = history.read("t", FIELDS, *ALWAYS)
    assert is_sound(block)
    assert table_of(block) == told(model.rows)
    assert position.seq == model.seq
    times = sorted(t * 1_000_000 for t in model.rows)
    assert history.newest("t") == (times[-1] if times else None)
    assert history.span("t") == ((times[0], times[-1]) if times else None)
    steps = sorted(b - a for a, b in pairwise(times))
    half = len(steps) // 2
    assert history.interval("t") == ((steps[half] + steps[~half]) / 2e6 if steps else None)


@many
@given(rows(), st.integers(-1, 31), st.integers(-1, 31))
def test_reads_are_half_open(table, start, end):
    history = MemoryHistory()
    history.keep("t", block_of(table))
    block, _ = history.read("t", FIELDS, start * 1_000_000, end * 1_000_000)
    assert table_of(block) == told({t: row for t, row in table.items() if start <= t < end})


def test_of_fields_only_what_is_there_is_read():
    history = MemoryHistory()
    history.keep("t", Block.of(1, {"a": 1, "b": 2}))
    block, _ = history.read("t", ["b", "none"], *ALWAYS)
    assert table_of(block) == {1_000_000: {"b": 2}}


def test_an_unknown_timeline_is_empty():
    history = MemoryHistory()
    block, position = history.read("t", ["a"], *ALWAYS)
    assert len(block) == 0
    assert position.seq == 0
    assert history.newest("t") is history.span("t") is history.interval("t") is None


def test_an_empty_block_is_no_block():
    history = MemoryHistory()
    assert history.keep("t", Block.of([], {"a": []})).seq == 0
    assert history.keep("t", Block.of(1, {"a": 1})).seq == 1
    assert history.keep("t", Block.of([], {})).seq == 1


def test_timelines_are_apart():
    history = MemoryHistory()
    history.keep("t", Block.of(1, {"a": 1}))
    assert history.keep("u", Block.of(0.5, {"a": "x"})).seq == 1
    assert table_of(history.read("t", ["a"], *ALWAYS)[0]) == {1_000_000: {"a": 1}}


def test_a_field_left_out_stays_and_a_null_erases():
    history = MemoryHistory()
    history.keep("t", Block.of(1, {"a": 1, "label": "x"}))
    history.keep("t", Block.of(1, {"a": 2}))
    assert table_of(history.read("t", ["a", "label"], *ALWAYS)[0]) == {1_000_000: {"a": 2, "label": "x"}}
    history.keep("t", Block.of(1, {"label": None}))
    assert table_of(history.read("t", ["a", "label"], *ALWAYS)[0]) == {1_000_000: {"a": 2}}


def test_a_row_as_old_as_the_lateness_is_not_late():
    history = MemoryHistory()
    history.keep("t", Block.of(100, {"a": 1}))
    history.keep("t", Block.of(90, {"a": 1}), lateness=10)
    with pytest.raises(LateRow, match=r"t: a row at 89\.999999 came after rows up to 90\.0 were final"):
        history.keep("t", Block.of([89.999999, 101], {"a": [1, 1]}), lateness=10)
    assert history.newest("t") == 100_000_000
    history.keep("t", Block.of(1, {"a": 1}), correct=True)
    assert history.span("t") == (1_000_000, 100_000_000)


@pytest.mark.parametrize("order", [("x", None, "y"), (None, "x", None), (None, True, None), (1, None, 0.5)])
def test_a_null_fits_a_field_of_any_type(order):
    history = MemoryHistory()
    for t, value in enumerate(order, 1):
        history.keep("t", Block.of(t, {"a": value}))
    block, _ = history.read("t", ["a"], *ALWAYS)
    assert block.columns["a"].to_list() == list(order)


def test_a_field_that_changes_its_type_is_refused_and_harms_nothing():
    history = MemoryHistory()
    history.keep("t", Block.of(1, {"a": 1.0}))
    # The newest block does not name it, so that a look there is not enough.
    history.keep("t", Block.of(2, {"b": 1.0}))
    for value in ("x", True):
        with pytest.raises(InvalidArgument, match="a field has one type"):
            history.keep("t", Block.of(3, {"a": value, "b": 2.0}))
    history.keep("t", Block.of(3, {"a": 5}))
    assert table_of(history.read("t", ["a", "b"], *ALWAYS)[0]) == {
        1_000_000: {"a": 1.0},
        2_000_000: {"b": 1.0},
        3_000_000: {"a": 5.0},
    }


@pytest.mark.parametrize("max_rows", [0, 1, 100])
def test_it_is_bounded_whatever_comes(max_rows):
    history = MemoryHistory(max_rows)
    for t in range(500):
        history.keep("t", Block.of(t, {"a": t}))
        assert len(history.read("t", ["a"], *ALWAYS)[0]) <= max_rows + max_rows // 10
    rows_left = history.read("t", ["a"], *ALWAYS)[0].columns["a"].to_list() if max_rows else []
    assert rows_left == list(range(500 - len(rows_left), 500))
    assert len(rows_left) + history.dropped == 500
    assert len(rows_left) >= max_rows


def test_a_block_larger_than_the_history():
    history = MemoryHistory(10)
    history.keep("t", Block.of(range(1000), {"a": list(range(1000))}))
    assert history.read("t", ["a"], *ALWAYS)[0].columns["a"].to_list() == list(range(990, 1000))
    assert history.dropped == 990


def test_many_small_blocks_without_a_read():
    history = MemoryHistory()
    count = 3 * MAX_TAIL
    for t in range(count):
        history.keep("t", Block.of(t, {"ab"[t % 2]: t}))
    assert history.newest("t") == (count - 1) * 1_000_000
    assert table_of(history.read("t", "ab", *ALWAYS)[0]) == {t * 1_000_000: {"ab"[t % 2]: t} for t in range(count)}


def test_threads_append_at_the_same_time():
    history, each, wrong = MemoryHistory(), 200, []

    def work(mine):
        for number in range(each):
            history.keep("t", Block.of(number * 4 + mine, {"a": mine}), correct=True)
            block, position = history.read("t", ["a"], *ALWAYS)
            if len(block) > position.seq or not is_sound(block):
                wrong.append((len(block), position))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    block, position = history.read("t", ["a"], *ALWAYS)
    assert block.columns["a"].to_list() == [0, 1, 2, 3] * each
    assert position.seq == 4 * each


def test_who_lacks_rows_that_are_gone_is_told():
    history = MemoryHistory(10)
    for t in range(0, 10, 2):
        history.keep("t", Block.of([t, t + 1], {"a": [t, t]}))
    assert len(history.changes("t", ["a"], Position(history.epoch, 0), *ALWAYS).block) == 10
    history.keep("t", Block.of([10, 11], {"a": [10, 10]}))
    # Two rows went, of the first block, and one who has that lacks nothing.
    assert len(history.changes("t", ["a"], Position(history.epoch, 1), *ALWAYS).block) == 10
    with pytest.raises(PositionLost):
        history.changes("t", ["a"], Position(history.epoch, 0), *ALWAYS)
    # A correction of what is gone then is gone, too.
    history.keep("t", Block.of([2], {"a": [-1]}), correct=True)
    history.keep("t", Block.of([12, 13], {"a": [12, 12]}))
    with pytest.raises(PositionLost):
        history.changes("t", ["a"], Position(history.epoch, 6), *ALWAYS)
    assert len(history.changes("t", ["a"], Position(history.epoch, 7), *ALWAYS).block) == 2
