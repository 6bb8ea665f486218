"""Live blocks on the wire: nothing is lost on the way, whatever a column holds."""

import json

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument
from sisock.live import LISTED_ROWS, LiveBlock
from sisock.positions import Position
from tests.unit.strategies import blocks, some

POSITION = Position("e", 7)


def there_and_back(live):
    return LiveBlock.from_wire(cbor2.loads(cbor2.dumps(live.to_wire())))


@some
@given(blocks(max_rows=3 * LISTED_ROWS), st.none() | st.just((5, 9_000_001)))
def test_a_block_comes_back_as_it_was(block, revises):
    live = LiveBlock("t", POSITION, 5, block, 12.5, revises)
    back = there_and_back(live)
    assert (back.timeline, back.position, back.after, back.finalized_until) == ("t", POSITION, 5, 12.5)
    assert back.revises == revises
    assert np.array_equal(back.block.t, block.t)
    for name, column in block.columns.items():
        if len(block) and not column.is_null:
            assert np.array_equal(back.block.columns[name].mask(), column.mask())
            mask = column.mask()
            values = back.block.columns[name].values[mask]
            if column.values.dtype.kind == "f":
                assert np.array_equal(values.astype(float), column.values[mask], equal_nan=True)
            else:
                assert values.tolist() == column.values[mask].tolist()


def test_short_blocks_are_lists_that_a_person_reads():
    block = Block.of([1.0, 2.0], {"x": [1.5, None], "s": ["a", None], "b": [True, False], "i": [1, 2]})
    event = LiveBlock("t", POSITION, 6, block, 1.0).to_wire()
    assert json.loads(json.dumps(event)) == {
        "timeline": "t",
        "epoch": "e",
        "seq": 7,
        "after": 6,
        "t": [1.0, 2.0],
        "data": {"x": [1.5, None], "s": ["a", None], "b": [True, False], "i": [1, 2]},
        "finalized_until": 1.0,
    }


def test_what_a_list_cannot_say_is_bytes():
    block = Block.of([1.0], {"nan": [float("nan")], "big": [2**60]})
    event = LiveBlock("t", POSITION, 6, block).to_wire()
    assert event["data"]["nan"] == {"type": "f8", "values": np.array([np.nan], "<f8").tobytes()}
    assert event["data"]["big"]["type"] == "i8"
    back = LiveBlock.from_wire(event)
    assert np.isnan(back.block.columns["nan"].values[0])
    assert back.block.columns["big"].values[0] == 2**60


def test_long_blocks_are_bytes():
    rows = LISTED_ROWS + 1
    valid = np.arange(rows) % 2 == 0
    block = Block(np.arange(rows, dtype=np.int64), {"x": Column(np.arange(rows, dtype=float), valid)})
    event = LiveBlock("t", POSITION, 6, block).to_wire()
    assert np.frombuffer(event["t"], "<f8").tolist() == (np.arange(rows) / 1e6).tolist()
    assert event["data"]["x"]["valid"] == valid.astype("u1").tobytes()


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"data": {}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": "0", "t": [], "data": {}},
        {"timeline": "t", "epoch": "e", "seq": -1, "after": 0, "t": [], "data": {}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [2, 1], "data": {}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": b"1234567", "data": {}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [1], "data": {"x": [1, 2]}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [1], "data": {"x": {"type": "f4", "values": b""}}},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [1], "data": {"x": {"type": "f8", "values": b"1"}}},
        {
            "timeline": "t",
            "epoch": "e",
            "seq": 1,
            "after": 0,
            "t": [1],
            "data": {"x": {"type": "b1", "values": b"1", "valid": b"11"}},
        },
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [], "data": {}, "revises": [1]},
        {"timeline": "t", "epoch": "e", "seq": 1, "after": 0, "t": [], "data": {}, "finalized_until": "x"},
    ],
    ids=str,
)
def test_what_is_no_event_is_a_typed_error(event):
    with pytest.raises(InvalidArgument):
        LiveBlock.from_wire(event)
