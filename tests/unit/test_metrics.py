"""What Prometheus reads, and what /healthz says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.threads import deferToThread

from sisock.http import application, listen
from sisock.metrics import Health, Metrics, add_routes


def families(metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}


def test_values_are_read_when_somebody_asks():
    told = {"stored": 1.0, "by": {"a": 1.0}}
    metrics = Metrics("roof")
    metrics.counter("stored", "Rows", lambda: told["stored"])
    metrics.gauge("waiting", 'Rows, by \\ and "quotes"', lambda: told["by"], label="why")
    assert families(metrics)["sisock_roof_stored"].samples[0].value == 1.0
    told["stored"], told["by"] = 5.0, {'a "b"\n': 2.0, "c": float("nan")}
    found = families(metrics)
    assert found["sisock_roof_stored"].type == "counter"
    assert found["sisock_roof_stored"].samples[0].name == "sisock_roof_stored_total"
    assert found["sisock_roof_stored"].samples[0].value == 5.0
    assert {one.labels["why"] for one in found["sisock_roof_waiting"].samples} == {'a "b"\n', "c"}
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6


def test_a_name_stands_for_one_metric():
    metrics = Metrics("roof")
    metrics.gauge("x", "X", lambda: 1)
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.gauge("x", "X", lambda: 2)


def fetch(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read()


@pytest.mark.parametrize(("health", "status"), [(Health(None, {"a": 1}), 200), (Health("the store is away", {"a": 1}), 503)])
@pytest_twisted.ensureDeferred
async def test_whoever_asks_how_it_is_is_told(health, status):
    app = application()
    add_routes(app, Metrics("roof"), lambda: health)
    listening = listen(app, "127.0.0.1", 0)
    try:
        address = f"http://127.0.0.1:{listening.getHost().port}"
        told, kind, body = await deferToThread(fetch, f"{address}/healthz")
        assert (told, json.loads(body)) == (status, {"status": health.problem or "ok", "a": 1})
        told, kind, body = await deferToThread(fetch, f"{address}/metrics")
        assert (told, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert b"process_cpu_seconds_total" in body
    finally:
        await listening.stopListening()
