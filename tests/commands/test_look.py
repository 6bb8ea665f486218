"""Commands that look and read: last, gaps, get -o, plot, watch."""

import json
import signal
import subprocess

import numpy as np
import pytest
import pytest_twisted
from click.testing import CliRunner
from pyarrow import csv, ipc, parquet
from twisted.internet.threads import deferToThread

from sisock import gaps
from sisock.cli import sisock as program
from sisock.errors import SisockError
from sisock.newest import newest
from tests.commands.conftest import SISOCK, T, filled, whole
from tests.plain import until


@pytest_twisted.ensureDeferred
async def test_the_newest_value_of_each_field(roof, consumer):
    filled(roof)
    roof.append("t", T + 30.05, {"note": "long ago"}, correct=True).result()
    offered = (await consumer.get_fields("roof")).fields
    found = {one.field: (one.t, one.value) for one in await newest(consumer, "roof", list(offered), offered)}
    last = round((T + 99.9) * 1e6)
    assert found["n"] == (last, 999.0)
    assert found["note"] == (round((T + 30.05) * 1e6), "long ago")
    assert found["slow"] == (None, None)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(gaps, "MAX_READ", 5000)
    monkeypatch.setattr(gaps, "OVERVIEW", 400)
    monkeypatch.setattr(gaps, "MAX_HOLES", 50)


def with_holes(node, rows=20_000, seed=1):
    """Rows each 0.1 s, but for some holes; where these are."""
    chance = np.random.default_rng(seed)
    step = np.full(rows - 1, 100_000)
    at = np.sort(chance.choice(np.arange(10, rows - 10, 7), 30, replace=False))
    step[at] = chance.integers(150_000, 60_000_000, 30)
    t = round(T * 1e6) + np.concatenate(([0], np.cumsum(step)))
    node.append("t", t / 1e6, {"n": np.arange(float(rows))}).result()
    return [(int(t[i]), int(t[i + 1])) for i in at]


@pytest_twisted.ensureDeferred
async def test_all_holes_of_some_rows_are_found(roof, consumer):
    holes = with_holes(roof)
    found = {one.timeline: one for one in await gaps.find(consumer, "roof")}
    assert list(found["t"].holes) == [hole for hole in holes if hole[1] - hole[0] > 200_001]
    assert (found["t"].longer, found["t"].usual, found["t"].rows) == (0.2, 0.1, 20_000)
    assert found["hour/1"].longer is None
    one = (await gaps.find(consumer, "roof", 30.0))[0]
    assert list(one.holes) == [hole for hole in holes if hole[1] - hole[0] > 30_000_000]
    start, end = holes[5][1], holes[20][0] + 1
    within = (await gaps.find(consumer, "roof", 1.0, start, end))[0]
    assert list(within.holes) == [hole for hole in holes[6:20] if hole[1] - hole[0] > 1_000_001]


@pytest_twisted.ensureDeferred
async def test_of_many_rows_an_overview_finds_what_is_long_enough_and_says_how_long(roof, consumer, few, monkeypatch):
    holes = with_holes(roof)
    read = []
    ask = consumer.read_all

    async def counted(node, question, take, **rest):
        def seen(timeline, block):
            read.append(len(block))
            take(timeline, block)

        return await ask(node, question, seen, **rest)

    monkeypatch.setattr(consumer, "read_all", counted)
    one = (await gaps.find(consumer, "roof"))[0]
    assert one.asked < one.longer < 30
    assert list(one.holes) == [hole for hole in holes if hole[1] - hole[0] > one.longer * 1e6]
    assert len(one.holes) > 3
    assert sum(read) < 5000, "not all rows are read"
    exact = (await gaps.find(consumer, "roof", exact=True))[0]
    assert list(exact.holes) == [hole for hole in holes if hole[1] - hole[0] > 200_001]


@pytest_twisted.ensureDeferred
async def test_a_row_without_that_one_field_is_no_hole(roof, consumer):
    filled(roof, 100)
    roof.append("t", T + 10 + np.arange(50) * 0.1, {"note": ["x"] * 50}).result()
    roof.append("t", T + 30, {"n": 1.0}).result()
    (hole,) = (await gaps.find(consumer, "roof"))[0].holes
    assert hole == (round((T + 14.9) * 1e6), round((T + 30) * 1e6))


@pytest_twisted.ensureDeferred
async def test_more_holes_than_anybody_reads_are_an_error(roof, consumer, few):
    roof.append("t", T + np.arange(200.0), {"n": np.arange(200.0)}).result()
    with pytest.raises(gaps.TooMuch, match="longer ones"):
        await gaps.find(consumer, "roof", 0.5)


@pytest_twisted.ensureDeferred
async def test_last_and_gaps_as_commands(commands, roof):
    filled(roof)
    roof.append("t", T + 200, {"n": 7.0}).result()
    listed = [json.loads(line) for line in (await commands("last", "roof", "n", "note", "--json")).said.splitlines()]
    assert [(one["field"], one["value"], one["units"], one["t"]) for one in listed] == [
        ("n", 7.0, "1", T + 200),
        ("note", None, None, None),
    ]
    assert listed[0]["age"] > 0
    table = (await commands("last", "roof")).said
    assert "no value yet" in table
    assert "degC" in table
    found = json.loads((await commands("gaps", "roof", "--longer", "1m", "--json")).said)
    assert found[0]["gaps"] == [{"start": T + 99.9, "end": T + 200}]
    table = (await commands("gaps", "roof")).said
    assert "2023-11-14T22:14:59.9Z" in table
    assert "1000" in table.splitlines()[1], "about how many rows are missing"


@pytest_twisted.ensureDeferred
async def test_rows_go_to_files_whole_with_units(commands, roof, consumer, tmp_path):
    filled(roof, 300_000)
    roof.append("hour/1", [T, T + 3600], {"slow": [1, None]}).result()
    roof.append("t", T + 5, {"note": "here"}, correct=True).result()
    out = tmp_path / "out"
    out.mkdir()
    said = await commands("get", "roof", "n", "slow", "note", "--start", "1", "-o", str(out / "roof.parquet"))
    assert "300000 rows of t are in" in said.said
    assert sorted(path.name for path in out.iterdir()) == ["roof.hour%2F1.parquet", "roof.t.parquet"]
    file = parquet.ParquetFile(out / "roof.t.parquet")
    assert file.schema_arrow.field("n").metadata == {b"units": b"1", b"description": b"Counts"}
    assert file.schema_arrow.metadata[b"node"] == b"roof"
    expected = await whole(consumer, "roof", ["n", "note"])
    assert file.read(["n"])["n"].to_pylist() == expected.columns["n"].to_list()
    assert [one for one in file.read(["note"])["note"].to_pylist() if one] == ["here"]
    await commands("get", "roof", "n", "--start", "1", "--max-points", "10", "-o", str(out / "few.arrow"))
    with (out / "few.arrow").open("rb") as source:
        assert 2 <= ipc.open_file(source).read_all().num_rows <= 10
    await commands("get", "roof", "slow", "--start", "1", "-o", str(out / "data"), "--format", "csv")
    assert csv.read_csv(out / "data").to_pydict() == {"t": [T], "slow": [1]}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["get", "roof", "n", "-o", "rows.txt"], "does not say its form"),
        (["get", "roof", "n", "-o", "."], "does not say its form"),
        (["get", "roof", "n", "-o", "no/rows.csv"], "cannot be written"),
        (["get", "roof", "n", "-o", "a.csv", "--start", "-1h", "--end", "-2h"], "is not after"),
        (["get", "roof", "n", "--start", "-1h", "--end", "-2h"], "is not after"),
        (["get", "roof", "n", "-o", "a.csv", "--format", "json"], "json is printed"),
        (["get", "roof", "n", "--format", "arrow"], "name one with -o"),
        (["gaps", "roof", "--longer", "0s"], "above nothing"),
        (["watch", "roof", "--plot", "--json"], "choose one"),
        (["record", "roof", "-o", "rec", "--every", "soon"], "no length of time"),
        (["record", "roof", "-o", "rec", "--size", "tiny"], "is no size"),
        (["replay", "roof", "--speed", "0"], "above 0"),
        (["replay", "roof", "--loop", "--keep-times"], "does not go with"),
        (["recording", "."], "no recording"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_asked(tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(program, args)
    assert done.exit_code != 0
    words = done.output + str(done.exception)
    assert said in words, words
    assert isinstance(done.exception, (SisockError, SystemExit))
    assert list(tmp_path.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_what_get_and_plot_cannot_write_is_one_line_and_leaves_nothing(commands, roof, tmp_path):
    filled(roof, 10)
    out = tmp_path / "out"
    out.mkdir()
    for args, said in (
        (["get", "roof", "wrong", "-o", str(out / "a.csv")], "sisock fields roof"),
        (["plot", "roof", "note", "-o", str(out / "a.png")], "holds text"),
        (["plot", "roof", "n", "-o", str(out / "a.doc")], ".png, .svg or .pdf"),
    ):
        command = await commands(*args, status=1)
        assert said in command.complained, command.complained
        assert "Traceback" not in command.complained
    assert list(out.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_plot_is_a_picture(commands, roof, tmp_path):
    filled(roof, 10_000)
    await commands("plot", "roof", "n", "air", "slow", "--start", "1", "-o", str(tmp_path / "roof.png"))
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    await commands("plot", "roof", "air", "--start", str(T), "--end", str(T + 9), "-o", str(tmp_path / "roof.svg"))
    drawn = (tmp_path / "roof.svg").read_text()
    assert "<svg" in drawn
    hidden = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "matplotlib.py").write_text("raise ImportError('hidden')")
    commands.env = {**commands.env, **hidden}
    command = await commands("plot", "roof", "air", "-o", str(tmp_path / "b.png"), status=1)
    assert "pip install 'sisock[notebook]'" in command.complained


@pytest_twisted.ensureDeferred
async def test_watch_piped_prints_lines_and_says_what_is_wrong(commands, roof, router):
    filled(roof, 10)
    lines = commands.begin("watch", "roof", "n", "air", "--start", str(T))
    blocks = commands.begin("watch", "roof", "--json", "--start", str(T))
    await lines.says("n 9 1  air 0.")
    await blocks.says('"t": [')
    roof.append("t", T + 1, {"n": 10.0, "note": "[bold]x"}).result()
    await lines.says("2023-11-14T22:13:21Z  n 10 1")
    await until(lambda: '"note": ["[bold]x"]' in blocks.said, 30)
    service, roof.service = roof.service, None
    await service.stop()
    await lines.says("roof is not there; it is waited for")
    await until(lambda: '"problem": "roof is not there; it is waited for"' in blocks.said, 30)
    from tests.commands.conftest import Roof

    again = Roof()
    filled(again, 5, start=T + 100)
    service = await router.serve(again)
    try:
        await lines.says("gap in t")
        await lines.says("roof is there again")
        await until(lambda: any("gap" in json.loads(line) for line in blocks.said.splitlines()), 30)
        assert [await one.interrupted() for one in (lines, blocks)] == [0, 0]
        assert "Traceback" not in lines.complained + blocks.complained
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_watch_ends_quietly_with_whoever_reads_it(commands, roof):
    filled(roof, 5000)
    command = f"{SISOCK} watch roof n --start {T} | head -n 3"
    done = await deferToThread(
        subprocess.run, command, shell=True, capture_output=True, text=True, env=commands.env, timeout=60, check=False
    )
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


@pytest_twisted.ensureDeferred
async def test_watch_draws_on_a_terminal_and_leaves_it_as_it_was(commands, roof):
    """On a terminal of its own: a table that moves, a plot, and the cursor shown again at the end."""
    import os
    import pty

    filled(roof, 500)
    ours, theirs = pty.openpty()
    screen = []

    def read():
        while True:
            try:
                octets = os.read(ours, 65536)
            except OSError:
                return
            if not octets:
                return
            screen.append(octets.decode(errors="replace"))

    reading = deferToThread(read)
    watching = commands.begin("watch", "roof", "n", "air", "slow", "--plot", "--start", str(T), stdout=theirs)
    os.close(theirs)
    await until(lambda: "degC" in "".join(screen) and "┌" in "".join(screen) and "499" in "".join(screen), 60)
    roof.append("t", T + 60, {"n": 777.0}).result()
    await until(lambda: "777" in "".join(screen), 30)
    watching.process.send_signal(signal.SIGINT)
    assert await watching.ended() == 0, watching.complained
    await reading
    os.close(ours)
    assert "\x1b[?25h" in "".join(screen).rsplit("\x1b[?25l", 1)[-1], "the cursor is shown again"
    assert watching.complained == ""


@pytest_twisted.ensureDeferred
async def test_watch_of_what_is_not_there_is_one_line(commands, roof):
    for args, said in ((["nobody"], "there is no node 'nobody'"), (["roof", "wrong"], "sisock fields roof")):
        command = await commands("watch", *args, status=1)
        assert said in command.complained
        assert len(command.complained.splitlines()) == 1
