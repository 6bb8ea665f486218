"""The bridge as a service: a consumer of the router and a port that listens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from sisock.grafana_bridge.service import create_app
from sisock.http import Policy, listen

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

    from sisock.session import Access

# Addresses that are nobody's name.
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104


class Bridge:
    """Serves a site's data over HTTP at (host, port); port 0 is any free one.

    It listens at once and answers "No WAMP session" until it has joined the router. `hosts` are the names, beside
    localhost and `host` itself, by which dashboards reach it; pages of `origins` may ask it from a browser.
    """

    def __init__(self, access: Access, host: str, port: int, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        # Autobahn is not needed by those who only want the application.
        from sisock.consumer import Consumer

        self._host, self._port = host, port
        self._policy = Policy.of({*hosts, host} - _ANY, origins)
        self._consumer = Consumer(access)
        self.listening: IListeningPort | None = None

    async def start(self) -> Deferred[None]:
        """Listens and joins; the Deferred fails if the router refuses it. Raises PortTaken or SetupError."""
        self.listening = listen(create_app(self._consumer), self._host, self._port, policy=self._policy)
        refused: Deferred[None] = Deferred()
        self._consumer.connect(refused.errback)
        return refused

    async def stop(self) -> None:
        """Listens no longer, and leaves."""
        listening, self.listening = self.listening, None
        if listening is not None:
            await listening.stopListening()
        await self._consumer.stop()
