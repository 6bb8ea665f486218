"""Connections as bare as they can be: WAMP and MQTT spoken by hand, so that who receives is not what is measured.

A Wire frames messages over a WebSocket or WAMP's raw socket, or not at all. `wamp` and `mqtt` join; then one sends what
was encoded before, and counts what comes.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import struct
import time
from urllib.parse import urlsplit

import cbor2
from autobahn.wamp import auth

HELLO, WELCOME, CHALLENGE, AUTHENTICATE, PUBLISH, SUBSCRIBE, SUBSCRIBED, EVENT = 1, 2, 4, 5, 16, 32, 33, 36
# More than any message here; what a read takes at once.
CHUNK = 1 << 20


class Wire:
    """A blocking connection to ws://host:port/path with a subprotocol, unix://path, raw+unix://path or tcp://host:port."""

    def __init__(self, url, protocol=None):
        where = urlsplit(url)
        self.web, self.raw = where.scheme == "ws", where.scheme == "raw+unix"
        if where.scheme.endswith("unix"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(where.path)
        else:
            self.socket = socket.create_connection((where.hostname, where.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        if self.web:
            key = base64.b64encode(os.urandom(16)).decode()
            self.socket.sendall(
                f"GET {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
            )
            while b"\r\n\r\n" not in self.data:
                self._more()
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            assert b" 101 " in head, head
        elif self.raw:
            # Messages of up to 16 MB, in CBOR.
            self.socket.sendall(b"\x7f\xf3\0\0")
            assert self.take(4)[:2] == b"\x7f\xf3"

    def _more(self):
        data = self.socket.recv(CHUNK)
        assert data, "the connection was closed"
        self.data += data

    def take(self, size):
        while len(self.data) < size:
            self._more()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def framed(self, message):
        """The bytes of a message on this wire; a mask of zeros is one, too."""
        size = len(message)
        if self.raw:
            return struct.pack("!I", size) + message
        if not self.web:
            return message
        length = (
            bytes([0x80 | size])
            if size < 126
            else struct.pack("!BH", 0xFE, size)
            if size < 65536
            else struct.pack("!BQ", 0xFF, size)
        )
        return b"\x82" + length + bytes(4) + message

    def send(self, message):
        self.socket.sendall(self.framed(message))

    def receive(self):
        """The next message of WAMP, and of MQTT over a WebSocket."""
        if self.raw:
            return self.take(struct.unpack("!I", self.take(4))[0])
        while True:
            kind, size = self.take(2)
            size = (
                struct.unpack("!H", self.take(2))[0]
                if size == 126
                else struct.unpack("!Q", self.take(8))[0]
                if size == 127
                else size
            )
            message = self.take(size)
            if kind & 0xF == 9:
                self.socket.sendall(bytes([0x8A, 0x80 | size]) + bytes(4) + message)
            elif kind & 0xF < 3:
                return message

    def close(self):
        self.socket.close()


class Wamp:
    """A session in CBOR that publishes and subscribes."""

    def __init__(self, url, realm, authid, secret):
        self.wire = Wire(url, "wamp.2.cbor")
        self._request = 0
        roles = {"publisher": {}, "subscriber": {}}
        self._send(HELLO, realm, {"roles": roles, "authmethods": ["wampcra"], "authid": authid})
        challenge = self._receive(CHALLENGE)[2]["challenge"]
        self._send(AUTHENTICATE, auth.compute_wcs(secret.encode(), challenge.encode()).decode(), {})
        self._receive(WELCOME)

    def _send(self, *message):
        self.wire.send(cbor2.dumps(list(message)))

    def _receive(self, kind):
        message = cbor2.loads(self.wire.receive())
        assert message[0] == kind, message
        return message

    def subscribe(self, topic):
        self._request += 1
        self._send(SUBSCRIBE, self._request, {}, topic)
        self._receive(SUBSCRIBED)

    def publish(self, topic, event):
        self._request += 1
        self._send(PUBLISH, self._request, {}, topic, [event])


class Mqtt:
    """A client of MQTT 3.1.1, QoS 0."""

    def __init__(self, url, name):
        self.wire = Wire(url, "mqtt")
        identifier = name.encode()
        body = b"\0\4MQTT\4\2\0\0" + struct.pack("!H", len(identifier)) + identifier
        self.wire.send(bytes([0x10, len(body)]) + body)
        self._answer(0x20)

    def _answer(self, kind):
        message = self.wire.receive() if self.wire.web else self._plain()
        assert message[0] & 0xF0 == kind, message

    def _plain(self):
        head = self.wire.take(2)
        return head + self.wire.take(head[1])

    def subscribe(self, topic):
        body = b"\0\1" + struct.pack("!H", len(topic)) + topic.encode() + b"\0"
        self.wire.send(bytes([0x82, len(body)]) + body)
        self._answer(0x90)

    def publish(self, topic, event):
        body = struct.pack("!H", len(topic)) + topic.encode() + event
        size, length = len(body), b""
        while True:
            size, low = divmod(size, 128)
            length += bytes([low | (0x80 if size else 0)])
            if not size:
                break
        self.wire.send(b"\x30" + length + body)


class Crowd:
    """Subscribers of one topic that count bytes and do nothing else; without a topic, of what they have subscribed before.

    Those that stay for longer than the router waits for a pong answer its pings, too, which costs looking at each frame.
    """

    def __init__(self, clients, topic, *, stays=False):
        self._clients, self._stays = clients, stays
        for client in clients if topic is not None else ():
            client.subscribe(topic)
        self._selector = selectors.EpollSelector()
        self._buffer = bytearray(CHUNK)
        self.counts = {}
        # Of each, what is left of a frame that is passed over.
        self._skips = {}
        for client in clients:
            wire = client.wire
            assert not wire.data
            wire.socket.setblocking(False)
            self.counts[wire] = self._skips[wire] = 0
            self._selector.register(wire.socket, selectors.EVENT_READ, wire)

    def look(self, timeout=1.0):
        """Takes what has come."""
        for key, _ in self._selector.select(timeout):
            try:
                count = key.fileobj.recv_into(self._buffer)
            except BlockingIOError:
                continue
            if not count:
                raise ConnectionError("a subscriber was cut off")
            self.counts[key.data] += count
            if self._stays:
                self._answer_pings(key.data, bytes(memoryview(self._buffer)[:count]))

    def _answer_pings(self, wire, data):
        data = wire.data + data
        at = self._skips[wire]
        while at + 10 <= len(data) or (at + 2 <= len(data) and (data[at + 1] < 126 and at + 2 + data[at + 1] <= len(data))):
            kind, size = data[at], data[at + 1]
            head = 4 if size == 126 else 10 if size == 127 else 2
            if head > 2:
                size = int.from_bytes(data[at + 2 : at + head], "big")
            elif kind == 0x89:
                if at + 2 + size > len(data):
                    break
                wire.socket.send(bytes([0x8A, 0x80 | size]) + bytes(4) + data[at + 2 : at + 2 + size])
            at += head + size
        wire.data = data[at:]
        self._skips[wire] = max(0, at - len(data))

    def least(self):
        return min(self.counts.values())

    def close(self):
        for client in self._clients:
            client.wire.close()


class Flood:
    """One publisher and a crowd at full speed: at most `window` events are on their way to the last of the subscribers.

    Events may be some bytes shorter than the first, as those are that hold a number in digits: `varies`.
    """

    def __init__(self, publisher, clients, topic, event, window=64, varies=0):
        self._publisher, self._topic, self._event, self._window = publisher, topic, event, window
        self._varies = varies
        self._crowd = Crowd(clients, topic)
        # A ping of the router may come with one of them.
        self._size = min(self._one() for _ in range(3))

    def _one(self):
        """Bytes of one event, as it comes."""
        before = dict(self._crowd.counts)
        self._publisher.publish(self._topic, self._event)
        deadline = time.monotonic() + 10
        while any(count == before[wire] for wire, count in self._crowd.counts.items()):
            assert time.monotonic() < deadline, "an event did not come to all"
            self._crowd.look()
        there = 0
        while there != (there := sum(self._crowd.counts.values())):
            # Of a long one the end may be on its way.
            self._crowd.look(0.05)
        return min(count - before[wire] for wire, count in self._crowd.counts.items())

    def run(self, seconds):
        """Deliveries a second, and of the time in which this process worked the share."""
        sent = arrived = 0
        before = self._crowd.least()
        begin, busy = time.perf_counter(), time.process_time()
        while time.perf_counter() - begin < seconds:
            while sent - arrived < self._window:
                self._publisher.publish(self._topic, self._event)
                sent += 1
            self._crowd.look()
            arrived = (self._crowd.least() - before) // self._size
        while (self._crowd.least() - before + 64 + self._varies * sent) // self._size < sent:
            self._crowd.look()
        taken = time.perf_counter() - begin
        return {"rate": sent * len(self._crowd.counts) / taken, "busy": (time.process_time() - busy) / taken}

    def close(self):
        self._crowd.close()
        self._publisher.wire.close()
