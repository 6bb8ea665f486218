"""Queries: what Grafana's SimpleJson and JSON data sources ask, and what each of their targets means. Pure functions.

A target is called `node::field`. Variables are put into it as Grafana writes them for patterns: `roof::(air|wind)` are two
targets, and a backslash stands before what has a meaning in patterns. The JSON data source may name the node alone, and the
fields in the payload: {"field": ["air", "wind"]}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice, product
from typing import Any, Literal

from sisock.downsample import METHODS
from sisock.errors import InvalidArgument, SisockError, shown
from sisock.grafana_bridge.filters import Filters
from sisock.grafana_bridge.series import Ask
from sisock.times import parse_duration
from sisock.uris import check_field_name, check_node_name

SEPARATOR = "::"
# What a query of annotations begins with; no node's name can.
NOTE = "#"
MAX_TARGETS = 1000
# Names that one search answers.
MAX_NAMES = 1000

_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_ESCAPED = re.compile(r"\\([\\^$*+?.()|\[\]{}/])")
# Half of a pair of UTF-16: JSON can spell it, and UTF-8 cannot.
_HALF = re.compile("[\ud800-\udfff]")
# (a|b), of whose parentheses none is escaped; of whose bar, says the next. One expression for both would be quadratic.
_CHOICE = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.)*)\)")
_BAR = re.compile(r"(?<!\\)\|")

# On the wire a time that is not positive counts from now; Grafana's never do.
_FIRST = 1e-6
# The longest resolution that is understood: about a century, in seconds.
_LONGEST = 3.2e9

Kind = Literal["timeserie", "table", "frame"]
# What a target's type makes of it; all others are frames.
_KINDS: dict[Any, Kind] = {"timeserie": "timeserie", "timeseries": "timeserie", "table": "table"}
# And what the payload's format does, in the JSON data source's answers.
_FORMATS: dict[Any, Kind] = {None: "frame", "": "frame", "frame": "frame", "table": "table", "time_series": "timeserie"}
FORMATS = ("frame", "table", "time_series")

# A node, a field, and the method by which its rows are made fewer.
Source = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a panel. `error` says why it cannot be asked for; otherwise node and field are named.

    `is_framed` says that it is the JSON data source's, whose answers carry the refId. `note` is a query of annotations
    (`#gaps roof`), which names no field.
    """

    name: str
    kind: Kind = "timeserie"
    ref_id: str | None = None
    node: str = ""
    field: str = ""
    error: SisockError | None = None
    method: str | None = None
    is_framed: bool = False
    note: str | None = None

    @property
    def source(self) -> Source:
        """What is to be read for it."""
        return self.node, self.field, self.method


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request of data: [start, end) in UNIX seconds, the resolution, and the targets in their order."""

    start: float
    end: float
    min_stride: float | None
    max_points: int | None
    targets: tuple[Target, ...]
    filters: Filters = field(default_factory=Filters)

    def asks(self) -> list[Ask]:
        """The calls of get_data that answer it: one a node, and a method."""
        fields: dict[tuple[str, str | None], dict[str, None]] = {}
        for target in self.targets:
            if target.error is None and target.note is None:
                fields.setdefault((target.node, target.method), {})[target.field] = None
        how = self.start, self.end, self.min_stride, self.max_points
        return [Ask(node, tuple(names), *how, method) for (node, method), names in fields.items()]


def parse_search(body: Any) -> str:
    """The text that names are to contain; empty for all of them."""
    target = as_object("the body", body if body is not None else {}).get("target")
    if target is not None and not isinstance(target, str):
        raise InvalidArgument(f"target is text, not {shown(target)}")
    return target or ""


def matching(names: Iterable[str], text: str, most: int = MAX_NAMES) -> list[str]:
    """The first names that contain the text, whatever its case."""
    wanted = text.casefold()
    return list(islice((name for name in names if wanted in name.casefold()), most))


@dataclass(frozen=True, slots=True)
class Annotations:
    """A checked query of annotations in [start, end), UNIX seconds; `annotation` is what Grafana wants to have back."""

    text: str
    start: float
    end: float
    annotation: dict[str, Any]


def parse_annotations(body: Any) -> Annotations:
    """The query of annotations that SimpleJson posted."""
    asked = as_object("the body", body)
    annotation = as_object("annotation", asked.get("annotation"))
    text = annotation.get("query")
    if not isinstance(text, str):
        raise InvalidArgument(f"annotation.query is text, not {shown(text)}")
    return Annotations(text.strip(), *_span(asked), annotation)


def _span(query: Mapping[str, Any]) -> tuple[float, float]:
    span = as_object("range", query.get("range"))
    start, end = moment("range.from", span.get("from")), moment("range.to", span.get("to"))
    if start > end:
        raise InvalidArgument("range.from is after range.to")
    return start, end


def parse_query(body: Any) -> Query:
    """The query that was posted; InvalidArgument names what does not fit. A target that does not fit carries its own error."""
    query = as_object("the body", body)
    start, end = _span(query)
    stride, most = _stride(query), _max_points(query.get("maxDataPoints"))
    targets = query.get("targets")
    if targets is None:
        targets = []
    if not isinstance(targets, list):
        raise InvalidArgument(f"targets is a list, not {shown(targets)}")
    if len(targets) > MAX_TARGETS:
        raise InvalidArgument(f"targets holds {len(targets)}; up to {MAX_TARGETS} are answered at a time")
    filters = Filters.of(query.get("filters"), query.get("adhocFilters"))
    asked = [one for target in targets if not _is_hidden(target) for one in _targets(target)]
    if len(asked) > MAX_TARGETS:
        raise InvalidArgument(f"the targets name {len(asked)} fields; up to {MAX_TARGETS} are answered at a time")
    named = [one for one in asked if one.error is None and one.note is None]
    passing = filters.sources((one.node, one.field) for one in named)
    let = tuple(one for one in asked if one.error or one.note or (one.node, one.field) in passing)
    # A stride takes one row in each and would lose the extremes that max_points keeps.
    return Query(start, end, stride if most is None else None, most, let, filters)


def _is_hidden(target: Any) -> bool:
    return isinstance(target, Mapping) and target.get("hide") is True


def _targets(target: Any) -> list[Target]:
    """What one target of the body asks for: several, where it names several fields."""
    if not isinstance(target, Mapping):
        return [Target("", error=InvalidArgument(f"a target is an object, not {shown(target)}"))]
    name, kind, ref_id = target.get("target"), target.get("type"), target.get("refId")
    simple = _KINDS.get(kind) if isinstance(kind, str) else None
    made = Target(
        name if isinstance(name, str) else "",
        simple or "frame",
        ref_id if isinstance(ref_id, str) else None,
        is_framed=simple is None,
    )
    try:
        if made.ref_id is not None and _HALF.search(made.ref_id):
            raise InvalidArgument(f"a target's refId is text, not {shown(ref_id)}")
        if name in (None, "") and simple is None:
            # A line of the panel in which nothing was chosen yet.
            return []
        if not isinstance(name, str):
            raise InvalidArgument(f"a target's name is text, not {shown(name)}")
        made = _with_payload(made, target.get("payload"))
        if name.lstrip().startswith(NOTE):
            return [replace(made, note=name.strip())]
        return [_named(made, one) for one in _names(name, target.get("payload"))]
    except SisockError as error:
        return [replace(made, error=error)]


def _with_payload(made: Target, payload: Any) -> Target:
    if not made.is_framed or payload in (None, ""):
        return made
    if not isinstance(payload, Mapping):
        raise InvalidArgument(f"a target's payload is an object, not {shown(payload)}")
    form, method = payload.get("format"), payload.get("method")
    if not (form is None or isinstance(form, str)) or form not in _FORMATS:
        raise InvalidArgument(f"the payload's format is one of {', '.join(FORMATS)}, not {shown(form)}")
    if method not in (None, "", *METHODS):
        raise InvalidArgument(f"the payload's method is one of {', '.join(METHODS)}, not {shown(method)}")
    return replace(made, kind=_FORMATS[form], method=method or None)


def _names(name: str, payload: Any) -> list[str]:
    """The names of a target, with the fields that its payload names; InvalidArgument for none."""
    names = spelled_out(name)
    fields = payload.get("field") if isinstance(payload, Mapping) else None
    if fields in (None, "", []):
        return names
    listed = [fields] if isinstance(fields, str) else fields
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise InvalidArgument(f"the payload's field is a name or a list of names, not {shown(fields)}")
    nodes = [one.partition(SEPARATOR)[0] for one in names]
    return [f"{node}{SEPARATOR}{field}" for node in nodes for one in listed for field in spelled_out(one)]


def _named(made: Target, name: str) -> Target:
    made = replace(made, name=name)
    try:
        node, separator, what = name.partition(SEPARATOR)
        if not separator:
            raise InvalidArgument(f"{name!r:.80} names no field: write node{SEPARATOR}field")
        return replace(made, node=check_node_name(node), field=check_field_name(what))
    except SisockError as error:
        return replace(made, error=error)


def spelled_out(text: str) -> list[str]:
    """The texts that a text with variables in it stands for: `(a|b)` is one of them, an escaped dot is one that is meant."""
    if "\\" not in text and not ("(" in text and "|" in text):
        return [text]
    parts: list[list[str]] = []
    at = 0
    for group in _CHOICE.finditer(text):
        if not _BAR.search(group[1]):
            continue
        parts += [[_unescaped(text[at : group.start()])], [_unescaped(one) for one in _BAR.split(group[1])]]
        at = group.end()
    parts.append([_unescaped(text[at:])])
    count = 1
    for part in parts:
        count *= len(part)
    if count > MAX_TARGETS:
        raise InvalidArgument(f"a target stands for {count} names; up to {MAX_TARGETS} are answered at a time")
    return list(dict.fromkeys("".join(chosen) for chosen in product(*parts)))


def written(name: str) -> str:
    """A name as a target is to have it, so that it stands for itself alone."""
    return name if spelled_out(name) == [name] else _SPECIAL.sub(r"\\\g<0>", name)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def moment(what: str, text: Any) -> float:
    """UNIX seconds of a time in ISO 8601, UTC where it names no zone; `what` it is stands in the InvalidArgument."""
    if not isinstance(text, str):
        raise InvalidArgument(f"{what} is a time in ISO 8601, not {shown(text)}")
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidArgument(f"{what} is a time in ISO 8601 such as 2017-07-14T00:00:00.000Z, not {shown(text)}") from None
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), _FIRST)


def _stride(query: Mapping[str, Any]) -> float | None:
    """The resolution in seconds: `interval` as Grafana writes it, or else `intervalMs`."""
    text, millis = query.get("interval"), query.get("intervalMs")
    seconds: float | None = None
    if text is not None:
        if not isinstance(text, str):
            raise InvalidArgument(f"interval is a length of time such as 30s, not {shown(text)}")
        try:
            seconds = parse_duration(text)
        except InvalidArgument:
            seconds = -1.0
        if not 0 <= seconds <= _LONGEST:
            raise InvalidArgument(f"interval is a length of time such as 30s (units ms s m h d), not {shown(text)}")
    if millis is not None:
        if isinstance(millis, bool) or not isinstance(millis, (int, float)) or not 0 <= millis <= _LONGEST * 1000:
            raise InvalidArgument(f"intervalMs is a number of milliseconds, 0 or more, not {shown(millis)}")
        if seconds is None:
            seconds = millis / 1000
    return seconds or None


def _max_points(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
        raise InvalidArgument(f"maxDataPoints is a number, 1 or more, not {shown(value)}")
    return int(min(value, 2**53))


def as_object(what: str, value: Any) -> dict[str, Any]:
    """The value itself, which is a JSON object; InvalidArgument names `what` is none."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} is a JSON object, not {shown(value)}")
    return value
