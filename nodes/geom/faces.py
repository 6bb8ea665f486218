"""What the geoms show to the world: one port with the WebSocket `/ws`, `/healthz`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from sisock.doors import Caller, Door
from sisock.faces import Face
from sisock.http import Policy, application, reply_error
from sisock.metrics import Health, Metrics
from sisock.metrics import add_routes as add_health
from sisock.nodes.geom.connections import Connections
from sisock.nodes.geom.document import DOCUMENT
from sisock.openapi import offer
from sisock.users import ANYBODY

if TYPE_CHECKING:
    from klein import Klein

    from sisock.nodes.geom.node import Geoms

PORT = 8010
PATH = b"/ws"


class Faces:
    """The port of the geoms."""

    def __init__(self, node: Geoms) -> None:
        self._node = node
        self._face = Face(node.name, PORT)
        self.connections = Connections(node.library, self._face.door, node.name, node.longest)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._face.address

    def application(self) -> Klein:
        """What it answers over HTTP."""
        app = application()
        add_health(app, self._metrics(), self._health)
        offer(app, DOCUMENT)
        return app

    def listen(self) -> None:
        """Begins to listen; PortTaken if another program does, SetupError where it may not."""
        root = _Root(self.application().resource(), self.connections, self._face.door)
        self._face.listen(root, door=Upgrades(self._face.door))
        # Only now: its threads would keep a process alive that could not listen.
        self.connections.start()
        self._face.watch(lambda: self.connections.open)

    def close(self) -> Deferred[Any]:
        """Listens no more."""
        self.connections.close()
        return self._face.close()

    def end(self) -> None:
        """Waits for the answers that are being made; to be called outside the reactor's thread."""
        self.connections.end()

    def _health(self) -> Health:
        return Health(self._node.trouble(), {"connections": len(self.connections.open), "samples": self._node.shown})

    def _metrics(self) -> Metrics:
        counts, metrics = self.connections.counts, Metrics(self._node.name)
        metrics.counter("asked", "Messages of clients, by their name", lambda: dict(counts.asked), label="message")
        metrics.counter(
            "refused", "Messages that were answered by an error, by its code", lambda: dict(counts.refused), label="code"
        )
        metrics.counter("slow", "Clients that were cut off because they did not read", lambda: counts.slow)
        metrics.gauge("connections", "Clients that are connected", lambda: len(self.connections.open))
        metrics.gauge("samples", "Samples that the node shows", lambda: self._node.shown)
        return metrics


class Upgrades:
    """The door of the port: whoever opens the WebSocket is asked who it is later, by a message."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @property
    def policy(self) -> Policy:
        """Which hosts and origins are known now."""
        return self._door.policy

    async def admit_request(self, request: Any) -> Caller:
        """Who makes a request."""
        if request.path == PATH:
            return Caller(ANYBODY, lambda: self._door.rules)
        return await self._door.admit_request(request)


class _Root(Resource):
    """The WebSocket at its path, all else at the others."""

    isLeaf = True  # noqa: N815

    def __init__(self, api: Any, connections: Connections, door: Door) -> None:
        super().__init__()
        self._api, self._door = api, door
        connections.startFactory()
        self._connections = WebSocketResource(connections)

    def resource(self) -> Resource:
        """Itself, as an application answers."""
        return self

    def render(self, request: Any) -> Any:
        """Passes the request on."""
        if request.path != PATH:
            return self._api.render(request)
        if not self._door.policy.knows_origin(request):
            return reply_error(request, 403, "bad_origin", "pages of the request's Origin may not do this here.")
        return self._connections.render(request)
