"""The WebSocket `/upstream`: a frame is an event, and is answered `OK` once it is stored, `ERR` if it is not understood."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.logger import Logger

from sisock.doors import Caller
from sisock.errors import InvalidArgument, TooMuch
from sisock.nodes.telemetry.source import Event, parse

log = Logger()

# An event is a few dozen bytes. What is longer is answered ERR, but beyond this the connection is closed (1009).
MAX_FRAME = 65_536
# Frames that wait for their answer on one socket.
MAX_UNANSWERED = 1000
# The answers, framed: text, without a mask (RFC 6455, 5.2).
OK, ERR = b"\x81\x02OK", b"\x81\x03ERR"

PING_EVERY = 20.0
PING_WITHIN = 20.0


@dataclass
class Counts:
    """The frames that were not understood, and why the newest of them were not."""

    errors: int = 0
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=20))


class Taker(Protocol):
    """Who takes events: the intake."""

    @property
    def full(self) -> bool:
        """Whether senders should wait."""

    def take(self, event: Event, sender: Upstream) -> None:
        """Takes one of this connection, and answers it in another turn of the reactor; TooMuch for one robot too many."""


class Upstream(WebSocketServerProtocol):
    """One robot's, or one gateway's, connection."""

    factory: UpstreamFactory
    caller: Caller | None = None

    def onOpen(self) -> None:  # noqa: N802
        """Counts the connection."""
        # How many OKs are owed; between two numbers stands an ERR, which waits for its turn.
        self._owed = deque([0])
        self.unanswered = 0
        # Whether it has to wait for the store, and whether its answers wait for it to read them.
        self._paused = self._unread = False
        # Twisted's HTTP had it; from here on a full buffer of answers stops this connection's own reading.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.factory.open.add(self)

    def onMessageEnd(self) -> None:  # noqa: N802
        """Takes a frame, without what Autobahn does for listeners that nobody has here."""
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data or ()), self.message_is_binary)
        self.message_data: list[bytes] | None = None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Takes a frame."""
        self.unanswered += 1
        factory = self.factory
        try:
            if isBinary:
                raise InvalidArgument("a frame is text")
            factory.taker.take(parse(payload.decode()), self)
        except (InvalidArgument, TooMuch, UnicodeDecodeError) as error:
            factory.counts.errors += 1
            factory.counts.reasons.append(str(error))
            self._owed.append(0)
            self.answer(0)
        else:
            self._owed[-1] += 1
        if not self._paused and (self.unanswered > MAX_UNANSWERED or factory.taker.full):
            # Whoever sends faster than the disk takes it has to wait.
            self._paused = True
            factory.paused.add(self)
            self.transport.pauseProducing()

    def answer(self, stored: int) -> None:
        """Answers so many frames that are stored by now, and those that were not understood, in the order they came."""
        owed, said = self._owed, []
        while True:
            now = min(stored, owed[0])
            said.append(OK * now)
            stored -= now
            owed[0] -= now
            self.unanswered -= now
            if owed[0] or len(owed) == 1:
                break
            owed.popleft()
            said.append(ERR)
            self.unanswered -= 1
        if self.state == self.STATE_OPEN:
            self.sendData(b"".join(said))

    def go_on(self) -> bool:
        """Reads again, where it had to wait, as soon as it need not; says whether it does."""
        if self.unanswered >= MAX_UNANSWERED // 2 or self.factory.taker.full:
            return False
        self._paused = False
        if not self._unread:
            self.transport.resumeProducing()
        return True

    def pauseProducing(self) -> None:  # noqa: N802
        """Called by the transport when its buffer is full: who reads no answers is asked nothing more."""
        self._unread = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """Called by the transport when its buffer is empty."""
        self._unread = False
        if not self._paused:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """Called by the transport when it is closed."""

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        """Forgets the connection; what it sent is stored all the same."""
        self.factory.open.discard(self)
        self.factory.paused.discard(self)


class UpstreamFactory(WebSocketServerFactory):
    """All connections of robots."""

    protocol = Upstream
    noisy = False

    def __init__(self, taker: Taker) -> None:
        super().__init__()
        self.taker = taker
        self.counts = Counts()
        self.open: set[Upstream] = set()
        self.paused: set[Upstream] = set()
        # Who makes the handshake that is being answered; the protocol is built in the same turn of the reactor.
        self.next: Caller | None = None
        self.setProtocolOptions(
            maxFramePayloadSize=MAX_FRAME,
            maxMessagePayloadSize=MAX_FRAME,
            autoPingInterval=PING_EVERY,
            autoPingTimeout=PING_WITHIN,
            openHandshakeTimeout=10,
            tcpNoDelay=True,
            # A frame that is no UTF-8 is answered like all that are not understood.
            utf8validateIncoming=False,
        )

    def buildProtocol(self, addr: Any) -> Upstream:  # noqa: N802
        """The protocol of a handshake."""
        made: Upstream = super().buildProtocol(addr)
        made.caller, self.next = self.next, None
        return made

    def answered(self, senders: list[Upstream]) -> None:
        """Answers frames that are stored, of each the connection that sent it; belongs to the reactor's thread."""
        for connection, count in Counter(senders).items():
            connection.answer(count)
        for connection in [one for one in self.paused if one.go_on()]:
            self.paused.discard(connection)

    def close(self) -> None:
        """Ends all connections."""
        for connection in tuple(self.open):
            connection.sendClose(1000, "the node ends")
