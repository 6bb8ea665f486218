"""The bridge as a service: a consumer of the router and a port that listens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from sisock.doors import LOOPBACK, Door
from sisock.grafana_bridge.service import create_app
from sisock.home import is_loopback
from sisock.http import Policy, listen

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.interfaces import IListeningPort

    from sisock.home import Home
    from sisock.session import Access

# Addresses that are nobody's name.
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104


class Bridge:
    """Serves a site's data over HTTP at (host, port); port 0 is any free one.

    It listens at once and answers "No WAMP session" until it has joined the router. `hosts` are the names, beside
    localhost and `host` itself, by which dashboards reach it; pages of `origins` may ask it from a browser. With the
    `home` of a site it asks who comes, by users and rules of that site: on this machine alone, who has no token is let
    in as `public`; `tls` are the files of a certificate and its key.
    """

    def __init__(
        self,
        access: Access,
        host: str,
        port: int,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        home: Home | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        # Autobahn is not needed by those who only want the application.
        from sisock.consumer import Consumer

        self._host, self._port = host, port
        names = {*hosts, host} - _ANY
        self._policy = Policy.of(names, origins)
        default = LOOPBACK if is_loopback(host) else ()
        self._door = None if home is None else Door.of(home, "bridge", hosts=names, origins=origins, default=default)
        self._tls = tls
        self._consumer = Consumer(access)
        self.listening: IListeningPort | None = None

    async def start(self) -> Deferred[None]:
        """Listens and joins; the Deferred fails if the router refuses it. Raises PortTaken or SetupError."""
        app = create_app(self._consumer)
        self.listening = listen(app, self._host, self._port, policy=self._policy, door=self._door, tls=self._tls)
        refused: Deferred[None] = Deferred()
        self._consumer.connect(refused.errback)
        return refused

    async def stop(self) -> None:
        """Listens no longer, and leaves."""
        listening, self.listening = self.listening, None
        if listening is not None:
            await listening.stopListening()
        await self._consumer.stop()
        if self._door is not None:
            self._door.close()
