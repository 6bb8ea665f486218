"""Metrics: what a face tells Prometheus and whoever asks how it is.

    metrics = Metrics("sensorhub")
    metrics.counter("readings_stored", "Readings that are durable", lambda: intake.stored)
    metrics.counter("refused", "Messages that were no readings, by reason", refused.counts, label="reason")
    metrics.gauge("waiting", "Readings that wait for the store", lambda: intake.waiting)
    add_routes(app, metrics, health)          # GET /metrics and /healthz

Values are read when somebody asks. Names are `sisock_<face>_<name>`, counters end in `_total`, as Prometheus wants it; beside
them stand the memory and the processor's time of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sisock.http import reply

if TYPE_CHECKING:
    from klein import Klein

# One value, or one for each value of a label.
Read = Callable[[], float | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Health:
    """How a face is: `problem` says in a sentence what is wrong, None for nothing; `more` is told beside it."""

    problem: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class Metrics:
    """The metrics of one face."""

    def __init__(self, face: str) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._prefix = f"sisock_{face}_"
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def counter(self, name: str, text: str, read: Read, *, label: str | None = None) -> None:
        """A number that only grows while the process lives; with a `label`, one for each of its values."""
        self._registry.register(_Collector("counter", self._prefix + name, text, read, label))

    def gauge(self, name: str, text: str, read: Read, *, label: str | None = None) -> None:
        """A number that goes up and down."""
        self._registry.register(_Collector("gauge", self._prefix + name, text, read, label))

    def text(self) -> bytes:
        """All of them as Prometheus reads it."""
        from prometheus_client import generate_latest

        written: bytes = generate_latest(self._registry)
        return written


class _Collector:
    """Reads one metric when it is asked for."""

    def __init__(self, kind: str, name: str, text: str, read: Read, label: str | None) -> None:
        self._kind, self._name, self._text, self._read, self._label = kind, name, text, read, label

    def describe(self) -> Iterable[Any]:
        """Its name, so that none is registered twice."""
        return [self._family()]

    def collect(self) -> Iterable[Any]:
        """Its values now."""
        family, values = self._family(), self._read()
        if isinstance(values, Mapping):
            for value, number in values.items():
                family.add_metric([value], number)
        else:
            family.add_metric([], values)
        return [family]

    def _family(self) -> Any:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        made = CounterMetricFamily if self._kind == "counter" else GaugeMetricFamily
        return made(self._name, self._text, labels=[] if self._label is None else [self._label])


def add_routes(app: Klein, metrics: Metrics, health: Callable[[], Health]) -> None:
    """Adds `GET /metrics` and `GET /healthz` to a Klein application; the latter is 503 where something is wrong."""

    def tell_metrics(request: Any) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain; version=0.0.4; charset=utf-8")
        request.setHeader(b"Cache-Control", b"no-store")
        return metrics.text()

    def tell_health(request: Any) -> bytes:
        found = health()
        told = {"status": found.problem or "ok", **found.more}
        return reply(request, told, 200 if found.problem is None else 503)

    app.route("/metrics", methods=["GET"])(tell_metrics)
    app.route("/healthz", methods=["GET"])(tell_health)
