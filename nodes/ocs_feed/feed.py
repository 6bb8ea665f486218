"""The session at the observatory's router: it subscribes to the feeds, and comes back whenever it was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import ComponentConfig, EventDetails, SubscribeOptions
from twisted.application.internet import ClientService, backoffPolicy
from twisted.logger import Logger

from sisock.nodes.ocs_feed.source import Feed
from sisock.session import MAX_MESSAGE, MAX_RETRY_DELAY, Access, QuietSession, endpoint

log = Logger()

# Takes an event: its topic, and what came with it.
Take = Callable[[str, tuple[Any, ...]], None]


class _Session(QuietSession):
    """Joins as anybody does on a trusted network, and subscribes."""

    observatory: Observatory

    def onConnect(self) -> None:  # noqa: N802
        self.join(self.config.realm, authmethods=["anonymous"])

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        try:
            for feed in self.observatory.feeds:
                options = SubscribeOptions(match="wildcard" if feed.is_pattern else "exact", details_arg="details")
                await self.subscribe(partial(self._on_event, feed), feed.topic, options=options)
        except ApplicationError as error:
            self.observatory.troubled(f"the router refuses to be subscribed to: {error.error}")
            self.leave()
            return
        self.observatory.joined()

    def _on_event(self, feed: Feed, *args: Any, details: EventDetails, **kwargs: Any) -> None:
        self.observatory.take(feed, details.topic or feed.topic, args)

    def onLeave(self, details: Any) -> None:  # noqa: N802
        if details.reason != "wamp.close.normal":
            self.observatory.troubled(f"the router ended the session: {details.message or details.reason}")
        self.disconnect()

    def onDisconnect(self) -> None:  # noqa: N802
        self.observatory.left()


class Observatory:
    """Keeps a session with the observatory's router. `trouble` says why there is none."""

    def __init__(self, access: Access, feeds: Sequence[Feed], take: Take) -> None:
        self.access, self.feeds = access, tuple(feeds)
        self.connected = False
        self.trouble: str | None = f"no router answers at {access.url} yet"
        self._take = take
        self._service: ClientService | None = None

    def start(self) -> None:
        """Begins to connect; in the reactor's thread, as all else here."""
        from twisted.internet import reactor

        def make() -> _Session:
            session = _Session(ComponentConfig(realm=self.access.realm))
            session.observatory = self
            return session

        factory = WampWebSocketClientFactory(make, url=self.access.url)
        factory.noisy = False
        factory.setProtocolOptions(
            autoPingInterval=5, autoPingTimeout=20, maxMessagePayloadSize=MAX_MESSAGE, openHandshakeTimeout=10, tcpNoDelay=True
        )
        policy = backoffPolicy(0.2, MAX_RETRY_DELAY, 1.5)
        self._service = ClientService(endpoint(reactor, self.access), factory, retryPolicy=policy)
        self._service.startService()

    def stop(self) -> Any:
        """Leaves for good."""
        return self._service.stopService() if self._service is not None else None

    def take(self, feed: Feed, topic: str, args: tuple[Any, ...]) -> None:
        """Called by the session with each event; one that several feeds mean is taken once."""
        first = next((one for one in self.feeds if _means(one, topic)), feed)
        if first is feed and _means(feed, topic):
            self._take(topic, args)

    def joined(self) -> None:
        """Called by the session when it has subscribed."""
        self.connected, self.trouble = True, None
        log.info("feeds come from {url}", url=self.access.url)

    def troubled(self, why: str) -> None:
        """Called by the session when the router does not let it in; it is tried again."""
        if why != self.trouble:
            log.warn("{url}: {why}; trying again", url=self.access.url, why=why)
        self.trouble = why

    def left(self) -> None:
        """Called by the session when it is over; the service joins again."""
        self.connected = False
        self.trouble = self.trouble or f"the connection to {self.access.url} was lost"


def _means(feed: Feed, topic: str) -> bool:
    head, _, rest = topic.partition(".")
    target, middle, name = rest.rpartition(".feeds.")
    return head == "observatory" and bool(middle) and feed.means(target, name)
