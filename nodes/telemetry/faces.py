"""What the telemetry shows to the world: one Twisted site with the WebSocket `/upstream` and the HTTP API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.error import CannotListenError
from twisted.web.resource import Resource

from sisock.doors import LOOPBACK, Door, caller_of
from sisock.errors import NotAuthorized, SetupError
from sisock.home import Home, is_loopback
from sisock.http import application, listen, reply, reply_error
from sisock.nodes.telemetry.api import add_routes
from sisock.nodes.telemetry.upstream import UpstreamFactory

if TYPE_CHECKING:
    from sisock.nodes.telemetry.intake import Answer
    from sisock.nodes.telemetry.node import Telemetry

PORT = 8000


class Faces:
    """The port of the telemetry. Who may come, access.toml says under `[face.telemetry]`; on loopback alone, everybody."""

    def __init__(self, node: Telemetry) -> None:
        self._node = node
        self._port: Any = None
        self._door: Door | None = None
        self.upstream: UpstreamFactory | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://localhost:{self._port.getHost().port}"

    def listen(self) -> None:
        """Begins to listen; PortTaken if another program does, SetupError beyond this machine, where no TLS protects it."""
        host, port = os.environ.get("SISOCK_TELEMETRY_HOST", "127.0.0.1"), os.environ.get("SISOCK_TELEMETRY_PORT", str(PORT))
        if not port.isdecimal() or int(port) > 65535:
            raise SetupError(f"SISOCK_TELEMETRY_PORT={port} in the environment is no port number")
        if not is_loopback(host) and os.environ.get("SISOCK_TELEMETRY_INSECURE", "0") in ("", "0"):
            raise SetupError(
                f"the telemetry on {host} would send tokens and data in the clear. Put it behind a TLS proxy on this machine, "
                "or set SISOCK_TELEMETRY_INSECURE=1 if the network is trusted."
            )
        home = Home.default()
        self.upstream = UpstreamFactory(self._node.intake)
        app = application()
        add_routes(app, self._node)
        app.route("/healthz", methods=["GET"])(self._healthz)
        self._door = Door.of(home, self._node.name, default=LOOPBACK if is_loopback(host) else ())
        self._port = listen(_Both(app.resource(), self.upstream, self._door, self._node.name), host, int(port), door=self._door)
        home.tell_face(self._node.name, self.address)

    def close(self) -> None:
        """Listens no more."""
        if self._port is not None:
            stopped = self._port.stopListening()
            if stopped is not None:
                stopped.addErrback(lambda failure: failure.trap(CannotListenError))
        if self.upstream is not None:
            self.upstream.close()
        if self._door is not None:
            self._door.close()

    def answered(self, answers: list[Answer]) -> None:
        """Tells senders what is stored."""
        if self.upstream is not None:
            self.upstream.answered(answers)

    def _healthz(self, request: Any) -> bytes:
        problem = self._node.intake.problem
        if problem is not None:
            return reply(request, {"status": "waits for the store", "problem": problem}, 503)
        return reply(request, {"status": "ok"})


class _Both(Resource):
    """The WebSocket at its path, the API at all others."""

    isLeaf = True  # noqa: N815

    def __init__(self, api: Any, upstream: UpstreamFactory, door: Door, node: str) -> None:
        super().__init__()
        self._api, self._door, self._node = api, door, node
        upstream.startFactory()
        self._upstream = WebSocketResource(upstream)

    def resource(self) -> Resource:
        """Itself, as an application answers."""
        return self

    def render(self, request: Any) -> Any:
        """Passes the request on."""
        if request.path.startswith(b"/api") and not caller_of(request).may("read", self._node):
            return reply_error(request, 403, NotAuthorized.uri, f"this caller may not read the node {self._node!r}")
        if request.path != b"/upstream":
            return self._api.render(request)
        if not self._door.policy.knows_origin(request):
            return reply_error(request, 403, "bad_origin", "pages of the request's Origin may not do this here.")
        return self._upstream.render(request)
