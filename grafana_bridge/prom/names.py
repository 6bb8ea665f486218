"""Names: the metric and the labels that a node's field has for Prometheus. Pure functions.

A field is the metric of its name, made legal; its labels are the node, those that the node gave the field, and `field`, the
name as it is, only where that is another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sisock.fields import Catalogue, Field
from sisock.times import MICROS

# Name and value of each label, in the order of the names.
Labels = tuple[tuple[str, str], ...]

NAME = "__name__"
# Seconds for which a value stands, if its timeline is not slower.
LOOKBACK = 300.0

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_:]")


@dataclass(frozen=True, slots=True)
class Source:
    """A series: a field of a node, under the labels that it has here. A value stands for `lookback` microseconds."""

    node: str
    field: str
    timeline: str
    labels: Labels
    lookback: int


def metric_name(field: str) -> str:
    """A field's name as a metric can have it: what is not legal there is an underscore."""
    legal = _ILLEGAL.sub("_", field)
    return f"_{legal}" if legal[:1].isdigit() else legal


def labels_of(node: str, name: str, spec: Field) -> dict[str, str]:
    """The labels of a node's field, the metric's name among them."""
    metric = metric_name(name)
    labels = {NAME: metric, "node": node, **spec.labels}
    return labels if metric == name else labels | {"field": name}


def sources(node: str, catalogue: Catalogue) -> Iterator[Source]:
    """The series of a node; texts are none."""
    for name, spec in catalogue.fields.items():
        if spec.type == "string":
            continue
        interval = catalogue.timeline(spec.timeline).interval or 0.0
        lookback = round(max(LOOKBACK, 2 * interval) * MICROS)
        yield Source(node, name, spec.timeline, sorted_labels(labels_of(node, name, spec)), lookback)


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    """Labels in order; an empty one is as good as none."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))
