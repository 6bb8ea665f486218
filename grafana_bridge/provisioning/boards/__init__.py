"""The ready dashboards: what the built-in nodes measure, the hub's own health, and any node there is; a table each."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.boards.anynode import ANY
from sisock.grafana_bridge.provisioning.boards.geoms import GEOMS
from sisock.grafana_bridge.provisioning.boards.hub import HUB
from sisock.grafana_bridge.provisioning.boards.readings import READINGS
from sisock.grafana_bridge.provisioning.boards.robots import ROBOTS
from sisock.grafana_bridge.provisioning.boards.sensors import SENSORS
from sisock.grafana_bridge.provisioning.boards.sites import SITES
from sisock.grafana_bridge.provisioning.boards.weather import WEATHER
from sisock.grafana_bridge.provisioning.panels import Board

__all__ = ["BOARDS"]

BOARDS: tuple[Board, ...] = (WEATHER, SENSORS, ROBOTS, READINGS, SITES, GEOMS, HUB, ANY)
