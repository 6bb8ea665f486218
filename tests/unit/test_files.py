"""Files of rows: what is written is what is read, whatever the values turn out to be."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from sisock import arrow
from sisock.blocks import Block, concat
from sisock.errors import InvalidArgument
from sisock.fields import Field
from sisock.files import RowsFile, batches

FIELDS = {
    "x": Field("a number", "V"),
    "n": Field(),
    "s": Field(type="string"),
    "b": Field(type="bool"),
}
BLOCKS = [
    Block.of([1.000001, 2], {"x": [1, 2], "s": [None, 'a "b"']}),
    Block.of([3, 4], {"x": [3, None], "b": [True, None], "n": [2**60, None]}),
]


def written(path, form, blocks, fields=FIELDS, *, cut=False):
    file = RowsFile(path, form, "line", fields, {"node": "roof"})
    for block in blocks:
        file.write(block)
        if cut:
            file.cut()
    file.close()
    return path


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("cut", [True, False])
def test_what_is_written_is_what_is_read(tmp_path, form, cut):
    path = written(tmp_path / "rows", form, BLOCKS, cut=cut)
    read = concat([arrow.block(batch) for batch in batches(path, form)])
    whole = concat(BLOCKS)
    assert read.t.tolist() == whole.t.tolist()
    for name, column in whole.columns.items():
        assert read.columns[name] == column, name
    assert list(read.columns) == list(FIELDS)


def test_units_descriptions_and_the_node_stand_in_the_file(tmp_path):
    layout = parquet.ParquetFile(written(tmp_path / "rows", "parquet", BLOCKS)).schema_arrow
    assert layout.field("t").type == pa.timestamp("us", "UTC")
    assert layout.field("x").metadata == {b"units": b"V", b"description": b"a number"}
    assert layout.metadata == {b"timeline": b"line", b"node": b"roof"}


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_fraction_that_comes_late_makes_the_field_float(tmp_path, form):
    blocks = [*BLOCKS, Block.of([5], {"x": [0.5]}), Block.of([6], {"n": [float("nan")]})]
    path = written(tmp_path / "rows", form, blocks, cut=True)
    read = concat([arrow.block(batch) for batch in batches(path, form)])
    assert read.columns["x"].to_list() == [1.0, 2.0, 3.0, None, 0.5, None]
    assert read.columns["x"].values.dtype == np.float64
    assert np.isnan(read.columns["n"].values[-1])
    assert read.columns["n"].mask()[-1]
    assert [one.name for one in tmp_path.iterdir()] == ["rows"]


def test_csv_tells_a_null_from_an_empty_text(tmp_path):
    path = written(tmp_path / "rows.csv", "csv", [*BLOCKS, Block.of([5], {"s": [""]})], cut=True)
    read = csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False))
    assert read.column_names == ["t", *FIELDS]
    assert read["s"].to_pylist() == [None, 'a "b"', None, None, ""]
    assert path.read_text().splitlines()[1].startswith("1.000001,1,")


@pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
def test_a_file_without_rows_has_its_columns(tmp_path, form):
    path = written(tmp_path / "rows", form, [])
    if form == "csv":
        assert path.read_text() == 't,"x","n","s","b"\n'
    else:
        assert sum(len(batch) for batch in batches(path, form)) == 0


def test_a_field_that_is_called_t_has_a_place_in_parquet_alone(tmp_path):
    fields = {"t": Field("time constant", "s")}
    path = written(tmp_path / "rows", "parquet", [Block.of([1], {"t": [7.5]})], fields)
    read = concat([arrow.block(batch) for batch in batches(path)])
    assert (read.t.tolist(), read.columns["t"].to_list()) == ([1_000_000], [7.5])
    with pytest.raises(InvalidArgument, match="parquet"):
        RowsFile(tmp_path / "other", "csv", "line", fields)


def test_a_field_that_changes_its_type_is_refused_and_nothing_is_left(tmp_path):
    file = RowsFile(tmp_path / "rows", "parquet", "line", FIELDS)
    file.write(BLOCKS[0])
    file.cut()
    file.write(Block.of([9], {"x": ["text"]}))
    with pytest.raises(InvalidArgument, match="x mixes"):
        file.cut()
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_oserror_and_what_was_begun_goes(tmp_path):
    (tmp_path / "rows").symlink_to("/dev/full")
    file = RowsFile(tmp_path / "rows", "parquet", "line", FIELDS)
    with pytest.raises(OSError, match="No space"):
        for _ in range(100):
            file.write(Block.of(np.arange(60_000.0), {"x": np.random.default_rng(1).random(60_000)}))
        file.close()
    file.discard()
    assert list(tmp_path.iterdir()) == []
