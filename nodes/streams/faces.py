"""What the streams show to the world: one port for subscribers (WebSocket), producers (POST) and queue clients (SQS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.threads import blockingCallFromThread
from twisted.web.resource import Resource

from sisock.doors import LOOPBACK, Caller, Door, caller_of
from sisock.errors import Busy, InvalidArgument, NotAuthenticated, NotAuthorized, SisockError, TooManyLogins
from sisock.faces import Face
from sisock.home import Home, is_loopback
from sisock.http import Policy, application, headers_of, reply_error
from sisock.metrics import Health, Metrics
from sisock.metrics import add_routes as add_health
from sisock.nodes.streams.document import DOCUMENT
from sisock.nodes.streams.message import MAX_MESSAGE
from sisock.nodes.streams.producers.http import add_routes
from sisock.nodes.streams.settings import PORT
from sisock.nodes.streams.signature import SCHEME, signed_by
from sisock.nodes.streams.sqs import Endpoint
from sisock.nodes.streams.subscribers import Asked, Subscribers, asked
from sisock.openapi import offer
from sisock.refusals import add_refused
from sisock.rules import Rules, covers
from sisock.users import User

if TYPE_CHECKING:
    from klein import Klein

    from sisock.nodes.streams.node import Streams

# A queue's batch, in which each body may have grown to six times its length by escapes.
MAX_BODY = 6 * MAX_MESSAGE + (64 << 10)


# A queue's client whose signature is none of a user's.
NOBODY = Caller(User("nobody", "consumer"), Rules)


class Faces:
    """The port of the streams.

    Who may come, access.toml says under `[face.streams]` for subscribers and `[face.streams_producers]` for producers; on
    loopback alone, everybody.
    """

    def __init__(self, node: Streams) -> None:
        self._node = node
        self._face = Face(node.name, PORT)
        self._doors: Doors | None = None
        self.subscribers = Subscribers(node.fanout, node.replay)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._face.address

    def application(self) -> Klein:
        """The HTTP API: all but the WebSocket and the queue's endpoint."""
        app = application()
        add_health(app, self._metrics(), lambda: Health(self._node.trouble()))
        add_refused(app, self._node.source, lambda: dict(self._node.errors.newest))
        add_routes(app, self._node)
        offer(app, DOCUMENT)
        return app

    def listen(self) -> None:
        """Begins to listen; PortTaken if another program does, SetupError where it would not be safe."""
        node = self._node
        allow_files()
        here = LOOPBACK if is_loopback(self._face.where.host) else ()
        producers = Door.of(Home.default(), f"{node.name}_producers", default=here)
        self._doors = Doors(self._face.door, producers)
        root = _Root(self.application().resource(), self.subscribers, Endpoint(node), node, self._doors)
        self._face.listen(root, door=self._doors, max_body=MAX_BODY)
        self._face.watch(lambda: self.subscribers.open)

    def stop(self) -> None:
        """Listens no more; called in a thread."""
        from twisted.internet import reactor

        blockingCallFromThread(reactor, self._close)

    def _close(self) -> Any:
        self.subscribers.close()
        if self._doors is not None:
            self._doors.close()
        return self._face.close()

    def _metrics(self) -> Metrics:
        node, counts, metrics = self._node, self._node.fanout.counts, Metrics(self._node.name)
        metrics.counter("messages", "Messages that were stored and handed to subscribers", lambda: counts.messages)
        metrics.counter("deliveries", "Messages times the subscribers that they were sent to", lambda: counts.deliveries)
        metrics.counter("repeats", "Messages whose id had come before", lambda: node.repeats)
        metrics.counter("refused", "What was no message, by the way it came", lambda: node.errors.counts, label="producer")
        metrics.counter("slow", "Subscribers that were cut off because they did not read", lambda: counts.slow)
        metrics.counter(
            "refused_subscribers", "Handshakes and requests of subscribers that were refused", lambda: counts.refused
        )
        metrics.counter("missed", "Gaps in what an outlet follows, as its node had lost what it keeps", lambda: node.missed)
        metrics.gauge("subscribers", "Subscribers that are connected", lambda: len(self.subscribers.open))
        metrics.gauge("sites", "Sites that somebody subscribes to", lambda: node.fanout.sites)
        metrics.gauge("waiting", "Messages that wait for the store", lambda: node.intake.waiting)
        metrics.gauge("timelines", "Sites and topics there are", lambda: node.known)
        return metrics


class Doors:
    """The door of subscribers, and that of producers, who POST."""

    def __init__(self, subscribers: Door, producers: Door) -> None:
        self._subscribers, self._producers = subscribers, producers

    @property
    def policy(self) -> Policy:
        """Which hosts and origins are known now."""
        return self._subscribers.policy

    async def admit_request(self, request: Any) -> Caller:
        """Who makes a request. A page shows its token in the query, as it can send no header with a WebSocket."""
        if request.method == b"POST":
            return await self._admit_producer(request)
        token = request.args.get(b"token", ())
        if len(token) == 1 and not headers_of(request, b"authorization"):
            return await self._subscribers.admit(f"Bearer {token[0].decode('latin-1')}", _address(request))
        return await self._subscribers.admit_request(request)

    async def _admit_producer(self, request: Any) -> Caller:
        address = _address(request)
        if not any(one.startswith(SCHEME) for one in headers_of(request, b"authorization")):
            return await self._producers.admit_request(request)
        if covers(self._producers.open_to, address):
            # Of a network that is let in anybody may come, with whatever key a program was given elsewhere.
            return await self._producers.admit(None, address)
        try:
            signed = signed_by(request)
            if signed is None:
                raise NotAuthenticated("the request is not signed")
            return await self._producers.prove(signed.name, signed.proves, address)
        except (NotAuthenticated, TooManyLogins) as error:
            # A queue's client is told in its own form; until then it is somebody who may do nothing.
            request.refused = error
            return NOBODY

    def close(self) -> None:
        """Closes that of producers; the other is the face's."""
        self._producers.close()


def _refuse(request: Any, error: SisockError) -> bytes:
    return reply_error(request, error.status, error.uri, str(error))


def _address(request: Any) -> str:
    return str(request.getClientAddress().host)


def allow_files() -> None:
    """Lets this process have as many connections open as the machine allows it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Root(Resource):
    """The WebSocket of each stage at its path, the queue's endpoint for its clients, the rest for all others."""

    isLeaf = True  # noqa: N815

    def __init__(self, rest: Any, subscribers: Subscribers, queue: Endpoint, node: Streams, doors: Doors) -> None:
        super().__init__()
        self._rest, self._queue, self._node, self._doors = rest, queue, node, doors
        self._subscribers = subscribers
        subscribers.startFactory()
        self._upgrade = WebSocketResource(subscribers)

    def resource(self) -> Resource:
        """Itself, as an application answers."""
        return self

    def render(self, request: Any) -> Any:
        """Passes the request on."""
        caller = caller_of(request)
        if request.method == b"POST":
            refused: SisockError | None = getattr(request, "refused", None)
            if refused is None and caller.has_token and not caller.may("send", self._node.source):
                refused = NotAuthorized(f"this caller may not send to {self._node.source!r}")
            if self._queue.means(request):
                return self._queue.render(request, refused)
            return self._rest.render(request) if refused is None else _refuse(request, refused)
        if request.method != b"GET" or not any("websocket" in one.lower() for one in headers_of(request, b"upgrade")):
            return self._rest.render(request)
        stage = request.path[1:].rstrip(b"/").decode("latin-1")
        try:
            wanted = self._checked(request, stage, caller)
        except SisockError as error:
            self._subscribers.counts.refused += 1
            return _refuse(request, error)
        self._subscribers.next = wanted
        return self._upgrade.render(request)

    def _checked(self, request: Any, stage: str, caller: Caller) -> Asked:
        self._node.settings.check_stage(stage)
        if not caller.may("follow", self._node.source):
            raise NotAuthorized(f"this caller may not follow the node {self._node.source!r}")
        if not self._doors.policy.knows_origin(request):
            raise NotAuthorized("pages of the request's Origin may not open this")
        wanted = asked(stage, request.args, caller)
        if wanted.since is not None and not self._node.keeps:
            raise InvalidArgument("this is an outlet, which keeps nothing: ask the node streams for what was since then")
        if not self._node.ready:
            raise Busy(f"this outlet has nothing to hand on yet: it {self._node.trouble()}. Try again in a moment.")
        return wanted
