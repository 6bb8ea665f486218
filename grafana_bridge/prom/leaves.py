"""Leaves: what a query reads, and the times at which. A plan waits for nodes, so that it holds no arrays of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sisock.grafana_bridge.prom.matching import Selector
from sisock.grafana_bridge.prom.names import Labels
from sisock.grafana_bridge.prom.values import Floats, Times, Value, Vector

# What makes a value when the leaves are filled.
Thunk = Callable[[], Value]


@dataclass(frozen=True, slots=True)
class Grid:
    """The times at which an expression is evaluated, in microseconds, and the ends of the whole query."""

    steps: range
    start: int
    end: int

    @classmethod
    def of(cls, start: int, end: int, step: int) -> Grid:
        """From `start` to `end` in steps; both ends count."""
        return cls(range(start, end + 1, step), start, end)

    @property
    def times(self) -> Times:
        """The times as an array."""
        return times_of(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(slots=True, eq=False)
class Leaf:
    """What a selector reads: at each of these times what `function` makes of the samples in the window before it.

    Without a length a sample stands as long as its timeline lets it. `numbers` are what the function takes besides, and
    `params` these when they are worked out, one a time. What was read is put into `value`, or for a range by itself into
    `ranges`.
    """

    selector: Selector
    at: range
    length: int | None = None
    function: str = "last_over_time"
    numbers: tuple[Thunk, ...] = ()
    params: tuple[Floats, ...] = ()
    stamps: bool = False
    value: Vector | None = None
    ranges: list[tuple[Labels, Times, Floats]] | None = None

    @property
    def times(self) -> Times:
        """The times as an array."""
        return times_of(self.at)

    @property
    def step(self) -> int:
        """How far apart the times are; 1 where there is one only."""
        return self.at.step if len(self.at) > 1 else 1


def times_of(steps: range) -> Times:
    """Times, in microseconds, as an array."""
    return np.arange(steps.start, steps.stop, steps.step, dtype=np.int64)
