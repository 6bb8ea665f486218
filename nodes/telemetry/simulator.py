"""Robots that are none: they wander through a hall and report where they are, as real ones do."""

from __future__ import annotations

import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click
from autobahn.twisted.util import sleep
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.task import LoopingCall

from sisock.errors import SetupError
from sisock.home import Home

HALL = 40.0
SPEED = 1.2
# Seconds that the end waits for the last answers.
PATIENCE = 2.0


@dataclass
class Walker:
    """One robot: it goes straight on, turns a little, and turns round at the walls. Metres and seconds."""

    name: str
    x: float
    y: float
    heading: float

    def walk(self, seconds: float, chance: random.Random) -> None:
        """Goes on for a while."""
        self.heading += chance.gauss(0.0, 0.6) * math.sqrt(seconds)
        x = self.x + SPEED * seconds * math.cos(self.heading)
        y = self.y + SPEED * seconds * math.sin(self.heading)
        if 0.0 <= x <= HALL and 0.0 <= y <= HALL:
            self.x, self.y = x, y
        else:
            self.heading += math.pi / 2

    def frame(self, milliseconds: int) -> str:
        """What it reports."""
        return f"{self.x:.3f},{self.y:.3f},{milliseconds},{self.name}"


class _Reporter(WebSocketClientProtocol):
    def onOpen(self) -> None:  # noqa: N802
        self.factory.fleet.connections.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        fleet = self.factory.fleet
        if payload == b"OK":
            fleet.stored += 1
        else:
            fleet.refused += 1

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        if self in self.factory.fleet.connections:
            self.factory.fleet.connections.remove(self)


class Fleet:
    """Robots that report over some connections; counts what is answered. `authority` is the file that wss is known by."""

    def __init__(
        self, url: str, count: int, rate: float, connections: int, seed: int | None = None, authority: Path | None = None
    ) -> None:
        self._chance = random.Random(seed)  # noqa: S311  nothing here is secret
        at = self._chance.uniform
        self._walkers = [Walker(f"robot-{n:03d}", at(0, HALL), at(0, HALL), at(-math.pi, math.pi)) for n in range(count)]
        self._authority = authority
        self._url, self._rate, self._wanted = url, rate, max(1, min(connections, count))
        self.connections: list[Any] = []
        self.sent = self.stored = self.refused = 0
        self._services: list[ClientService] = []
        self._loop = LoopingCall(self._report)

    def start(self) -> None:
        """Connects, and reports from then on."""
        from twisted.internet import reactor

        where = urlsplit(self._url)
        factory = WebSocketClientFactory(self._url)
        factory.protocol, factory.noisy, factory.fleet = _Reporter, False, self
        for _ in range(self._wanted):
            service = ClientService(self._endpoint(reactor, where), factory, retryPolicy=backoffPolicy(0.2, 2.0))
            service.startService()
            self._services.append(service)
        self._loop.start(1.0 / self._rate, now=False)

    def _endpoint(self, reactor: Any, where: SplitResult) -> Any:
        from twisted.internet.ssl import Certificate, optionsForClientTLS

        name, secure = where.hostname or "localhost", where.scheme == "wss"
        endpoint = HostnameEndpoint(reactor, name, where.port or (443 if secure else 80))
        if not secure:
            return endpoint
        known = self._authority if self._authority is not None and self._authority.exists() else None
        root = None if known is None else Certificate.loadPEM(known.read_bytes())
        return wrapClientTLS(optionsForClientTLS(name, trustRoot=root), endpoint)

    async def stop(self) -> None:
        """Waits a little for answers that are on their way, and ends all connections."""
        self._loop.stop()
        patience = time.monotonic() + PATIENCE
        while self.connections and self.stored + self.refused < self.sent and time.monotonic() < patience:
            await sleep(0.02)
        for service in self._services:
            stopped = service.stopService()
            if stopped is not None:
                await stopped

    def _report(self) -> None:
        now = round(time.time() * 1000)
        connections = tuple(self.connections)
        for number, walker in enumerate(self._walkers):
            walker.walk(1.0 / self._rate, self._chance)
            if connections:
                connections[number % len(connections)].sendMessage(walker.frame(now).encode())
                self.sent += 1


@click.command()
@click.option("--count", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many robots.")
@click.option("--rate", type=click.FloatRange(0.01, 1000), default=10.0, show_default=True, help="Reports a second, each.")
@click.option("--connections", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Over how many connections.")
@click.option("--url", help="Where they report: ws://host:8000/upstream.  [the site in the home]")
@click.option("--seed", type=int, help="The same walk each time.")
def robots(count: int, rate: float, connections: int, url: str | None, seed: int | None) -> None:
    """Let robots wander that are none, and report as real ones do. Ctrl-C ends it.

    \b
    sisock up --nodes telemetry
    sisock simulate robots --count 50 --rate 10
    """  # noqa: D301
    from sisock.cli.reacting import serve

    home = Home.default()
    address = home.face("telemetry")
    if url is None and address is None:
        raise SetupError("no telemetry runs here. Start it with `sisock run telemetry`, or say where it is with --url.")
    # What is not of this home is known by the machine's own authorities.
    where, authority = (url, None) if url else (f"{str(address).replace('http', 'ws', 1)}/upstream", home.certificate)
    fleet = Fleet(where, count, rate, connections, seed, authority)
    tell = LoopingCall(lambda: _tell(fleet))

    async def start() -> None:
        fleet.start()
        tell.start(1.0, now=False)

    serve(start, fleet.stop)
    click.echo(f"\n{fleet.sent} reports were sent, {fleet.stored} are stored, {fleet.refused} were not understood.", err=True)


def _tell(fleet: Fleet) -> None:
    if sys.stderr.isatty():
        said = f"{len(fleet.connections)} connections, {fleet.sent} sent, {fleet.stored} stored, {fleet.refused} refused"
        sys.stderr.write(f"\r{said}\x1b[K")
