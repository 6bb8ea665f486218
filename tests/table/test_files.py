"""CSV and Parquet as nodes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sisock.errors import SetupError
from sisock.home import Home
from sisock.nodes.table import files, name_of, open_table
from sisock.nodes.table.csvform import whole
from sisock.nodes.table.layout import split_units, unique
from sisock.store import Store
from tests.table.conftest import rows

T = 1_767_225_600.0
HEAD = "time,air (degC),wind [m/s],ok,note\n"


def put(path, text):
    path.write_text(text)
    return path


def add(path, text):
    with path.open("a") as file:
        file.write(text)


def started(node):
    node.start()
    return node


def test_columns_become_fields_with_units_and_types(opened, tmp_path):
    text = HEAD + '2026-01-01T00:00:00,1.5,3,true,calm\n2026-01-01T00:00:01,,4,false,"a, ""b""\nc"\n'
    node = started(opened(put(tmp_path / "air.csv", text)))
    assert node.name == "air"
    assert {name: (spec.units, spec.type, spec.timeline) for name, spec in node.fields.items()} == {
        "air": ("degC", "number", "t"),
        "wind": ("m/s", "number", "t"),
        "ok": (None, "bool", "t"),
        "note": (None, "string", "t"),
    }
    assert rows(node, "air", "wind", "ok", "note") == [(T, 1.5, 3, True, "calm"), (T + 1, None, 4, False, 'a, "b"\nc')]
    assert "taken for UTC" in " ".join(node.notes)


@pytest.mark.parametrize(
    ("times", "given", "wanted"),
    [
        (["1767225600", "1767225601"], {}, T),
        (["1767225600.25", "1767225601"], {}, T + 0.25),
        (["1767225600000", "1767225601000"], {}, T),
        (["1767225600000000", "1767225601000000"], {}, T),
        (["1767225600000000000", "1767225601000000000"], {}, T),
        (["1000", "2000"], {"time_unit": "ms"}, 1.0),
        (["2026-01-01 00:00:00.5", "2026-01-01 00:00:01"], {}, T + 0.5),
        (["2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:01Z"], {}, T + 0.123456),
        (["2026-01-01T01:00:00+01:00", "2026-01-01T01:00:01+01:00"], {}, T),
        (["2026-01-01T01:00:00", "2026-01-01T01:00:01"], {"zone": "Europe/Berlin"}, T),
        (["2026-01-01", "2026-01-02"], {}, T),
        (["01.01.2026 00:00:00", "01.01.2026 00:00:01"], {"time_format": "%d.%m.%Y %H:%M:%S"}, T),
    ],
)
def test_times_of_every_kind(opened, tmp_path, times, given, wanted):
    node = started(opened(put(tmp_path / "a.csv", "t,x\n" + "".join(f"{one},1\n" for one in times)), **given))
    found = rows(node, "x")
    assert found[0] == (wanted, 1)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("head", "row", "given"),
    [
        ("Date,Time,x", "2026-01-01,00:00:0{},{}", {}),
        ("day,clock,x", "2026-01-01,00:00:0{},{}", {"time": "day+clock"}),
        ("Datum,Zeit,x", "01.01.2026,00:00:0{},{}", {"time": "Datum+Zeit", "time_format": "%d.%m.%Y %H:%M:%S"}),
    ],
)
def test_date_and_time_may_stand_in_two_columns(opened, tmp_path, head, row, given):
    node = started(opened(put(tmp_path / "a.csv", f"{head}\n{row.format(1, 1)}\n{row.format(2, 2)}\n"), **given))
    assert list(node.fields) == ["x"]
    assert rows(node, "x") == [(T + 1, 1), (T + 2, 2)]
    assert "together" in " ".join(node.notes)


def test_a_file_with_nothing_but_a_header_waits_for_rows(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x (m)")
    node = started(opened(path))
    assert node.fields == {}
    add(path, "\n1767225600000,1\n")
    node.sample()
    add(path, "5,2\n")
    node.sample()
    assert node.fields["x"].units == "m"
    assert rows(node, "x", start=0.001) == [(0.005, 2), (T, 1)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_inside_of_values_are_characters(opened, tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_bytes(f't,pipe{end}1,5" pipe{end}2,"a{end}b"{end}3,c{end}4,"half{end}'.encode())
    node = started(opened(path))
    assert rows(node, "pipe") == [(1, '5" pipe'), (2, f"a{end}b"), (3, "c")]
    with path.open("ab") as file:
        file.write(f'"{end}'.encode())
    node.sample()
    assert rows(node, "pipe")[-1] == (4, f"half{end}")


def test_what_was_guessed_is_said(opened, tmp_path):
    node = opened(put(tmp_path / "a.csv", "t;x\n1767225600000;1,5\n"))
    assert node.notes == [
        "columns are parted by semicolons",
        "numbers have a decimal ','",
        "t counts ms since 1970 (guessed; --time-unit says it)",
    ]
    assert rows(started(node), "x") == [(T, 1.5)]


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("", {}, "is empty"),
        ("air,wind\n1,2\n", {}, "--time COLUMN. There are 'air', 'wind'"),
        ("time,t,x\n1,2,3\n", {}, "--time COLUMN. There are 'time', 't', 'x'"),
        ("t,x\n1,2\n", {"time": "when"}, "'when', which is not there. There are 't', 'x'"),
        ("t,x\n1,2\n", {"series": "who"}, "'who', which is not there"),
        ("when,x\nyesterday,2\n", {}, "--time COLUMN"),
        ("t,x\nyesterday,2\n", {"time": "t"}, "no value of 't' is a time, 'yesterday'"),
        ("t\n1\n", {}, "--separator"),
        ("1767225600,2\n1767225601,3\n", {}, "--columns"),
        ("t,x\0y\n", {}, "no text"),
        ("t,x\n1,2\n", {"zone": "Mars/Base"}, "no time zone"),
        ("t,x\n1,2\n", {"name": "a b"}, "node's name"),
        ("t,x (m),x (m)\n1,2,3\n", {"columns": {}, "describe": "x"}, "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told_with_what_to_do(opened, tmp_path, text, given, said):
    path = put(tmp_path / "a.csv", text)
    if "describe" in given:
        given = {"describe": tmp_path / "none.toml"}
    with pytest.raises(Exception, match="(?s)" + ".*".join(map(_literal, said.split("(?s)")))):
        opened(path, **given)


def _literal(text):
    import re

    return re.escape(text)


def test_a_file_that_is_not_there_and_one_that_is_latin(opened, tmp_path):
    with pytest.raises(SetupError, match="there is no file"):
        opened(tmp_path / "none.csv")
    path = tmp_path / "a.csv"
    path.write_bytes("t,Größe (°C)\n1,2\n".encode("latin-1"))
    with pytest.raises(SetupError, match="--encoding"):
        opened(path)
    assert list(opened(path, encoding="latin-1").fields) == ["Größe"]


def test_bad_rows_are_counted_and_named(opened, tmp_path):
    text = "t,x,y\n1,1,a\n2,2\n3,ERR,c\n,4,d\n5,5.5,e\n5,6,f\n4,7,g\n6,1,2,3\n"
    node = opened(put(tmp_path / "a.csv", text), describe=put(tmp_path / "a.toml", '[columns.x]\ntype = "number"\n'))
    node.start()
    assert rows(node, "x", "y") == [(1, 1, "a"), (3, None, "c"), (4, 7, "g"), (5, 6, "f")]
    assert node.problems.counts == {
        "rows of another number of columns": 2,
        "values of another type": 1,
        "rows without a time": 1,
        "repeated times": 1,
        "rows in disorder": 1,
    }
    lines = {problem.kind: problem.line for problem in node.problems.newest}
    assert lines["rows of another number of columns"] == 9
    assert lines["values of another type"] == 4
    assert lines["rows without a time"] == 5
    again = opened(tmp_path / "a.csv")
    assert "x is text for 'ERR'" in " ".join(again.notes)
    assert started(opened(tmp_path / "a.csv", name="b", null=("ERR",))).fields["x"].type == "number"


def test_a_bad_value_that_comes_later_is_null_and_named(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x,ok\n1,1,true\n2,2,false\n")
    node = started(opened(path))
    add(path, "3,ERR,true\n4,4.5,maybe\nnever,5,true\n\n")
    node.sample()
    assert rows(node, "x", "ok") == [(1, 1, True), (2, 2, False), (3, None, True), (4, 4.5, None)]
    told = sorted((problem.kind, problem.line) for problem in node.problems.newest)
    assert told == [
        ("rows without a time", 6),
        ("values of another type", 4),
        ("values of another type", 5),
        ("values of another type", 6),
    ]


def test_whole_numbers_may_be_followed_by_fractions_and_nothing_by_values(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x,later\n1,1,\n2,9007199254740993,\n")
    node = started(opened(path))
    assert list(node.fields) == ["x"]
    add(path, "3,2.5,text\n")
    node.sample()
    assert node.fields["later"].type == "string"
    assert rows(node, "x", "later")[-1] == (3, 2.5, "text")


def test_a_series_becomes_a_timeline(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,robot,x (m),y (m)\n1,r1,1,2\n1,r2,3,4\n2,r1,5,6\n,r1,1,1\n3,,1,1\n")
    node = started(opened(path, series="robot"))
    assert node.fields["r1.x"].timeline == "r1"
    assert node.fields["r2.y"].units == "m"
    assert rows(node, "r1.x", "r1.y") == [(1, 1, 2), (2, 5, 6)]
    assert node.problems.counts == {"rows without a time": 1, "rows without a series": 1}
    add(path, "4,r3,7,8\n")
    node.sample()
    assert rows(node, "r3.x") == [(4, 7)]


def test_name_time_and_value_need_no_dot(opened, tmp_path):
    node = started(opened(put(tmp_path / "a.csv", "t,sensor,value\n1,air,1\n1,wind,2\n"), series="sensor"))
    assert sorted(node.fields) == ["air", "wind"]


def test_a_description_says_it_all(opened, tmp_path):
    put(tmp_path / "log.csv", "# made by a logger\nwhen,T1,T2,junk\n1000,1,2,3\n")
    toml = put(
        tmp_path / "roof.toml",
        'source = "log.csv"\nname = "roof"\ndescription = "The roof"\ntime = "when"\ntime-unit = "ms"\nskip = 1\n'
        '[columns]\nT2 = "K"\n[columns.T1]\nfield = "air"\nunits = "degC"\ndescription = "Air, 2 m"\n'
        "[columns.junk]\nignore = true\n",
    )
    node = started(opened(toml))
    assert (node.name, node.description) == ("roof", "The roof")
    assert {name: (spec.units, spec.description) for name, spec in node.fields.items()} == {
        "air": ("degC", "Air, 2 m"),
        "T2": ("K", None),
    }
    assert rows(node, "air") == [(1, 1)]
    assert name_of(str(toml)) == "roof"
    for wrong, said in (("sorce = 'x'", "there is no 'sorce'"), ("time = 3", "time cannot be 3"), ("x = [", "is no TOML")):
        with pytest.raises(SetupError, match=said):
            name_of(str(put(tmp_path / "b.toml", wrong)))


def test_a_growing_file_is_followed_half_lines_and_all(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x\n1,1\n")
    node = started(opened(path))
    add(path, "2,2\n3,")
    node.sample()
    assert rows(node, "x") == [(1, 1), (2, 2)]
    add(path, "3\n")
    node.sample()
    assert rows(node, "x") == [(1, 1), (2, 2), (3, 3)]


def test_a_last_line_without_an_end_counts_when_nothing_comes(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x\n1,1\n2,2")
    os.utime(path, (time.time() - 60,) * 2)
    node = started(opened(path))
    assert rows(node, "x") == [(1, 1), (2, 2)]
    add(path, "5\n3,3\n")
    node.sample()
    assert rows(node, "x") == [(1, 1), (2, 25), (3, 3)]


def test_rotation_loses_nothing(opened, tmp_path):
    path = put(tmp_path / "a.csv", "t,x\n1,1\n")
    node = started(opened(path))
    add(path, "2,2\n")
    path.rename(tmp_path / "a.csv.1")
    node.sample()
    put(path, "t,x\n3,3\n")
    node.sample()
    assert rows(node, "x") == [(1, 1), (2, 2), (3, 3)]
    # As logrotate's copytruncate does it.
    put(path, "t,x\n4,4\n")
    node.sample()
    assert rows(node, "x") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert node.problems.counts["files begun anew"] == 1


def test_disorder_and_repeats(opened, tmp_path):
    node = started(opened(put(tmp_path / "a.csv", "t,x\n3,3\n1,1\n2,2\n1,10\n")))
    assert rows(node, "x") == [(1, 10), (2, 2), (3, 3)]
    assert node.problems.counts["repeated times"] == 1
    assert node.problems.counts["rows in disorder"] == 1


def test_parquet_is_served_and_read_anew_when_it_is_replaced(opened, tmp_path):
    path = tmp_path / "air.parquet"

    def write(n):
        t = pa.array(np.arange(n) * 1_000_000 + int(T * 1e6), pa.timestamp("us", "UTC"))
        table = pa.table({"when": t, "air [degC]": np.arange(n) / 2, "ok": [i % 2 == 0 for i in range(n)], "bytes": [b"x"] * n})
        parquet.write_table(table, tmp_path / ".new")
        (tmp_path / ".new").rename(path)

    write(10)
    node = started(opened(path))
    assert rows(node, "air", "ok")[-1] == (T + 9, 4.5, False)
    assert "left out, as no field holds them: 'bytes'" in node.notes
    write(12)
    node.sample()
    assert len(rows(node, "air")) == 12
    path.write_bytes(b"PAR1 not whole")
    node.sample()
    node.sample()
    assert node.problems.counts == {"unreadable files": 1}
    write(13)
    node.sample()
    assert len(rows(node, "air")) == 13


def test_a_folder_is_one_table(opened, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    put(folder / "01.csv", "t,x\n1,1\n")
    put(folder / "02.csv", "t,x\n2,2\n")
    node = started(opened(folder))
    put(folder / "03.csv", "t,x\n3,3\n")
    put(folder / ".04.csv", "t,x\n4,4\n")
    node.sample()
    assert node.name == "parts"
    assert rows(node, "x") == [(1, 1), (2, 2), (3, 3)]


def test_of_a_folder_few_files_stay_open_and_what_leaves_it_is_read_to_its_end(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "OPEN", 2)
    folder = tmp_path / "parts"
    folder.mkdir()
    for n in range(1, 7):
        put(folder / f"{n}.csv", f"t,x\n{n},{n}\n")
    for name in ("5.csv", "6.csv"):
        # Nobody wrote to them for long.
        os.utime(folder / name, (1, 1))
    node = started(opened(folder))
    assert [path.name for path, table in node._tables.items() if table.is_open] == ["3.csv", "4.csv"]
    # An open one is read wherever it goes, a closed one where it stands; then both are forgotten.
    for name, there in (("1.csv", folder / "1.csv.old"), ("4.csv", tmp_path / "4.csv"), ("5.csv", folder / "5.csv.old")):
        add(folder / name, f"{name[0]}0,0\n")
        (folder / name).rename(there)
    add(folder / "6.csv", "60,0\n")
    node.sample()
    assert [t for t, _ in rows(node, "x")] == [1, 2, 3, 4, 5, 6, 10, 40, 50, 60]
    assert sorted(path.name for path in node._tables) == ["2.csv", "3.csv", "6.csv"]
    assert sorted(Path(name).name for name in json.loads(node._place.read_text())["files"]) == ["2.csv", "3.csv", "6.csv"]
    # A folder that is away for a moment is not another one.
    folder.rename(tmp_path / "away")
    node.sample()
    (tmp_path / "away").rename(folder)
    node.sample()
    assert node.problems.counts["files begun anew"] == 0
    assert len(rows(node, "x")) == 10


def test_what_one_file_of_a_folder_lacks_is_told_once(opened, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    put(folder / "1.csv", "t,x\n1,1\n")
    (folder / "2.csv").mkdir()
    node = started(opened(folder))
    for n in range(2, 5):
        add(folder / "1.csv", f"{n},{n}\n")
        node.sample()
    assert node.problems.counts["unreadable files"] == 1


def test_a_parquet_file_that_is_still_written_keeps_nobody_waiting(opened, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("1", "3"):
        (folder / f"{name}.parquet").write_bytes(b"PAR1")
    parquet.write_table(pa.table({"t": [T], "x": [1.5]}), folder / "2.parquet")
    node = opened(folder)
    found = node.found()
    assert (found["rows"], [one["field"] for one in found["columns"]]) == (1, ["x"])
    node.start()
    parquet.write_table(pa.table({"t": [T + 1], "x": [2.5]}), folder / "3.parquet")
    node.sample()
    assert rows(node, "x") == [(T, 1.5), (T + 1, 2.5)]


def kept(home, name="a"):
    with Store.open(home.path / "history.db") as store:
        history = store.reader(name)
        return history.read("t", ["x"], 0, 2**60)[0]


PROGRAM = """
import sys, time
from pathlib import Path
from sisock.home import Home
from sisock.nodes.table import open_table
from sisock.store import Store
home = Home(Path(sys.argv[2]))
node = open_table(sys.argv[1], home=home)
store = Store.open(home.path / "history.db")
node.history = store.node(node.name)
node.start()
while True:
    node.sample()
    print("looked", flush=True)
"""


def test_kill_9_while_a_file_grows_leaves_each_line_once(tmp_path, home):
    """Rows are appended and the follower is killed at some moment, again and again; then it reads to the end."""
    path = put(tmp_path / "a.csv", "t,x\n")
    written = 0
    for turn in range(4):
        with subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), str(home.path)], stdout=subprocess.PIPE) as follower:
            assert follower.stdout.readline() == b"looked\n"
            for _ in range(50 + 37 * turn):
                add(path, "".join(f"{written + i + 1},{written + i}\n" for i in range(7)) + "half")
                written += 7
                with path.open("rb+") as file:
                    file.seek(-4, 2)
                    file.truncate()
            if turn == 3:
                end = time.monotonic() + 60
                while len(kept(home)) < written:
                    assert time.monotonic() < end
                    follower.stdout.readline()
            follower.send_signal(signal.SIGKILL)
    block = kept(home)
    assert block.t.tolist() == [(i + 1) * 1_000_000 for i in range(written)]
    assert block.columns["x"].values.tolist() == list(range(written))


def test_a_start_reads_only_what_is_new_unless_the_history_is_another(tmp_path, home):
    path = put(tmp_path / "a.csv", "t,x\n1,1\n2,2\n")

    def run():
        node = open_table(str(path), home=home)
        with Store.open(home.path / "history.db") as store:
            node.history = store.node("a")
            node.start()
            node.stop()
            return node.history.position("t").seq

    before = run()
    assert run() == before
    add(path, "3,3\n")
    assert run() == before + 1
    assert len(kept(home)) == 3
    # Rotated while nobody looked, with rows that nobody had read.
    add(path, "4,4\n")
    path.rename(tmp_path / "a.csv.1")
    put(path, "t,x\n5,5\n")
    run()
    assert len(kept(home)) == 5
    with Store.open(home.path / "history.db") as store:
        store.forget("a")
    run()
    assert kept(home).t.tolist() == [5_000_000]


def test_a_start_knows_where_each_file_of_a_folder_was_read_to(tmp_path, home, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    for n in (1, 2, 3):
        put(folder / f"{n}.csv", f"t,x\n{n},{n}\n")
    read = []
    take = files.FileTable._take

    def told(node, table, piece):
        read.append((table.name, len(piece.arrays["t"])))
        take(node, table, piece)

    monkeypatch.setattr(files.FileTable, "_take", told)

    def run(at_start):
        monkeypatch.setattr(files, "AT_START", at_start)
        read.clear()
        node = open_table(str(folder), home=home)
        with Store.open(home.path / "history.db") as store:
            node.history = store.node("a")
            node.start()
            node.stop()
        return list(read)

    assert run(10.0) == [("1.csv", 1), ("2.csv", 1), ("3.csv", 1)]
    # Rotated while nobody looked, among links to nowhere; and a start that ends after its first file.
    add(folder / "2.csv", "20,0\n21,0\n")
    (folder / "2.csv").rename(folder / "2.csv.1")
    put(folder / "2.csv", "t,x\n22,0\n")
    for n in range(20):
        (folder / f".#{n}").symlink_to("nowhere")
    assert run(-1.0) == []
    assert sorted(run(10.0)) == [("2.csv", 1), ("2.csv", 2)]
    assert run(10.0) == []
    assert len(kept(home)) == 6


cell = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from('",\n;'), min_size=1, max_size=12
)
table = st.lists(
    st.tuples(
        st.integers(1, 10**15),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.integers(-(2**62), 2**62),
        st.none() | st.booleans(),
        st.none() | cell,
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[0],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table, st.lists(st.integers(1, 400), max_size=8))
def test_whatever_csv_holds_comes_back_however_it_was_written(written, cuts):
    """Rows written by Python's csv, in pieces that end anywhere, come back as they were."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for t, number, integer, truth, text in written:
        quoted = "" if text is None else '"' + text.replace('"', '""') + '"'
        cells = [
            t,
            "" if number is None else repr(number),
            "" if integer is None else integer,
            {None: "", True: "true"}.get(truth, "false"),
        ]
        out.write(",".join(map(str, cells)) + "," + quoted + "\n")
    del writer
    data = out.getvalue().encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        # The first row says what the columns hold.
        path.write_text('t,number,whole,truth,text\n0,0.5,1,true,"x"\n')
        home = Home(Path(folder))
        home.make()
        node = open_table(str(path), home=home, time_unit="us")
        node.start()
        at = 0
        for cut in [*cuts, len(data)]:
            with path.open("ab") as file:
                file.write(data[at : at + cut])
            at += cut
            node.sample()
        block, _ = node.history.read("t", list(node.fields), 1, 2**62)
        node.stop()
    columns = block.columns
    got = []
    for i, t in enumerate(block.t.tolist()):
        cells = [c.values[i] if c.mask()[i] else None for c in (columns[n] for n in ("number", "whole", "truth", "text"))]
        got.append((t, *cells))
    assert got == sorted(written, key=lambda row: row[0])
    assert not node.problems.counts.keys() - {"rows in disorder", "repeated times"}


@given(st.text(st.sampled_from('",\nab'), max_size=40))
def test_rows_end_where_a_reader_of_one_character_after_the_other_says(text):
    state, end = "start", 0
    for place, one in enumerate(text):
        if state == "quoted":
            state = "closing" if one == '"' else "quoted"
        elif state == "closing" and one == '"':
            state = "quoted"
        elif one == "\n":
            state, end = "start", place + 1
        elif one == ",":
            state = "start"
        else:
            state = "quoted" if one == '"' and state == "start" else "plain"
    assert whole(text.encode()) == end


@given(st.lists(st.text(max_size=5), max_size=12))
def test_names_are_each_there_once(names):
    made = unique(names)
    assert len(set(made)) == len(names)
    assert all(made)


def test_units_stand_in_headers():
    assert split_units("air (degC)") == ("air", "degC")
    assert split_units("air temperature [K] ") == ("air temperature", "K")
    assert split_units("(degC)") == ("(degC)", None)
    assert split_units("f(x) (1)") == ("f(x)", "1")
    assert split_units("air ()") == ("air", None)
