"""The WebSocket `/ws`: one client's messages, each answered before the next is looked at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from sisock.credentials import looks_like_jwt
from sisock.doors import Caller, Door, address_of_peer
from sisock.errors import Busy, NotAuthenticated, StoreAway, TooManyLogins
from sisock.nodes.geom.library import Library
from sisock.nodes.geom.messages import (
    MAX_MESSAGE,
    Message,
    Refused,
    coordinates_asked,
    error,
    geoms_asked,
    message_of,
    reply,
    token_of,
    too_long,
)

log = Logger()

# Messages of one socket that wait for their answer, and their bytes; whoever sends more is read no further until some are
# answered.
MAX_WAITING = 64
MAX_WAITING_BYTES = 256 << 10
# An answer that is longer goes out in pieces of so many bytes, each when the one before is on its way: what a transport is
# given, it holds three times.
PIECE = 1 << 20
# Answers that are made at a time, of all sockets: their memory is what a node needs beside its store.
MAKING = 4
# Seconds without a ping after which a socket is closed.
HEARTBEAT = 120.0
# Bytes that may wait, of all sockets, to be sent or to be answered; beyond, those who do not read are cut off, the one with the
# most first.
MOST_HELD = 256 << 20
CLOSED = 1000


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
        self._waiting: deque[tuple[Message, int]] = deque()
        self._waiting_bytes = self._unsent = 0
        self._working = self._deaf = False
        self._drained: Deferred[None] | None = None
        self._full = False
        # Whether it took an answer since we looked last.
        self._takes = False
        self._heart = self.factory.clock.callLater(HEARTBEAT, self._silent)
        self.factory.open.add(self)
        # Whoever had the transport before the handshake leaves it to us: we are told when it takes more.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    @property
    def held(self) -> int:
        """Bytes that wait: of the answer that is on its way, and of the messages behind it."""
        return self._unsent + self._waiting_bytes

    # How the transport tells that it holds much that is not sent.

    def pauseProducing(self) -> None:  # noqa: N802
        """The client does not read as fast as it is sent to."""
        self._full = True

    def resumeProducing(self) -> None:  # noqa: N802
        """What waited is sent."""
        self._full, self._takes, self._unsent = False, True, 0
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone."""
        self.resumeProducing()

    # How a message comes: of one that is too long, nothing is kept, so that it can be answered as such.

    def onMessageFrameBegin(self, length: int) -> None:  # noqa: N802
        """A part of a message begins."""
        self.frame_data: list[bytes] = []
        self.message_data_total_length += length

    def onMessageFrameData(self, payload: bytes) -> None:  # noqa: N802
        """Some bytes of it."""
        if payload and self.message_data_total_length <= MAX_MESSAGE:
            self.frame_data.append(payload)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Takes a message."""
        length = self.message_data_total_length
        if length > MAX_MESSAGE:
            message, length = too_long(length), 0
        else:
            # What is binary is no JSON of ours; an empty frame is answered as such.
            message = message_of(b"" if isBinary else payload)
        if message.name == "ping":
            # At once: its answer may wait for long ones before it.
            self._beat()
        self._waiting.append((message, length))
        self._waiting_bytes += length
        if not self._working:
            self._working = True
            ensureDeferred(self._work()).addErrback(self._failed)
        if not self._deaf and (len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES):
            self._deaf, self._takes = True, False
            self.transport.pauseProducing()
            self.factory.cut_slow()

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        """A WebSocket's own ping counts as one, too."""
        self._beat()
        self.sendPong(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        """Forgets the client and what it still wanted."""
        self.factory.open.discard(self)
        if hasattr(self, "_waiting"):
            self._forget()
            if self._heart.active():
                self._heart.cancel()

    def cut_off(self) -> None:
        """Ends a connection whose client does not read: a close frame would wait behind what it does not."""
        self.factory.counts.slow += 1
        log.warn("a client at {peer} was cut off: it did not read its answers", peer=self.peer)
        # First, so that nothing is sent on when what waits is let go.
        self.dropConnection(abort=True)
        self._forget()

    def _forget(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self.stopProducing()

    async def _work(self) -> None:
        try:
            while self._waiting and self.state == self.STATE_OPEN:
                message, length = self._waiting.popleft()
                self._waiting_bytes -= length
                # Nobody but the pieces themselves holds the answer while it waits.
                await self._send(in_pieces(await self._answer(message)))
                if self.state != self.STATE_OPEN:
                    return
                if self._deaf and len(self._waiting) < MAX_WAITING // 2 and self._waiting_bytes < MAX_WAITING_BYTES // 2:
                    self._deaf = False
                    self.transport.resumeProducing()
        finally:
            self._working = False

    async def _send(self, pieces: deque[bytes]) -> None:
        opcode = self.MESSAGE_TYPE_TEXT
        while pieces and self.state == self.STATE_OPEN:
            piece = pieces.popleft()
            self.sendFrame(opcode=opcode, payload=piece, fin=not pieces)
            opcode = 0
            if self._full:
                # The next piece, or the next answer, is not before this one is on its way.
                self._unsent = len(piece) + sum(map(len, pieces))
                drained: Deferred[None] = Deferred()
                self._drained = drained
                del piece
                self.factory.cut_slow()
                await drained
            else:
                self._takes = True

    def _failed(self, failure: Any) -> None:
        log.failure("a message could not be answered", failure)
        self.sendClose(1011, "an error inside the server")

    async def _answer(self, message: Message) -> bytes:
        try:
            return reply(message, await self._told(message))
        except Refused as refused:
            self.factory.counts.refused[str(refused.code)] += 1
            return error(message.spelling, refused)

    async def _told(self, message: Message) -> bytes | None:
        try:
            return await self._data(message)
        except Refused:
            raise
        except (StoreAway, Busy) as away:
            raise Refused(4503, "the store is away; ask again in a moment") from away
        except Exception as failed:
            log.failure("{name} could not be answered", name=message.name)
            raise Refused(4500, "an error inside the server; its log has the traceback") from failed

    async def _data(self, message: Message) -> bytes | None:
        if message.wrong is not None:
            if message.unknown:
                self._may_read()
            raise message.wrong
        factory = self.factory
        factory.counts.asked[message.name] += 1
        match message.name:
            case "ping":
                return message.written
            case "auth":
                await self._authorize(message)
                return b"{}"
        self._may_read()
        if message.name == "getGeoms":
            return await factory.in_thread(factory.library.geoms, geoms_asked(message))
        asked = coordinates_asked(message, factory.longest)
        return await factory.in_thread(factory.library.coordinates, asked, message.spelling)

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
        """Nothing was heard for so long; but a ping may wait behind so many questions that we do not listen."""
        if not self._deaf:
            self.sendClose(CLOSED, f"no ping for {HEARTBEAT:g} seconds")
        elif self._takes:
            self._takes = False
            self._heart = self.factory.clock.callLater(HEARTBEAT, self._silent)
        else:
            self.cut_off()


def in_pieces(answer: bytes) -> deque[bytes]:
    """An answer as the frames that it goes out in: one, unless it is long."""
    return deque([answer] if len(answer) <= PIECE else [answer[at : at + PIECE] for at in range(0, len(answer), PIECE)])


class Connections(WebSocketServerFactory):
    """All clients."""

    protocol = Connection
    noisy = False

    def __init__(self, library: Library, door: Door, node: str, longest: float) -> None:
        from twisted.internet import reactor
        from twisted.python.threadpool import ThreadPool

        super().__init__()
        self.library, self.door, self.node, self.longest = library, door, node, longest
        self.clock: Any = reactor
        self.counts = Counts()
        self.open: set[Connection] = set()
        self._making = DeferredSemaphore(MAKING)
        self._pool = ThreadPool(0, MAKING, name="geom-answers")
        # Who is gone without a word is found by the heartbeat.
        self.setProtocolOptions(
            maxFramePayloadSize=0,
            maxMessagePayloadSize=0,
            openHandshakeTimeout=10,
            # Whoever comes without a WebSocket is told so, and not which server this is.
            webStatus=False,
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
        """Cuts off those who do not read what they asked for, while too much waits."""
        while sum(one.held for one in self.open) > MOST_HELD:
            max(self.open, key=lambda one: one.held).cut_off()

    def close(self) -> None:
        """Ends all connections."""
        for one in tuple(self.open):
            one.sendClose(CLOSED, "the node ends")

    def end(self) -> None:
        """Waits for the answers that are being made; to be called outside the reactor's thread."""
        if self._pool.started:
            self._pool.stop()
