"""Nothing lost, nothing twice: followers of a busy node, while at random one part after the other fails.

The truth is what the node keeps in the end. Every row that it acknowledged must be in there, in a version no older, and
every follower must have exactly these rows, or name a gap. The short form runs with all tests, the long one is a soak.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_twisted
from autobahn.twisted.util import sleep
from twisted.internet.threads import deferToThread

from sisock.asking import Question
from sisock.blocks import concat
from sisock.consumer import Consumer
from sisock.errors import SisockError
from sisock.testing import Link, Router
from tests.chaos.table import Table
from tests.plain import until

CHECKOUT = Path(__file__).parent.parent.parent
SISOCK = str(Path(sys.executable).with_name("sisock"))
PATIENCE = 60


class Site:
    """A router, a node in a process of its own, and five followers: three here, one behind a link, one in a process."""

    def __init__(self, folder, server, seed):
        self.folder, self.server = folder, server
        self.store = server.address if server else None
        self.chance = random.Random(seed)
        self.router = Router(folder / "home")
        self.processes = []
        self.told = []
        self.unsteady = "nothing was looked at"
        self.logs = {}

    async def start(self):
        await self.router.start()
        self.link = await Link(self.router.ws).start()
        self.node = self.run_node()
        accesses = [
            self.router.access(),
            *(self.router.access(url=url) for url in (self.router.ws, self.router.ws, self.link.url)),
        ]
        self.consumers = [Consumer(access) for access in accesses]
        self.tables = [Table() for _ in self.consumers]
        for consumer in self.consumers:
            consumer.connect()
        self.followers = [consumer.follow("chaos", ["n", "version"], start=1.0) for consumer in self.consumers]
        user = self.router.consumer
        (self.folder / "apart").mkdir()
        args = [self.link.url, user.authid, user.secret, self.router.realm, str(self.folder / "apart")]
        self.apart = self.spawn([sys.executable, "-m", "tests.chaos.follower", *args])

    def spawn(self, command):
        environment = {**os.environ, "SISOCK_HOME": str(self.router.home.path), "PYTHONPATH": str(CHECKOUT)}
        if self.store:
            environment["SISOCK_STORE"] = self.store
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=CHECKOUT)
        self.processes.append(process)
        self.logs[process] = log.name
        return process

    def run_node(self):
        return self.spawn([SISOCK, "run", "tests.chaos.counter:Counter"])

    def take(self):
        for follower, table in zip(self.followers, self.tables, strict=True):
            assert follower._error is None, follower._error
            for item in follower.ready():
                table.take(item)

    async def wait(self, seconds):
        for _ in range(round(seconds / 0.05)):
            self.take()
            # Whatever supervises a node starts it again.
            if self.node.poll() is not None:
                self.node = self.run_node()
            await sleep(0.05)

    # The faults

    async def kill_router(self):
        await self.router.kill()
        await self.wait(self.chance.uniform(0, 2))
        await self.router.start()

    async def kill_node(self):
        self.node.kill()
        await deferToThread(self.node.wait)

    async def start_twin(self):
        twin = self.run_node()
        await self.wait(3)
        # The older one leaves of itself, and would be started again: the twin is the node now.
        older, self.node = self.node, twin
        if older.poll() is None:
            older.kill()
        await deferToThread(older.wait)

    async def cut_link(self):
        self.link.cut()

    async def stall_link(self):
        self.link.hold()
        await self.wait(self.chance.uniform(1, 5))
        self.link.release()

    async def stop_process(self, seconds=3.0):
        pid = self.chance.choice([self.node.pid, self.apart.pid, psutil.Process(self.router.pid).children()[-1].pid])
        os.kill(pid, signal.SIGSTOP)
        try:
            await self.wait(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def stop_database(self):
        await deferToThread(self.server.kill)
        await self.wait(self.chance.uniform(1, 6))
        await deferToThread(self.server.start)

    async def break_things(self, seconds, pause):
        faults = [self.kill_router, self.kill_node, self.start_twin, self.cut_link, self.stall_link, self.stop_process]
        if self.server:
            faults.append(self.stop_database)
        end = seconds_now() + seconds
        order = list(faults)
        while seconds_now() < end or order:
            # Each of them at least once, then at random.
            fault = order.pop(0) if order else self.chance.choice(faults)
            self.told.append(fault.__name__)
            print(f"{seconds_now() - end + seconds:.0f} s: {fault.__name__}", flush=True)
            await fault()
            await self.wait(self.chance.uniform(*pause))

    # The end

    async def settle(self):
        """All is well again and the node is quiet: the followers have what the node has, and it is answered."""
        (self.router.home.path / "quiet").touch()
        print("quiet", flush=True)
        plain = self.consumers[0]

        async def truth():
            await self.wait(0.2)
            parts = []
            try:
                await plain.read_all("chaos", Question(["n", "version"], 1), lambda _, block: parts.append(block))
            except SisockError as error:
                self.unsteady = f"the node cannot be read: {error}"
                return None
            return concat(parts)

        whole = None

        async def steady():
            nonlocal whole
            before, whole = whole, await truth()
            if before is None or whole is None:
                return False
            if before != whole:
                self.unsteady = f"the node has {len(whole)} rows after {len(before)}"
                return False
            return await self.same(whole)

        try:
            await until(steady, PATIENCE)
        except AssertionError:
            # The comparison below says what differs.
            print(f"not steady: {self.unsteady}", flush=True)
            assert whole is not None, self.unsteady
        return whole

    async def same(self, whole):
        self.take()
        for number, (table, follower) in enumerate(zip(self.tables, self.followers, strict=True)):
            if table.block != whole:
                states = [line.splice.state.value for line in follower._lines.values()]
                told = f"{len(table.block)} rows of {len(whole)}, {states}, {follower.problem!r}"
                self.unsteady = f"follower {number} has {told}"
                return False
        try:
            apart = len((await self.rows_apart())["t"])
        except AssertionError:
            self.unsteady = "the follower apart does not answer"
            return False
        said = (await deferToThread(Path(self.logs[self.apart]).read_text))[-500:]
        self.unsteady = f"the follower apart has {apart} rows of {len(whole)} and said {said}"
        return apart == len(whole)

    async def rows_apart(self):
        ask, rows = self.folder / "apart" / "ask", self.folder / "apart" / "rows.npz"
        ask.touch()
        await until(lambda: not ask.exists() and rows.exists(), 20)
        return np.load(rows)

    def acknowledged(self):
        """The newest version that was acknowledged at each time."""
        newest = {}
        for file in self.router.home.path.glob("acknowledged-*.txt"):
            for line in file.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    t, version = line.split()
                    newest.setdefault(int(t), set()).add(float(version))
        return newest

    async def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await deferToThread(process.wait)
        for consumer in self.consumers:
            await consumer.stop()
        await self.link.stop()
        await self.router.stop()


def seconds_now():
    from twisted.internet import reactor

    return reactor.seconds()


async def chaos(folder, server, seconds, pause):
    seed = random.randrange(1 << 30)
    site = Site(folder, server, seed)
    await site.start()
    try:
        await until(lambda: site.take() or all(len(table.block) > 50 for table in site.tables), 90)
        await site.break_things(seconds, pause)
        print("settling", flush=True)
        whole = await site.settle()
        print("settled", flush=True)
        apart = await site.rows_apart()
        told = [f"seed {seed}", f"faults {len(site.told)}", f"rows {len(whole)}"]
        told += [
            f"follower {n}: {t.blocks} blocks, {t.revisions} revised, {len(t.gaps)} gaps" for n, t in enumerate(site.tables)
        ]
        told += [f"follower apart: {len(apart['t'])} rows, {int(apart['gaps'])} gaps"]
        print("; ".join(told))
        versions = dict(zip(whole.t.tolist(), whole.columns["version"].numbers().tolist(), strict=True))
        acknowledged = site.acknowledged()
        lost = [t for t, known in acknowledged.items() if versions.get(t) is None or versions[t] not in known]
        # A row whose acknowledgement was not written any more may be there all the same, with a later version.
        lost = [t for t in lost if versions.get(t, -1) < max(acknowledged[t])]
        assert len(acknowledged) > 100
        assert not lost, f"{len(lost)} acknowledged rows are not there; {told}"
        for number, table in enumerate(site.tables):
            assert np.array_equal(table.block.t, whole.t), f"follower {number} has other rows; {told}"
            assert table.block == whole, f"follower {number} has other values; {told}"
        assert np.array_equal(apart["t"], whole.t)
        assert np.array_equal(apart["version"], whole.columns["version"].numbers())
    finally:
        await site.stop()


@pytest.mark.timeout(300)
@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_and_nothing_comes_twice(tmp_path):
    await chaos(tmp_path, None, 10, (0.3, 1.0))


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_in_five_minutes(tmp_path, engine, request):
    server = request.getfixturevalue("server") if engine == "postgresql" else None
    await chaos(tmp_path, server, 300, (0.5, 6.0))
