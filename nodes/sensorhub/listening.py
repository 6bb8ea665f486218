"""Listening to Redis: a channel, which tells whoever listens, and a stream, which keeps entries until they are acknowledged.

Each is a thread with a connection of its own, that connects again, ever more slowly, when Redis is away. What comes on the
channel meanwhile is lost, as it is for everybody who subscribes one. Of the stream nothing is: its entries are acknowledged
after their commit, and one that comes again after a crash is known by its id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from sisock.errors import SisockError
from sisock.nodes.sensorhub.refused import Refused
from sisock.nodes.sensorhub.source import Malformed, Reading, parse, reading_of

log = logging.getLogger(__name__)

# Messages that are taken together.
TOGETHER = 1000
# Seconds that one waits for the next message, and between two tries to connect: the first, and the longest.
PATIENCE = 0.5
RETRY, LONGEST = 0.2, 5.0
CONNECT_SECONDS = 5.0
# Seconds of silence after which a channel's connection is pinged, each PATIENCE; and so many may stay unanswered.
PING_AFTER = 5.0
UNANSWERED = 10
# Milliseconds after which another consumer's entry is taken over as a dead one's.
IDLE = 30_000


class Taker(Protocol):
    """Who takes readings: the intake."""

    def check(self, reading: Reading) -> None:
        """Raises Malformed for one that may not be taken."""

    def take(self, readings: Sequence[tuple[Reading, str | None]], *, wait: bool = False) -> Future[None]:
        """Takes readings, each with where it came from."""


class Listener:
    """A thread that listens to Redis for as long as it is there. `away` says why it does not hear anything now."""

    way = ""

    def __init__(self, url: str, taker: Taker, refused: Refused) -> None:
        self._url, self._taker, self._refused = url, taker, refused
        self.away: str | None = "not yet connected"
        self.heard = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sensorhub-{self.way}", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what was heard is taken."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(CONNECT_SECONDS + 2 * PATIENCE)

    def _work(self) -> None:
        import redis

        wait = RETRY
        while not self._ends.is_set():
            try:
                client = redis.Redis.from_url(
                    self._url,
                    socket_connect_timeout=CONNECT_SECONDS,
                    socket_timeout=CONNECT_SECONDS,
                    socket_keepalive=True,
                    health_check_interval=PING_AFTER,
                )
                with client:
                    self.begin(client)
                    if self.away is not None:
                        log.info("sensorhub hears the %s of Redis", self.way)
                    self.away, wait = None, RETRY
                    while not self._ends.is_set():
                        self.listen(client)
            except (redis.RedisError, OSError, ValueError) as error:
                if self.away is None or wait == RETRY:
                    log.warning("sensorhub does not hear the %s of Redis: %s", self.way, error)
                self.away = f"{type(error).__name__}: {error}"
                self._ends.wait(wait)
                wait = min(LONGEST, 2 * wait)
            except SisockError as error:
                # The intake takes nothing more: another process writes now.
                self.away = str(error)
                return

    def begin(self, client: Any) -> None:
        """Says to Redis what is to be heard."""
        raise NotImplementedError

    def listen(self, client: Any) -> None:
        """Waits for messages for a moment, and takes them."""
        raise NotImplementedError

    def read(self, message: bytes) -> Reading | None:
        """The reading of a message; None for what is noted as refused."""
        try:
            reading = parse(message)
            self._taker.check(reading)
            return reading
        except Malformed as error:
            self._refused.note(self.way, error, message)
            return None


class Channel(Listener):
    """Listens to a channel."""

    way = "channel"

    def __init__(self, url: str, channel: str, taker: Taker, refused: Refused) -> None:
        super().__init__(url, taker, refused)
        self._channel = channel
        self._subscribed: Any = None

    def begin(self, client: Any) -> None:
        """Subscribes."""
        import redis

        self._subscribed = client.pubsub()
        self._subscribed.subscribe(self._channel)
        # Redis answers when it has subscribed: what is published from now on is heard.
        if self._subscribed.parse_response(block=False, timeout=CONNECT_SECONDS) is None:
            raise redis.ConnectionError("Redis does not answer")

    def listen(self, client: Any) -> None:
        """Takes what was published."""
        import redis

        if self._subscribed.health_check_response_counter > UNANSWERED:
            # The connection stays open, though there may be no machine at its other end any more.
            raise redis.ConnectionError("Redis does not answer any more")
        # What get_message makes a dict of: [kind, channel, data].
        response = self._subscribed.parse_response(block=False, timeout=PATIENCE)
        found: list[tuple[Reading, str | None]] = []
        while response is not None:
            if response[0] == b"message":
                self.heard += 1
                reading = self.read(response[2])
                if reading is not None:
                    found.append((reading, None))
            if len(found) == TOGETHER:
                break
            response = self._subscribed.parse_response(block=False, timeout=0)
        if found:
            self._taker.take(found, wait=True)


class Stream(Listener):
    """Reads a stream as one of a group of consumers."""

    way = "stream"

    def __init__(self, url: str, stream: str, group: str, consumer: str, taker: Taker, refused: Refused) -> None:
        super().__init__(url, taker, refused)
        self._stream, self._group, self._consumer = stream, group, consumer
        # Entries that this consumer had and did not acknowledge come first.
        self._after = "0"

    def begin(self, client: Any) -> None:
        """Makes the group, where there is none: it begins with the first entry that the stream still has."""
        import redis

        try:
            client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._after = "0"

    def listen(self, client: Any) -> None:
        """Takes entries, and acknowledges them when they are durable."""
        who = {"groupname": self._group, "consumername": self._consumer}
        answer = client.xreadgroup(**who, streams={self._stream: self._after}, count=TOGETHER, block=round(PATIENCE * 1000))
        entries = answer[0][1] if answer else []
        if not entries and self._after != ">":
            self._after = ">"
        elif not entries:
            # There is time to look whether another consumer has left some behind.
            _, entries, *_ = client.xautoclaim(self._stream, **who, min_idle_time=IDLE, count=TOGETHER)
        if entries:
            self._take(client, entries)

    def _take(self, client: Any, entries: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> None:
        self.heard += len(entries)
        found: list[tuple[Reading, str | None]] = []
        for entry, fields in entries:
            reading = self._reading(fields or {})
            if reading is not None:
                found.append((reading, f"{self._stream}:{entry.decode()}"))
        if found:
            self._taker.take(found, wait=True).result()
        # What is no reading is acknowledged as well: it would come again for ever.
        client.xack(self._stream, self._group, *(entry for entry, _ in entries))

    def _reading(self, fields: dict[bytes, bytes]) -> Reading | None:
        if len(fields) == 1:
            return self.read(next(iter(fields.values())))
        told: dict[str, Any] = {_text(name): _text(text) for name, text in fields.items()}
        # Redis has texts only, so a number is one.
        with suppress(KeyError, ValueError):
            told["value"] = float(told["value"])
        try:
            reading = reading_of(told)
            self._taker.check(reading)
            return reading
        except Malformed as error:
            self._refused.note(self.way, error, repr(told))
            return None


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
