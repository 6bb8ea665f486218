"""The wire: answers as Prometheus writes them. Values are texts, times numbers, and NaN and the infinities have names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

from sisock.errors import TooMuch
from sisock.grafana_bridge.prom.names import Labels
from sisock.grafana_bridge.prom.values import Floats, Scalar, Text, Times, Value, Vector
from sisock.times import MICROS

# Points of one answer: 30 MB.
MAX_POINTS = 1_000_000

_NAMED = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


def number(value: float) -> str:
    """A value as text: the shortest that reads back as the same, with an exponent only where it is very small or large."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    if "e" in text:
        return text if abs(value) < 1e-6 or abs(value) >= 1e21 else format(Decimal(text), "f")
    return _NAMED.get(text, text)


def time(micros: int) -> str:
    """A time in seconds."""
    seconds, rest = divmod(micros, MICROS)
    return str(seconds) if not rest else repr(micros / MICROS)


def success(data: bytes, warnings: Sequence[str] = ()) -> bytes:
    """The body of an answer; `data` is JSON already."""
    more = b',"warnings":' + dumps(list(warnings)) if warnings else b""
    return b'{"status":"success","data":' + data + more + b"}"


def failure(kind: str, message: str) -> bytes:
    """The body of an error."""
    return dumps({"status": "error", "errorType": kind, "error": message})


def dumps(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def instant(value: Value, at: int) -> bytes:
    """The result of a query at one time."""
    moment = time(at)
    if isinstance(value, Text):
        return f'{{"resultType":"string","result":[{moment},{json.dumps(value.text)}]}}'.encode()
    if isinstance(value, Scalar):
        return f'{{"resultType":"scalar","result":[{moment},"{number(float(value.values[0]))}"]}}'.encode()
    order = range(len(value.labels)) if value.ranked else _in_order(value.labels)
    shown = [
        f'{{"metric":{_metric(value.labels[row])},"value":[{moment},"{number(float(value.values[row, 0]))}"]}}'
        for row in order
        if value.there[row, 0]
    ]
    return f'{{"resultType":"vector","result":[{",".join(shown)}]}}'.encode()


def matrix(value: Value, steps: Times) -> bytes:
    """The result of a query at several times; a scalar is a series without labels."""
    if isinstance(value, Scalar):
        value = Vector([()], value.values[None, :], np.ones((1, len(steps)), np.bool_))
    if isinstance(value, Text):
        value = Vector.empty(len(steps))
    points = int(value.there.sum())
    if points > MAX_POINTS:
        raise TooMuch(f"an answer may hold {MAX_POINTS} points, and these are {points}. Ask for fewer series or a longer step.")
    moments = np.array(_times(steps), object)
    shown = []
    for row in _in_order(value.labels):
        there = value.there[row]
        if there.any():
            shown.append(_series(value.labels[row], moments[there].tolist(), value.values[row][there]))
    return _matrix(shown)


def ranges(found: Iterable[tuple[Labels, Times, Floats]]) -> bytes:
    """The result of an instant query of a range: the samples themselves."""
    return _matrix([_series(labels, _times(t), values) for labels, t, values in sorted(found, key=lambda one: one[0])])


def _matrix(series: Sequence[bytes]) -> bytes:
    return b'{"resultType":"matrix","result":[' + b",".join(series) + b"]}"


def _series(labels: Labels, moments: Sequence[bytes], values: Floats) -> bytes:
    pairs = b'"],['.join(map(b',"'.join, zip(moments, _numbers(values), strict=True)))
    return b'{"metric":' + _metric(labels).encode() + b',"values":[[' + pairs + b'"]]}'


def _times(t: Times) -> list[bytes]:
    if (t % MICROS).any():
        return [time(at).encode() for at in t.tolist()]
    return orjson.dumps(t // MICROS, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(t) else []


def _numbers(values: Floats) -> list[bytes]:
    """Values as texts. All of them at once are written ten times as fast, and mostly are as they should be."""
    listed = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","
    if b"e" in listed or b"n" in listed:
        return [number(value).encode() for value in values.tolist()]
    return listed.replace(b".0,", b",")[:-1].split(b",") if len(values) else []


def _metric(labels: Labels) -> str:
    return json.dumps(dict(labels), separators=(",", ":"))


def _in_order(labels: Sequence[Labels]) -> list[int]:
    return sorted(range(len(labels)), key=labels.__getitem__)
