"""The bridge's HTTP service: its routes, bound to a consumer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from sisock.doors import caller_of
from sisock.errors import TooMuch
from sisock.grafana_bridge import prom, simplejson
from sisock.grafana_bridge.reader import MAX_POINTS, Consumer, Reader
from sisock.grafana_bridge.series import Result, Series
from sisock.http import application, json_body, reply, reply_encoded, to_json
from sisock.seen import Seen

if TYPE_CHECKING:
    from klein import Klein

__all__ = ["Consumer", "create_app"]

# Points that are encoded before the reactor gets its turn: some milliseconds.
BREATH = 20_000


def create_app(consumer: Consumer, *, clock: IReactorTime | None = None) -> Klein:
    """The bridge as a Klein application, to be served by `sisock.http.listen`. `clock` counts the deadlines."""
    app = application()

    def reader_for(request: Any) -> Reader:
        """Reads for whoever makes a request, what the rules let them see."""
        return Reader(Seen(consumer, caller_of(request)), clock)

    _health(app, consumer)
    _simplejson(app, reader_for)
    prom.mount(app, consumer, clock=clock)
    return app


def _health(app: Klein, consumer: Consumer) -> None:
    def healthz(request: Any) -> bytes:
        return reply(request, {"status": "ok"}) if consumer.connected else reply(request, {"status": "no session"}, 503)

    app.route("/healthz", methods=["GET"])(healthz)


def _simplejson(app: Klein, reader_for: Callable[[Any], Reader]) -> None:
    def root(request: Any) -> bytes:
        reader_for(request).check_session()
        return reply(request, {"status": "ok"})

    async def search(request: Any) -> bytes:
        reader = reader_for(request)
        reader.check_session()
        text = simplejson.parse_search(json_body(request))
        offered = await reader.catalogues()
        names = (f"{node}{simplejson.SEPARATOR}{name}" for node, catalogue in offered.items() for name in catalogue.fields)
        return reply(request, simplejson.matching(names, text))

    async def query(request: Any) -> bytes:
        reader = reader_for(request)
        reader.check_session()
        asked = simplejson.parse_query(json_body(request))
        found = await reader.read(asked.asks())
        return reply_encoded(request, await _encoded(asked, found))

    app.route("/", methods=["GET"])(root)
    app.route("/search", methods=["GET", "POST"])(search)
    app.route("/query", methods=["POST"])(query)


async def _encoded(query: simplejson.Query, found: dict[tuple[str, str], Result]) -> bytes:
    """The answer, encoded a target at a time, so that a large one does not hold up everybody else."""
    from twisted.internet import reactor

    parts: list[bytes] = []
    held = fresh = 0
    for target in query.targets:
        result = target.error or found[target.node, target.field]
        if isinstance(result, Series):
            held += len(result.values)
            fresh += len(result.values)
            if held > MAX_POINTS:
                result = TooMuch(f"an answer may hold {MAX_POINTS} points. Ask for fewer targets at a time.")
        parts.append(to_json(simplejson.shape(target, result)))
        if fresh > BREATH:
            fresh = 0
            await deferLater(IReactorTime(reactor), 0)
    return b"[" + b",".join(parts) + b"]"
