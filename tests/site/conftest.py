"""A whole site as an operator starts it: `sisock up` as a process, in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

# What a shell starts in the background ignores Ctrl-C, and so would its children; these are stopped by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SISOCK = str(Path(sys.executable).with_name("sisock"))
PATIENCE = 60


def wait(condition, seconds=PATIENCE):
    """Waits until a condition holds and answers what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Up:
    """`sisock up` with free ports."""

    def __init__(self, home, *options, env=None):
        self.home = Path(home)
        self.env = {**os.environ, "SISOCK_HOME": str(home), **(env or {})}
        self.process = subprocess.Popen(
            [SISOCK, "up", "--ports", "auto", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env
        )

    def ready(self):
        self.line = self.process.stdout.readline()
        assert self.line, self.process.communicate()[1]
        self.tree = {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}
        return self

    @property
    def run(self):
        return json.loads((self.home / "run.json").read_text())

    def sisock(self, *args, check=True, **options):
        done = subprocess.run([SISOCK, *args], capture_output=True, text=True, env=self.env, timeout=60, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    def pid(self, part):
        if part == "router worker":
            return psutil.Process(self.run["pids"]["router"]).children()[0].pid
        return self.run["pids"][part]

    def get(self, path, body=None):
        request = urllib.request.Request(self.run["bridge"] + path, None if body is None else json.dumps(body).encode())
        trust = None
        if self.run["bridge"].startswith("https:"):
            user = self.run["consumer"]
            request.add_header("Authorization", f"Bearer {user['authid']}:{user['secret']}")
            trust = ssl.create_default_context(cafile=self.run["certificate"])
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            return json.load(answer)

    def whole(self):
        """Whether a consumer reaches every node, through the bridge."""
        return self.whole_for({"apex_archive", "hub", "sensors"})

    def whole_for(self, expected):
        try:
            nodes = {name.split("::")[0] for name in self.get("/search")}
        except (OSError, ValueError):
            return False
        return nodes >= expected

    def stop(self, number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.out, self.err = self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    up = Up(tmp_path_factory.mktemp("site")).ready()
    yield up
    up.stop()


@pytest.fixture(scope="session")
def secure(tmp_path_factory):
    """A site with TLS, whose bridge listens beyond this machine, too."""
    up = Up(tmp_path_factory.mktemp("secure"), "--tls", "--nodes", "sensors", "--bridge-host", "0.0.0.0").ready()
    yield up
    up.stop()
