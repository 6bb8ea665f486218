"""An observatory that is none: agents that publish on feeds as real ones do, written from the contract alone."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.types import ComponentConfig
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.task import LoopingCall

from sisock.errors import SetupError
from sisock.nodes.ocs_feed.settings import Settings
from sisock.session import MAX_RETRY_DELAY, Access, endpoint


class Agent:
    """A cryostat's thermometer agent: two blocks of co-sampled channels on one feed."""

    def __init__(self, target: str, feed: str, chance: random.Random) -> None:
        self.target, self.feed = target, feed
        self._chance = chance
        self._level = [4.0 + chance.random(), 40.0 + chance.random(), 300.0]

    @property
    def topic(self) -> str:
        """Where it publishes."""
        return f"observatory.{self.target}.feeds.{self.feed}"

    def event(self, times: list[float]) -> list[Any]:
        """What it publishes of some samples: the one argument of its event."""
        cold = {f"Channel {n:02d} T": [self._value(n, t) for t in times] for n in range(2)}
        warm = {"Shell T": [self._value(2, t) for t in times], "Heater On": [math.sin(t / 30) > 0 for t in times]}
        message = {
            name: {"block_name": name, "data": data, "timestamps": times} for name, data in (("cold", cold), ("warm", warm))
        }
        told = {"agent_address": f"observatory.{self.target}", "feed_name": self.feed, "address": self.topic, "record": True}
        return [message, told]

    def _value(self, number: int, t: float) -> float:
        return round(self._level[number] + 0.2 * math.sin(t / (20 + number)) + self._chance.gauss(0, 0.01), 4)


class _Session(ApplicationSession):
    observatory: Publisher

    def onConnect(self) -> None:  # noqa: N802
        self.join(self.config.realm, authmethods=["anonymous"])

    def onJoin(self, details: Any) -> None:  # noqa: N802
        self.observatory.session = self

    def onLeave(self, details: Any) -> None:  # noqa: N802
        if details.reason != "wamp.close.normal":
            self.observatory.trouble = str(details.message or details.reason)
        self.disconnect()

    def onDisconnect(self) -> None:  # noqa: N802
        self.observatory.session = None


class Publisher:
    """Agents on one connection to a router; counts their events."""

    def __init__(self, access: Access, agents: list[Agent], rate: float, interval: float) -> None:
        self._access, self._agents, self._rate = access, agents, rate
        self.session: _Session | None = None
        self.events = 0
        self.trouble: str | None = None
        self._until = time.time()
        self._loop = LoopingCall(self._publish)
        self._interval = interval
        self._service: ClientService | None = None

    def start(self) -> None:
        """Publishes from then on, whenever there is a router."""
        from twisted.internet import reactor

        def make() -> _Session:
            session = _Session(ComponentConfig(realm=self._access.realm))
            session.observatory = self
            return session

        factory = WampWebSocketClientFactory(make, url=self._access.url)
        factory.noisy = False
        factory.setProtocolOptions(openHandshakeTimeout=10)
        policy = backoffPolicy(0.2, MAX_RETRY_DELAY)
        self._service = ClientService(endpoint(reactor, self._access), factory, retryPolicy=policy)
        self._service.startService()
        self._loop.start(self._interval, now=False)

    async def stop(self) -> None:
        """Publishes no more, and leaves."""
        self._loop.stop()
        stopped = self._service.stopService() if self._service is not None else None
        if stopped is not None:
            await stopped

    def _publish(self) -> None:
        times = list(self._times(time.time()))
        if self.session is None or not times:
            return
        for agent in self._agents:
            try:
                self.session.publish(agent.topic, agent.event(times))
            except TransportLost:
                # The service joins again.
                return
            self.events += 1

    def _times(self, present: float) -> Iterator[float]:
        """When samples were taken since the last event."""
        step = 1.0 / self._rate
        # After a pause, no more than a minute of them.
        self._until = max(self._until, present - 60.0)
        while self._until + step <= present:
            self._until += step
            yield round(self._until, 6)


@click.command()
@click.option("--targets", type=click.IntRange(1, 1000), default=2, show_default=True, help="How many agents.")
@click.option(
    "--rate", type=click.FloatRange(0.01, 1000), default=10.0, show_default=True, help="Samples a second, each channel."
)
@click.option("--every", type=click.FloatRange(0.02, 3600), default=1.0, show_default=True, help="Seconds between events.")
@click.option("--feed-url", help="The router: ws://host:8001/ws.  [this site's plain transport]")
@click.option("--feed-realm", help="Its realm.  [test_realm; at our own router, its realm]")
@click.option("--seed", type=int, help="The same values each time.")
def ocs(targets: int, rate: float, every: float, feed_url: str | None, feed_realm: str | None, seed: int | None) -> None:
    """Let agents of an observatory that is none publish their thermometers. Ctrl-C ends it.

    \b
    sisock up --ocs --nodes ocs_feed
    sisock simulate ocs --targets 2
    """  # noqa: D301
    import os

    from sisock.cli.reacting import serve

    told = {"SISOCK_OCS_FEED_URL": feed_url, "SISOCK_OCS_FEED_REALM": feed_realm}
    access = Settings.read({**os.environ, **{name: value for name, value in told.items() if value}}).access
    chance = random.Random(seed)  # noqa: S311  nothing here is secret
    publisher = Publisher(access, [Agent(f"cryostat_{n}", "temperatures", chance) for n in range(1, targets + 1)], rate, every)
    tell = LoopingCall(lambda: _tell(publisher))

    async def start() -> None:
        publisher.start()
        tell.start(1.0, now=False)

    serve(start, publisher.stop)
    click.echo(f"\n{publisher.events} events were published.", err=True)
    if not publisher.events:
        raise SetupError(
            f"no router took them at {access.url}: {publisher.trouble or 'nobody answers'}. `sisock up --ocs` opens one."
        )


def _tell(publisher: Publisher) -> None:
    if sys.stderr.isatty():
        state = "connected" if publisher.session is not None else f"no router ({publisher.trouble or 'nobody answers'})"
        sys.stderr.write(f"\r{publisher.events} events, {state}\x1b[K")
