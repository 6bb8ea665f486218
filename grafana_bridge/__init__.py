"""The bridge: what speaks HTTP to dashboards. One process, one module a dialect."""

from __future__ import annotations

from sisock.grafana_bridge.bridge import Bridge
from sisock.grafana_bridge.service import create_app

__all__ = ["Bridge", "create_app"]
