"""Metadata: units and descriptions of metrics, and what this server is. Pure functions."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from sisock.grafana_bridge.prom.catalogues import Offered
from sisock.grafana_bridge.prom.names import NAME
from sisock.grafana_bridge.prom.wire import dumps


def told(offered: Iterable[Offered], metric: str = "", limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """What is said of each metric, {"type", "help", "unit"}, once for each way in which nodes say it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in offered:
        for source in one.sources:
            name = dict(source.labels)[NAME]
            if metric and name != metric:
                continue
            if limit is not None and len(found) >= limit and name not in found:
                continue
            spec = one.catalogue.fields[source.field]
            said = {"type": "gauge", "help": spec.description or "", "unit": spec.units or ""}
            if said not in found.setdefault(name, []):
                found[name].append(said)
    return found


def build() -> bytes:
    """What this server is: sisock, whose answers are those of Prometheus 3."""
    return dumps(
        {
            "version": "3.0.0",
            "revision": f"sisock {version('sisock')}",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": f"Python {platform.python_version()}",
        }
    )
