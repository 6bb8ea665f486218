"""The weather node, on real folders."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sisock import DataNode
from sisock.errors import SetupError
from sisock.nodes.weather import Weather, sample
from sisock.nodes.weather import source as source_module
from sisock.nodes.weather.rows import SMALL, parse
from sisock.nodes.weather.source import CHUNK, QUIET, Archive, Piece, Problem

HEADER = "# Air\n# hourly\n# C\n"
T0 = 1_500_000_000.0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SISOCK_WEATHER_DIR", raising=False)
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "weather"
    made.mkdir()
    return made


def put(folder, field, text, header=HEADER):
    (folder / f"{field}.dat").write_text(header + text)


def add(folder, field, text):
    with (folder / f"{field}.dat").open("a") as file:
        file.write(text)


def replace(folder, field, text):
    """As an editor or rsync does: a new file takes the name."""
    new = folder / ".new"
    new.write_text(text)
    new.rename(folder / f"{field}.dat")


def started(folder) -> Weather:
    node = Weather(folder)
    node.start()
    return node


def rows(node: DataNode, *fields: str) -> list[tuple]:
    """(t, value, ...) of the fields, which share a timeline."""
    reply = node.get_data(list(fields), 1, None)
    if not reply["timeline"]:
        return []
    ((_, timeline),) = reply["timeline"].items()
    blank = [None] * len(timeline["t"])
    return list(zip(timeline["t"], *(reply["data"][field] or blank for field in fields), strict=True))


def scanned(archive: Archive, now: float) -> tuple[dict[str, list[tuple[float, float]]], list[Problem]]:
    found: dict[str, list[tuple[float, float]]] = {}
    problems = []
    for item in archive.scan(now):
        if isinstance(item, Problem):
            problems.append(item)
        else:
            found.setdefault(item.field, []).extend(zip(item.t.tolist(), item.values.tolist(), strict=True))
    return found, problems


def read_plainly(path: Path) -> dict[float, float]:
    """An independent reading: of equal times the last counts."""
    found = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            t, value = line.split()
            found[float(t)] = float(value)
    return found


# ---- what is served


def test_the_sample_is_made_once_and_served_to_the_last_digit():
    node = Weather()
    node.start()
    assert (node.name, node.description) == ("apex_archive", "Archived APEX weather.")
    assert node.folder == Path(os.environ["SISOCK_HOME"]) / "weather"
    fields, timelines = node.get_fields(1, None).to_wire()
    assert {name: (spec["units"], spec["timeline"], spec["type"]) for name, spec in fields.items()} == {
        "apex_humidity": ("%", "hourly", "number"),
        "apex_pressure": ("mBar", "hourly", "number"),
        "apex_temperature": ("C", "hourly", "number"),
        "apex_radiometer": ("mm", "minutely", "number"),
        "apex_windspeed": ("km/h", "minutely", "number"),
    }
    assert {name: spec["interval"] for name, spec in timelines.items()} == {"hourly": 3600.0, "minutely": 60.0}
    for field in fields:
        assert dict(rows(node, field)) == read_plainly(node.folder / f"{field}.dat")
    before = {path: path.stat().st_mtime_ns for path in node.folder.iterdir()}
    started(None)
    assert {path: path.stat().st_mtime_ns for path in node.folder.iterdir()} == before
    assert not node.problems


def test_the_sample_has_the_traps_of_real_files(tmp_path):
    sample.write(tmp_path)
    times = {}
    for series in sample.SERIES:
        lines = (tmp_path / f"{series.field}.dat").read_text().splitlines()
        assert len([line for line in lines[3:] if line.startswith("# 2017-07-")]) == sample.DAYS
        stamps = [float(line.split()[0]) for line in lines if not line.startswith("#")]
        twice = [t for t in sorted(set(stamps)) if stamps.count(t) == 2] if series.spacing > 60 else None
        if twice is not None:
            assert twice == [sample.START + day * sample.DAY for day in range(1, sample.DAYS)]
        assert (stamps[0], stamps[-1]) == (sample.START, sample.START + sample.DAYS * sample.DAY)
        assert max(np.diff(stamps)) > series.spacing
        times[series.field] = set(stamps)
    assert len(times["apex_temperature"] - times["apex_humidity"]) == 1
    assert times["apex_temperature"] == times["apex_pressure"]


def test_the_sample_can_be_written_by_hand_and_is_the_same_again(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "sisock.nodes.weather.sample", str(tmp_path / "a" / "b")]
    subprocess.run(command, check=True)
    sample.write(tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / "b" / path.name).read_bytes()


def test_the_sample_does_not_touch_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine.dat").write_text(HEADER)
    sample.ensure(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.dat"]


def test_the_environment_names_the_folder(folder, monkeypatch):
    put(folder, "air", f"{T0} 1\n")
    monkeypatch.setenv("SISOCK_WEATHER_DIR", str(folder))
    assert rows(started(None), "air") == [(T0, 1.0)]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SetupError, match="missing is no folder"):
        started(tmp_path / "missing")


def test_midnight_stands_twice_and_rows_out_of_order_are_sorted(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2\n# 2017-07-15\n{T0 + 3600} 3\n{T0 + 10800} 5\n{T0 + 7200} 4\n")
    assert rows(started(folder), "air") == [(T0, 1.0), (T0 + 3600, 3.0), (T0 + 7200, 4.0), (T0 + 10800, 5.0)]


def test_a_shared_timeline_is_aligned_and_a_missing_sample_is_null(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2\n{T0 + 7200} 3\n")
    put(folder, "dew", f"{T0} 10\n{T0 + 7200} 30\n{T0 + 10800} 40\n")
    node = started(folder)
    assert rows(node, "air", "dew") == [(T0, 1, 10), (T0 + 3600, 2, None), (T0 + 7200, 3, 30), (T0 + 10800, None, 40)]
    assert rows(node, "dew") == [(T0, 10), (T0 + 7200, 30), (T0 + 10800, 40)]


def test_ranges_are_half_open_and_min_stride_counts(folder):
    put(folder, "air", "".join(f"{T0 + 3600 * i} {i}\n" for i in range(10)))
    node = started(folder)
    assert node.get_data(["air"], T0, T0 + 7200)["data"]["air"] == [0.0, 1.0]
    assert node.get_data(["air"], T0, None, 7200)["data"]["air"] == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_nan_is_a_number_that_is_none(folder):
    put(folder, "air", f"{T0} nan\n{T0 + 3600} 1\n")
    node = started(folder)
    block, _ = node.history.read("hourly", ["air"], 0, 2**62)
    assert math.isnan(block.columns["air"].values[0])
    assert block.columns["air"].mask().tolist() == [True, True]
    json.dumps(node.get_data(["air"], 1, None), allow_nan=False)


def test_a_timeline_named_t_has_the_interval_of_its_rows(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 30} 2\n", "# Air\n# t\n# C\n")
    assert started(folder).get_fields(1, None).to_wire()[1]["t"]["interval"] == 30.0


def test_a_field_name_never_is_a_path(folder):
    (folder.parent / "secret.dat").write_text(HEADER + f"{T0} 1\n")
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    for name in ("../secret", str(folder.parent / "secret"), "air/../../secret", "..%2fsecret", "air\0"):
        assert node.get_data([name], 1, None) == {"data": {name: []}, "timeline": {}}


def test_a_header_may_leave_out_units_and_a_file_its_rows(folder):
    put(folder, "air", "", "#\n# hourly \r\n#\n")
    fields, timelines = started(folder).get_fields(1, None).to_wire()
    assert fields["air"] == {"description": None, "timeline": "hourly", "type": "number", "units": None}
    assert timelines == {"hourly": {"interval": None, "field": ["air"]}}


def test_large_files_are_read_in_pieces(folder, monkeypatch):
    monkeypatch.setattr(source_module, "CHUNK", 4096)
    monkeypatch.setattr(source_module, "PIECE", 16384)
    put(folder, "air", "".join(f"{T0 + 60 * i} {i}\n" for i in range(5000)) + "bad\n")
    pieces = [item for item in Archive(folder).scan(0.0) if isinstance(item, Piece)]
    assert len(pieces) > 3
    assert np.concatenate([piece.values for piece in pieces]).tolist() == list(range(5000))
    node = started(folder)
    assert len(rows(node, "air")) == 5000
    assert [problem.line for problem in node.problems] == [5004]


# ---- files that change


def test_growth_is_read_from_where_it_was(folder):
    put(folder, "air", f"{T0} 1\nbad\n")
    node = started(folder)
    node.take_sample()
    add(folder, "air", f"{T0 + 3600} 2\nworse\n")
    found, problems = scanned(node.archive, 0.0)
    assert found == {"air": [(T0 + 3600, 2.0)]}
    assert [problem.line for problem in problems] == [7]
    add(folder, "air", f"# 2017-07-15\n{T0 + 7200} 3\n")
    node.take_sample()
    assert rows(node, "air")[-1] == (T0 + 7200, 3.0)
    assert scanned(node.archive, 0.0) == ({}, [])


def test_a_half_written_line_waits_for_its_end(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2")
    node = started(folder)
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0)]
    add(folder, "air", ".5\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 2.5)]
    assert not node.problems


def test_a_last_line_without_line_feed_counts_when_the_file_is_quiet(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2")
    os.utime(folder / "air.dat", (T0, T0))
    node = started(folder)
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 2.0)]
    # It was not the end after all.
    add(folder, "air", f"5\n{T0 + 7200} 3\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 25.0), (T0 + 7200, 3.0)]


def test_a_quiet_last_line_is_read_once(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2")
    archive = Archive(folder)
    written = (folder / "air.dat").stat().st_mtime
    assert scanned(archive, written) == ({"air": [(T0, 1.0)]}, [])
    assert scanned(archive, written + 1) == ({}, [])
    assert scanned(archive, written + QUIET + 1) == ({"air": [(T0 + 3600, 2.0)]}, [])
    assert scanned(archive, written + QUIET + 2) == ({}, [])


def test_a_file_appears_with_its_header_in_parts(folder):
    node = started(folder)
    assert node.get_fields(1, None).to_wire() == [{}, {}]
    put(folder, "air", "", "# Air\n# hou")
    node.take_sample()
    assert node.get_fields(1, None).to_wire() == [{}, {}]
    add(folder, "air", f"rly\n# C\n{T0} 1\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0)]
    assert node.fields["air"].timeline == "hourly"
    assert not node.problems


def test_a_cut_file_is_read_again_and_its_new_values_count(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2\n{T0 + 7200} 3\n")
    node = started(folder)
    put(folder, "air", f"{T0} 5\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 5.0), (T0 + 3600, 2.0), (T0 + 7200, 3.0)]
    add(folder, "air", f"{T0 + 10800} 4\n")
    node.take_sample()
    assert rows(node, "air")[-1] == (T0 + 10800, 4.0)


def test_a_replaced_file_is_read_again(folder):
    put(folder, "air", f"{T0} 1\n{T0 + 3600} 2\n")
    node = started(folder)
    replace(folder, "air", f"# Better air\n# hourly\n# K\n{T0} 274\n{T0 + 3600} 275\n{T0 + 7200} 276\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 274.0), (T0 + 3600, 275.0), (T0 + 7200, 276.0)]
    assert (node.fields["air"].description, node.fields["air"].units) == ("Better air", "K")


@pytest.mark.parametrize(
    "rewritten", ["1500000000.0 7\n1500003600.0 8\n", "1500000000.0 777\n1500003600.0 8\n1500007200.0 9\n"]
)
def test_a_file_rewritten_in_place_is_read_again(folder, rewritten):
    put(folder, "air", "1500000000.0 1\n1500003600.0 2\n")
    os.utime(folder / "air.dat", (T0, T0))
    node = started(folder)
    put(folder, "air", rewritten)
    node.take_sample()
    assert dict(rows(node, "air")) == {float(line.split()[0]): float(line.split()[1]) for line in rewritten.splitlines()}


def test_a_deleted_file_leaves_its_rows_and_may_come_back(folder):
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    (folder / "air.dat").unlink()
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0)]
    put(folder, "air", f"{T0 + 3600} 2\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 2.0)]
    assert not node.problems


def test_the_folder_goes_and_comes_back(folder):
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    folder.rename(folder.with_name("away"))
    node.take_sample()
    node.take_sample()
    assert [problem.text for problem in node.problems] == ["cannot be listed: No such file or directory"]
    folder.with_name("away").rename(folder)
    add(folder, "air", f"{T0 + 3600} 2\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 2.0)]


def test_rows_that_could_not_be_kept_are_read_again(folder):
    class Forgetful(Weather):
        full = True

        def append(self, *args, **kwargs):
            if self.full:
                raise ConnectionError("the store is away")
            return super().append(*args, **kwargs)

    node = Forgetful(folder)
    node.start()
    put(folder, "air", f"{T0} 1\n")
    with pytest.raises(ConnectionError):
        node.take_sample()
    node.full = False
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0)]


# ---- what cannot be read


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"1500000000.0 1\n", 1, "no header line"),
        (b"# Air\n# hourly\n1500000000.0 1\n", 3, "no header line"),
        (b"# Air\n#\n# C\n1500000000.0 1\n", 2, "names no timeline"),
        ("# Air\n# hourly\n# °C\n".encode(), 3, "not ASCII"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", 1, "no header line"),
        (b"#" * 100_000, 1, "not the end of a header"),
    ],
)
def test_a_malformed_file_is_reported_once_and_the_rest_is_served(folder, caplog, content, line, words):
    (folder / "bad.dat").write_bytes(content)
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    node.take_sample()
    with (folder / "bad.dat").open("ab") as file:
        file.write(b"1500000000.0 1\n")
    node.take_sample()
    (problem,) = node.problems
    assert (problem.file, problem.line) == ("bad.dat", line)
    assert words in problem.text
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"bad.dat, line {line}: ")
    assert list(node.fields) == ["air"]
    replace(folder, "bad", HEADER + f"{T0} 7\n")
    node.take_sample()
    assert rows(node, "bad") == [(T0, 7.0)]


def test_a_header_that_never_ends_is_reported_when_the_file_is_quiet(folder):
    put(folder, "air", "", "# Air\n")
    archive = Archive(folder)
    written = (folder / "air.dat").stat().st_mtime
    assert scanned(archive, written) == ({}, [])
    assert [problem.line for problem in scanned(archive, written + QUIET + 1)[1]] == [2]
    assert scanned(archive, written + QUIET + 2) == ({}, [])
    add(folder, "air", f"# hourly\n# C\n{T0} 1\n")
    assert scanned(archive, written + QUIET + 3)[0] == {}
    replace(folder, "air", HEADER + f"{T0} 1\n")
    assert scanned(archive, written + QUIET + 4)[0] == {"air": [(T0, 1.0)]}


@pytest.mark.parametrize(
    "bad",
    ["1500003600.0", "1500003600.0 1 2", "a b", "nan 1", "inf 1", "1e300 1", "1500003600.0 1,5", "1_0 1", "1500003600.0 0x1"],
)
@pytest.mark.parametrize("many", [1, 1000])
def test_a_malformed_line_is_reported_once_with_its_place(folder, bad, many):
    good = "".join(f"{T0 + 60 * i} {i}\n" for i in range(many))
    put(folder, "air", f"{good}{bad}\n{T0 + 7200000} 2\n")
    node = started(folder)
    node.take_sample()
    (problem,) = node.problems
    assert (problem.file, problem.line) == ("air.dat", 4 + many)
    assert bad in problem.text
    assert rows(node, "air") == [*((T0 + 60 * i, float(i)) for i in range(many)), (T0 + 7200000, 2.0)]
    os.utime(folder / "air.dat", (T0, T0))
    node.take_sample()
    assert len(node.problems) == 1


def test_thousands_of_bad_lines_do_not_flood(folder):
    put(folder, "air", "bad\n" * 5000 + f"{T0} 1\n")
    node = started(folder)
    assert [problem.line for problem in node.problems] == [*range(4, 14), None]
    assert "4990 more lines" in node.problems[-1].text
    assert rows(node, "air") == [(T0, 1.0)]


def test_a_huge_line_and_binary_do_not_hurt(folder):
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    with (folder / "air.dat").open("ab") as file:
        file.write(os.urandom(1000).replace(b"\n", b"") + b"\xff" * 2 * CHUNK)
    node.take_sample()
    with (folder / "air.dat").open("ab") as file:
        file.write(b"x" * CHUNK)
    node.take_sample()
    add(folder, "air", f"tail\n{T0 + 3600} 2\nbad\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 1.0), (T0 + 3600, 2.0)]
    assert [problem.line for problem in node.problems] == [5, 7]


def test_what_is_no_file_is_reported_once(folder):
    (folder / "inner.dat").mkdir()
    os.mkfifo(folder / "pipe.dat")
    (folder / "nowhere.dat").symlink_to(folder / "missing")
    put(folder, ".hidden", f"{T0} 1\n")
    (folder / "notes.txt").write_text("not weather")
    node = started(folder)
    node.take_sample()
    assert {(problem.file, problem.text) for problem in node.problems} == {
        ("inner.dat", "is no regular file"),
        ("pipe.dat", "is no regular file"),
        ("nowhere.dat", "cannot be read: No such file or directory"),
    }
    assert not node.fields


@pytest.mark.parametrize("name", [b"a\nb.dat", b"caf\xe9.dat", b"tab\t.dat"])
def test_a_name_that_no_field_may_have_is_reported_once(folder, name):
    Path(os.fsdecode(bytes(folder) + b"/" + name)).write_text(HEADER + f"{T0} 1\n")
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    node.take_sample()
    (problem,) = node.problems
    assert "cannot be a field's name" in problem.text
    str(problem).encode()
    assert list(node.fields) == ["air"]


def test_a_field_cannot_move_to_another_timeline(folder):
    put(folder, "air", f"{T0} 1\n")
    node = started(folder)
    replace(folder, "air", f"# Air\n# minutely\n# C\n{T0} 9\n")
    node.take_sample()
    add(folder, "air", f"{T0 + 60} 9\n")
    node.take_sample()
    (problem,) = node.problems
    assert (problem.file, problem.line) == ("air.dat", 2)
    assert rows(node, "air") == [(T0, 1.0)]
    replace(folder, "air", HEADER + f"{T0} 2\n")
    node.take_sample()
    assert rows(node, "air") == [(T0, 2.0)]


# ---- the parser


def pairs(found) -> list[tuple[str, str]]:
    return [(repr(t), repr(value)) for t, value in zip(found.t.tolist(), found.values.tolist(), strict=True)]


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed(data):
    padding = b"# comment\n" * (SMALL // 10 + 1)
    quick, plain = parse(padding + data), parse(data)
    assert pairs(quick) == pairs(plain)
    assert [number - padding.count(b"\n") for number in quick.bad] == list(plain.bad)


WORDS = st.sampled_from(
    ["1", "-2.5", "1e9", "nan", "-inf", "1e400", "#", "#x", "\t", "\r", "\n", " ", "\x0b", "\x1c", "_", "+", "0x1", '"']
)


@given(
    st.lists(
        st.lists(WORDS, max_size=5).map(" ".join)
        | st.tuples(st.floats(-1e9, 1e10), st.floats()).map(lambda p: f"{p[0]!r} {p[1]!r}")
    )
)
def test_both_ways_to_parse_agree(lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    padding = b"# comment\n" * (SMALL // 10 + 1)
    assert pairs(parse(padding + data)) == pairs(parse(data))


# Of more than ten bad lines in one scan the others are only counted.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.sampled_from([b"1500000000.0 1\n", b"1500003600.5 -2.25\n", b"# day\n", b"\n", b"bad\n", b"\xff\n", b"7 8\r\n"]),
        max_size=10,
    ),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_a_file_read_as_it_grows_is_the_file(tmp_path_factory, lines, cuts):
    folder = tmp_path_factory.mktemp("grows")
    path = folder / "air.dat"
    content = HEADER.encode() + b"".join(lines)
    path.write_bytes(content)
    now = path.stat().st_mtime
    whole = scanned(Archive(folder), now)
    growing = Archive(folder)
    path.write_bytes(b"")
    found, problems = [], []
    at = 0
    for cut in [*sorted(cuts), len(content)]:
        with path.open("ab") as file:
            file.write(content[at:cut])
        at = max(at, cut)
        new, wrong = scanned(growing, now)
        found += new.get("air", [])
        problems += wrong
    assert found == whole[0].get("air", [])
    assert problems == whole[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from([b"", HEADER.encode(), b"# "]), st.lists(st.binary(max_size=80), max_size=5), st.booleans())
def test_a_file_of_any_bytes_is_read(tmp_path_factory, monkeypatch, header, parts, quiet):
    monkeypatch.setattr(source_module, "CHUNK", 32)
    path = tmp_path_factory.mktemp("any") / "air.dat"
    path.write_bytes(header)
    archive = Archive(path.parent)
    for part in parts:
        with path.open("ab") as file:
            file.write(part)
        now = path.stat().st_mtime + quiet * (QUIET + 1)
        scanned(archive, now)
        assert scanned(archive, now) == ({}, [])
