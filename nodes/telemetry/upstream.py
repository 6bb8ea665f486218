"""The WebSocket `/upstream`: a frame is an event, and is answered `OK` once it is stored, `ERR` if it is not understood."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.logger import Logger

from sisock.errors import InvalidArgument
from sisock.nodes.telemetry.source import Event, parse

log = Logger()

# A frame is a few dozen bytes; frames that wait for their answer on one socket; an answer's bytes.
MAX_FRAME = 4096
MAX_UNANSWERED = 1000
OK, ERR = b"OK", b"ERR"

PING_EVERY = 20.0
PING_WITHIN = 20.0


@dataclass
class Counts:
    """What came in: frames stored or dropped, and those that were not understood, with the newest of them."""

    frames: int = 0
    errors: int = 0
    connections: int = 0
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=20))


class Taker(Protocol):
    """Who takes events: the intake."""

    @property
    def full(self) -> bool:
        """Whether senders should wait."""

    def take(self, event: Event, answer: Callable[[], None]) -> None:
        """Takes one."""


class Upstream(WebSocketServerProtocol):
    """One robot's, or one gateway's, connection."""

    factory: UpstreamFactory

    def onOpen(self) -> None:  # noqa: N802
        """Counts the connection."""
        # What each frame in order is to be answered; None as long as it is not known.
        self._replies: deque[list[bytes | None]] = deque()
        self._paused = False
        self.factory.counts.connections += 1
        self.factory.open.add(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Takes a frame."""
        reply: list[bytes | None] = [None]
        self._replies.append(reply)
        counts = self.factory.counts
        try:
            if isBinary:
                raise InvalidArgument("a frame is text")
            event = parse(payload.decode())
        except (InvalidArgument, UnicodeDecodeError) as error:
            counts.errors += 1
            counts.reasons.append(str(error))
            reply[0] = ERR
            self.flush()
            return
        counts.frames += 1

        def answer() -> None:
            reply[0] = OK

        self.factory.touched.add(self)
        self.factory.taker.take(event, answer)
        if not self._paused and (len(self._replies) > MAX_UNANSWERED or self.factory.taker.full):
            # Whoever sends faster than the disk takes it has to wait.
            self._paused = True
            self.transport.pauseProducing()

    def flush(self) -> None:
        """Sends the answers that are known, in the order of the frames."""
        replies = self._replies
        while replies and (reply := replies[0][0]) is not None:
            replies.popleft()
            if self.state == self.STATE_OPEN:
                self.sendMessage(reply)
        if self._paused and len(replies) < MAX_UNANSWERED // 2 and not self.factory.taker.full:
            self._paused = False
            self.transport.resumeProducing()

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        """Forgets the connection; what it sent is stored all the same."""
        if self in self.factory.open:
            self.factory.open.discard(self)
            self.factory.counts.connections -= 1


class UpstreamFactory(WebSocketServerFactory):
    """All connections of robots."""

    protocol = Upstream
    noisy = False

    def __init__(self, taker: Taker) -> None:
        super().__init__()
        self.taker = taker
        self.counts = Counts()
        self.open: set[Upstream] = set()
        self.touched: set[Upstream] = set()
        self.setProtocolOptions(
            maxFramePayloadSize=MAX_FRAME,
            maxMessagePayloadSize=MAX_FRAME,
            autoPingInterval=PING_EVERY,
            autoPingTimeout=PING_WITHIN,
            openHandshakeTimeout=10,
            tcpNoDelay=True,
        )

    def answered(self, answers: list[Callable[[], None]]) -> None:
        """Answers frames that are stored; belongs to the reactor's thread."""
        for answer in answers:
            answer()
        touched, self.touched = self.touched, set()
        for connection in touched:
            connection.flush()
            if connection._replies:
                self.touched.add(connection)

    def close(self) -> None:
        """Ends all connections."""
        for connection in tuple(self.open):
            connection.sendClose(1001, "the node ends")
