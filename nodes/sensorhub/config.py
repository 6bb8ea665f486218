"""What the sensor hub is told: `<home>/sensorhub.toml`, and the environment as the old system names it (contract E4).

redis = "redis://broker:6379/0"       # REDIS_HOST
channel = "sensor_stream"
stream = "sensor_readings"            # none: no stream is read
group = "sisock"

[sensors.temperature]
units = "degC"
description = "In the hall"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sisock.errors import SetupError

_KEYS = {"redis", "channel", "stream", "group", "sensors"}


@dataclass(frozen=True, slots=True)
class Sensor:
    """What is known of a sensor beside its readings."""

    units: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Where readings come from, and what the sensors measure. An empty `channel` or `stream` is not read."""

    redis: str = "redis://localhost:6379/0"
    channel: str = "sensor_stream"
    stream: str = ""
    group: str = "sisock"
    sensors: Mapping[str, Sensor] = field(default_factory=dict)
    # Where the API listens, and where the history is kept, if the old system's environment says so.
    host: str | None = None
    store: str | None = None

    @classmethod
    def read(cls, home: Path, environ: Mapping[str, str] = os.environ) -> Self:
        """The configuration of a home; SetupError says what is wrong with it."""
        path = home / "sensorhub.toml"
        told: dict[str, Any] = {}
        if path.exists():
            try:
                told = tomllib.loads(path.read_text())
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise SetupError(f"{path} cannot be read: {error}") from error
        unknown = sorted(set(told) - _KEYS)
        if unknown:
            raise SetupError(f"{path}: {unknown[0]!r} is not known; there are {', '.join(sorted(_KEYS))}")
        sensors = told.pop("sensors", {})
        for name, value in told.items():
            if not isinstance(value, str):
                raise SetupError(f"{path}: {name} is a text")
        if not isinstance(sensors, dict):
            raise SetupError(f"{path}: sensors are tables: write [sensors.NAME]")
        if environ.get("REDIS_HOST"):
            told.setdefault("redis", f"redis://{_with_port(environ['REDIS_HOST'], 6379)}/0")
        return cls(
            **told,
            sensors={name: _sensor(path, name, one) for name, one in sensors.items()},
            host=environ.get("API_HOST") or None,
            store=_store(environ),
        )


def _sensor(path: Path, name: str, told: Any) -> Sensor:
    if not isinstance(told, dict) or not set(told) <= {"units", "description"}:
        raise SetupError(f"{path}: [sensors.{name}] takes units and description")
    if not all(isinstance(value, str) for value in told.values()):
        raise SetupError(f"{path}: [sensors.{name}]: units and description are texts")
    return Sensor(**told)


def _store(environ: Mapping[str, str]) -> str | None:
    """The old system's PostgreSQL, unless SISOCK_STORE names another database."""
    host = environ.get("DB_HOST")
    if not host or environ.get("SISOCK_STORE"):
        return None
    user, name = environ.get("DB_USER", "postgres"), environ.get("DB_NAME", "postgres")
    password = environ.get("DB_PASSWORD")
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{who}@{_with_port(host, 5432)}/{quote(name, safe='')}"


def _with_port(host: str, port: int) -> str:
    if host.count(":") > 1 and "]" not in host:
        # An address of IPv6, in which no colon is the port's.
        host = f"[{host}]"
    return host if host.rpartition("]")[2].rpartition(":")[1] else f"{host}:{port}"
