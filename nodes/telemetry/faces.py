"""What the telemetry shows to the world: one Twisted site with the WebSocket `/upstream` and the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from sisock.doors import Door, caller_of
from sisock.errors import Busy, NotAuthorized
from sisock.faces import Face
from sisock.http import application, reply_error
from sisock.metrics import Health, Metrics
from sisock.metrics import add_routes as add_metrics
from sisock.nodes.telemetry.api import SLASH, UNLEARNED, add_routes
from sisock.nodes.telemetry.document import DOCUMENT
from sisock.nodes.telemetry.upstream import UpstreamFactory
from sisock.openapi import offer
from sisock.refusals import add_refused

if TYPE_CHECKING:
    from klein import Klein

    from sisock.nodes.telemetry.intake import Answer
    from sisock.nodes.telemetry.node import Telemetry

PORT = 8000


class Faces:
    """The port of the telemetry, which both faces share."""

    def __init__(self, node: Telemetry) -> None:
        self._node = node
        self._face = Face(node.name, PORT)
        self.upstream: UpstreamFactory | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._face.address

    def application(self) -> Klein:
        """The HTTP API."""
        app = application()
        add_routes(app, self._node)
        add_metrics(app, self._metrics(), self._health)
        add_refused(app, self._node.name, self._refused)
        offer(app, DOCUMENT)
        return app

    def listen(self) -> None:
        """Begins to listen; PortTaken if another program does, SetupError where it may not."""
        self.upstream = UpstreamFactory(self._node.intake)
        self._face.listen(_Both(self.application().resource(), self.upstream, self._face.door, self._node))
        self._face.watch(lambda: self.upstream.open if self.upstream is not None else ())

    def close(self) -> Deferred[Any]:
        """Listens no more."""
        if self.upstream is not None:
            self.upstream.close()
        return self._face.close()

    def answered(self, answers: list[Answer]) -> None:
        """Tells senders what is stored."""
        if self.upstream is not None:
            self.upstream.answered(answers)

    def _health(self) -> Health:
        intake = self._node.intake
        told = {"stored": intake.stored, "dropped": intake.dropped, "waiting": intake.waiting}
        upstream = self.upstream
        if upstream is not None:
            told |= {"refused": upstream.counts.errors, "connections": len(upstream.open)}
        return Health(self._node.trouble(), told)

    def _refused(self) -> dict[str, Any]:
        reasons = () if self.upstream is None else tuple(self.upstream.counts.reasons)
        dropped = {robot.name: robot.dropped for robot in tuple(self._node.robots.values()) if robot.dropped}
        return {"newest": reasons, "dropped": dropped}

    def _metrics(self) -> Metrics:
        intake, metrics = self._node.intake, Metrics("telemetry")
        metrics.counter("stored", "Events that are durable", lambda: intake.stored)
        metrics.counter("dropped", "Events that did not come after their robot's last", lambda: intake.dropped)
        metrics.counter("refused", "Frames that were no events", lambda: self.upstream.counts.errors if self.upstream else 0)
        metrics.gauge("waiting", "Events that wait for the store", lambda: intake.waiting)
        metrics.gauge("connections", "Open connections of senders", lambda: len(self.upstream.open) if self.upstream else 0)
        metrics.gauge("robots", "Robots that are known", lambda: len(self._node.robots))
        return metrics


class _Both(Resource):
    """The WebSocket at its path, the API at all others."""

    isLeaf = True  # noqa: N815

    def __init__(self, api: Any, upstream: UpstreamFactory, door: Door, node: Telemetry) -> None:
        super().__init__()
        self._api, self._door, self._node = api, door, node
        upstream.startFactory()
        self._connections, self._upstream = upstream, WebSocketResource(upstream)

    def resource(self) -> Resource:
        """Itself, as an application answers."""
        return self

    def render(self, request: Any) -> Any:
        """Passes the request on."""
        if request.path != b"/upstream":
            # What was sent as %2F belongs to a name; Klein joins the segments again.
            request.postpath = [part.replace(b"/", SLASH.encode()) for part in request.postpath]
            return self._api.render(request)
        if not self._door.policy.knows_origin(request):
            return reply_error(request, 403, "bad_origin", "pages of the request's Origin may not do this here.")
        if not self._node.learned:
            # Its reports would be taken for a new robot's.
            return reply_error(request, 503, Busy.uri, f"the telemetry {UNLEARNED}. Try again in a moment.")
        caller = caller_of(request)
        # Who has no token comes from a network that is named, as old senders do.
        if caller.has_token and not caller.may("send", self._node.name):
            return reply_error(request, 403, NotAuthorized.uri, f"this caller may not send to the node {self._node.name!r}")
        self._connections.next = caller
        return self._upstream.render(request)
