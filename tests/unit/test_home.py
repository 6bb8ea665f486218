"""A site's home: one site at a time, a number for each start of a node, and run.json."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from sisock.errors import SetupError
from sisock.home import MAX_SOCKET_PATH, Home, Run

RUN = Run(
    ws="ws://localhost:8080/ws",
    realm="sisock",
    base_uri="org.simonsobservatory",
    page="http://localhost:8080/",
    bridge=None,
    local="unix:///x",
    certificate=None,
    consumer={"authid": "simonsobs", "secret": "s"},
    server={"authid": "server", "secret": "t"},
)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_which_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.default({}).path == tmp_path / ".sisock"
    assert Home.default({"SISOCK_HOME": ""}).path == tmp_path / ".sisock"
    assert Home.default({"SISOCK_HOME": "~/site"}).path == tmp_path / "site"
    monkeypatch.chdir(tmp_path)
    assert Home.default({"SISOCK_HOME": "here"}).path == tmp_path / "here"


def test_its_folders_are_for_their_owner(home):
    home.make()
    home.make()
    for folder in (home.path, home.crossbar, home.logs):
        assert folder.is_dir()
        assert mode(folder) == 0o700


def test_a_file_in_its_place(home):
    home.path.write_text("")
    for attempt in (home.make, lambda: home.identity("roof"), lambda: home.lock().__enter__(), home.run):
        with pytest.raises(SetupError, match="home"):
            attempt()


def test_one_site_at_a_time(home):
    with home.lock():
        with pytest.raises(SetupError, match=f"process {os.getpid()}"), Home(home.path).lock():
            pass
        with pytest.raises(SetupError, match=f"process {os.getpid()}"), Home(home.path).lock():
            pass
    with home.lock():
        pass


def test_the_lock_of_a_killed_process_is_free(home):
    program = (
        "import sys; from pathlib import Path; from sisock.home import Home\n"
        "with Home(Path(sys.argv[1])).lock():\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, home.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SetupError, match=f"process {holder.pid}"), home.lock():
            pass
        holder.kill()
        holder.wait()
    with home.lock():
        assert (home.path / "up.pid").read_text() == str(os.getpid())


def test_each_start_of_a_node_has_a_higher_number(home):
    instance, start = home.identity("roof")
    assert str(UUID(instance)) == instance
    assert start == 1
    assert [home.identity("roof") for _ in range(3)] == [(instance, 2), (instance, 3), (instance, 4)]
    assert Home(home.path).identity("roof") == (instance, 5)
    assert home.starts("roof") == 5
    assert home.starts("nobody") == 0


def test_nodes_are_apart(home):
    names = ["roof", "roof.air", "Roof", "a/b", "..%2Fx", "x" * 255, "x" * 254 + "y", "ü" * 127, "ü" * 126 + "y"]
    instances = {home.identity(name)[0] for name in names}
    assert len(instances) == len(names)
    assert [home.identity(name)[1] for name in names] == [2] * len(names)
    assert {path.parent for path in home.path.rglob("*.json")} == {home.path / "nodes"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"instance": "x"}', '{"start": 5}', '{"instance": "x", "start": "y"}']
)
def test_a_broken_identity_is_a_new_one(home, text):
    home.identity("roof")
    (home.path / "nodes" / "roof.json").write_text(text)
    instance, start = home.identity("roof")
    assert str(UUID(instance)) == instance
    assert start == 1


def test_no_two_processes_get_one_number(home):
    program = (
        "import sys; from pathlib import Path; from sisock.home import Home\n"
        "for _ in range(50): print(*Home(Path(sys.argv[1])).identity('roof'))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, home.path], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    lines = [line.split() for process in running for line in process.communicate()[0].splitlines()]
    assert sorted(int(start) for _, start in lines) == list(range(1, 101))
    assert len({instance for instance, _ in lines}) == 1


def test_the_socket_is_in_the_home(home):
    if len(os.fsencode(home.crossbar / "router.sock")) <= MAX_SOCKET_PATH:
        assert home.socket == home.crossbar / "router.sock"
    assert Home(Path("/srv/site")).socket == Path("/srv/site/.crossbar/router.sock")


def test_a_long_path_has_its_socket_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long, other = Home(Path("/srv") / ("x" * 100)), Home(Path("/srv") / ("y" * 100))
    assert long.socket.is_relative_to(tmp_path)
    assert long.socket == Home(long.path).socket
    assert long.socket != other.socket
    wide = Home(Path("/srv") / ("ü" * 45))
    assert wide.socket.is_relative_to(tmp_path), "bytes count, not characters"


def test_the_folder_of_a_socket_elsewhere_is_its_owners(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = Home(tmp_path / ("x" * 100))
    home.make()
    assert mode(home.socket.parent) == 0o700


@pytest.mark.parametrize("before", ["a link", "open to all"])
def test_a_folder_that_somebody_else_may_have_made_first_is_not_used(tmp_path, monkeypatch, before):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = Home(tmp_path / ("x" * 100))
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    if before == "a link":
        home.socket.parent.symlink_to(theirs)
    else:
        home.socket.parent.mkdir()
        home.socket.parent.chmod(0o755)
    with pytest.raises(SetupError, match="of this user alone"):
        home.make()


def test_where_it_runs(home):
    home.make()
    assert home.run() is None
    home.write_run(RUN)
    assert home.run() == RUN
    assert mode(home.path / "run.json") == 0o600
    home.write_run(replace(RUN, pids={"router": 5}))
    assert home.run().pids == {"router": 5}
    home.forget_run()
    home.forget_run()
    assert home.run() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '{"ws": "x"}', '{"more": 1}'])
def test_a_broken_run_file_is_named(home, text):
    home.make()
    (home.path / "run.json").write_text(text)
    with pytest.raises(SetupError, match=r"run\.json"):
        home.run()


def test_a_run_file_that_cannot_be_read(home):
    (home.path / "run.json").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"run\.json"):
        home.run()


def test_what_stands_in_the_run_file(home):
    """Other programs read it."""
    home.make()
    home.write_run(RUN)
    told = json.loads((home.path / "run.json").read_text())
    assert {"ws", "realm", "base_uri", "page", "bridge", "local", "certificate", "consumer", "server"} <= set(told)
