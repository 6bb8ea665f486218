"""A short range is cut out of its chunks: only its cells are decoded, and the answer is that of reading all."""

import numpy as np
import pytest

from sisock.blocks import Block, Column, concat
from sisock.store import shelf as shelves

ROWS, T0 = 20_000, 1_700_000_000_000_000


@pytest.fixture
def history(store):
    node = store.node("n")
    chance = np.random.default_rng(3)
    t = T0 + np.cumsum(chance.integers(1, 200_000, ROWS))
    there = chance.random(ROWS) > 0.3
    words = np.array([f"word {n % 37}" for n in range(ROWS)], object)
    columns = {
        "float": Column(chance.normal(0, 1, ROWS)),
        "holes": Column(chance.normal(0, 1, ROWS), there),
        "whole": Column(np.cumsum(chance.integers(-9, 10, ROWS))),
        "flag": Column(there),
        "text": Column(words, there),
        "empty": Column.null(ROWS),
    }
    block = Block(t, columns)
    half = ROWS // 2
    first = block.take(slice(0, half))
    # Integers become floats in the middle, and a field comes late.
    kinds = {**first.columns, "changes": Column(np.arange(half))}
    node.append("t", Block(first.t, kinds)).result()
    second = block.take(slice(half, None))
    node.append(
        "t", Block(second.t, {**second.columns, "changes": Column(np.arange(half) / 4), "late": Column(np.arange(half))})
    ).result()
    node.compact("t").result()
    return node, t


def test_any_range_is_what_reading_all_of_it_says(history):
    node, t = history
    names = node.fields("t")
    whole = concat(page for page, _ in node.pages("t", names))
    assert len(whole) == ROWS
    chance = np.random.default_rng(5)
    lengths = [1, 2, 255, 256, 257, 700, 3000, 9000]
    for _ in range(60):
        low = int(chance.integers(-100, ROWS + 100))
        high = low + int(chance.choice(lengths))
        start, end = (int(t[min(max(at, 0), ROWS - 1)]) + int(chance.integers(-1, 2)) for at in (low, high))
        some = list(chance.choice(names, 3, replace=False))
        found, _ = node.read("t", some, start, end)
        expected = Block(whole.t, {name: whole.columns[name] for name in some}).between(start, end)
        assert found == expected, (start, end, some)


def test_few_cells_are_decoded(history, monkeypatch):
    node, t = history

    def whole(*_args):
        raise AssertionError("a whole chunk was read")

    monkeypatch.setattr(shelves.Shelf, "read_chunks", whole)
    found, _ = node.read("t", ["whole", "text"], int(t[3000]), int(t[3100]))
    assert len(found) == 100
    # Over the edge of two chunks.
    chunk = 20_000 // 4
    found, _ = node.read("t", ["float", "changes"], int(t[chunk - 50]), int(t[chunk + 50]))
    assert len(found) == 100


def test_corrections_lie_over_what_is_cut(history):
    node, t = history
    node.append("t", Block(t[3050:3051], {"float": Column(np.array([99.0]))}), correct=True).result()
    node.append("t", Block(t[-1:] + 1, {"float": Column(np.array([7.0]))})).result()
    found, _ = node.read("t", ["float"], int(t[3000]), int(t[3100]))
    assert found.columns["float"].values[50] == 99.0
    found, _ = node.read("t", ["float"], int(t[-50]), int(t[-1]) + 2)
    assert len(found) == 51
    assert found.columns["float"].values[-1] == 7.0
