"""The routes of the Prometheus HTTP API, under /prom/api/v1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from sisock.doors import caller_of
from sisock.errors import Busy, SisockError
from sisock.grafana_bridge.prom import metadata, wire
from sisock.grafana_bridge.prom.catalogues import Catalogues, Offered
from sisock.grafana_bridge.prom.errors import BadQuery, kind_of
from sisock.grafana_bridge.prom.leaves import Grid, Leaf
from sisock.grafana_bridge.prom.matching import Selector, selector_of
from sisock.grafana_bridge.prom.names import Source
from sisock.grafana_bridge.prom.parameters import Parameters, present
from sisock.grafana_bridge.prom.plan import Plan, parse
from sisock.grafana_bridge.prom.reading import Calls, fill, finish
from sisock.grafana_bridge.prom.values import MAX_CELLS, check_cells
from sisock.grafana_bridge.turns import Room, Turns
from sisock.grafana_bridge.within import within
from sisock.http import reply_encoded, reply_long
from sisock.seen import Seen
from sisock.times import MICROS

if TYPE_CHECKING:
    from klein import Klein

log = Logger()

PREFIX = "/prom/api/v1"
# Seconds that a query may take; Grafana gives it 30.
DEADLINE = 25.0
# Queries that are under way at the same time, most of which wait for nodes, and that are evaluated.
QUERIES = 500
EVALUATED = 8
# Values that all of them together may hold: whoever waits for a node that is slow does not keep others from theirs.
MAX_HELD = EVALUATED * MAX_CELLS
# So many series are looked through, and so many values written, right here; more in a thread.
FEW_SERIES = 1000
FEW_VALUES = 5000

Handler = Callable[[Any, "Asked"], Awaitable[bytes]]


def mount(app: Klein, consumer: Any, turns: Turns, *, clock: IReactorTime | None = None) -> Callable[[], int]:
    """Adds the routes to the bridge's application, and answers what tells how many queries wait for their turn.

    `turns` only count what is asked: queries have turns of their own.
    """
    api = _Api(consumer, turns, clock)
    for path, handler in api.routes.items():
        methods = ["GET"] if "<" in path or path.startswith(("/status", "/metadata")) else ["GET", "POST"]
        app.route(PREFIX + path, methods=methods, endpoint=PREFIX + path)(api.route(handler))
    return lambda: api.waiting


class Asked:
    """One request: its parameters, and the consumer as its caller may use it."""

    def __init__(self, request: Any, consumer: Any, **path: str) -> None:
        self.parameters = Parameters.of(request)
        self.caller = caller_of(request)
        self.consumer = Seen(consumer, self.caller)
        self.path = path
        self.warnings: list[str] = []
        # The nodes of which it is not known what they offer.
        self.failed: dict[str, SisockError] = {}


class _Api:
    def __init__(self, consumer: Any, turns: Turns, clock: IReactorTime | None) -> None:
        self._consumer = consumer
        self._asked = turns
        self._clock = clock
        self._catalogues = Catalogues(consumer, clock)
        self._calls = Calls()
        self._under_way = 0
        self._held = Room(MAX_HELD)
        self._turns = DeferredSemaphore(EVALUATED)
        self.routes: dict[str, Callable[[Asked], Awaitable[bytes]]] = {
            "/query": self._instant,
            "/query_range": self._range,
            "/series": self._series,
            "/labels": self._labels,
            "/label/<name>/values": self._label_values,
            "/metadata": self._metadata,
            "/format_query": self._format,
            "/rules": _constant(b'{"groups":[]}'),
            "/alerts": _constant(b'{"alerts":[]}'),
            "/query_exemplars": _constant(b"[]"),
            "/status/buildinfo": _constant(metadata.build()),
        }

    @property
    def waiting(self) -> int:
        """Queries that wait for room or for their turn."""
        return self._held.waiting + len(self._turns.waiting)

    def route(self, handler: Callable[[Asked], Awaitable[bytes]]) -> Callable[..., Any]:
        async def answer(request: Any, **path: str) -> bytes:
            try:
                async with self._asked.count("promql"):
                    asked = Asked(request, self._consumer, **path)
                    limit = min(DEADLINE, asked.parameters.duration("timeout", DEADLINE) / MICROS)
                    data = await self._within(limit, handler(asked))
            except CancelledError:
                # Who asked is gone.
                raise
            except SisockError as error:
                status, kind = kind_of(error)
                return reply_encoded(request, wire.failure(kind, str(error)), status)
            except Exception:  # noqa: BLE001
                log.failure("{path} failed", path=request.path.decode("utf-8", "replace")[:200])
                return reply_encoded(
                    request, wire.failure("internal", "an error inside the bridge; its log has the traceback"), 500
                )
            return await reply_long(request, wire.success(data, asked.warnings))

        return answer

    async def _within(self, seconds: float, call: Any) -> bytes:
        trouble = f"the query took longer than {seconds:g} s. Ask for a shorter time or fewer series."
        answered: bytes = await within(seconds, trouble, call, self._clock)
        return answered

    # Queries

    async def _instant(self, asked: Asked) -> bytes:
        text = asked.parameters.needed("query")
        at = asked.parameters.time("time", present())
        plan = Plan(text, Grid.of(at, at, 1))
        if plan.range_leaf is None:
            return await self._answered(asked, plan, lambda value: wire.instant(value, at))
        async with self._filled(asked, plan), _turn(self._turns):
            return await deferToThread(wire.ranges, plan.range_leaf.ranges or [])

    async def _range(self, asked: Asked) -> bytes:
        text = asked.parameters.needed("query")
        grid = Grid.of(*asked.parameters.span())
        return await self._answered(asked, Plan(text, grid), lambda value: wire.matrix(value, grid.times))

    async def _answered(self, asked: Asked, plan: Plan, encode: Callable[[Any], bytes]) -> bytes:
        async with self._filled(asked, plan), _turn(self._turns):
            return await self._evaluated(plan, encode)

    @asynccontextmanager
    async def _filled(self, asked: Asked, plan: Plan) -> AsyncIterator[None]:
        """Reads what a query needs, and holds the room that it takes. Nodes are waited for without a turn."""
        if self._under_way >= QUERIES:
            raise Busy(f"{QUERIES} queries are under way; ask again in a moment")
        self._under_way += 1
        try:
            chosen = await self._sources(asked, plan.leaves)
            cells = sum(len(sources) * len(leaf.at) for leaf, sources in zip(plan.leaves, chosen, strict=True)) + plan.cells
            check_cells(cells, 1)
            async with self._held.take(cells):
                if plan.has_plain_numbers:
                    plan.work_out()
                else:
                    async with _turn(self._turns):
                        await deferToThread(plan.work_out)
                asked.warnings += await fill(plan.leaves, chosen, asked.consumer, self._calls, self._clock)
                yield
        finally:
            self._under_way -= 1

    async def _sources(self, asked: Asked, leaves: Sequence[Leaf]) -> list[list[Source]]:
        """The series of each leaf."""
        if not leaves:
            return []
        named = [leaf.selector.nodes for leaf in leaves]
        nodes = None if None in named else frozenset().union(*(one for one in named if one is not None))
        offered = await self._offered(asked, nodes)
        chosen = []
        for leaf in leaves:
            found = await self._choose(leaf.selector, offered)
            readable = [source for source in found if asked.caller.may("read", source.node)]
            for node in () if found else (leaf.selector.nodes or frozenset()) & asked.failed.keys():
                raise asked.failed[node]
            if found and not readable:
                asked.consumer.check(found[0].node, reading=True)
            # In this order topk takes the first of equals.
            chosen.append(sorted(readable, key=lambda source: source.labels))
        return chosen

    @staticmethod
    async def _evaluated(plan: Plan, encode: Callable[[Any], bytes]) -> bytes:
        def work() -> bytes:
            for leaf in plan.leaves:
                finish(leaf)
            return encode(plan.evaluate())

        if plan.is_read and sum(leaf.value.values.size for leaf in plan.leaves if leaf.value is not None) <= FEW_VALUES:
            return work()
        encoded: bytes = await deferToThread(work)
        return encoded

    @staticmethod
    async def _choose(selector: Selector, offered: Sequence[Offered]) -> list[Source]:
        if sum(len(one.sources) for one in offered) < FEW_SERIES:
            return _chosen(selector, offered)
        found: list[Source] = await deferToThread(_chosen, selector, offered)
        return found

    async def _offered(self, asked: Asked, nodes: Iterable[str] | None) -> list[Offered]:
        offered, failed = await self._catalogues.offered(nodes)
        asked.failed = {node: error for node, error in failed.items() if asked.caller.may("see", node)}
        asked.warnings += [f"{node} is left out: {error}" for node, error in asked.failed.items()]
        return [one for one in offered if asked.caller.may("see", one.node)]

    # What there is

    async def _matched(self, asked: Asked, *, needed: bool = False) -> list[Source]:
        texts = asked.parameters.texts("match[]")
        if needed and not texts:
            raise BadQuery("series asks for at least one match[], such as match[]=air_temperature")
        selectors = []
        for text in texts:
            expression = parse(text)
            if type(expression).__name__ != "VectorSelector":
                raise BadQuery(f'match[] is a selector such as air_temperature{{node="roof"}}, not {text!r:.80}')
            selectors.append(selector_of(expression))
        named = [selector.nodes for selector in selectors]
        nodes = None if not named or None in named else frozenset().union(*(one for one in named if one is not None))
        offered = await self._offered(asked, nodes)
        if not selectors:
            return [source for one in offered for source in one.sources]
        return list(dict.fromkeys([source for one in selectors for source in await self._choose(one, offered)]))

    async def _series(self, asked: Asked) -> bytes:
        found = await self._matched(asked, needed=True)
        return wire.dumps([dict(labels) for labels in _limited(sorted(source.labels for source in found), asked)])

    async def _labels(self, asked: Asked) -> bytes:
        found = await self._matched(asked)
        return wire.dumps(_limited(sorted({name for source in found for name, _ in source.labels}), asked))

    async def _label_values(self, asked: Asked) -> bytes:
        found = await self._matched(asked)
        name = asked.path["name"]
        return wire.dumps(_limited(sorted({value for source in found for key, value in source.labels if key == name}), asked))

    async def _metadata(self, asked: Asked) -> bytes:
        offered = await self._offered(asked, None)
        return wire.dumps(metadata.told(offered, asked.parameters.text("metric"), asked.parameters.limit()))

    @staticmethod
    async def _format(asked: Asked) -> bytes:
        return wire.dumps(parse(asked.parameters.needed("query")).prettify())


@asynccontextmanager
async def _turn(turns: DeferredSemaphore) -> AsyncIterator[None]:
    await turns.acquire()
    try:
        yield
    finally:
        turns.release()


def _chosen(selector: Selector, offered: Iterable[Offered]) -> list[Source]:
    nodes = selector.nodes
    return selector.choose(source for one in offered if nodes is None or one.node in nodes for source in one.sources)


def _limited(found: list[Any], asked: Asked) -> list[Any]:
    limit = asked.parameters.limit()
    if limit is None or len(found) <= limit:
        return found
    asked.warnings.append("results truncated due to limit")
    return found[:limit]


def _constant(data: bytes) -> Callable[[Asked], Awaitable[bytes]]:
    async def answer(_: Asked) -> bytes:
        return data

    return answer
