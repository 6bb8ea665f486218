"""Subscribers and producers as bare as they can be, of our streams and of Crossbar over JSON WebSockets."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from autobahn.wamp import auth

from bench.follow.wires import AUTHENTICATE, CHALLENGE, HELLO, PUBLISH, SUBSCRIBE, SUBSCRIBED, WELCOME, Wire

SITE = "dome"


def message(size=200):
    """A message of a site, of so many bytes as a subscriber gets it."""
    bare = len(json.dumps({"site": SITE, "topic": "weather", "data": {"padding": ""}}, separators=(",", ":")))
    return {"site": SITE, "topic": "weather", "data": {"padding": "x" * (size - bare)}}


class JsonWamp:
    """A session in JSON over a WebSocket."""

    def __init__(self, url, realm, authid, secret):
        self.wire = Wire(url, "wamp.2.json")
        self._request, self._subscribed = 0, False
        roles = {"publisher": {}, "subscriber": {}}
        self._send(HELLO, realm, {"roles": roles, "authmethods": ["wampcra"], "authid": authid})
        challenge = self._receive(CHALLENGE)[2]["challenge"]
        self._send(AUTHENTICATE, auth.compute_wcs(secret.encode(), challenge.encode()).decode(), {})
        self._receive(WELCOME)

    def _send(self, *told):
        # The wire marks its frames as binary; JSON is text.
        self.wire.socket.sendall(b"\x81" + self.wire.framed(json.dumps(told).encode())[1:])

    def _receive(self, kind):
        told = json.loads(self.wire.receive())
        assert told[0] == kind, told
        return told

    def subscribe(self, topic):
        if self._subscribed:
            return
        self._subscribed = True
        self._request += 1
        self._send(SUBSCRIBE, self._request, {}, topic)
        self._receive(SUBSCRIBED)

    def publish(self, topic, event):
        self._request += 1
        self._send(PUBLISH, self._request, {}, topic, [event])

    def answer_pings(self):
        """Answers what the router asked meanwhile; nothing else can have come yet."""
        try:
            data = self.wire.socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        while data:
            size = data[1]
            assert data[0] == 0x89
            self.wire.socket.sendall(bytes([0x8A, 0x80 | size]) + bytes(4) + data[2 : 2 + size])
            data = data[2 + size :]


def joined(join, count, topic):
    """So many sessions that have subscribed; the first ones answer the router's pings while the last join."""
    made = []
    for number in range(count):
        made.append(join())
        made[-1].subscribe(topic)
        if number % 50 == 0:
            for one in made:
                one.answer_pings()
    return made


class _Plain(Wire):
    """A WebSocket without a subprotocol."""

    def __init__(self, url):
        where = urlsplit(url)
        self.web, self.raw, self.data = True, False, b""
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.sendall(
            f"GET {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.data:
            self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert b" 101 " in head, head


class Subscriber:
    """A page of a site."""

    def __init__(self, address):
        self.wire = _Plain(f"{address.replace('http', 'ws', 1)}/prod?site={SITE}")

    def subscribe(self, topic):
        """Its address says what it hears."""


class Producer:
    """A program that POSTs, over some connections at once; it does not wait for answers."""

    def __init__(self, address, connections=16):
        where = urlsplit(address)
        self._sockets = [socket.create_connection((where.hostname, where.port)) for _ in range(connections)]
        self._netloc, self._next = where.netloc, 0
        self.wire = self._sockets[0]

    def publish(self, topic, event):
        body = json.dumps(event).encode()
        head = f"POST /prod HTTP/1.1\r\nHost: {self._netloc}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        one = self._sockets[self._next % len(self._sockets)]
        self._next += 1
        one.sendall(head + body)
        with suppress(BlockingIOError):
            one.recv(1 << 16, socket.MSG_DONTWAIT)
