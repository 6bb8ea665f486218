"""Arrow: blocks come back as they were, and any Arrow library reads the stream."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from sisock import arrow
from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument
from sisock.fields import Field
from tests.unit.strategies import blocks, some


@some
@given(blocks())
def test_a_block_comes_back_as_it_was(block):
    reader = arrow.Reader()
    (back,) = reader.feed(arrow.stream("t", [block]))
    assert np.array_equal(back.t, block.t)
    for name, column in block.columns.items():
        assert back.columns[name] == column or column.is_null


def test_a_stream_is_what_arrow_libraries_read():
    fields = {"x": Field("Air", "degC"), "s": Field(type="string")}
    parts = [Block.of([1.5, 2.5], {"x": [1.0, None], "s": ["a", None]}), Block.of([3.5], {"x": [float("nan")], "s": ["ü"]})]
    octets = arrow.stream("roof", parts, fields)
    table = pa.ipc.open_stream(octets).read_all()
    assert table.schema.metadata == {b"timeline": b"roof"}
    assert table.schema.field("t").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("x").metadata == {b"units": b"degC", b"description": b"Air"}
    assert table["t"].cast(pa.int64()).to_pylist() == [1_500_000, 2_500_000, 3_500_000]
    assert table["x"].null_count == 1
    assert np.isnan(table["x"].to_pylist()[2])
    assert table["s"].to_pylist() == ["a", None, "ü"]
    reader = arrow.Reader()
    reader.feed(octets)
    assert reader.fields["x"] == Field("Air", "degC")


def test_a_field_may_be_called_t():
    (back,) = arrow.Reader().feed(arrow.stream("t", [Block.of([1.0], {"t": [5.0]})]))
    assert back.columns["t"].values.tolist() == [5.0]


def test_numbers_are_not_copied():
    values = np.arange(1000.0)
    rows = arrow.batch(Block(np.arange(1000), {"x": Column(values)}), arrow.schema("t", {"x": Column(values)}))
    assert rows.column(1).buffers()[1].address == values.ctypes.data


@pytest.mark.parametrize("octets", [b"nonsense, and a lot of it", b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"x" * 16])
def test_what_is_no_arrow_is_a_typed_error(octets):
    with pytest.raises(InvalidArgument):
        arrow.Reader().feed(octets)


def test_a_batch_before_its_schema_is_a_typed_error():
    block = Block.of([1.0], {"x": [1.0]})
    with pytest.raises(InvalidArgument, match="schema"):
        arrow.Reader().feed(arrow.message(arrow.batch(block, arrow.schema("t", block.columns))))
