"""The tutorial, typed by a test: its very commands and files, and what it says that one sees.

A `console` block is typed line by line (`$ `); `^C` ends the program that was started last. A `python` block names the file
that it is saved to; a `text` block is what the running program says then. The site stands instead of what the first
terminal does. Numbers with a fraction, times, ports and the token are as they are; everything else is checked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.site.conftest import wait

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)^```$", TUTORIAL.read_text(), re.MULTILINE)

# The environment is there already.
DONE = {"git clone <this repository> sisock && cd sisock", ". .venv/bin/activate"}
VARIES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:,.]+Z?|-?\d+\.\d+|(?<=localhost:)\d+|(?<=#token=)[^\s,]+")
# These read, so they may be asked again until the answer is there.
READS = ("sisock ls", "sisock fields", "sisock get")


def lines_of(text, *, exact):
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line if exact else VARIES.sub("~", line) for line in lines if line]


def missing(expected, output, *, exact=False):
    """Which lines that should be there are not; one that ends in dots is a beginning."""
    left = lines_of(output, exact=exact)
    absent = []
    for line in lines_of(expected, exact=exact):
        begun = line.removesuffix(" ...")
        found = next((one for one in left if (one.startswith(begun) if begun != line else one == line)), None)
        if found is None:
            absent.append(line)
        else:
            left.remove(found)
    return absent


def wait_until_there(expected, output, *, exact=False):
    last = ""

    def there():
        nonlocal last
        last = output()
        return not missing(expected, last, exact=exact)

    try:
        wait(there)
    except AssertionError:
        raise AssertionError(f"not there: {missing(expected, last, exact=exact)} in\n{last}") from None


class Terminals:
    """Where the commands of the tutorial are typed."""

    def __init__(self, site, home):
        self.site = site
        self.cwd = self.home = home
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**site.env, "HOME": str(home), "PATH": path}
        self.programs = []

    def type(self, command, expected):
        if command in DONE:
            assert not expected
        elif command == "make run":
            assert not missing(expected, self.site.line)
        elif command.startswith("sisock run "):
            self.start(command)
            self.says(expected)
        elif command.startswith(READS):
            exact = "apex_archive apex_" in command
            wait_until_there(expected, lambda: self.call(command, check=False), exact=exact)
        else:
            assert missing(expected, self.call(command)) == []

    def call(self, command, *, check=True):
        whole = ["bash", "-c", f"{command} && pwd > {self.home / 'cwd'}"]
        done = subprocess.run(whole, cwd=self.cwd, env=self.env, capture_output=True, text=True, timeout=100)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        if done.returncode == 0:
            self.cwd = (self.home / "cwd").read_text().strip()
        return done.stdout

    def start(self, command):
        log = self.home / f"{len(self.programs)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(command.split(), cwd=self.cwd, env=self.env, stdout=file, stderr=file)
        self.programs.append((process, log, Counter()))

    def says(self, expected):
        """Waits until the newest program has said this, as often as it should by now."""
        _, log, said = self.programs[-1]
        said.update(expected.splitlines())
        whole = "\n".join(said.elements())
        wait_until_there(whole, log.read_text)

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0

    def close(self):
        for process, _, _ in self.programs:
            if process.poll() is None:
                self.interrupt(process)


@pytest.fixture
def terminals(site, tmp_path):
    wait(site.whole)
    opened = Terminals(site, tmp_path)
    yield opened
    opened.close()


def typed(block):
    """The commands of a block, each with what should follow it; `^C` is one."""
    for part in re.split(r"^(?=\$ |\^C)", block, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command.removeprefix("$ "), expected


def test_every_command_and_file_of_the_tutorial_does_what_it_says(terminals):
    for kind, name, block in BLOCKS:
        if kind == "python":
            (Path(terminals.cwd) / name).write_text(block)
        elif kind == "text":
            terminals.says(block)
        else:
            assert kind == "console"
            for command, expected in typed(block):
                if command == "^C":
                    terminals.interrupt(terminals.programs[-1][0])
                else:
                    terminals.type(command, expected)


def test_the_page_that_it_opens_is_there(site):
    address = re.search(r"page (\S+),", site.line)[1]
    assert "#token=" in address
    with urllib.request.urlopen(address.partition("#")[0], timeout=10) as answer:
        assert answer.status == 200
        assert b"<title>sisock" in answer.read()


def test_its_files_are_named_in_the_text_and_the_smallest_node_is_small():
    files = [(name, block) for kind, name, block in BLOCKS if kind == "python"]
    text = TUTORIAL.read_text()
    assert all(f"`{name}`" in text for name, _ in files)
    smallest = files[0][1]
    assert len(smallest.splitlines()) <= 15
    assert "twisted" not in smallest.lower()
    assert len(text.split()) < 1200, "ten minutes of reading and typing"


def test_what_it_checks_would_be_missed():
    assert missing("a 1.5\nb 2\n7 passed ...", "x\nb  2\na -2.25\n7 passed, 1 warning") == []
    assert missing("a 1.5\na 1.5", "a 2.5") == ["a ~"]
    assert missing("a 1.5", "a 2.5", exact=True) == ["a 1.5"]
    assert missing("6 passed ...", "7 passed") == ["6 passed ..."]
