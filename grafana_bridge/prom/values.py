"""Values: what an expression has at each step. NaN is a value like others, so what is there says a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sisock.grafana_bridge.prom.errors import CannotEvaluate
from sisock.grafana_bridge.prom.names import NAME, Labels

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]

# Values that one part of a query may hold, of all its series and steps together: 45 MB.
MAX_CELLS = 5_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A number at each step."""

    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text, the same at all steps."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Series at each step: `values` and `there` are arrays of (series, steps).

    `ranked` says that the series are in an order that is to be kept. Of a plain selector `stamps` are the times of the
    samples, in microseconds, where they were asked for.
    """

    labels: Sequence[Labels]
    values: Floats
    there: Bools
    ranked: bool = False
    stamps: Times | None = field(default=None)

    @classmethod
    def empty(cls, steps: int) -> Vector:
        """No series at all."""
        return cls((), np.empty((0, steps)), np.zeros((0, steps), np.bool_))

    @property
    def anywhere(self) -> Bools:
        """The steps at which any series has a value."""
        return np.asarray(self.there.any(axis=0), np.bool_)

    def with_values(self, values: Floats) -> Vector:
        """Other values of the same series, which lose the metric's name."""
        return replace(self, values=values, stamps=None).nameless()

    def nameless(self) -> Vector:
        """The series without the metric's name. Raises CannotEvaluate where two would become one."""
        return replace(self, labels=[without(one, (NAME,)) for one in self.labels]).united()

    def united(self) -> Vector:
        """Series of the same labels as one. Raises CannotEvaluate where two of them have a value at the same step."""
        if len(set(self.labels)) == len(self.labels):
            return self
        places: dict[Labels, list[int]] = {}
        for at, labels in enumerate(self.labels):
            places.setdefault(labels, []).append(at)
        values, there = np.zeros((len(places), self.values.shape[1])), np.zeros((len(places), self.values.shape[1]), np.bool_)
        for row, (labels, rows) in enumerate(places.items()):
            values[row], there[row] = one_of(self, rows, f"two series have the same labels {shown(labels)}")
        return Vector(list(places), values, there, self.ranked)

    def only(self, rows: Sequence[int] | npt.NDArray[np.intp] | Bools) -> Vector:
        """These series."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.intp)
        stamps = None if self.stamps is None else self.stamps[index]
        return Vector([self.labels[at] for at in index.tolist()], self.values[index], self.there[index], self.ranked, stamps)


Value = Scalar | Text | Vector


def one_of(vector: Vector, rows: Sequence[int], trouble: str, where: Bools | None = None) -> tuple[Floats, Bools]:
    """Several series as one; CannotEvaluate where two have a value at the same step (of those that count)."""
    there = vector.there[list(rows)]
    clash = there.sum(axis=0) > 1
    if (clash if where is None else clash & where).any():
        raise CannotEvaluate(trouble)
    picked = there.argmax(axis=0)
    values: Floats = vector.values[list(rows)][picked, np.arange(there.shape[1])]
    return values, np.asarray(there.any(axis=0), np.bool_)


def without(labels: Labels, names: Iterable[str]) -> Labels:
    """The labels but for these."""
    left = set(names)
    return tuple(pair for pair in labels if pair[0] not in left)


def among(labels: Labels, names: Iterable[str]) -> Labels:
    """These of the labels."""
    kept = set(names)
    return tuple(pair for pair in labels if pair[0] in kept)


def shown(labels: Labels) -> str:
    """Labels as PromQL writes them."""
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}"


def check_cells(series: int, steps: int) -> None:
    """Raises CannotEvaluate for more values than a part of a query may hold."""
    if series * steps > MAX_CELLS:
        raise CannotEvaluate(
            f"{series} series at {steps} steps are more than the {MAX_CELLS} values that a query may hold. "
            "Name fewer series, or ask with a longer step."
        )
