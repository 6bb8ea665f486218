"""The SimpleJson dialect: what Grafana's simple-json-datasource asks, and the shape of the answers. Pure functions.

A target is called `node::field`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import numpy as np

from sisock.errors import InvalidArgument, SisockError
from sisock.fields import FieldType
from sisock.grafana_bridge.series import Ask, Result, Series
from sisock.http import error_shape
from sisock.times import Micros, parse_duration
from sisock.uris import check_field_name, check_node_name

SEPARATOR = "::"
MAX_TARGETS = 1000

# On the wire a time that is not positive counts from now; Grafana's never do.
_FIRST = 1e-6
# The longest resolution that is understood: about a century, in seconds.
_LONGEST = 3.2e9

Kind = Literal["timeserie", "table"]
_KINDS: dict[Any, Kind] = {
    None: "timeserie",
    "": "timeserie",
    "timeserie": "timeserie",
    "timeseries": "timeserie",
    "table": "table",
}
_COLUMN_TYPES: dict[FieldType, str] = {"number": "number", "string": "string", "bool": "boolean"}


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a panel. `error` says why it cannot be asked for; otherwise node and field are named."""

    name: str
    kind: Kind = "timeserie"
    ref_id: str | None = None
    node: str = ""
    field: str = ""
    error: SisockError | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request of data: [start, end) in UNIX seconds, the resolution, and the targets in their order."""

    start: float
    end: float
    min_stride: float | None
    max_points: int | None
    targets: tuple[Target, ...]

    def asks(self) -> list[Ask]:
        """The calls of get_data that answer it: one a node."""
        fields: dict[str, dict[str, None]] = {}
        for target in self.targets:
            if target.error is None:
                fields.setdefault(target.node, {})[target.field] = None
        return [
            Ask(node, tuple(names), self.start, self.end, self.min_stride, self.max_points) for node, names in fields.items()
        ]


def parse_search(body: Any) -> str:
    """The text that names are to contain; empty for all of them."""
    target = _object("the body", body if body is not None else {}).get("target")
    if target is not None and not isinstance(target, str):
        raise InvalidArgument(f"target is text, not {_shown(target)}")
    return target or ""


def matching(names: Iterable[str], text: str) -> list[str]:
    """The names that contain the text, whatever its case."""
    wanted = text.casefold()
    return [name for name in names if wanted in name.casefold()]


def parse_query(body: Any) -> Query:
    """The query that was posted; InvalidArgument names what does not fit. A target that does not fit carries its own error."""
    query = _object("the body", body)
    span = _object("range", query.get("range"))
    start, end = _moment("range.from", span.get("from")), _moment("range.to", span.get("to"))
    if start > end:
        raise InvalidArgument("range.from is after range.to")
    stride, most = _stride(query), _max_points(query.get("maxDataPoints"))
    targets = query.get("targets")
    if targets is None:
        targets = []
    if not isinstance(targets, list):
        raise InvalidArgument(f"targets is a list, not {_shown(targets)}")
    if len(targets) > MAX_TARGETS:
        raise InvalidArgument(f"targets holds {len(targets)}; up to {MAX_TARGETS} are answered at a time")
    shown = tuple(_target(target) for target in targets if not (isinstance(target, dict) and target.get("hide") is True))
    # A stride takes one row in each and would lose the extremes that max_points keeps.
    return Query(start, end, stride if most is None else None, most, shown)


def shape(target: Target, result: Result) -> dict[str, Any]:
    """A target's part of the answer."""
    if isinstance(result, SisockError):
        return _error(target, result)
    return _table(target, result) if target.kind == "table" else _timeserie(target, result)


def _timeserie(target: Target, series: Series) -> dict[str, Any]:
    return {"target": target.name, "datapoints": list(zip(series.values, _millis(series.t), strict=True))}


def _table(target: Target, series: Series) -> dict[str, Any]:
    return {
        "type": "table",
        "columns": [{"text": "Time", "type": "time"}, {"text": target.field, "type": _COLUMN_TYPES[series.type]}],
        "rows": list(zip(_millis(series.t), series.values, strict=True)),
    }


def _error(target: Target, error: SisockError) -> dict[str, Any]:
    empty: dict[str, Any] = {"type": "table", "columns": [], "rows": []} if target.kind == "table" else {"datapoints": []}
    answer = {"target": target.name, **empty, **error_shape(error.uri, str(error))}
    return answer if target.ref_id is None else answer | {"refId": target.ref_id}


def _millis(t: Micros) -> list[Any]:
    """UNIX milliseconds, integers where they are whole."""
    whole = t % 1000 == 0
    if whole.all():
        return cast(list[Any], (t // 1000).tolist())
    return [int(ms) if round_ else ms for ms, round_ in zip((t / 1000).tolist(), np.asarray(whole).tolist(), strict=True)]


def _target(target: Any) -> Target:
    if not isinstance(target, dict):
        return Target("", error=InvalidArgument(f"a target is an object, not {_shown(target)}"))
    name, kind, ref_id = target.get("target"), target.get("type"), target.get("refId")
    ref_id = ref_id if isinstance(ref_id, str) else None
    known = kind is None or isinstance(kind, str)
    chosen = _KINDS.get(kind) if known else None
    made = Target(name if isinstance(name, str) else "", chosen or "timeserie", ref_id)
    try:
        if chosen is None:
            raise InvalidArgument(f"a target's type is timeserie or table, not {_shown(kind)}")
        node, field = _source(name)
    except SisockError as error:
        return Target(made.name, made.kind, ref_id, error=error)
    return Target(made.name, made.kind, ref_id, node, field)


def _source(name: Any) -> tuple[str, str]:
    if not isinstance(name, str):
        raise InvalidArgument(f"a target's name is text, not {_shown(name)}")
    node, separator, field = name.partition(SEPARATOR)
    if not separator:
        raise InvalidArgument(f"{name!r:.80} names no field: write node{SEPARATOR}field")
    return check_node_name(node), check_field_name(field)


def _moment(what: str, text: Any) -> float:
    if not isinstance(text, str):
        raise InvalidArgument(f"{what} is a time in ISO 8601, not {_shown(text)}")
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidArgument(f"{what} is a time in ISO 8601 such as 2017-07-14T00:00:00.000Z, not {_shown(text)}") from None
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), _FIRST)


def _stride(query: Mapping[str, Any]) -> float | None:
    """The resolution in seconds: `interval` as Grafana writes it, or else `intervalMs`."""
    text, millis = query.get("interval"), query.get("intervalMs")
    seconds: float | None = None
    if text is not None:
        if not isinstance(text, str):
            raise InvalidArgument(f"interval is a length of time such as 30s, not {_shown(text)}")
        try:
            seconds = parse_duration(text)
        except InvalidArgument:
            seconds = -1.0
        if not 0 <= seconds <= _LONGEST:
            raise InvalidArgument(f"interval is a length of time such as 30s (units ms s m h d), not {_shown(text)}")
    if millis is not None:
        if isinstance(millis, bool) or not isinstance(millis, (int, float)) or not 0 <= millis <= _LONGEST * 1000:
            raise InvalidArgument(f"intervalMs is a number of milliseconds, 0 or more, not {_shown(millis)}")
        if seconds is None:
            seconds = millis / 1000
    return seconds or None


def _max_points(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
        raise InvalidArgument(f"maxDataPoints is a number, 1 or more, not {_shown(value)}")
    return int(min(value, 2**53))


def _object(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} is a JSON object, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
