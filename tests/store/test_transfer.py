import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument
from sisock.store.transfer import export, import_file
from sisock.times import EARLIEST, LATEST

from .test_contract import FIELDS, cut, keep, some


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_what_is_exported_is_imported_again(history, tmp_path, form):
    block = some(20_000)
    block.columns["s"].values[7:10] = ["", 'a "b", c', "two\nlines"]
    keep(history, "t", *cut(block))
    path, seen = tmp_path / f"roof.{form}", []
    assert export(history, "t", path, progress=lambda *done: seen.append(done)) == len(block)
    assert seen[-1][0] == seen[-1][1]
    assert import_file(history, "again", path, progress=lambda *done: seen.append(done)) == len(block)
    assert history.read("again", FIELDS, EARLIEST, LATEST)[0] == history.read("t", FIELDS, EARLIEST, LATEST)[0]
    seq = history.position("again").seq
    assert import_file(history, "again", path) == len(block)
    assert history.position("again").seq == seq
    assert list(tmp_path.glob("*.part")) == []


def test_weather_files_are_imported(history, tmp_path):
    path = tmp_path / "apex_temperature.dat"
    path.write_text(
        "# Temperature\n# hourly\n# C\n# 2017-07-14\n1499990400.0 -3.5\n1499994000 -4.25\n# 2017-07-15\n1499994000 -4.0\n"
    )
    assert import_file(history, "hourly", path) == 2
    block, _ = history.read("hourly", ["apex_temperature"], EARLIEST, LATEST)
    assert block == Block(np.array([1499990400, 1499994000]) * 10**6, {"apex_temperature": Column(np.array([-3.5, -4.0]))})
    path.write_text("# a\n# b\n# c\n1 two\n")
    with pytest.raises(InvalidArgument, match="line 4"):
        import_file(history, "hourly", path)


@pytest.mark.parametrize("text", ["", "1e300", "inf", "nan", "-9e15"])
def test_a_row_without_a_time_is_named(history, tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(f"t,x\n1,2\n{text},3\n")
    with pytest.raises(InvalidArgument, match=r"x\.csv, row 2"):
        import_file(history, "t", path)
    if text:
        path = tmp_path / "x.dat"
        path.write_text(f"# x\n1 2\n{text} 3\n")
        with pytest.raises(InvalidArgument, match=r"x\.dat, line 3"):
            import_file(history, "t", path)
    assert history.timelines() == []


def test_a_row_of_parquet_without_a_time_is_named(history, tmp_path):
    path = tmp_path / "x.parquet"
    for t, kind, said in ([1, None, 3], "us", "row 2"), ([1, 2**62], "us", "row 2"), ([1, 2**53], "s", "column t"):
        parquet.write_table(pa.table({"t": pa.array(t, pa.timestamp(kind, "UTC")), "x": [1.0] * len(t)}), path)
        with pytest.raises(InvalidArgument, match=said):
            import_file(history, "t", path)
    assert history.timelines() == []


def test_a_file_in_another_code_is_read_or_named(history, tmp_path):
    path = tmp_path / "air.dat"
    path.write_bytes(b"# Air\n# hourly\n# \xb0C\n1 2\n")
    assert import_file(history, "t", path) == 1
    path = tmp_path / "air.csv"
    path.write_bytes(b"t,x\n1,\xb0C\n")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        import_file(history, "t", path)


def test_files_that_do_not_fit_are_named(history, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("time,x\n1,2\n")
    with pytest.raises(InvalidArgument, match="column t"):
        import_file(history, "t", path)
    with pytest.raises(InvalidArgument, match="ends in"):
        export(history, "t", tmp_path / "x.xls")
