"""Shapes: what a source makes of its inputs, in blocks of frames, so that a day needs no more memory than a minute.

A camera (`device`) has a collection: frames x indices x 2 pixel coordinates. A geom names indices of it; several may name the
same, as a point and its text do, and these coordinates are kept once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from sisock.times import MICROS, Micros

GeomType = Literal["Point2D", "Text2D", "Line2D", "Circle2D"]
TYPES: tuple[GeomType, ...] = ("Point2D", "Text2D", "Line2D", "Circle2D")
Pixels = npt.NDArray[np.float64]

_MILLI = MICROS // 1000


@dataclass(frozen=True, slots=True)
class Geom:
    """A shape that is drawn of the points that its indices name: `attributes` are colour, marker, text and the like."""

    uuid: str
    type: GeomType
    indices: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    object_id: str = ""
    object_type: str = ""
    object_name: str = ""


@dataclass(frozen=True, slots=True)
class Frames:
    """The times of a sample's frames: whole milliseconds from `start` (microseconds) on, `per_second` of them."""

    start: int
    count: int
    per_second: float

    @classmethod
    def between(cls, start: int, end: int, per_second: float) -> Frames:
        """The frames of [start, end), in microseconds."""
        return cls(start, max(0, int(np.ceil((end - start) * per_second / MICROS - 1e-9))), per_second)

    def times(self, low: int, high: int) -> Micros:
        """The times of the frames [low, high), in microseconds."""
        millis = np.rint(np.arange(low, high) * (1000 / self.per_second)).astype(np.int64)
        times: Micros = self.start + millis * _MILLI
        return times

    def nearest(self, t: Micros) -> npt.NDArray[np.int64]:
        """The frame that each of these times is nearest to; it may lie before the first or behind the last."""
        found: npt.NDArray[np.int64] = np.rint((t - self.start) * (self.per_second / MICROS)).astype(np.int64)
        return found

    @property
    def end(self) -> int:
        """The time of the frame that would come behind the last."""
        return int(self.times(self.count, self.count + 1)[0])


@dataclass(frozen=True, slots=True)
class Task:
    """What a source is asked for: the shapes of these frames, of the files in `folder`."""

    folder: Path
    frames: Frames


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a source answers.

    `collect(low, high)` answers each device's collection of the frames [low, high), as (frames, indices, 2) in pixels, NaN
    where there is none. It is called with ascending ranges, each once. `sizes` are the frames' (width, height) by device.
    """

    geoms: Sequence[Geom]
    sizes: Mapping[str, tuple[int, int]]
    indices: int
    collect: Callable[[int, int], Mapping[str, Pixels]]
    about: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """One function from inputs to shapes. Installed under the entry point `sisock.geoms`, its name is its `--source`."""

    def __call__(self, task: Task) -> Shapes:
        """The shapes of a task; InputError says which file lacks what."""
