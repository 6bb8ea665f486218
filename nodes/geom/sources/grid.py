"""What cameras saw themselves: rows of pixels, each laid to the frame it is nearest to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sisock.nodes.geom.shapes import Frames, Pixels
from sisock.nodes.geom.sources.files import InputError, Rows, numbered, records


@dataclass(frozen=True, slots=True)
class Placed:
    """Points of rows: the row, the index in the collection, and its pixels."""

    row: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.float64]


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Width and height of each camera of a file."""
    found: dict[str, tuple[int, int]] = {}
    for told in records(path):
        try:
            device, size = str(told["device_id"]), (int(told["width"]), int(told["height"]))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: a camera has device_id, width and height") from None
        if device in found or min(size) < 1:
            raise InputError(f"{path}: the camera {device!r:.80} stands there twice, or has no size")
        found[device] = size
    if not found:
        raise InputError(f"{path} names no camera")
    return found


class Grid:
    """Collections of rows that are read once, from the first to the last."""

    def __init__(
        self, rows: Iterator[Rows], frames: Frames, devices: Sequence[str], indices: int, place: Callable[[Rows], Placed]
    ) -> None:
        self._rows, self._frames, self._devices, self._indices, self._place = rows, frames, list(devices), indices, place
        self._waiting: Rows | None = None

    def collect(self, low: int, high: int) -> Mapping[str, Pixels]:
        """Each device's collection of the frames [low, high)."""
        out = {device: np.full((high - low, self._indices, 2), np.nan) for device in self._devices}
        while True:
            rows = self._waiting if self._waiting is not None else next(self._rows, None)
            self._waiting = None
            if rows is None:
                return out
            frame = self._frames.nearest(rows.t)
            now = (frame >= low) & (frame < high)
            self._lay(out, rows.take(now), frame[now] - low)
            later = frame >= high
            if later.any():
                self._waiting = rows.take(later)
                return out

    def _lay(self, out: Mapping[str, Pixels], rows: Rows, frame: npt.NDArray[np.int64]) -> None:
        if not len(rows):
            return
        placed = self._place(rows)
        good = (placed.index >= 0) & np.isfinite(placed.pixels).all(axis=1)
        row, index, pixels = placed.row[good], placed.index[good], placed.pixels[good]
        device = rows.texts["device_id"].numbers(numbered(out))[row]
        for number, collection in enumerate(out.values()):
            mine = device == number
            collection[frame[row[mine]], index[mine]] = pixels[mine]
