"""The Prometheus HTTP API: nodes as Grafana's bundled data source asks for them, in PromQL."""

from __future__ import annotations

from sisock.grafana_bridge.prom.api import mount

__all__ = ["mount"]
