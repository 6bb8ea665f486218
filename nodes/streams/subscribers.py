"""Subscribers: the WebSocket `/<stage>?site=<site>`, one connection each.

    ?site=<site>         what it subscribes to
    &topic=a,b           only messages of these topics
    &since=<time>        what was kept since then first: UNIX seconds, -600, -10m, or 2026-07-14T12:30
    &token=USER:SECRET   who it is, for pages, which can send no header

`{"action": "updatesubscribersite", "site": <site>}` moves it to another site.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from sisock.errors import InvalidArgument, NotAuthorized, SisockError
from sisock.http import error_shape
from sisock.nodes.streams.fanout import FanOut, Key, Replay, next_of
from sisock.times import parse_time, resolve, to_micros

if TYPE_CHECKING:
    from sisock.doors import Caller

log = Logger()

# What a subscriber may say, and bytes that wait for one who reads too slowly; then it is cut off.
MAX_FRAME = 4096
MAX_BACKLOG = 4 << 20
MAX_SITE = 255
MAX_TOPICS = 100
PING_EVERY = 20.0
PING_WITHIN = 20.0
# The close code where nothing can be said of what was now.
TRY_AGAIN = 4503

# What Autobahn keeps of a handshake on the connection and reads no more when it is open: 3 kB of each, as without these names
# its dictionary also fits into one of half the size.
_HANDSHAKE = frozenset(
    {
        "_transport_details",
        "_wskey",
        "allowedOrigins",
        "allowedOriginsPatterns",
        "flashSocketPolicy",
        "http_headers",
        "http_request_data",
        "http_request_host",
        "http_request_params",
        "http_request_path",
        "http_request_uri",
        "http_response_data",
        "http_status_line",
        "versions",
        "websocket_extensions",
        "websocket_protocols",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handshake asks for; `since` is in microseconds."""

    key: Key
    topics: frozenset[str] | None = None
    since: int | None = None
    caller: Caller | None = None


def asked(stage: str, query: Mapping[bytes, Sequence[bytes]], caller: Caller | None = None) -> Asked:
    """What the query of a handshake asks for; InvalidArgument if it names no site, or is not understood."""
    site = _one(query, "site")
    if not site:
        raise InvalidArgument("a subscriber names its site: ?site=<site>")
    topic, since = _one(query, "topic"), _one(query, "since")
    topics = None
    if topic is not None:
        topics = frozenset(filter(None, topic.split(",")))
        if not 1 <= len(topics) <= MAX_TOPICS:
            raise InvalidArgument(f"topic names 1 to {MAX_TOPICS} topics: ?topic=weather,jobs")
    start = None if since is None else to_micros(resolve(parse_time(since)))
    return Asked((stage, _check_site(site)), topics, start, caller)


def _one(query: Mapping[bytes, Sequence[bytes]], name: str) -> str | None:
    values = query.get(name.encode(), ())
    if len(values) > 1:
        raise InvalidArgument(f"{name} is given once")
    try:
        return values[0].decode() if values else None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{name} is not UTF-8") from None


def _check_site(site: object) -> str:
    if not isinstance(site, str) or not 1 <= len(site) <= MAX_SITE:
        raise InvalidArgument(f"site is a text of 1 to {MAX_SITE} characters")
    return site


class Subscriber(WebSocketServerProtocol):
    """One connection."""

    factory: Subscribers

    def __init__(self, wanted: Asked) -> None:
        super().__init__()
        self.key, self.topics, self.caller = wanted.key, wanted.topics, wanted.caller
        self._since = wanted.since
        # Made when it is needed: there may be thousands who need none.
        self._backlog: deque[bytes] | None = None
        self._waiting = 0
        self._paused = False
        self._drained: Deferred[None] | None = None

    def onOpen(self) -> None:  # noqa: N802
        """Joins, after what was if that was asked for."""
        # Twisted's HTTP had it; from here on a full buffer pauses this connection's own sending.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.__dict__ = {name: value for name, value in vars(self).items() if name not in _HANDSHAKE}
        self.factory.open.add(self)
        if self._since is None:
            self.factory.fanout.join(self)
        else:
            replayed = Deferred.fromCoroutine(self._replay(self._since))
            replayed.addErrback(self._replay_failed)

    def _replay_failed(self, failure: Any) -> None:
        # Who stayed would wait for messages that never come.
        log.failure("a subscriber's replay failed", failure)
        self.sendClose(TRY_AGAIN, "what was cannot be read")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Takes {"action": "updatesubscribersite", "site": <site>}."""
        try:
            try:
                told = json.loads(payload)
            except (ValueError, RecursionError):
                told = None
            if isBinary or not isinstance(told, dict) or told.get("action") != "updatesubscribersite":
                raise InvalidArgument('a subscriber says {"action": "updatesubscribersite", "site": <site>} or nothing')
            self._move(_check_site(told.get("site")))
        except InvalidArgument as error:
            self.factory.counts.refused += 1
            self.sendMessage(json.dumps(error_shape(error.uri, str(error))).encode())

    def _move(self, site: str) -> None:
        self.factory.fanout.leave(self)
        self._since = None
        self.key = (self.key[0], site)
        self.factory.fanout.join(self)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        """Leaves."""
        self.factory.open.discard(self)
        self.factory.fanout.leave(self)
        self._backlog = None
        self._wake()

    # Sending

    def give(self, frames: bytes, count: int) -> None:
        """Sends frames that hold `count` messages; while the connection is full they wait, up to a bound."""
        if self.state != self.STATE_OPEN:
            return
        if not self._paused:
            self.transport.write(frames)
            return
        self._waiting += len(frames)
        if self._waiting > MAX_BACKLOG:
            self.factory.counts.slow += 1
            self.factory.fanout.leave(self)
            log.info("a subscriber of {site} reads too slowly and is cut off", site=self.key[1])
            # A close frame would wait behind what is not read.
            self.dropConnection(abort=True)
            return
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(frames)

    def pauseProducing(self) -> None:  # noqa: N802
        """Called by the transport when its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        """Called by the transport when its buffer is empty."""
        self._paused = False
        while self._backlog and not self._paused:
            frames = self._backlog.popleft()
            self._waiting -= len(frames)
            # It may pause again at once.
            self.transport.write(frames)
        self._backlog = self._backlog or None
        if not self._paused:
            self._wake()

    def stopProducing(self) -> None:  # noqa: N802
        """Called by the transport when it is closed."""
        self._paused = True

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    async def _room(self) -> None:
        if self._paused and self.state == self.STATE_OPEN:
            self._drained = Deferred()
            await self._drained

    # What was

    async def _replay(self, since: int) -> None:
        """Sends what the history holds since then, and joins where it ends."""
        fanout, after = self.factory.fanout, since - 1
        try:
            while self.state == self.STATE_OPEN and self._since is not None:
                if fanout.join_after(self, after):
                    return
                until = fanout.last
                frames = self.factory.replay(self.key, self.topics, after, until)
                while (some := await deferToThread(next_of, frames)) is not None:
                    if self.state != self.STATE_OPEN or self._since is None:
                        return
                    self.give(*some)
                    await self._room()
                after = until
        except SisockError as error:
            self.sendClose(TRY_AGAIN, str(error)[:100])


class Subscribers(WebSocketServerFactory):
    """All connections of subscribers."""

    noisy = False

    def __init__(self, fanout: FanOut, replay: Replay) -> None:
        super().__init__()
        self.fanout, self.replay = fanout, replay
        self.counts = fanout.counts
        self.open: set[Subscriber] = set()
        # What the handshake asks for that is being answered; the protocol is built in the same turn of the reactor.
        self.next: Asked | None = None
        self.setProtocolOptions(
            maxFramePayloadSize=MAX_FRAME,
            maxMessagePayloadSize=MAX_FRAME,
            autoPingInterval=PING_EVERY,
            autoPingTimeout=PING_WITHIN,
            openHandshakeTimeout=10,
            tcpNoDelay=True,
        )

    def buildProtocol(self, addr: Any) -> Subscriber:  # noqa: N802
        """The protocol of a handshake."""
        wanted, self.next = self.next, None
        if wanted is None:
            raise NotAuthorized("a subscriber comes by the node's own resource")
        subscriber = Subscriber(wanted)
        subscriber.factory = self
        return subscriber

    def close(self) -> None:
        """Ends all connections."""
        for one in tuple(self.open):
            one.sendClose(1000, "the node ends")
