"""A real router for tests: Crossbar with the hub, on a free port, in a home of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from autobahn.twisted.util import sleep
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from sisock.consumer import Consumer
from sisock.errors import SisockError, TimedOut
from sisock.home import Home
from sisock.naming import Identity
from sisock.node import DataNode
from sisock.serving import NodeService
from sisock.session import Access
from sisock.settings import Settings
from sisock.site.up import Plan
from sisock.site.up import Router as SiteRouter
from sisock.users import User

READY_WITHIN = 60.0


class _Process(ProcessProtocol):
    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        self.output = (self.output + data)[-100_000:]

    errReceived = outReceived  # noqa: N815

    def processEnded(self, reason: Any) -> None:  # noqa: N802
        self.ended.callback(None)


class Router:
    """Crossbar with the hub as a process. `start` it, then join `ws` as `consumer`, `server` or a user of your own.

    `home` is made in a temporary folder unless one is given; then it is kept.
    """

    def __init__(self, home: Path | None = None, *, tls: bool = False, ocs: bool = False) -> None:
        self._made = None if home else tempfile.mkdtemp(prefix="sisock-")
        self.home = Home(home or Path(str(self._made)))
        self._plan = Plan(Settings(self.home), auto_ports=True, tls=tls, ocs=ocs, nodes=(), bridge=False).with_ports()
        self._site = SiteRouter(self._plan)
        self._protocol: _Process | None = None
        self._transport: Any = None

    @property
    def ws(self) -> str:
        """The address of the WebSocket."""
        return self._site.url

    @property
    def ocs(self) -> str:
        """The address of the plain transport, where it was asked for."""
        return f"ws://localhost:{self._plan.ocs_port}/ws"

    @property
    def page(self) -> str:
        """The address of the web page."""
        return self._site.page

    @property
    def realm(self) -> str:
        """The WAMP realm."""
        return self._plan.realm

    @property
    def consumer(self) -> User:
        """The user that may call and subscribe."""
        return self._site.consumer

    @property
    def server(self) -> User:
        """The old trusted user."""
        return self._site.server

    @property
    def output(self) -> str:
        """What the router has printed."""
        return self._protocol.output.decode(errors="replace") if self._protocol else ""

    @property
    def pid(self) -> int:
        """The process of the router's controller."""
        return int(self._transport.pid)

    def user(self, authid: str, *nodes: str) -> User:
        """A user who may serve these nodes, made if it is not there."""
        return self.home.users.ensure(authid, "node", *nodes)

    def access(self, user: User | None = None, url: str | None = None) -> Access:
        """How a program of ours joins as that user: over the raw socket, or at `url`; as the consumer by default."""
        user = user or self.consumer
        return Access(url or f"unix://{self.home.socket}", user.authid, user.secret, self.realm)

    async def start(self) -> Self:
        """Starts the router and waits until the hub answers; TimedOut shows what it printed."""
        from twisted.internet import reactor

        self._protocol = _Process()
        command = [sys.executable, "-m", "sisock.site.leash", str(os.getpid()), *SiteRouter.command(self.home)]
        self._transport = reactor.spawnProcess(self._protocol, command[0], command, env=None)
        consumer = Consumer(self.access())
        consumer.connect()
        try:
            for _ in range(int(READY_WITHIN / 0.05)):
                try:
                    await consumer.nodes()
                except SisockError:
                    await sleep(0.05)
                else:
                    return self
        finally:
            await consumer.stop()
        raise TimedOut(f"the router did not come up within {READY_WITHIN:g} s. It printed:\n{self.output}")

    async def stop(self) -> None:
        """Stops the router."""
        if self._protocol is not None and not self._protocol.ended.called:
            self._transport.signalProcess("TERM")
            await _waits(self._protocol.ended)
        self._protocol = None

    async def kill(self) -> None:
        """Kills the router with SIGKILL; `start` brings it back at the same address."""
        assert self._protocol is not None
        self._transport.signalProcess("KILL")
        await _waits(self._protocol.ended)

    def remove(self) -> None:
        """Deletes the temporary home."""
        if self._made:
            shutil.rmtree(self._made, ignore_errors=True)

    async def serve(self, node: DataNode, start: int = 1) -> NodeService:
        """Serves a node in this process as a user of its own, and waits until it is on the air."""
        user = self.user(f"node:{node.name}", node.name)
        service = NodeService(node, self.access(user), Identity("test", start))
        await service.start()
        for _ in range(200):
            if service.announced:
                return service
            await sleep(0.05)
        await service.stop()
        raise TimedOut(f"{node.name} did not get on the air within 10 s")


async def _waits(ended: Deferred[None]) -> None:
    shared: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        shared.callback(None)
        return result

    ended.addBoth(pass_on)
    await shared
