"""A consumer without a router: real data nodes, asked in memory."""

from collections.abc import Sequence
from math import nan
from types import SimpleNamespace

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock import DataNode, Field
from sisock.answering import Answers
from sisock.asking import Call, Question, Take, ask_arrow
from sisock.consumer import Consumer
from sisock.errors import NodeFailed, NotConnected, TooMuch, UnknownNode
from sisock.fields import Catalogue
from sisock.requests import DataRequest


class MemoryConsumer:
    """Answers like the real one. `faults` names nodes that raise, `silent` those that never answer."""

    def __init__(self, *nodes: DataNode) -> None:
        self.served = {node.name: node for node in nodes}
        self.connected = True
        self.faults: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.calls: list[dict] = []
        self.questions: list[tuple[str, Question]] = []
        # Of each call of get_data the node.
        self.paged: list[str] = []
        # Fire when a silent node was asked, and when the asker gave up on it.
        self.asked: Deferred[None] = Deferred()
        self.given_up: Deferred[None] = Deferred()

    async def nodes(self) -> list[dict[str, str]]:
        if not self.connected:
            raise NotConnected
        return [{"name": node.name, "description": node.description} for node in self.served.values()]

    async def get_fields(self, node: str, start: float = 1.0, end: float | None = None) -> Catalogue:
        return (await self._reach(node)).get_fields(start, end)

    async def get_data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float | None,
        *,
        min_stride: float | None = None,
        max_points: int | None = None,
        method: str | None = None,
    ) -> dict:
        self.calls.append(
            {"node": node, "fields": list(fields), "start": start, "end": end, "stride": min_stride, "points": max_points}
        )
        served = await self._reach(node)
        request = DataRequest.of(list(fields), start, end, min_stride, max_points, method)
        answer = served.get_data(
            list(request.fields), request.span.start, request.span.end, request.min_stride, request.max_points, request.method
        )
        if answer is False:
            raise TooMuch
        return answer

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict:
        self.questions.append((node, question))
        return await ask_arrow(self.caller(node), question, take)

    def caller(self, node: str) -> Call:
        async def call(*args, on_progress=None, **how):
            self.paged.append(node)
            served = await self._reach(node)
            own = type(served).get_data is DataNode.get_data
            answers = Answers(served, deferToThread, keeper=served if own else None)
            details = None if on_progress is None else SimpleNamespace(progress=on_progress)
            return await answers.get_data(*args, details=details, **how)

        return call

    # By pages, as the real one does.
    read_all = Consumer.read_all

    async def _reach(self, node: str) -> DataNode:
        from twisted.internet import reactor

        if node in self.silent:
            reactor.callLater(0, lambda: self.asked.called or self.asked.callback(None))
            await Deferred(lambda _: self.given_up.called or self.given_up.callback(None))
        if node in self.faults:
            raise self.faults[node]
        if node not in self.served:
            raise UnknownNode(f"there is no node {node}")
        return self.served[node]


class Weather(DataNode):
    """Weather, two groups of fields that are sampled apart."""

    name = "weather"
    fields = {
        "air": Field(timeline="hourly", units="degC"),
        "sky": Field(timeline="hourly", type="string"),
        "wind": Field(timeline="minutely"),
        "open": Field(timeline="minutely", type="bool"),
        "spare": Field(timeline="spare"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.append("hourly", [1000.0, 4600.0, 8200.5], {"air": [1.5, nan, 3.0], "sky": ["clear", "rain", None]})
        self.append("minutely", [1000.0, 1060.0005], {"wind": [7, 9], "open": [True, False]})


class Grumpy(Weather):
    """Refuses a whole call for one field it does not know, as nodes of the old kind may."""

    name = "grumpy"

    def get_data(self, field, *rest):
        if not set(field) <= set(self.fields):
            raise NodeFailed("KeyError")
        return super().get_data(field, *rest)


class Long(DataNode):
    """So many rows that two fields are more than one answer may hold."""

    name = "long"
    length = 100_000

    def __init__(self) -> None:
        super().__init__()
        for name in ("a", "b"):
            self.declare({name: Field(timeline=name)})
            self.append(name, [float(i) for i in range(1, self.length + 1)], {name: [float(i) for i in range(self.length)]})
