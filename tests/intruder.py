"""Wrong logins as fast as they go, from a process of their own: `python -m tests.intruder HOST PORT USER WAY AT_ONCE`.

Each is a connection that sends HELLO and a wrong proof at once, and goes when it is refused. When its input ends it begins no
more, and prints what became of them as JSON.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import threading

UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
)
ROLES = {"caller": {}, "subscriber": {}}


def frame(message):
    payload = json.dumps(message).encode()
    length = (
        struct.pack("!BB", 0x81, 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(payload))
    )
    # A mask of zeros leaves the payload as it is.
    return length + bytes(4) + payload


def wrong_login(host, port, user, method):
    hello = [1, "sisock", {"roles": ROLES, "authid": user, "authmethods": [method]}]
    upgrade = UPGRADE.format(host=host, port=port).encode()
    return [(upgrade, b"\r\n\r\n"), (frame(hello) + frame([5, "AAAA" * 11, {}]), b"[3,")]


def wrong_request(host, port, user):
    request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {user}:wrong\r\nConnection: close\r\n\r\n"
    return [(request.encode(), b"\r\n\r\n")]


async def keep_trying(host, port, says, told_to_stop, done):
    while not told_to_stop.is_set():
        try:
            reader, writer = await asyncio.open_connection(host, port)
            for words, end in says:
                writer.write(words)
                answer = await reader.readuntil(end)
            done["turned away" if b" 429 " in answer else "refused"] += 1
            writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            done["failed"] += 1


async def attack(host, port, user, way, at_once):
    says = wrong_request(host, port, user) if way == "http" else wrong_login(host, port, user, way)
    done = {"refused": 0, "turned away": 0, "failed": 0}
    told_to_stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told_to_stop.set()), daemon=True).start()
    await asyncio.gather(*(keep_trying(host, port, says, told_to_stop, done) for _ in range(at_once)))
    return done


if __name__ == "__main__":
    host, port, user, way, at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(attack(host, int(port), user, way, int(at_once)))))
