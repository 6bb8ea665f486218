"""The data API: nodes, their fields and rows for programs that speak plain HTTP, under `/api`."""

from sisock.grafana_bridge.data.routes import add_routes

__all__ = ["add_routes"]
