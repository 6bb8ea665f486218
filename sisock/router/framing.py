"""Framing: an event that goes to many readers is framed for the first of them, and the others get the same bytes.

Autobahn serializes an event once for all its readers, but frames it anew for each, in Python. Here the last frame is kept
beside the bytes that are in it. What is not plain - a compressed or a fragmented WebSocket, one that is closing, a message
over the limit - goes Autobahn's own way.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from autobahn.twisted.rawsocket import WampRawSocketServerProtocol
from autobahn.twisted.websocket import WampWebSocketServerProtocol
from autobahn.wamp.exception import SerializationError

# Bytes of the longest frame that is kept; a longer one hardly goes to many.
KEPT = 1 << 20


class Framed:
    """The last frame, and the payload that is in it. Payloads are told by who they are, not by what they hold."""

    def __init__(self) -> None:
        self._payload: bytes | None = None
        self._frame = b""

    def of(self, payload: bytes, prefix: bytes) -> bytes:
        """The frame that holds this payload behind this prefix."""
        if payload is not self._payload:
            frame = prefix + payload
            if len(frame) > KEPT:
                return frame
            self._payload, self._frame = payload, frame
        return self._frame


def prefix(payload: bytes, is_binary: bool) -> bytes:
    """What a server's unmasked, unfragmented WebSocket message begins with (RFC 6455, 5.2)."""
    first, length = 0x82 if is_binary else 0x81, len(payload)
    if length < 126:
        return bytes((first, length))
    return pack("!BBH", first, 126, length) if length < 1 << 16 else pack("!BBQ", first, 127, length)


_WEBSOCKET, _RAW = Framed(), Framed()

_websocket_send = WampWebSocketServerProtocol.send
_raw_send = WampRawSocketServerProtocol.send


def _send_on_websocket(self: Any, msg: Any) -> None:
    if (
        self._session is None
        or self._perMessageCompress is not None
        or self.state != self.STATE_OPEN
        or self.send_queue
        or self.autoFragmentSize
        or self.maskServerFrames
        or self.logFrames
        or self.logOctets
    ):
        _websocket_send(self, msg)
        return
    payload, is_binary = _serialized(self, msg)
    length = len(payload)
    if 0 < self.maxMessagePayloadSize < length:
        # It says so and refuses it.
        self.sendMessage(payload, is_binary)
        return
    frame = _WEBSOCKET.of(payload, prefix(payload, is_binary))
    self.transport.write(frame)
    stats = self.trafficStats
    stats.outgoingWebSocketMessages += 1
    stats.outgoingWebSocketFrames += 1
    stats.outgoingOctetsAppLevel += length
    stats.outgoingOctetsWebSocketLevel += length
    stats.outgoingOctetsWireLevel += len(frame)


def _send_on_raw_socket(self: Any, msg: Any) -> None:
    if self._session is None:
        _raw_send(self, msg)
        return
    payload, _ = _serialized(self, msg)
    if 0 < self._max_len_send < len(payload):
        _raw_send(self, msg)
        return
    self.transport.write(_RAW.of(payload, pack("!I", len(payload))))


def _serialized(self: Any, msg: Any) -> tuple[bytes, bool]:
    try:
        found: tuple[bytes, bool] = self._serializer.serialize(msg)
    except Exception as error:
        raise SerializationError(f"WAMP message serialization error: {error}") from error
    return found


def frame_once() -> None:
    """Frames events once for all readers of this process, which is a router's worker."""
    WampWebSocketServerProtocol.send = _send_on_websocket
    WampRawSocketServerProtocol.send = _send_on_raw_socket
