"""`sisock store`, as a program: on a file and on a PostgreSQL server."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sisock.blocks import Block, Column
from sisock.cli import main
from sisock.nodes.geom.keeping import TABLES as GEOMS
from sisock.positions import Position
from sisock.store import LostLease, Store
from sisock.store.boxes import Box
from sisock.store.committer import Mark
from sisock.store.database import Database
from sisock.times import EARLIEST, LATEST

from .test_contract import FIELDS, cut, keep, some

SISOCK = str(Path(sys.executable).with_name("sisock"))


class Program:
    """`sisock store` in a home of its own, with the store at an address: a process, or called in this one."""

    def __init__(self, home, address, monkeypatch):
        self.env = {**os.environ, "SISOCK_HOME": str(home), "SISOCK_STORE": str(address)}
        self.patch = monkeypatch

    def __call__(self, *args, status=0):
        self.patch.setattr(sys, "argv", ["sisock", "store", *map(str, args)])
        for name in ("SISOCK_HOME", "SISOCK_STORE"):
            self.patch.setenv(name, self.env[name])
        said, ended = SimpleNamespace(stdout=StringIO(), stderr=StringIO()), 0
        with redirect_stdout(said.stdout), redirect_stderr(said.stderr):
            try:
                main()
            except SystemExit as error:
                ended = error.code or 0
        done = SimpleNamespace(stdout=said.stdout.getvalue(), stderr=said.stderr.getvalue())
        assert ended == status, done
        return done

    def start(self, *args, stderr=subprocess.PIPE):
        pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
        return subprocess.Popen([SISOCK, "store", *map(str, args)], text=True, env=self.env, **pipe)

    def refused(self, *args):
        """What it says on the one line that it says."""
        said = self(*args, status=1).stderr
        assert said.startswith("sisock: ") and said.count("\n") == 1, said
        return said


@pytest.fixture
def sisock(tmp_path, address, monkeypatch):
    return Program(tmp_path / "home", address, monkeypatch)


@pytest.fixture
def on_file(tmp_path, monkeypatch):
    return Program(tmp_path / "home", tmp_path / "h.db", monkeypatch)


def fill(address, rows=20_000, timeline="t", release=True):
    block = some(rows)
    with Store.open(address) as store:
        history = store.node("roof")
        keep(history, timeline, *cut(block))
        if release:
            history.release()
    return block


def read(address, timeline="t", node="roof"):
    with Store.open(address) as store:
        return store.reader(node).read(timeline, FIELDS, EARLIEST, LATEST)


def test_export_forget_and_import_bring_everything_back(sisock, address, tmp_path):
    block = fill(address)
    (known,) = json.loads(sisock("info", "--json").stdout)
    assert (known["node"], known["timeline"], known["rows"]) == ("roof", "t", len(block))
    assert known["first"] == block.t[0] / 1e6 and known["last"] == block.t[-1] / 1e6
    assert "20000" in sisock("info").stdout
    path = tmp_path / "roof.parquet"
    assert f"{len(block)} rows" in sisock("export", "roof", "-o", path).stdout
    sisock("forget", "roof", status=2)
    sisock("forget", "roof", "--yes")
    assert json.loads(sisock("info", "--json").stdout) == []
    sisock("import", "roof", path)
    sisock("compact", "--shrink")
    got, position = read(address)
    assert got == block
    # The second time there is nothing to do.
    sisock("import", "roof", path)
    assert read(address)[1] == position
    sisock("retain", "roof", "t", "--keep", "1h")
    assert len(read(address)[0]) < len(block)


def test_export_of_a_range_and_of_several_timelines(on_file, tmp_path):
    block = fill(tmp_path / "h.db", 5000)
    fill(tmp_path / "h.db", 10, "slow/one")
    out = tmp_path / "out"
    out.mkdir()
    on_file("export", "roof", "-o", out / "r.csv")
    assert sorted(path.name for path in out.iterdir()) == ["r.slow%2Fone.csv", "r.t.csv"]
    start, end = int(block.t[100]), int(block.t[200])
    on_file("export", "roof", "t", "-o", out / "part.csv", "--start", f"{start / 1e6:.6f}", "--end", f"{end / 1e6:.6f}")
    assert len((out / "part.csv").read_text().splitlines()) == 101


def test_weather_files_are_imported_to_their_timeline(on_file, tmp_path):
    path = tmp_path / "apex_temperature.dat"
    path.write_text("# Temperature\n# hourly\n# C\n1499990400.0 -3.5\n1499994000 -4.25\n")
    assert "2 rows are in hourly" in on_file("import", "apex_archive", path).stdout
    with Store.open(tmp_path / "h.db") as store:
        assert store.reader("apex_archive").fields("hourly") == ["apex_temperature"]


def test_an_interrupted_import_goes_on(on_file, tmp_path):
    """Ctrl-C between two files; then the same again."""
    block, parts = some(8000), []
    with Store.open(tmp_path / "made.db") as store:
        for number, part in enumerate((block.take(slice(0, 4000)), block.take(slice(4000, 8000)))):
            keep(store.node("roof"), f"p{number}", part)
            parts.append(tmp_path / f"{number}.parquet")
    on_file("export", "roof", "-o", tmp_path / "x.parquet", "--store", tmp_path / "made.db")
    for number, path in enumerate(parts):
        (tmp_path / f"x.p{number}.parquet").rename(path)
    # The second file is a pipe that has nothing to say yet, so the program is surely in the middle.
    waits = tmp_path / "waits.dat"
    os.mkfifo(waits)
    with on_file.start("import", "roof", parts[0], "--timeline", "t", waits) as child, waits.open("w"):
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=30)[1]
    assert child.returncode == 130, said
    assert "goes on" in said
    before = read(tmp_path / "h.db")[1]
    assert before.seq == 1
    on_file("import", "roof", *parts, "--timeline", "t")
    got, position = read(tmp_path / "h.db")
    assert got == block and position.seq == 2


def test_a_node_that_runs_is_not_disturbed(on_file, tmp_path):
    source = tmp_path / "t.csv"
    source.write_text("t,x\n1500000000,1.5\n")
    with Store.open(tmp_path / "h.db") as store:
        store.node("shed").release()
        history = store.node("roof")
        keep(history, "t", some(10))
        for args in (
            ["import", "roof", source],
            ["compact"],
            ["compact", "shed", "--shrink"],
            ["retain", "roof", "t", "--keep", "1d"],
            ["forget", "roof", "--yes"],
        ):
            assert f"process {os.getpid()} writes" in on_file.refused(*args)
        # Reading is allowed, and it still has its lease.
        assert "t" in on_file("info").stdout
        keep(history, "t", Block(np.array([LATEST // 2]), {"x": Column(np.array([1.0]))}))
        on_file("import", "roof", source, "--force")
        with pytest.raises(LostLease):
            keep(history, "t", Block(np.array([LATEST // 2 + 1]), {"x": Column(np.array([1.0]))}))
    # What another machine wrote last is not known to have ended.
    with sqlite3.connect(tmp_path / "h.db") as connection:
        connection.execute("UPDATE nodes SET holder = 'elsewhere 12'")
    connection.close()
    assert "on elsewhere" in on_file.refused("import", "roof", source)


def test_damage_is_listed_and_the_rest_is_copied(on_file, tmp_path, postgres):
    block = fill(tmp_path / "h.db", 30_000)
    assert "All 30000 rows are sound" in on_file("check").stdout
    with sqlite3.connect(tmp_path / "h.db") as connection:
        connection.execute("UPDATE chunk_values SET data = substr(data, 1, length(data) - 9) WHERE field = 1 AND rowid % 2 = 1")
    connection.close()
    said = on_file("check", status=1).stdout
    assert "'x'" in said and "can be saved: sisock store copy" in said
    told = json.loads(on_file("check", "--json", status=1).stdout)
    assert not told["sound"] and told["damage"][0]["field"] == "x"
    other = postgres()
    assert "not copied: roof t: 'x'" in on_file("copy", tmp_path / "h.db", other, status=1).stderr
    got, _ = read(other)
    assert (got.t == block.t).all() and got.columns["s"] == block.columns["s"]


def test_a_store_goes_to_the_other_engine_and_back(on_file, tmp_path, postgres):
    block, other = fill(tmp_path / "h.db"), postgres()
    on_file("copy", tmp_path / "h.db", other)
    on_file("copy", other, tmp_path / "back.db")
    assert read(tmp_path / "back.db")[0] == block
    assert "20000" in on_file("info", "--store", tmp_path / "back.db").stdout


def test_what_nodes_keep_beside_their_histories_is_named_where_it_is_not_copied(on_file, tmp_path, postgres):
    block, other = fill(tmp_path / "h.db"), postgres()
    on_file("copy", tmp_path / "h.db", other)
    tables = ("geom_geoms", "geom_samples", "geom_version")
    Store.open(tmp_path / "h.db", tables=GEOMS).close()
    Store.open(other, tables=GEOMS).close()
    for source, target in ((tmp_path / "h.db", tmp_path / "to.db"), (other, tmp_path / "fro.db")):
        said = on_file("copy", source, target, status=1).stderr
        assert f"not copied: the nodes' own tables {', '.join(tables[:2])}." in said
        assert read(target)[0] == block


def test_a_store_that_was_brought_back_is_read_anew(sisock, address):
    fill(address, 10)
    with Store.open(address) as store:
        store.node("shed")
        before = store.reader("roof").epoch
    assert "roof: readers read anew" in sisock("restored", "roof").stdout
    assert "--all" in sisock("restored", status=2).stderr
    assert f"process {os.getpid()} writes" in sisock("restored", "--all", status=1).stderr
    assert "roof, shed" in sisock("restored", "--all", "--force").stdout
    with Store.open(address) as store:
        assert store.reader("roof").epoch != before and store.holder("shed") is None


def test_spread_says_what_the_server_has(sisock, address):
    fill(address, 10)
    assert "has neither TimescaleDB nor Citus" in sisock("spread").stdout


def test_a_database_that_is_away_is_one_line(on_file):
    for args in (["info"], ["export", "roof", "-o", "x.csv"], ["check"], ["compact"]):
        said = on_file.refused(*args, "--store", "postgresql://sisock:secret@127.0.0.1:1/sisock")
        assert "refused" in said and "secret" not in said


def test_info_tells_of_what_waits_elsewhere(on_file, tmp_path):
    fill(tmp_path / "h.db", 10)
    box = Box(tmp_path / "home" / "nodes" / "roof.outbox" / "1.db")
    box.put([("t", Position("e", 1), Mark("m", 1), some(10), ())], {}, "e")
    said = on_file("info")
    assert "roof: 1 blocks more wait" in said.stderr
    box.close()
    (tmp_path / "home" / "nodes" / "roof.outbox" / "2.db").write_bytes(b"rubbish" * 1000)
    said = on_file("info")
    assert "cannot be read" in said.stderr and "roof" in said.stdout


@pytest.mark.parametrize(
    "address", ["postgresql://u:secret@h:54x/db", "postgre-sql://u:secret@h/db", "mysql+x://u:secret@h/db"]
)
def test_an_address_that_is_none_is_one_line_without_its_password(on_file, address):
    for args in (["info"], ["check"]):
        said = on_file.refused(*args, "--store", address)
        assert "secret" not in said


def test_an_address_as_libpq_has_it(postgres):
    address = postgres()
    assert Database(address.replace("postgresql://", "postgres://")).url == Database(address).url


def test_on_a_terminal_there_is_a_bar(on_file, tmp_path):
    fill(tmp_path / "h.db", 5000)
    ours, theirs = pty.openpty()
    said = []

    def listen():
        try:
            while text := os.read(ours, 4096):
                said.append(text)
        except OSError:
            # A terminal whose program has ended.
            return

    listener = threading.Thread(target=listen)
    listener.start()
    on_file.env.update(TERM="xterm", COLUMNS="100")
    with on_file.start("export", "roof", "-o", tmp_path / "r.parquet", stderr=theirs) as child:
        assert "5000 rows" in child.communicate(timeout=60)[0]
    os.close(theirs)
    listener.join(30)
    os.close(ours)
    assert b"100%" in b"".join(said)


def test_errors_are_one_line_that_says_what_to_do(on_file, tmp_path):
    with on_file.start("info") as child:
        _, said = child.communicate(timeout=60)
    assert child.returncode == 1 and said.startswith("sisock: there is no store at") and said.count("\n") == 1
    fill(tmp_path / "h.db", 10)
    assert "no timeline 'u'. It has: t." in on_file.refused("export", "roof", "u", "-o", tmp_path / "x.csv")
    assert "no history" in on_file.refused("export", "attic", "-o", tmp_path / "x.csv")
    assert ".parquet or .csv" in on_file.refused("export", "roof", "-o", tmp_path / "x.dat")
    assert "cannot be written" in on_file.refused("export", "roof", "-o", tmp_path / "none" / "x.csv")
    assert "both FROM and TO" in on_file.refused("copy", tmp_path / "h.db", tmp_path / "h.db")
    assert "--forever" in on_file("retain", "roof", "t", status=2).stderr
    assert not list(tmp_path.glob("x*"))
    assert not list(tmp_path.glob(".sisock*"))
