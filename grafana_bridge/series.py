"""Series: one field's rows as every dialect needs them, taken from a node's answer to get_data. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sisock.errors import NodeFailed, SisockError, UnknownField
from sisock.fields import Catalogue, FieldType
from sisock.times import LATEST, MICROS, Micros

# What a node may answer in a column.
_VALUES = frozenset({type(None), bool, int, float, str})


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a node's get_data: these fields in [start, end), UNIX seconds, at this resolution."""

    node: str
    fields: tuple[str, ...]
    start: float
    end: float
    min_stride: float | None = None
    max_points: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The rows of one field: `t` in microseconds, values beside it, None where there is a gap."""

    t: Micros
    values: list[Any]
    type: FieldType


Result = Series | SisockError


def lacks_catalogue(ask: Ask, answer: Mapping[str, Any]) -> bool:
    """Whether the answer alone does not tell which times a field's values stand at, or whether there is such a field."""
    data, timelines = _parts(ask, answer)
    return len(timelines) != 1 or not all(data.get(name) for name in ask.fields)


def results(ask: Ask, answer: Mapping[str, Any], catalogue: Catalogue | None = None) -> dict[str, Result]:
    """Each field's series or what is wrong with it alone; the catalogue is needed where `lacks_catalogue` says so."""
    data, timelines = _parts(ask, answer)
    offered = catalogue or Catalogue()
    times: dict[str, Micros] = {}

    def series(name: str) -> Series:
        spec, values = offered.fields.get(name), data.get(name)
        if not values:
            if spec is None:
                raise UnknownField(f"{ask.node} has no field {name!r:.80}")
            return Series(np.empty(0, np.int64), [], spec.type)
        if not isinstance(values, (list, tuple)) or not _VALUES.issuperset(map(type, values)):
            raise NodeFailed(f"{ask.node} answered values of {name!r:.80} that are no list of numbers, texts and booleans")
        timeline = next(iter(timelines)) if len(timelines) == 1 else spec.timeline if spec else None
        if timeline is None or timeline not in timelines:
            raise NodeFailed(f"{ask.node} answered values of {name!r:.80} without their times")
        if timeline not in times:
            times[timeline] = _times(ask, timelines[timeline])
        if len(times[timeline]) != len(values):
            raise NodeFailed(f"{ask.node} answered {len(values)} values of {name!r:.80} at {len(times[timeline])} times")
        return Series(times[timeline], list(values), spec.type if spec else _type(values))

    found: dict[str, Result] = {}
    for name in ask.fields:
        try:
            found[name] = series(name)
        except SisockError as error:
            found[name] = error
    return found


def _parts(ask: Ask, answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    data, timelines = (answer.get("data"), answer.get("timeline")) if isinstance(answer, Mapping) else (None, None)
    if not isinstance(data, Mapping) or not isinstance(timelines, Mapping):
        raise NodeFailed(f"{ask.node} answered something else than {{'data': ..., 'timeline': ...}}")
    return data, timelines


def _times(ask: Ask, timeline: Any) -> Micros:
    try:
        seconds = np.asarray(timeline["t"], dtype=np.float64)
    except (TypeError, ValueError, KeyError, OverflowError):
        seconds = np.full(1, np.nan)
    if seconds.ndim != 1 or not (np.abs(seconds) < LATEST / MICROS).all():
        raise NodeFailed(f"{ask.node} answered times that are no list of UNIX seconds")
    return np.rint(seconds * MICROS).astype(np.int64)


def _type(values: Iterable[Any]) -> FieldType:
    first = next((value for value in values if value is not None), None)
    return "bool" if isinstance(first, bool) else "string" if isinstance(first, str) else "number"
