"""Nodes that raise, hang, answer nonsense, flood or end: the site stays well, and says what is wrong and where."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.site.conftest import Up, wait

NODES = """
import os, sys, time
from sisock import DataNode, Field

class Node(DataNode):
    interval = 0.05
    fields = {"x": Field(units="m")}

class Raises(Node):
    name = "raises"
    def sample(self):
        raise OSError("nothing answers on /dev/ttyUSB0")

class Nonsense(Node):
    name = "nonsense"
    turn = 0
    def sample(self):
        self.turn += 1
        return [{"x": "text"}, {"y": 1}, [1, 2], {"x": object()}, {"x": [1]}, 7, {3: 4}, {"x": 10**400}][self.turn % 8]

class Hangs(Node):
    name = "hangs"
    def sample(self):
        time.sleep(60)

class Floods(Node):
    name = "floods"
    interval = 0.001
    fields = {f"f{n}": Field(units="m") for n in range(1000)}
    def sample(self):
        print("x" * 50_000)
        sys.stdout.write("y" * 50_000)
        return {f"f{n}": float(n) for n in range(1000)}

class Answers(DataNode):
    name = "answers"
    def get_fields(self, start, end):
        return "nonsense"
    def get_data(self, field, start, end, min_stride=None):
        return {"data": 3}

class Starts(Node):
    name = "starts"
    def start(self):
        raise OSError("no such device")

class Ends(Node):
    name = "ends"
    def sample(self):
        os._exit(3)
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A site of broken nodes beside a good one."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "bad.py").write_text(NODES)
    names = ["Raises", "Nonsense", "Hangs", "Floods", "Answers", "Starts", "Ends"]
    nodes = ",".join(["sensors", *(f"bad:{name}" for name in names)])
    up = Up(folder / "home", "--nodes", nodes, env={"PYTHONPATH": str(folder)}).ready()
    yield up
    up.stop()
    # What is said while it starts.
    assert "bad:Starts is not there yet" in up.err
    assert str(folder / "home" / "logs" / "bad:Starts.log") in up.err


def found(up, about):
    """What the doctor says of these: {what: the whole finding}."""
    told = json.loads(up.sisock("doctor", "--json", check=False).stdout)
    return {one["what"]: one for one in told if one["about"] == about}


def said(up, about, *words):
    """Waits until the doctor says all of this in one finding, and answers it."""
    return wait(lambda: [one for what, one in found(up, about).items() if all(word in what for word in words)])[0]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("raises", ["sample() raised", "OSError: nothing answers on /dev/ttyUSB0"]),
        ("nonsense", ["sample() raised", "InvalidArgument"]),
        ("hangs", ["sample() has not come back for"]),
        ("floods", ["takes longer than the node's interval"]),
        ("answers", ["does not answer", "get_fields"]),
    ],
)
def test_the_doctor_names_the_node_and_what_is_wrong_and_where_to_look(broken, node, words):
    finding = said(broken, "nodes", node, *words)
    assert finding["level"] != "ok"
    assert finding["remedy"]
    if node in ("raises", "nonsense"):
        log = broken.home / "logs" / f"bad:{node.capitalize()}.log"
        assert str(log) in finding["remedy"]
        assert "Traceback" in log.read_text()


@pytest.mark.parametrize(("part", "words"), [("Starts", "OSError: no such device"), ("Ends", "bad:Ends ended (status 3)")])
def test_one_that_ends_again_and_again_is_named_with_its_log(broken, part, words):
    finding = said(broken, "site", f"bad:{part} is started again and again", "status")
    log = broken.home / "logs" / f"bad:{part}.log"
    assert str(log) in finding["remedy"]
    assert words in log.read_text()
    assert not [one for what, one in found(broken, "site").items() if one["level"] == "ok" and f"bad:{part}" in what]


def test_the_good_node_goes_on(broken):
    def rows():
        done = broken.sisock("get", "sensors", "memory_percent", "--start", "-1h", "--format", "json", check=False)
        return len(json.loads(done.stdout)["data"]["memory_percent"]) if done.returncode == 0 else 0

    before = rows()
    wait(lambda: rows() > before)
    assert {"sensors", "raises", "nonsense", "hangs", "floods", "answers"} <= {
        node["name"] for node in json.loads(broken.sisock("ls", "--json").stdout)
    }


def test_logs_are_bounded(broken):
    logs = broken.home / "logs"
    wait((logs / "bad:Floods.log.2").exists)
    for log in logs.iterdir():
        # One that is rotated in this moment is gone under its old name.
        with suppress(FileNotFoundError):
            assert log.stat().st_size < 6_000_000


def test_one_that_somebody_runs_in_a_terminal_is_named_with_its_process(broken, tmp_path):
    (tmp_path / "mine.py").write_text("from bad import Raises\n\nclass Mine(Raises):\n    name = 'mine'\n")
    log = (tmp_path / "log").open("w")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "sisock", "run", "mine:Mine"], env=broken.env, cwd=tmp_path, stdout=log, stderr=log
        ) as process,
    ):
        try:
            finding = said(broken, "nodes", "mine", "sample() raised")
            assert f"process {process.pid}" in finding["remedy"]
        finally:
            process.terminate()
