"""The bridge's HTTP service: its routes, bound to a consumer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from sisock.doors import caller_of
from sisock.errors import SisockError, TooMuch
from sisock.grafana_bridge import data, frames, health, jsonsource, prom, queries, simplejson
from sisock.grafana_bridge.filters import kind
from sisock.grafana_bridge.flights import Flights
from sisock.grafana_bridge.notes import Note
from sisock.grafana_bridge.reader import MAX_POINTS, Consumer, Reader
from sisock.grafana_bridge.series import Result, Series
from sisock.grafana_bridge.turns import Turns
from sisock.http import application, json_body, reply, reply_long, to_json
from sisock.seen import Seen

if TYPE_CHECKING:
    from klein import Klein

__all__ = ["Consumer", "create_app"]

# Points that are encoded before the reactor gets its turn: some milliseconds.
BREATH = 20_000


def create_app(consumer: Consumer, *, clock: IReactorTime | None = None) -> Klein:
    """The bridge as a Klein application, to be served by `sisock.http.listen`. `clock` counts the deadlines."""
    app = application()
    consumer = Flights(consumer)
    turns = Turns()

    def reader_for(request: Any) -> Reader:
        """Reads for whoever makes a request, what the rules let them see."""
        return Reader(Seen(consumer, caller_of(request)), clock)

    _grafana(app, reader_for, turns)
    queries_waiting = prom.mount(app, consumer, turns, clock=clock)
    data.add_routes(app, consumer, reader_for, turns)
    health.add(app, consumer, turns, reader_for, lambda: {"query": turns.waiting, "promql": queries_waiting()})
    return app


def _grafana(app: Klein, reader_for: Callable[[Any], Reader], turns: Turns) -> None:
    """The routes of the SimpleJson and JSON data sources, which share an address."""

    def root(request: Any) -> bytes:
        reader_for(request).check_session()
        return reply(request, {"status": "ok"})

    async def search(request: Any) -> bytes:
        reader = reader_for(request)
        reader.check_session()
        text = queries.parse_search(json_body(request))
        async with turns.take("search"):
            found = queries.matching(jsonsource.names(await reader.catalogues()), text)
        return await reply_long(request, to_json([queries.written(name) for name in found]))

    async def query(request: Any) -> bytes:
        reader = reader_for(request)
        reader.check_session()
        asked = queries.parse_query(json_body(request))
        async with turns.take("query"):
            found, noted = await reader.read(asked.asks()), await reader.notes(asked)
            return await reply_long(request, await _encoded(asked, found, noted))

    async def annotations(request: Any) -> bytes:
        reader = reader_for(request)
        reader.check_session()
        wanted = queries.parse_annotations(json_body(request))
        async with turns.take("annotations"):
            found = await reader.find_notes(wanted.text, wanted.start, wanted.end)
        return await reply_long(request, to_json([_annotation(note, wanted.annotation) for note in found]))

    def offered(answer: Callable[[Any, jsonsource.Catalogues], Any]) -> Callable[[Any], Any]:
        """A route that is answered from what all nodes offer."""

        async def route(request: Any) -> bytes:
            reader = reader_for(request)
            reader.check_session()
            body = json_body(request)
            async with turns.take("search"):
                return await reply_long(request, to_json(answer(body, await reader.catalogues())))

        return route

    def tag_keys(request: Any) -> bytes:
        reader_for(request).check_session()
        return reply(request, jsonsource.tag_keys())

    app.route("/", methods=["GET"])(root)
    app.route("/search", methods=["GET", "POST"])(search)
    app.route("/query", methods=["POST"])(query)
    app.route("/annotations", methods=["POST"])(annotations)
    app.route("/tag-keys", methods=["GET", "POST"])(tag_keys)
    for path, answer in (
        ("/metrics", jsonsource.metrics),
        ("/metric-payload-options", jsonsource.payload_options),
        ("/variable", jsonsource.variable),
        ("/tag-values", jsonsource.tag_values),
    ):
        # Klein tells routes apart by the names of their functions, unless it is told others.
        app.route(path, methods=["POST"], endpoint=path)(offered(answer))


def _annotation(note: Note, asked: Any) -> dict[str, Any]:
    shape = {"annotation": asked, "time": note.start_ms, "title": note.title, "text": note.text, "tags": list(note.tags)}
    return shape if note.end_ms is None else shape | {"timeEnd": note.end_ms, "isRegion": True}


async def _encoded(
    query: queries.Query, found: dict[queries.Source, Result], noted: dict[str, Sequence[Note] | SisockError]
) -> bytes:
    """The answer, encoded a target at a time, so that a large one does not hold up everybody else."""
    from twisted.internet import reactor

    parts: list[bytes] = []
    held = fresh = 0
    kinds = query.filters.kinds(result.spec for result in found.values() if isinstance(result, Series))
    for target in query.targets:
        if target.note is not None and target.error is None:
            parts.append(to_json(frames.notes_frame(target, noted[target.note])))
            continue
        result = target.error or found[target.source]
        if isinstance(result, Series):
            if kind(result.spec) not in kinds:
                continue
            held += len(result)
            fresh += len(result)
            if held > MAX_POINTS:
                result = TooMuch(f"an answer may hold {MAX_POINTS} points. Ask for fewer targets at a time.")
        parts.append(to_json(frames.frame(target, result) if target.kind == "frame" else simplejson.shape(target, result)))
        if fresh > BREATH:
            fresh = 0
            await deferLater(IReactorTime(reactor), 0)
    return b"[" + b",".join(parts) + b"]"
