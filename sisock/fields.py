"""Fields and timelines: what a node says it has, and its form on the wire (contract A6)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sisock.errors import InvalidArgument, shown
from sisock.times import is_seconds
from sisock.uris import check_field_name

FieldType = Literal["number", "string", "bool"]
TYPES: tuple[FieldType, ...] = ("number", "string", "bool")

DEFAULT_TIMELINE = "t"

# Labels that a node may give a field, and the characters that each may have.
MAX_LABELS = 16
MAX_LABEL = 255
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
# What the bridge says of a field by itself.
_TAKEN = frozenset({"node", "field"})


@dataclass(frozen=True, slots=True)
class Field:
    """One quantity of a node: a column of values on a timeline.

    `units` is a label for people ("degC", "m/s"); `timeline` names the times its values stand at, and fields that are
    sampled together share one. By its `labels` ({"chip": "coretemp"}) a query finds it among fields that are alike.
    """

    description: str | None = None
    units: str | None = None
    type: FieldType = "number"
    timeline: str = DEFAULT_TIMELINE
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise InvalidArgument(f"a field's type is one of {', '.join(TYPES)}, not {shown(self.type)}")
        check_field_name(self.timeline, "timeline")
        for label in (self.description, self.units):
            if label is not None and not isinstance(label, str):
                raise InvalidArgument(f"a field's units and description are text or None, not {shown(label)}")
        _check_labels(self.labels)

    def to_wire(self) -> dict[str, Any]:
        """The field as get_fields answers it."""
        wire = {"description": self.description, "timeline": self.timeline, "type": self.type, "units": self.units}
        # Old readers know nothing of labels, so that a field without any is as it always was.
        return wire | {"labels": dict(self.labels)} if self.labels else wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Field:
        """The field that a node answered."""
        kind, timeline = wire.get("type", "number"), wire.get("timeline", DEFAULT_TIMELINE)
        return cls(wire.get("description"), wire.get("units"), kind, timeline, wire.get("labels") or {})


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, Mapping) or len(labels) > MAX_LABELS:
        raise InvalidArgument(f"a field's labels are a dict of at most {MAX_LABELS}, not {shown(labels)}")
    for name, value in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or len(name) > MAX_LABEL or name in _TAKEN:
            raise InvalidArgument(
                f"{shown(name)} is no name of a label: letters, digits and _, none of them `node`, `field` or begun with __"
            )
        if not isinstance(value, str) or len(value) > MAX_LABEL:
            raise InvalidArgument(f"the label {name} is text of at most {MAX_LABEL} characters, not {shown(value)}")


@dataclass(frozen=True, slots=True)
class Timeline:
    """The times that some fields share.

    `interval` is the usual spacing in seconds, None where there is none. `lateness` is how long after the newest row
    an older one may still come, in seconds: rows before `newest - lateness` are final.
    """

    interval: float | None = None
    lateness: float = 0.0

    def __post_init__(self) -> None:
        if self.interval is not None and not is_seconds(self.interval):
            raise InvalidArgument(f"a timeline's interval is a number of seconds or None, not {shown(self.interval)}")
        if not is_seconds(self.lateness) or self.lateness < 0:
            raise InvalidArgument(f"a timeline's lateness is a number of seconds, 0 or more, not {shown(self.lateness)}")


@dataclass(frozen=True)
class Catalogue:
    """All that a node offers: its fields and their timelines."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    timelines: Mapping[str, Timeline] = field(default_factory=dict)

    def only(self, names: Iterable[str]) -> Catalogue:
        """The catalogue of these fields and the timelines they stand on."""
        chosen = {name: self.fields[name] for name in names}
        used = {spec.timeline for spec in chosen.values()}
        return replace(self, fields=chosen, timelines={name: t for name, t in self.timelines.items() if name in used})

    def timeline(self, name: str) -> Timeline:
        """A timeline by its name; the default one if nothing was said of it."""
        return self.timelines.get(name, Timeline())

    def to_wire(self) -> list[dict[str, Any]]:
        """The one value that get_fields answers: [fields, timelines]."""
        members: dict[str, list[str]] = {}
        for name, spec in self.fields.items():
            members.setdefault(spec.timeline, []).append(name)
        return [
            {name: spec.to_wire() for name, spec in self.fields.items()},
            {name: {"interval": _float(self.timeline(name).interval), "field": names} for name, names in members.items()},
        ]

    @classmethod
    def from_wire(cls, wire: Any) -> Catalogue:
        """The catalogue that a node answered; InvalidArgument where it is none."""
        try:
            fields, timelines = wire
            return cls(
                {str(name): Field.from_wire(spec) for name, spec in fields.items()},
                {str(name): Timeline(_known(spec.get("interval"))) for name, spec in timelines.items()},
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidArgument(f"the node's answer to get_fields is not [fields, timelines]: {error}") from error


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _known(interval: Any) -> Any:
    """The interval that a node told; NaN and infinity, as the spacing of no rows, are none."""
    return None if isinstance(interval, float) and not math.isfinite(interval) else interval
