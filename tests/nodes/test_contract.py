"""The built-in nodes keep the contract that every node is held to."""

from __future__ import annotations

import pytest

from sisock.nodes.sensors import Sensors
from sisock.nodes.weather import Weather, sample
from sisock.testing import NodeContract


class TestWeather(NodeContract):
    node = Weather

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        sample.ensure(tmp_path / "weather")
        monkeypatch.setenv("SISOCK_WEATHER_DIR", str(tmp_path / "weather"))


class TestSensors(NodeContract):
    node = Sensors
