"""How the bridge is: `/healthz`, and what Prometheus scrapes at `GET /metrics`, the hub's own health among it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sisock.asking import Question
from sisock.errors import SisockError
from sisock.grafana_bridge.flights import Flights
from sisock.grafana_bridge.reader import Reader
from sisock.grafana_bridge.turns import Turns
from sisock.http import reply
from sisock.metrics import Metrics
from sisock.times import now, to_micros
from sisock.uris import HUB

if TYPE_CHECKING:
    from klein import Klein

# Of the hub's health, what is older than this is not told any more: seconds.
FRESH = 60.0
# Seconds that Prometheus is kept waiting for it.
WITHIN = 3.0


def add(
    app: Klein, consumer: Flights, turns: Turns, reader_for: Callable[[Any], Reader], waiting: Callable[[], dict[str, float]]
) -> None:
    """Adds `GET /healthz` and `GET /metrics` to a Klein application; `waiting` tells how many wait, by what they asked."""
    metrics = Metrics("bridge")
    hub: dict[str, float] = {}
    metrics.gauge("connected", "Whether there is a session with the router", lambda: float(consumer.connected))
    metrics.counter("requests", "Requests that asked nodes, by what was asked", lambda: turns.asked, label="what")
    metrics.counter("requests_failed", "Of these, those that failed as a whole", lambda: turns.failed, label="what")
    metrics.counter("requests_seconds", "Seconds in which they were answered", lambda: turns.seconds, label="what")
    metrics.gauge("requests_inside", "Requests that are being answered or wait for their turn", lambda: turns.inside)
    metrics.gauge("requests_waiting", "Of these, those that wait", waiting, label="what")
    metrics.counter("calls", "Calls to the hub and to nodes", lambda: consumer.asked)
    metrics.counter("calls_shared", "Calls that were spared, since another one asked the same", lambda: consumer.shared)
    metrics.gauge("calls_under_way", "Calls that are under way", lambda: consumer.under_way)
    metrics.gauge("hub", "What the node `hub` tells, by its field: README.md of nodes/hub", lambda: hub, label="field")

    def healthz(request: Any) -> bytes:
        return reply(request, {"status": "ok"}) if consumer.connected else reply(request, {"status": "no session"}, 503)

    async def tell_metrics(request: Any) -> bytes:
        found = await _hub(reader_for(request))
        # What is told now is what this caller may read.
        hub.clear()
        hub.update(found)
        request.setHeader(b"Content-Type", b"text/plain; version=0.0.4; charset=utf-8")
        request.setHeader(b"Cache-Control", b"no-store")
        return metrics.text()

    app.route("/healthz", methods=["GET"])(healthz)
    app.route("/metrics", methods=["GET"])(tell_metrics)


async def _hub(reader: Reader) -> dict[str, float]:
    """The newest number of each field of the hub's health; nothing where it does not run or may not be read."""
    try:
        catalogue = await reader.catalogue(HUB, within=WITHIN)
        names = tuple(name for name, spec in catalogue.fields.items() if spec.type == "number" and spec.timeline == "t")
        since = to_micros(now() - FRESH)
        answers = await reader.ask(HUB, Question(names, since, max_points=1, method="last"), within=WITHIN)
    except SisockError:
        return {}
    found: dict[str, float] = {}
    for answer in answers.values():
        for name, column in answer.block.columns.items():
            value = column.to_list()[-1] if len(column) else None
            if value is not None:
                found[name] = float(value)
    return found
