"""Operators: between numbers and vectors, by their labels, at all steps at once. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sisock.grafana_bridge.prom.errors import CannotEvaluate
from sisock.grafana_bridge.prom.names import NAME, Labels
from sisock.grafana_bridge.prom.values import Bools, Floats, Scalar, Vector, among, check_cells, one_of, shown, without

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SETS = frozenset({"and", "or", "unless"})
ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, slots=True)
class Matching:
    """How the series of two sides find each other: by these labels (`on`) or by all others.

    `many` is the side of which several series may meet one of the other, which gives them its labels `include`.
    """

    labels: tuple[str, ...] = ()
    on: bool = False
    many: Literal["none", "left", "right"] = "none"
    include: tuple[str, ...] = ()

    def key(self, labels: Labels) -> Labels:
        """What two series must have in common."""
        return among(labels, self.labels) if self.on else without(labels, (*self.labels, NAME))


def calculate(op: str, left: Floats, right: Floats) -> Floats:
    """What an operator makes of numbers; comparisons are 1 and 0."""
    with np.errstate(all="ignore"):
        result: Floats = np.asarray(_OPERATIONS[op](left, right), np.float64)
    return result


def scalars(op: str, left: Scalar, right: Scalar) -> Scalar:
    """An operator between two numbers."""
    return Scalar(calculate(op, left.values, right.values))


def with_scalar(op: str, vector: Vector, scalar: Scalar, *, scalar_first: bool, as_bool: bool) -> Vector:
    """An operator between each series and a number; a comparison keeps what fits, or says 0 and 1."""
    sides = (scalar.values[None, :], vector.values) if scalar_first else (vector.values, scalar.values[None, :])
    result = calculate(op, *sides)
    if op in COMPARISONS and not as_bool:
        return replace(vector, there=vector.there & (result != 0), stamps=None)
    return vector.with_values(np.broadcast_to(result, vector.values.shape))


def sets(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """`and`, `or`, `unless`: what of the sides stays, by whether the other has a series of the same labels."""
    steps = left.values.shape[1]
    if op == "or":
        known = _presence(left, matching)
        nothing = np.zeros(steps, np.bool_)
        hidden = np.array([known.get(matching.key(labels), nothing) for labels in right.labels]).reshape(-1, steps)
        return Vector(
            [*left.labels, *right.labels],
            np.concatenate([left.values, right.values]),
            np.concatenate([left.there, right.there & ~hidden]),
        ).united()
    known = _presence(right, matching)
    nothing = np.zeros(steps, np.bool_)
    met = np.array([known.get(matching.key(labels), nothing) for labels in left.labels], np.bool_).reshape(-1, steps)
    return replace(left, there=left.there & (met if op == "and" else ~met), stamps=None)


def _presence(vector: Vector, matching: Matching) -> dict[Labels, Bools]:
    found: dict[Labels, Bools] = {}
    for labels, there in zip(vector.labels, vector.there, strict=True):
        key = matching.key(labels)
        found[key] = found[key] | there if key in found else there.copy()
    return found


def vectors(op: str, left: Vector, right: Vector, matching: Matching, *, as_bool: bool) -> Vector:
    """An operator between series that find each other by their labels."""
    many, one = (right, left) if matching.many == "right" else (left, right)
    steps = left.values.shape[1]
    ones = _ones(one, matching, many.anywhere)
    keep_name = op in COMPARISONS and not as_bool
    rows: list[tuple[Labels, Floats, Bools]] = []
    found: list[Labels] = []
    for at, labels in enumerate(many.labels):
        for given, values, there in ones.get(matching.key(labels), ()):
            both = many.there[at] & there
            sides = (values, many.values[at]) if matching.many == "right" else (many.values[at], values)
            result = calculate(op, *sides)
            if keep_name:
                both, result = both & (result != 0), sides[0]
            rows.append((labels, result, both))
            found.append(_named(labels, given, matching, keep_name=keep_name))
            check_cells(len(rows), steps)
    if matching.many == "none":
        _check_one_to_one(rows, matching)
    return Vector(
        found,
        np.array([values for _, values, _ in rows]).reshape(-1, steps),
        np.array([there for _, _, there in rows], np.bool_).reshape(-1, steps),
    ).united()


# One series, or what are such at different steps, with the labels that it gives to those that meet it.
_One = tuple[Labels, Floats, Bools]


def _ones(one: Vector, matching: Matching, where: Bools) -> dict[Labels, list[_One]]:
    """What there is of each set of labels, one series at each step. CannotEvaluate where there are several."""
    side = "left" if matching.many == "right" else "right"
    groups: dict[Labels, list[int]] = {}
    for at, labels in enumerate(one.labels):
        groups.setdefault(matching.key(labels), []).append(at)
    return {
        key: [(among(one.labels[rows[0]], matching.include), one.values[rows[0]], one.there[rows[0]])]
        if len(rows) == 1
        else _given(one, rows, matching, _clash(one, rows, side, key), where)
        for key, rows in groups.items()
    }


def _clash(one: Vector, rows: Sequence[int], side: str, key: Labels) -> str:
    return (
        f"several series on the {side} have the labels {shown(key)} by which the sides are matched: "
        f"{shown(one.labels[rows[0]])} and {shown(one.labels[rows[1]])}. Match by more labels, or aggregate that side."
    )


def _given(one: Vector, rows: Sequence[int], matching: Matching, trouble: str, where: Bools) -> list[_One]:
    """Series that are one at each step, those apart that give other labels."""
    values, there = one_of(one, rows, trouble, where)
    giving: dict[Labels, list[int]] = {}
    for row in rows:
        giving.setdefault(among(one.labels[row], matching.include), []).append(row)
    if len(giving) == 1:
        return [(given, values, there) for given in giving]
    return [(given, values, np.asarray(one.there[some].any(axis=0), np.bool_)) for given, some in giving.items()]


def _check_one_to_one(rows: Iterable[tuple[Labels, Floats, Bools]], matching: Matching) -> None:
    seen: dict[Labels, Bools] = {}
    for labels, _, there in rows:
        key = matching.key(labels)
        if key in seen and (seen[key] & there).any():
            raise CannotEvaluate(
                f"several series on the left have the labels {shown(key)} by which the sides are matched. "
                "Say group_left or group_right where many may meet one."
            )
        seen[key] = seen[key] | there if key in seen else there


def _named(labels: Labels, given: Labels, matching: Matching, *, keep_name: bool) -> Labels:
    """The labels of what two series give."""
    kept = labels if keep_name else without(labels, (NAME,))
    if matching.many == "none":
        return among(kept, matching.labels) if matching.on else without(kept, matching.labels)
    return tuple(sorted((*without(kept, matching.include), *given))) if matching.include else kept


def aggregated_labels(labels: Labels, by: Sequence[str], *, drop: bool) -> Labels:
    """The labels that a group keeps: `by` these, or without them and without the metric's name."""
    return without(labels, (*by, NAME)) if drop else among(labels, by)
