"""`sisock serve` and `sisock up --serve`, as an operator uses them; the how-to, executed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.site.conftest import Up, wait
from tests.table.test_databases import execute

SISOCK = str(Path(sys.executable).with_name("sisock"))
HOWTO = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text()
TABLE = re.search(r"    time,air(?:.*\n)+?(?=\n)", HOWTO)
TOML = re.search(r"    source = (?:.*\n)+?(?=\n    \$)", HOWTO)


def plain(block):
    return "\n".join(line.removeprefix("    ") for line in block.strip("\n").splitlines()) + "\n"


def examples():
    """Each command of the how-to, and what it says there that it prints."""
    for block in re.findall(r"(?:^    .*\n)+", HOWTO, re.MULTILINE):
        command, _, output = plain(block).partition("\n")
        if command.startswith("$ "):
            yield command.removeprefix("$ "), output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tables")
    (made / "air.csv").write_text(plain(TABLE.group()))
    (made / "roof.toml").write_text(plain(TOML.group()))
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder, postgres):
    """A site with a file, a described one in the home, and a database whose address holds a password."""
    home = tmp_path_factory.mktemp("home")
    (home / "tables").mkdir()
    text = (folder / "roof.toml").read_text()
    (home / "tables" / "roof.toml").write_text(text.replace('"air.csv"', json.dumps(str(folder / "air.csv"))))
    address = postgres()
    execute(
        address,
        "CREATE TABLE readings (t timestamptz PRIMARY KEY, x real)",
        "INSERT INTO readings SELECT '2026-01-01'::timestamptz + i * interval '1 s', i FROM generate_series(1, 1000) i",
    )
    secret = address.replace("postgres:@", "postgres:hunter2@").replace("postgresql", "postgresql+psycopg2")
    up = Up(home, "--nodes", "sensors", "--serve", str(folder / "air.csv"), "--serve", secret)
    up.database = address
    up.ready()
    yield up
    up.stop()


def same(text):
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize(("command", "output"), list(examples()), ids=lambda one: one[:40])
def test_the_how_to_is_executed(site, folder, command, output):
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
    done = subprocess.run([SISOCK, *words[1:]], cwd=folder, env=site.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert same(done.stdout.replace(str(folder), "/srv")) == same(output)


def test_tables_are_nodes_like_all_others(site, folder):
    """Listed, read over the bridge, followed, recorded; a line that is written is there at once."""
    name = urlsplit(site.database).path.strip("/")
    listed = {node["name"]: node["description"] for node in json.loads(site.sisock("ls", "--json").stdout)}
    assert listed.keys() == {"sensors", "air", "roof", name}
    assert listed["roof"] == "Weather on the roof"
    watched = {
        node: subprocess.Popen(
            [SISOCK, "watch", node, "--json", "--start", "1"], env=site.env, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for node in ("air", name)
    }
    recording = subprocess.Popen(
        [SISOCK, "record", "air", name, "--start", "1", "--every", "100ms", "-o", str(folder / "rec")],
        env=site.env,
        stdout=subprocess.DEVNULL,
    )
    try:
        before = {node: json.loads(process.stdout.readline()) for node, process in watched.items()}
        assert len(before["air"]["t"]) == 3
        assert len(before[name]["t"]) == 1000
        with (folder / "air.csv").open("a") as file:
            file.write("2026-01-01T00:00:30,1.75,1,true,new\n")
        execute(site.database, "INSERT INTO readings VALUES ('2026-01-01 01:00', 7)")
        assert json.loads(watched["air"].stdout.readline())["data"]["air"] == [1.75]
        assert json.loads(watched[name].stdout.readline())["data"]["x"] == [7]

        def recorded():
            told = site.sisock("recording", str(folder / "rec" / name), "--json", check=False)
            return told.returncode == 0 and json.loads(told.stdout)[0]["rows"] == 1001

        wait(recorded)
        assert "1.75" in site.sisock("last", "air").stdout
        query = {
            "range": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T02:00:00Z"},
            "targets": [{"target": f"{name}::x", "type": "timeserie"}],
            "maxDataPoints": 100,
        }
        wait(lambda: site.get("/query", query)[0]["datapoints"][-1][0] == 7)
    finally:
        for process in (*watched.values(), recording):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def test_no_password_is_seen(site):
    import psutil

    for process in psutil.Process(site.process.pid).children(recursive=True):
        assert "hunter2" not in " ".join(process.cmdline())
    told = [path for path in site.home.rglob("*") if path.is_file() and path.suffix in (".log", ".json")]
    assert len(told) > 5
    assert not [path for path in told if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in site.sisock("ls").stdout + site.sisock("doctor", check=False).stdout


def test_two_tables_of_one_name_are_refused(tmp_path, folder):
    home = tmp_path / "home"
    up = Up(home, "--nodes", "sensors", "--serve", str(folder / "air.csv"), "--serve", "air.parquet")
    _, err = up.process.communicate(timeout=30)
    assert up.process.returncode == 1
    assert "would both be called air" in err


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    env = {"SISOCK_HOME": str(tmp_path / "home"), "PATH": "/bin"}

    def fails(*args):
        done = subprocess.run([SISOCK, "serve", *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.stdout
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "--time COLUMN. There are 'x', 'y'." in fails("a.csv")
    assert "name a SOURCE" in fails()
    assert "there is no file" in fails("b.csv")
    assert "hunter2" not in fails("postgresql://u:hunter2@localhost:1/x")
    done = subprocess.run(
        [SISOCK, "serve", "a.csv", "--time", "x", "--check", "--json"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert (found["node"], found["rows"], found["first"], found["last"]) == ("a", 1, 1.0, 1.0)


def test_serve_runs_until_ctrl_c_and_goes_on_where_it_was(site, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("t,x\n" + "".join(f"{i},{i}\n" for i in range(1, 101)))
    for turn in range(2):
        with subprocess.Popen(
            [SISOCK, "serve", str(path)], env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as served:
            lines = iter(served.stdout.readline, "")
            assert next(line for line in lines if "on the air" in line) == "own is on the air. Ctrl-C stops it.\n"
            got = site.sisock("get", "own", "x", "--start", "1", "--format", "csv").stdout
            assert len(got.splitlines()) == 101 + turn
            served.send_signal(signal.SIGINT)
            served.communicate(timeout=30)
            assert served.returncode == 0
        with path.open("a") as file:
            file.write("200,200\n")
