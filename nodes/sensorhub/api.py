"""The HTTP API of the old sensor hub (contract E1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock.doors import caller_of
from sisock.errors import NotAuthorized, SisockError
from sisock.http import reply, to_json
from sisock.nodes.sensorhub.refused import Refused
from sisock.nodes.sensorhub.source import Malformed, Reading, clock, parse
from sisock.streamed import reply_pages
from sisock.times import MICROS

if TYPE_CHECKING:
    from klein import Klein

WORKS = b"Sensorprocessor API is working fine"


class UnknownSensor(SisockError, LookupError):
    """No sensor of this name has reported yet. `sisock fields sensorhub` lists those that have."""

    uri = "sisock.error.unknown_sensor"
    status = 404


class Hub(Protocol):
    """What the API speaks for: the node."""

    refused: Refused

    @property
    def name(self) -> Any:
        """What it is called."""

    def take(self, readings: Sequence[tuple[Reading, str | None]], *, wait: bool = False) -> Future[None]:
        """Takes readings; the Future is done when they are durable."""

    def check(self, reading: Reading) -> None:
        """Raises TooManySensors for a reading of a new sensor beyond all bounds."""

    def current(self, sensor: str) -> Reading | None:
        """The newest reading of a sensor by time. May read the store."""

    def readings(self, sensor: str) -> Iterator[list[tuple[int, int, float]]]:
        """All raw readings of a sensor, (id, microseconds, value), by id, in pages."""


def add_routes(app: Klein, hub: Hub) -> None:
    """Adds the API's routes to a Klein application."""

    def healthcheck(request: Any) -> bytes:
        return _text(request, 200, WORKS)

    async def add(request: Any) -> bytes:
        _may_send(request, hub)
        body = request.content.read()
        try:
            reading = parse(body)
            hub.check(reading)
        except Malformed as error:
            hub.refused.note("http", error, body)
            raise
        await _in_reactor(hub.take([(reading, None)]))
        return _text(request, 201, b"OK")

    async def current(request: Any, sensor: str) -> bytes:
        _may_read(request, hub)
        found = await deferToThread(hub.current, sensor)
        if found is None:
            raise UnknownSensor(f"no sensor {sensor!r:.80} has reported yet")
        return reply(request, {"sensor": sensor, "timestamp": clock(found.t), "value": found.value})

    async def readings(request: Any, sensor: str) -> bytes:
        _may_read(request, hub)
        # The contract's shape: a list of the rows and the status, page by page, so that years of readings need no memory.
        return await reply_pages(request, hub.readings(sensor), partial(_page, sensor), b"[[", b"],200]")

    # Paths with and without the slash at their end are the same (sisock.http).
    app.route("/healthcheck", methods=["GET"])(healthcheck)
    app.route("/add_rawdata", methods=["POST"])(add)
    app.route("/get_current_value/<path:sensor>", methods=["GET"])(current)
    app.route("/sensordata/<path:sensor>", methods=["GET"])(readings)


def _page(sensor: str, page: list[tuple[int, int, float]]) -> bytes:
    rows = [
        {"id": number, "sensor": sensor, "timestamp": formatdate(t // MICROS, usegmt=True), "value": value}
        for number, t, value in page
    ]
    return to_json(rows)[1:-1]


def _may_read(request: Any, hub: Hub) -> None:
    if not caller_of(request).may("read", hub.name):
        raise NotAuthorized(f"this caller may not read the node {hub.name!r}")


def _may_send(request: Any, hub: Hub) -> None:
    caller = caller_of(request)
    # Who has no token comes from a network that is named, as old senders do.
    if caller.has_token and not caller.may("send", hub.name):
        raise NotAuthorized(f"this caller may not send to the node {hub.name!r}")


def _text(request: Any, status: int, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return body


def _in_reactor(future: Future[None]) -> Deferred[None]:
    """The outcome of a Future of another thread."""
    from twisted.internet import reactor

    outcome: Deferred[None] = Deferred()

    def tell(done: Future[None]) -> None:
        error = done.exception()
        reactor.callFromThread(outcome.callback if error is None else outcome.errback, error)

    future.add_done_callback(tell)
    return outcome
