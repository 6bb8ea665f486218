"""What the property tests draw from, and how blocks are told as plain rows."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from sisock.blocks import Block, Column

many = settings(deadline=None, max_examples=60, database=None)
some = settings(deadline=None, max_examples=40, database=None)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
huge = st.sampled_from([10**400, -(10**400), 2**53 + 1, 2**63, 2**64, -(2**63) - 1])
# All that JSON, CBOR or a careless author can put into an argument. "\ud800" is half a character, as a JSON escape may be.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.integers(),
    huge,
    st.floats(),
    st.sampled_from([1e308, -1e308, 1.5e9, 0.0, -0.0]),
    text,
    st.sampled_from(["", "minmax", "1", "a\ud800"]),
    st.binary(max_size=3),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text | st.integers(), inner, max_size=3)),
    max_leaves=8,
)

FIELDS = {
    "f": st.floats() | st.sampled_from([0.0, -0.0, 1.5]),
    "i": st.integers(-(2**53), 2**53),
    "b": st.booleans(),
    "s": text,
}


@st.composite
def rows(draw, max_rows=8, last=30):
    """Rows of one timeline as {time in seconds: {field: value or None}}; all of them name the same fields."""
    times = draw(st.lists(st.integers(0, last), max_size=max_rows, unique=True).map(sorted))
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True))
    return {t: {name: draw(st.none() | FIELDS[name]) for name in names} for t in times}


def block_of(table):
    """The block of such rows."""
    names = dict.fromkeys(name for row in table.values() for name in row)
    return Block.of(list(table), {name: [row[name] for row in table.values()] for name in names})


def blocks(max_rows=8):
    """Blocks of any rows."""
    return rows(max_rows=max_rows, last=4 * max_rows).map(block_of)


def cells(column: Column):
    """The values of a column with None for null and "nan" for NaN, so that they can be compared."""
    told = [value if there else None for value, there in zip(column.values.tolist(), column.mask(), strict=True)]
    return [plain(value) for value in told]


def listed(value):
    """What a JSON client sees of a value."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return None
    return value


def plain(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def table_of(block: Block):
    """A block as {time in microseconds: {field: value}}, nulls left out."""
    columns = {name: cells(column) for name, column in block.columns.items()}
    return {
        t: {name: values[at] for name, values in columns.items() if values[at] is not None}
        for at, t in enumerate(block.t.tolist())
    }


def told(table):
    """Rows in seconds as `table_of` tells them."""
    return {
        t * 1_000_000: {name: plain(value) for name, value in row.items() if value is not None}
        for t, row in sorted(table.items())
    }


def is_sound(block: Block) -> bool:
    """Whether a block is what its docstring says: times strictly ascend, columns are as long and of a known type."""
    return (
        block.t.dtype == np.int64
        and bool((np.diff(block.t) > 0).all())
        and all(len(column) == len(block) and column.values.dtype.kind in "bifO" for column in block.columns.values())
        and all(column.valid is None or len(column.valid) == len(block) for column in block.columns.values())
    )
