"""Commands as processes, at the run's router, on nodes that the test itself serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock import DataNode, Field, Timeline, uris
from sisock.asking import Question
from sisock.blocks import concat
from sisock.consumer import Consumer
from sisock.home import Run
from tests.plain import until

SISOCK = str(Path(sys.executable).with_name("sisock"))
T = 1_700_000_000.0


class Roof(DataNode):
    """Air on the roof."""

    name = "roof"
    fields = {
        "n": Field("Counts", "1"),
        "air": Field("Air temperature", "degC"),
        "note": Field(type="string"),
        "slow": Field("Hourly", "mm", timeline="hour/1"),
    }
    timelines = {"t": Timeline(0.1, lateness=5.0)}
    max_rows = 5_000_000


class Command:
    """A command as a process; its output goes to files, so that it never waits for this test."""

    def __init__(self, args, env, folder, **options):
        self.out, self.err = (folder / f"{len(list(folder.iterdir()))}.{kind}" for kind in ("out", "err"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            options = {"stdout": out, "stderr": err, "stdin": subprocess.DEVNULL, **options}
            self.process = subprocess.Popen([SISOCK, *args], env=env, **options)

    @property
    def said(self):
        return self.out.read_text()

    @property
    def complained(self):
        return self.err.read_text()

    async def says(self, text):
        await until(lambda: text in self.said + self.complained or self.process.poll() is not None, 60)
        assert text in self.said + self.complained, self.said + self.complained
        return self

    async def ended(self):
        """Its exit status, once it has ended by itself."""
        return await deferToThread(self.process.wait, 60)

    async def interrupted(self):
        """Its exit status after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()

    async def killed(self):
        self.process.kill()
        await self.ended()


class Commands:
    def __init__(self, env, folder):
        self.env, self.folder, self.begun = env, folder, []

    def begin(self, *args, **options):
        command = Command(args, self.env, self.folder, **options)
        self.begun.append(command)
        return command

    async def __call__(self, *args, status=0, **options):
        """Runs a command to its end."""
        command = self.begin(*args, **options)
        assert await command.ended() == status, command.said + command.complained
        return command


@pytest.fixture(scope="session")
def home(router):
    """The router's home tells programs where it is, as a site's does."""
    users = [{"authid": user.authid, "secret": user.secret} for user in (router.consumer, router.server)]
    local = router.access().url
    router.home.write_run(Run(router.ws, router.realm, uris.BASE_URI, router.page, None, local, None, *users))
    yield router.home.path
    router.home.forget_run()


@pytest.fixture
def commands(home, tmp_path):
    folder = tmp_path / "said"
    folder.mkdir()
    made = Commands({**os.environ, "SISOCK_HOME": str(home), "COLUMNS": "120"}, folder)
    yield made
    for one in made.begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest_twisted.async_yield_fixture
async def roof(router):
    node = Roof()
    service = await router.serve(node)
    node.service = service
    yield node
    if node.service is not None:
        await service.stop()


@pytest_twisted.async_yield_fixture
async def consumer(router):
    made = await Consumer(router.access()).start()
    yield made
    await made.stop()


async def whole(consumer, node, fields, timeline="t"):
    """All rows of a node's timeline."""
    found = []
    await consumer.read_all(node, Question(fields, 1), lambda name, block: name == timeline and found.append(block))
    return concat(found)


def filled(node, rows=1000, step=0.1, start=T):
    """Appends rows that count."""
    t = start + np.arange(rows) * step
    node.append("t", t, {"n": np.arange(float(rows)), "air": np.sin(np.arange(rows) / 50)}).result()
    return t
