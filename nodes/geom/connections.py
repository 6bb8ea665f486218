"""The WebSocket `/ws`: one client's messages, each answered before the next is looked at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from sisock.credentials import looks_like_jwt
from sisock.doors import Caller, Door, address_of_peer
from sisock.errors import NotAuthenticated, StoreAway, TooManyLogins
from sisock.nodes.geom.library import Library
from sisock.nodes.geom.messages import (
    Message,
    Refused,
    Spelling,
    coordinates_asked,
    error,
    geoms_asked,
    has_data,
    message_of,
    reply,
    spelling_of,
    token_of,
)

log = Logger()

MAX_FRAME = 65_536
# Messages of one socket that wait for their answer; whoever sends more is read no further until some are answered.
MAX_WAITING = 64
# Answers that are made at a time, of all sockets: their memory is what a node needs beside its store.
MAKING = 4
# Seconds without a ping after which a socket is closed.
HEARTBEAT = 120.0
# A WebSocket's own ping finds dead peers sooner, in seconds.
PING_EVERY = 20.0
PING_WITHIN = 20.0
# Bytes that may wait to be sent, of all sockets; beyond, those who do not read are cut off, the one with the most first.
MOST_UNSENT = 256 << 20
CLIENT_GONE, GOING = 1000, 1000


@dataclass
class Counts:
    """What was asked, and what was refused by its code."""

    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    slow: int = 0


class Connection(WebSocketServerProtocol):
    """One client."""

    factory: Connections
    caller: Caller | None = None

    def onOpen(self) -> None:  # noqa: N802
        """Waits for messages, and for a ping."""
        self._waiting: deque[bytes] = deque()
        self._working = self._paused = False
        self.unsent = 0
        self._drained: Deferred[None] | None = None
        self._full = False
        self._heart = self.factory.clock.callLater(HEARTBEAT, self._silent)
        self.factory.open.add(self)
        # Whoever had the transport before the handshake leaves it to us: we are told when it takes more.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    # How the transport tells that it holds much that is not sent.

    def pauseProducing(self) -> None:  # noqa: N802
        """The client does not read as fast as it is sent to."""
        self._full = True

    def resumeProducing(self) -> None:  # noqa: N802
        """What waited is sent."""
        self._full, self.unsent = False, 0
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone."""
        self.resumeProducing()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Takes a frame."""
        # What is binary is no JSON of ours; an empty frame is answered as such.
        self._waiting.append(b"" if isBinary else payload)
        if not self._working:
            self._working = True
            ensureDeferred(self._work()).addErrback(self._failed)
        elif len(self._waiting) >= MAX_WAITING and not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        """A WebSocket's own ping counts as one, too."""
        self._beat()
        self.sendPong(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        """Forgets the client and what it still wanted."""
        self.factory.open.discard(self)
        if hasattr(self, "_waiting"):
            self._waiting.clear()
            if self._heart.active():
                self._heart.cancel()
            self.stopProducing()

    async def _work(self) -> None:
        try:
            while self._waiting and self.state == self.STATE_OPEN:
                frame = await self._answer(self._waiting.popleft())
                if self.state != self.STATE_OPEN:
                    return
                # As one frame: the limit of a message is for what comes.
                self.sendFrame(opcode=self.MESSAGE_TYPE_TEXT, payload=frame)
                if self._full:
                    # The next answer is not made before this one is on its way.
                    self.unsent = len(frame)
                    self.factory.cut_slow()
                    self._drained = Deferred()
                    await self._drained
                if self._paused and len(self._waiting) < MAX_WAITING // 2:
                    self._paused = False
                    self.transport.resumeProducing()
        finally:
            self._working = False

    def _failed(self, failure: Any) -> None:
        log.failure("a message could not be answered", failure)
        self.sendClose(1011, "an error inside the server")

    async def _answer(self, payload: bytes) -> bytes:
        spelling: Spelling = "event"
        try:
            told, spelling = spelling_of(payload)
            message = message_of(told, spelling)
            self.factory.counts.asked[message.name] += 1
            data = await self._data(message)
        except Refused as refused:
            self.factory.counts.refused[str(refused.code)] += 1
            return error(spelling, refused)
        return reply(message, data)

    async def _data(self, message: Message) -> bytes | None:
        match message.name:
            case "ping":
                self._beat()
                return orjson.dumps(message.data) if has_data(message) else None
            case "auth":
                await self._authorize(message)
                return b"{}"
        self._may_read()
        factory = self.factory
        try:
            if message.name == "getGeoms":
                return await factory.in_thread(factory.library.geoms, geoms_asked(message))
            asked = coordinates_asked(message, factory.longest)
            return await factory.in_thread(factory.library.coordinates, asked, message.spelling)
        except Refused:
            raise
        except StoreAway as away:
            raise Refused(4503, "the store is away; ask again in a moment") from away
        except Exception as failed:
            log.failure("{name} could not be answered", name=message.name)
            raise Refused(4500, "an error inside the server; its log has the traceback") from failed

    async def _authorize(self, message: Message) -> None:
        token = token_of(message)
        self.caller = None
        try:
            if looks_like_jwt(token) and jwt.get_unverified_header(token).get("alg") != "RS256":
                raise NotAuthenticated("tokens are signed by RS256 here")
            caller = await self.factory.door.login(None, token, address_of_peer(self.peer))
        except (NotAuthenticated, TooManyLogins, jwt.PyJWTError, ValueError, RecursionError):
            # Why is nobody's business but the audit's.
            raise Refused(4401, "Unauthorized") from None
        if not caller.may("read", self.factory.node):
            raise Refused(4401, "Unauthorized")
        self.caller = caller

    def _may_read(self) -> None:
        caller = self.caller
        if caller is None or not caller.welcome() or not caller.may("read", self.factory.node):
            raise Refused(4401, "Unauthorized")

    def _beat(self) -> None:
        if self._heart.active():
            self._heart.reset(HEARTBEAT)

    def _silent(self) -> None:
        self.sendClose(CLIENT_GONE, f"no ping for {HEARTBEAT:g} seconds")


class Connections(WebSocketServerFactory):
    """All clients."""

    protocol = Connection
    noisy = False

    def __init__(self, library: Library, door: Door, node: str, longest: float, clock: Any = None) -> None:
        from twisted.internet import reactor
        from twisted.python.threadpool import ThreadPool

        super().__init__()
        self.library, self.door, self.node, self.longest = library, door, node, longest
        self.clock: Any = clock or reactor
        self.counts = Counts()
        self.open: set[Connection] = set()
        self._making = DeferredSemaphore(MAKING)
        self._pool = ThreadPool(0, MAKING, name="geom-answers")
        self.setProtocolOptions(
            maxFramePayloadSize=MAX_FRAME,
            maxMessagePayloadSize=MAX_FRAME,
            autoPingInterval=PING_EVERY,
            autoPingTimeout=PING_WITHIN,
            openHandshakeTimeout=10,
            tcpNoDelay=True,
            # A frame that is no UTF-8 is answered like all that are no JSON.
            utf8validateIncoming=False,
        )

    def start(self) -> None:
        """Starts the threads in which answers are made."""
        self._pool.start()

    async def in_thread(self, work: Callable[..., bytes], *args: Any) -> bytes:
        """What a function answers in one of a few threads."""
        from twisted.internet import reactor

        made: bytes = await self._making.run(deferToThreadPool, reactor, self._pool, work, *args)
        return made

    def cut_slow(self) -> None:
        """Cuts off those who do not read what they asked for, while too much waits to be sent."""
        while sum(one.unsent for one in self.open) > MOST_UNSENT:
            slowest = max(self.open, key=lambda one: one.unsent)
            slowest.unsent = 0
            self.counts.slow += 1
            log.warn("a client at {peer} was cut off: it did not read its answers", peer=slowest.peer)
            slowest.dropConnection(abort=True)

    def close(self) -> None:
        """Ends all connections."""
        for one in tuple(self.open):
            one.sendClose(GOING, "the node ends")
        self._pool.stop()
