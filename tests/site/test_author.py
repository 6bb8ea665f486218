"""A node's author on the first day: `new-node` writes what runs and passes at once, `run --reload` follows the editor."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from sisock.cli import sisock as program
from sisock.cli.author import source_folder
from sisock.errors import InvalidArgument, SetupError
from tests.site.conftest import SISOCK, wait

FILES = ["README.md", "__init__.py", "node.py", "simulator.py", "source.py", "test_node.py"]


def new_node(*args):
    done = CliRunner().invoke(program, ["new-node", *map(str, args)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output.splitlines()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of one's own, to work in; what is found there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_it_writes_a_folder_and_says_in_three_lines_what_to_do(here):
    said = new_node("roof")
    assert sorted(path.name for path in (here / "roof").iterdir()) == FILES
    assert len(said) == 3
    assert "sisock run --reload roof:Roof" in said[1]
    assert "pytest roof" in said[2]
    assert "cd" not in said[1]
    elsewhere = new_node("wind_speed", "--folder", here / "my nodes")
    assert f"cd '{here / 'my nodes'}' && sisock run --reload wind_speed:WindSpeed" in elsewhere[1]
    assert "class WindSpeed(DataNode)" in (here / "my nodes" / "wind_speed" / "node.py").read_text()


def test_nothing_is_written_over(here):
    new_node("roof")
    (here / "roof" / "node.py").write_text("mine")
    with pytest.raises(InvalidArgument, match="already"):
        new_node("roof")
    assert (here / "roof" / "node.py").read_text() == "mine"
    (here / "file").write_text("")
    with pytest.raises(SetupError, match="--folder"):
        new_node("roof", "--folder", here / "file" / "below")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Roof-Top 2", "Try roof_top_2"),
        ("../roof", "Try roof"),
        ("2nd_roof", "a letter first"),
        ("Größe", "a to z"),
        ("", "a letter first"),
        ("a" * 41, "40"),
        ("class", "my_class"),
        ("none", "my_none"),
        ("source", "my_source"),
        ("tester", "my_tester"),
        ("data", "cannot be a node's name"),
        ("sensors", "installed node"),
        ("json", "hide"),
        ("numpy", "hide"),
    ],
)
def test_a_name_is_checked_and_a_better_one_offered(here, name, said):
    with pytest.raises(InvalidArgument, match=said):
        new_node("--", name)
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", ["roof", "a", "a" * 40, "wind_10_m", "node", "field_2"])
def test_what_it_writes_is_linted_clean(here, name):
    new_node(name)
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, "--isolated", "--no-cache", name], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert not {"twisted", "sisock"} & set((here / name / "source.py").read_text().replace("of sisock", "").lower().split())


def test_its_tests_pass_at_once(here):
    new_node("roof")
    done = subprocess.run([sys.executable, "-m", "pytest", "roof"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


class Reloading:
    """`sisock run --reload` beside a site, and what it prints."""

    def __init__(self, site, folder, node):
        self.site = site
        self.log = folder / "run.log"
        with self.log.open("w") as log:
            command = [SISOCK, "run", "--reload", node]
            self.process = subprocess.Popen(command, env=site.env, cwd=folder, stdout=log, stderr=log)

    def printed(self, text):
        wait(lambda: text in self.log.read_text())

    def interval(self, node):
        done = self.site.sisock("fields", node, "--json", check=False)
        return json.loads(done.stdout)["timelines"]["t"]["interval"] if done.returncode == 0 else None

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number):
        children = self.children()
        self.process.send_signal(number)
        status = self.process.wait(30)
        _, left = psutil.wait_procs(children, timeout=30)
        assert not left
        return status


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_node_starts_again_when_its_source_changes_and_an_error_waits_for_the_next_change(site, here):
    new_node("roof")
    node = here / "roof" / "node.py"
    run = Reloading(site, here, "roof:Roof")
    try:
        wait(lambda: run.interval("roof") == 1.0)
        (here / "roof" / "notes.txt").write_text("no source")
        replace(node, "interval = 1.0", "interval = 0.5")
        run.printed("node.py changed")
        wait(lambda: run.interval("roof") == 0.5)
        replace(node, "interval = 0.5", "interval = = 2")
        run.printed("invalid syntax")
        run.printed("roof:Roof ended (status 1)")
        # As editors do that write a new file and put it into the place of the old one.
        (here / "new").write_text(node.read_text().replace("interval = = 2", "interval = 0.25"))
        (here / "new").rename(node)
        wait(lambda: run.interval("roof") == 0.25)
        assert "notes.txt" not in run.log.read_text()
        assert run.end(signal.SIGINT) == 0
        wait(lambda: run.interval("roof") is None)
    finally:
        if run.process.poll() is None:
            run.end(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_leaves_nothing_behind(site, here, number):
    new_node("shed")
    run = Reloading(site, here, "shed:Shed")
    run.printed("on the air")
    assert run.end(number) == (0 if number == signal.SIGTERM else -9)


def test_the_folder_that_is_watched_is_the_nodes_own_and_finding_it_imports_nothing(here):
    error = "raise RuntimeError('imported')"
    for file in ("lone.py", "pack/__init__.py", "pack/inner/__init__.py", "pack/inner/node.py"):
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(error)
    assert source_folder("lone:Node") == (here, False)
    assert source_folder("pack:Node") == (here / "pack", True)
    assert source_folder("pack.inner:Node") == (here / "pack" / "inner", True)
    assert source_folder("pack.inner.node:Node") == (here / "pack" / "inner", True)
    assert source_folder("sensors")[0].name == "sensors"
    for nowhere in ("nowhere:Node", "pack.nowhere:Node", "lone.nowhere:Node", "sys:Node"):
        with pytest.raises(SetupError, match="no module"):
            source_folder(nowhere)


def test_reload_is_for_nodes(here):
    done = CliRunner().invoke(program, ["run", "--reload", "--script", sys.executable])
    assert done.exit_code == 2
    assert "--reload" in done.output
