"""Sensors that are none: they publish readings as real ones do, on a channel, to a stream or over HTTP."""

from __future__ import annotations

import json
import math
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sisock.home import Home
from sisock.nodes.sensorhub.config import Config
from sisock.nodes.sensorhub.source import FORMAT

WAYS = ("channel", "stream", "http")
_KINDS = (("temperature", 21.0, 0.05), ("humidity", 45.0, 0.2), ("pressure", 1013.0, 0.1), ("co2", 600.0, 5.0))


@dataclass
class Sensor:
    """One sensor: a value that wanders about its mean, with the day in it."""

    name: str
    mean: float
    step: float
    chance: random.Random
    _off: float = field(default=0.0, init=False)

    def reading(self, seconds: float) -> dict[str, Any]:
        """What it reports at a time."""
        self._off = 0.99 * self._off + self.chance.gauss(0.0, self.step)
        day = 3 * self.step * math.sin(seconds / 86_400 * 2 * math.pi)
        stamp = datetime.fromtimestamp(seconds, UTC).strftime(FORMAT)
        return {"sensor": self.name, "value": round(self.mean + day + self._off, 3), "timestamp": stamp}


def sensors(count: int, seed: int | None) -> list[Sensor]:
    """So many sensors of several kinds."""
    chance = random.Random(seed)  # noqa: S311  nothing here is secret
    found = []
    for number in range(count):
        kind, mean, step = _KINDS[number % len(_KINDS)]
        room = number // len(_KINDS)
        found.append(Sensor(kind if not room else f"{kind}-{room}", mean, step, chance))
    return found


@click.command()
@click.option("--count", type=click.IntRange(1, 10_000), default=4, show_default=True, help="How many sensors.")
@click.option("--rate", type=click.FloatRange(0.001, 10_000), default=1.0, show_default=True, help="Readings a second, each.")
@click.option("--way", type=click.Choice(WAYS), default="channel", show_default=True, help="How they report.")
@click.option("--redis", "url", help="Where Redis is: redis://host:6379/0.  [as the node in the home has it]")
@click.option("--api", help="Where the API is, for --way http: http://host:5005.  [the site in the home]")
@click.option("--seed", type=int, help="The same values each time.")
@click.option("--seconds", type=click.FloatRange(0), help="Stop after so long.  [at Ctrl-C]")
@click.option("--json", "as_json", is_flag=True, help="Print what was sent as JSON at the end.")
def readings(
    count: int, rate: float, way: str, url: str | None, api: str | None, seed: int | None, seconds: float | None, as_json: bool
) -> None:
    """Let sensors report that are none. Ctrl-C ends it.

    \b
    sisock simulate readings
    sisock simulate readings --way stream --count 20 --rate 10
    """  # noqa: D301
    home = Home.default()
    config = Config.read(home.path)
    here = api is None
    address = api or home.face("sensorhub") or "http://localhost:5005"
    # What is not of this home is known by the machine's own authorities.
    send = _http(address, home.certificate if here else None) if way == "http" else _redis(config, url, way)
    made = sensors(count, seed)
    sent = failed = 0
    begin = time.monotonic()
    try:
        while seconds is None or time.monotonic() - begin < seconds:
            batch = [sensor.reading(time.time()) for sensor in made]
            try:
                send(batch)
                sent += len(batch)
            except OSError as error:
                failed += len(batch)
                click.echo(f"not sent: {error}", err=True)
            if not as_json:
                click.echo(f"\r{sent} readings sent, {failed} not", nl=False)
            time.sleep(max(0.0, begin + (sent + failed) / count / rate - time.monotonic()))
    except KeyboardInterrupt:
        pass
    click.echo(json.dumps({"sent": sent, "failed": failed}) if as_json else "")


def _redis(config: Config, url: str | None, way: str) -> Callable[[list[dict[str, Any]]], None]:
    import redis

    client = redis.Redis.from_url(url or config.redis, socket_connect_timeout=5)
    stream = config.stream or "sensor_readings"

    def send(batch: list[dict[str, Any]]) -> None:
        pipe = client.pipeline(transaction=False)
        for reading in batch:
            if way == "channel":
                pipe.publish(config.channel, json.dumps(reading))
            else:
                pipe.xadd(stream, {name: value for name, value in reading.items()}, maxlen=1_000_000)  # noqa: C416  redis' types are invariant
        try:
            pipe.execute()
        except redis.RedisError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    return send


def _http(api: str, authority: Path | None) -> Callable[[list[dict[str, Any]]], None]:
    context = None
    if api.startswith("https:"):
        known = authority if authority is not None and authority.exists() else None
        context = ssl.create_default_context(cafile=known)

    def send(batch: list[dict[str, Any]]) -> None:
        for reading in batch:
            request = urllib.request.Request(f"{api}/add_rawdata/", json.dumps(reading).encode())  # noqa: S310  what one is given
            with urllib.request.urlopen(request, timeout=10, context=context):  # noqa: S310
                pass

    return send
