"""Sites that are none: producers that send what an observatory's pages show."""

from __future__ import annotations

import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock.errors import SetupError
from sisock.home import Home

log = Logger()

TOPICS = ("sitestatus", "weather", "jobs", "imagedata", "phase_status", "userstatus", "calendar")
# Requests on their way; while so many wait, none is added.
MAX_IN_FLIGHT = 100


class _Body(Protocol):
    """Reads an answer: Twisted's own readBody misses a method of its transport over TLS, and warns."""

    def __init__(self) -> None:
        self.read: Deferred[bytes] = Deferred()
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._parts.append(data)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        if not self.read.called:
            self.read.callback(b"".join(self._parts))


class Producers:
    """Sends messages of some sites; counts what is stored, and what was refused."""

    def __init__(
        self,
        url: str,
        stage: str,
        sites: int,
        rate: float,
        size: int,
        token: str | None,
        seed: int | None,
        authority: Path | None = None,
    ) -> None:
        self._authority = authority
        self._chance = random.Random(seed)  # noqa: S311  nothing here is secret
        self._url, self._size, self._rate = f"{url.rstrip('/')}/{stage}", size, rate
        self._sites = [f"site-{number:02d}" for number in range(1, sites + 1)]
        self._headers = {b"Content-Type": [b"application/json"]}
        if token is not None:
            self._headers[b"Authorization"] = [f"Bearer {token}".encode()]
        self._loop = LoopingCall.withCount(self._send_some)
        self._flying: set[Deferred[Any]] = set()
        self.sent = self.stored = self.refused = self.skipped = 0
        self.trouble: str | None = None
        self._agent: Any = None

    def start(self) -> None:
        """Sends from then on."""
        from twisted.internet import reactor
        from twisted.internet.ssl import Certificate
        from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 10
        pinned = None if self._authority is None else Certificate.loadPEM(self._authority.read_bytes())
        policy = BrowserLikePolicyForHTTPS(pinned)
        self._agent = Agent(reactor, policy, connectTimeout=10, pool=pool)
        self._loop.start(max(1.0 / self._rate, 0.02))

    async def stop(self) -> None:
        """Sends no more."""
        self._loop.stop()
        for one in tuple(self._flying):
            one.cancel()

    def _send_some(self, ticks: int) -> None:
        for _ in range(max(1, round(ticks * max(1.0, self._rate * 0.02)))):
            if len(self._flying) >= MAX_IN_FLIGHT:
                self.skipped += 1
                continue
            self.sent += 1
            flying = Deferred.fromCoroutine(self._send(self.message()))
            self._flying.add(flying)
            flying.addBoth(self._landed, flying)
            flying.addErrback(lambda failure: log.failure("a message could not be sent", failure))

    def _landed(self, result: Any, flying: Deferred[Any]) -> Any:
        self._flying.discard(flying)
        return result

    async def _send(self, message: bytes) -> None:
        from io import BytesIO

        from twisted.internet.defer import CancelledError
        from twisted.internet.error import ConnectError, ConnectionClosed
        from twisted.web.client import FileBodyProducer, ResponseFailed
        from twisted.web.http_headers import Headers

        try:
            body = FileBodyProducer(BytesIO(message))
            answer = await self._agent.request(b"POST", self._url.encode(), Headers(self._headers), body)
            answer.deliverBody(whole := _Body())
            text = await whole.read
        except (ConnectError, ConnectionClosed, ResponseFailed, CancelledError) as error:
            self.refused += 1
            # What the end cuts off is no trouble.
            if self._loop.running:
                self.trouble = str(error) or type(error).__name__
            return
        if answer.code == 201:
            self.stored, self.trouble = self.stored + 1, None
        else:
            self.refused, self.trouble = self.refused + 1, text.decode(errors="replace")[:200]

    def message(self) -> bytes:
        """One message, of about the size that was asked for."""
        topic, site = self._chance.choice(TOPICS), self._chance.choice(self._sites)
        now = time.time()
        data: dict[str, Any] = {"timestamp": round(now, 3), "open": math.sin(now / 600) > 0}
        if topic == "weather":
            data |= {"temperature_C": round(8 + 4 * math.sin(now / 900), 2), "humidity_percent": self._chance.randrange(20, 80)}
        elif topic == "jobs":
            data |= {"id": self._chance.randrange(10**6), "state": self._chance.choice(("requested", "started", "complete"))}
        bare = len(json.dumps({"site": site, "topic": topic, "data": data}))
        if bare + 12 < self._size:
            data["padding"] = "x" * (self._size - bare - 13)
        return json.dumps({"site": site, "topic": topic, "data": data}).encode()


@click.command()
@click.option("--sites", "count", type=click.IntRange(1, 10_000), default=3, show_default=True, help="How many sites.")
@click.option("--rate", type=click.FloatRange(0.01, 5000), default=5.0, show_default=True, help="Messages a second, all sites.")
@click.option("--size", type=click.IntRange(0, 200_000), default=200, show_default=True, help="Bytes of a message.")
@click.option("--stage", default="prod", show_default=True, help="The stage that is fed.")
@click.option("--url", help="Where the streams are: http://host:8020.  [the site in the home]")
@click.option("--token", help="Who sends: USER:SECRET, where the streams ask for it.")
@click.option("--seed", type=int, help="The same messages each time.")
def sites(count: int, rate: float, size: int, stage: str, url: str | None, token: str | None, seed: int | None) -> None:
    """Let sites that are none send what their pages show. Ctrl-C ends it.

    \b
    sisock up --nodes streams
    sisock simulate sites --sites 3 --rate 5

    Subscribe with any WebSocket client: ws://localhost:8020/prod?site=site-01
    """  # noqa: D301
    from sisock.cli.reacting import serve

    home = Home.default()
    address = url or home.face("streams")
    if address is None:
        raise SetupError("no streams run here. Start them with `sisock run streams`, or say where they are with --url.")
    # What is not of this home is known by the machine's own authorities.
    authority = home.certificate if url is None and address.startswith("https:") else None
    producers = Producers(address, stage, count, rate, size, token, seed, authority)
    tell = LoopingCall(lambda: _tell(producers))

    async def start() -> None:
        producers.start()
        tell.start(1.0, now=False)

    serve(start, producers.stop)
    click.echo(
        f"\n{producers.sent} messages were sent, {producers.stored} are stored, {producers.refused} were refused.", err=True
    )


def _tell(producers: Producers) -> None:
    if sys.stderr.isatty():
        trouble = f", trouble: {producers.trouble}" if producers.trouble else ""
        said = f"{producers.sent} sent, {producers.stored} stored, {producers.refused} refused{trouble}"
        sys.stderr.write(f"\r{said:.150}\x1b[K")
