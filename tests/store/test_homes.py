"""A node of two homes on one PostgreSQL: who writes when, with a home stopped, the router away, the database away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from sisock.errors import UnknownNode
from sisock.store import Store, StoreAway
from sisock.store.boxes import contents
from sisock.testing import Router
from sisock.times import EARLIEST, LATEST
from tests.site.conftest import SISOCK, wait

# Says in a file of each row that was acknowledged; what it samples tells which home it is of.
NODE = '''
import os, threading, time
from pathlib import Path
from sisock import DataNode, Field, Timeline
from sisock.errors import SisockError

class Roof(DataNode):
    """Air on the roof."""
    name = "homes.roof"
    interval = 0.05
    fields = {"home": Field(type="string"), "pushed": Field(timeline="pushed")}
    timelines = {"pushed": Timeline(lateness=3600.0)}

    def start(self):
        self.ended = threading.Event()
        threading.Thread(target=self.push, daemon=True).start()

    def push(self):
        with Path(os.environ["ACKNOWLEDGED"]).open("a") as said:
            while not self.ended.wait(0.01):
                t = round(time.time(), 6)
                try:
                    self.append("pushed", t, {"pushed": t}).result()
                except SisockError:
                    continue
                said.write(f"{round(t * 1e6)}\\n")
                said.flush()

    def sample(self):
        return {"home": os.environ["THIS"]}
'''

# Processes start, take over and leave, several times.
pytestmark = pytest.mark.timeout(300)


class Homes:
    """Two homes at one router, whose nodes keep their history in one database."""

    def __init__(self, folder, address):
        self.folder, self.address = folder, address
        (folder / "roof.py").write_text(NODE)
        self.router = Router()
        self.router.home.make()
        self.processes = []

    async def start_router(self):
        await self.router.start()

    async def settle(self, processes):
        """Starts the router; who has the name then, and who stands by: whoever asks first gets it.

        One that wrote and was not the first is told so by the hub, or by the database, and leaves; then it starts anew.
        """
        told = {name: self.log(name).count("is taken") for name in processes}
        await self.start_router()

        def told_so(name):
            return processes[name].poll() is not None or self.log(name).count("is taken") > told[name]

        second = wait(lambda: next((name for name in processes if told_so(name)), None))
        (first,) = set(processes) - {second}
        self.more_from(first)
        if processes[second].poll() is not None:
            assert "another process writes" in self.log(second).splitlines()[-1]
            processes[second] = self.run(second)
        return first, second

    async def kill_router(self):
        await self.router.kill()

    def run(self, name):
        home = self.folder / name
        home.mkdir(exist_ok=True)
        if not (home / ".crossbar").exists():
            # The same router and users, and a place of its own for all that is the node's.
            (home / ".crossbar").symlink_to(self.router.home.crossbar)
        env = {
            **os.environ,
            "SISOCK_HOME": str(home),
            "SISOCK_STORE": self.address,
            "ACKNOWLEDGED": str(self.folder / f"{name}.said"),
            "THIS": name,
        }
        log = (home / "log").open("a")
        process = subprocess.Popen([SISOCK, "run", "roof:Roof"], cwd=self.folder, env=env, stderr=log, stdout=log)
        log.close()
        self.processes.append(psutil.Process(process.pid))
        return process

    def log(self, name):
        return (self.folder / name / "log").read_text()

    def said(self, name):
        path = self.folder / f"{name}.said"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def waiting(self, name):
        return contents(self.folder / name / "nodes" / "homes.roof.outbox").waiting

    def rows(self, timeline, field):
        try:
            with Store.open(self.address) as store:
                block, _ = store.reader("homes.roof").read(timeline, [field], EARLIEST, LATEST)
        except (StoreAway, UnknownNode):
            return {}
        return dict(zip(block.t.tolist(), block.columns[field].values.tolist(), strict=True)) if block.columns else {}

    def sampled_by(self, name):
        return [t for t, home in self.rows("t", "home").items() if home == name]

    def more_from(self, name):
        """Waits for rows of that home's that are in the database and were taken from now on."""
        since = time.time() * 1e6
        wait(lambda: max(self.sampled_by(name), default=0) > since)

    def more_said(self, name, by=20):
        goal = len(self.said(name)) + by
        wait(lambda: len(self.said(name)) > goal)

    def close(self):
        for process in self.processes:
            if process.is_running():
                process.resume()
                process.kill()
        pytest_twisted.blockon(Deferred.fromCoroutine(self.router.stop()))
        self.router.remove()


@pytest.fixture
def homes(tmp_path, server):
    made = Homes(tmp_path, server.address)
    yield made
    made.close()


@pytest_twisted.ensureDeferred
async def test_a_stand_by_takes_over_and_the_one_that_slept_leaves(homes):
    await homes.start_router()
    here = homes.run("here")
    homes.more_from("here")
    there = homes.run("there")
    wait(lambda: "is taken" in homes.log("there"))
    began = time.time() * 1e6
    # A stand-by does not sample and does not disturb; what is pushed to it is kept all the same.
    homes.more_said("there")
    homes.more_from("here")
    assert homes.sampled_by("there") == []
    assert homes.waiting("there") > 0
    os.kill(here.pid, signal.SIGSTOP)
    homes.more_from("there")
    slept = max(homes.sampled_by("here"))
    os.kill(here.pid, signal.SIGCONT)
    assert here.wait(60) == 1
    assert "another process" in homes.log("here").splitlines()[-1]
    assert "Traceback" not in homes.log("here")
    homes.more_from("there")
    # The one that slept wrote nothing more, and its place is taken by its next start, as a stand-by.
    assert max(homes.sampled_by("here")) == slept
    # The one that slept may have been told so, too, when it woke.
    told = homes.log("here").count("is taken")
    again = homes.run("here")
    wait(lambda: homes.log("here").count("is taken") > told, 120)
    there.send_signal(signal.SIGTERM)
    assert there.wait(60) == 0
    homes.more_from("here")
    wait(lambda: homes.waiting("here") == 0)
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) == 0
    there_rows = [t for t in homes.sampled_by("there") if t > began]
    assert there_rows
    assert set(homes.said("here")) | set(homes.said("there")) <= set(homes.rows("pushed", "pushed"))
    assert homes.waiting("here") == homes.waiting("there") == 0


@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_with_the_router_and_the_database_away(homes, server):
    server.kill()
    here = homes.run("here")
    # It samples and keeps rows before it could reach anything.
    homes.more_said("here")
    wait(lambda: homes.waiting("here") > 40)
    server.start()
    # Nobody has written the node yet, so it may, without a router to ask.
    homes.more_from("here")
    there = homes.run("there")
    homes.more_said("there")
    assert homes.sampled_by("there") == [] and homes.waiting("there") > 0
    processes = {"here": here, "there": there}
    holder, stands_by = await homes.settle(processes)
    homes.more_from(holder)
    await homes.kill_router()
    homes.more_from(holder)
    server.kill()
    homes.more_said(holder)
    homes.more_said(stands_by)
    server.start()
    homes.more_from(holder)
    holder, stands_by = await homes.settle(processes)
    homes.more_from(holder)
    processes[holder].send_signal(signal.SIGTERM)
    assert processes[holder].wait(60) == 0
    homes.more_from(stands_by)
    wait(lambda: homes.waiting(stands_by) == 0)
    processes[stands_by].send_signal(signal.SIGTERM)
    assert processes[stands_by].wait(60) == 0
    # What one of them could not hand over any more before it left, its next start does.
    for name in ("here", "there"):
        if homes.waiting(name):
            last = homes.run(name)
            wait(lambda name=name: homes.waiting(name) == 0)
            last.send_signal(signal.SIGTERM)
            assert last.wait(60) == 0
    assert set(homes.said("here")) | set(homes.said("there")) <= set(homes.rows("pushed", "pushed"))


def test_the_doctor_says_that_the_database_is_away(homes, server):
    def doctor():
        env = {**os.environ, "SISOCK_HOME": str(homes.folder / "here"), "SISOCK_STORE": server.address}
        done = subprocess.run([SISOCK, "doctor"], capture_output=True, text=True, env=env, timeout=60, check=False)
        return " ".join(done.stdout.split())

    here = homes.run("here")
    homes.more_from("here")
    assert "answers" in doctor()
    server.kill()
    homes.more_said("here")
    wait(lambda: homes.waiting("here"))
    told = Path(homes.folder / "here" / "nodes" / "homes.roof.health.json")
    wait(lambda: '"away": "' in told.read_text())
    said = doctor()
    assert "bring it back" in said and "blocks wait on this machine's disk" in said
    server.start()
    homes.more_from("here")
    wait(lambda: homes.waiting("here") == 0)
    assert "blocks wait" not in doctor()
    here.send_signal(signal.SIGTERM)
    assert here.wait(60) == 0
