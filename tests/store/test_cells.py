"""Sealed columns: what comes out of several that are opened together is what each of them was made of."""

import numpy as np
import pytest

from sisock.blocks import Column
from sisock.errors import StoreDamaged
from sisock.store.cells import CELL, decode, decode_cells, decode_rows, decode_times, open_cells
from sisock.store.sealed import encode, encode_times

RANDOM = np.random.default_rng(0)


def columns():
    """Floats of every form a column can take, in lengths that fill their last cell and that do not."""
    for rows in (1, 255, 256, 257, 1000, 3000):
        walk = np.cumsum(RANDOM.normal(size=rows))
        yield Column(walk)
        yield Column(np.round(walk))
        yield Column(np.zeros(rows))
        yield Column(walk, RANDOM.random(rows) < 0.5)
        yield Column(np.full(rows, np.nan))


def test_columns_of_different_forms_read_as_one():
    parts = list(columns())
    got = decode([encode(part) for part in parts], "f")
    assert got == Column(np.concatenate([part.values for part in parts]), np.concatenate([part.mask() for part in parts]))


def test_single_cells_in_any_order():
    parts = list(columns())
    opened = open_cells([encode(part) for part in parts])
    assert len({part.form for part in opened}) > 3
    wanted = [(at, cell) for at, part in enumerate(opened) for cell in range(part.cells)]
    wanted = [wanted[at] for at in RANDOM.permutation(len(wanted))]
    ints, mask = decode_cells([(opened[at], cell) for at, cell in wanted])
    for (at, cell), row, there in zip(wanted, ints, mask, strict=True):
        column = parts[at].take(slice(cell * CELL, (cell + 1) * CELL))
        values = row.view(np.float64)[: len(column)]
        assert np.array_equal(there[: len(column)], column.mask())
        assert np.array_equal(values[column.mask()], column.values[column.mask()], equal_nan=True)


def test_times():
    times = [np.cumsum(RANDOM.integers(1, 10**9, rows)) for rows in (1, 256, 300, 5000)]
    assert np.array_equal(decode_times([encode_times(t) for t in times]), np.concatenate(times))


def test_nothing():
    assert open_cells([]) == []
    assert len(decode_rows([])[0]) == 0
    assert len(decode_cells([])[0]) == 0
    assert len(decode_times([encode_times(np.empty(0, np.int64))])) == 0


def test_no_byte_that_is_wrong_changes_a_value():
    column = Column(np.cumsum(RANDOM.normal(size=600)))
    sound, other = encode(column), encode(Column(np.zeros(600)))
    found = 0
    for at in range(len(sound)):
        wrong = bytearray(sound)
        wrong[at] ^= 0x40
        try:
            # Some bits of a frame's head say nothing.
            assert decode([other, bytes(wrong)], "f").take(slice(600, None)) == column
        except StoreDamaged:
            found += 1
    assert found > len(sound) - 20
    for end in range(0, len(sound), 7):
        with pytest.raises(StoreDamaged):
            decode([other, sound[:end]], "f")
