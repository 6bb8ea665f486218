"""The source `cuwb`: tags in a room, each a point and a text in every camera that sees it.

Files: `positions` (timestamp, object_id, x, y, z in metres, at irregular times), `cameras` and, for names and kinds, `objects`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sisock.errors import InvalidArgument
from sisock.nodes.geom.camera import Camera, cameras
from sisock.nodes.geom.shapes import Frames, Geom, Pixels, Shapes, Task
from sisock.nodes.geom.sources.files import InputError, Rows, find, numbered, records, rows_of
from sisock.nodes.geom.sources.objects import Thing, things, uuid_of
from sisock.times import MICROS

# Seconds between two positions of a tag over which its way is still taken for a straight line.
MAX_GAP = 5.0
_AXES = ("x", "y", "z")


def cuwb(task: Task) -> Shapes:
    """The tags' points and names in each camera."""
    path = find(task.folder, "positions")
    views = read_cameras(find(task.folder, "cameras"))
    known = things(task.folder)
    seen = _tags(path, task.frames)
    tags = [known.get(name, Thing(name)) for name in seen]
    geoms: list[Geom] = []
    for index, tag in enumerate(tags):
        told = (tag.id, tag.type, tag.name or tag.id)
        geoms.append(Geom(uuid_of("cuwb", "Point2D", tag.id), "Point2D", (index,), _point(tag), *told))
        geoms.append(Geom(uuid_of("cuwb", "Text2D", tag.id), "Text2D", (index,), _text(tag), *told))
    track = Track(path, task.frames, seen)

    def collect(low: int, high: int) -> Mapping[str, Pixels]:
        points = track.between(low, high)
        return {view.device_id: view.seen(points) for view in views}

    return Shapes(geoms, {view.device_id: (view.width, view.height) for view in views}, len(tags), collect)


def read_cameras(path: Path) -> list[Camera]:
    """The cameras of a file; InputError says what is wrong with them."""
    try:
        return cameras(records(path))
    except InvalidArgument as error:
        raise InputError(f"{path}: {error}") from error


def _point(tag: Thing) -> dict[str, object]:
    return {"color": tag.color, "marker": "o", "size": 8, "alpha": 1.0}


def _text(tag: Thing) -> dict[str, object]:
    return {"color": tag.color, "text": tag.name or tag.id, "size": 12, "alpha": 1.0}


def _tags(path: Path, frames: Frames) -> list[str]:
    """The tags that have a position between the first frame and the last, by name."""
    found: set[str] = set()
    for rows in rows_of(path, (), ("object_id",)):
        if len(rows) and rows.t[-1] >= frames.start:
            found.update(rows.take((rows.t >= frames.start) & (rows.t < frames.end)).texts["object_id"].distinct())
        if len(rows) and rows.t[0] >= frames.end:
            break
    return sorted(found)


class Track:
    """The tags' positions at the frames' times: on the straight line between the one before and the one after."""

    def __init__(self, path: Path, frames: Frames, tags: list[str], gap: float = MAX_GAP) -> None:
        self._frames, self._tags, self._gap = frames, tags, round(gap * MICROS)
        self._numbers = numbered(tags)
        self._rows: Iterator[Rows] = rows_of(path, _AXES, ("object_id",))
        self._t = np.empty(0, np.int64)
        self._tag = np.empty(0, np.int64)
        self._at = np.empty((0, 3))
        self._ended = False

    def between(self, low: int, high: int) -> npt.NDArray[np.float64]:
        """Positions of the frames [low, high) as (frames, tags, 3), NaN where a tag is not there."""
        times = self._frames.times(low, high)
        self._forget_before(int(times[0]) - self._gap)
        self._read_to(int(times[-1]) + self._gap)
        out = np.full((len(times), len(self._tags), 3), np.nan)
        order = np.argsort(self._tag, kind="stable")
        edges = np.searchsorted(self._tag[order], np.arange(len(self._tags) + 1))
        for tag in range(len(self._tags)):
            mine = order[edges[tag] : edges[tag + 1]]
            if len(mine):
                t, at = self._t[mine], self._at[mine]
                after = np.searchsorted(t, times)
                before = np.maximum(after - (t[np.minimum(after, len(t) - 1)] != times), 0)
                inside = (after < len(t)) & (t[before] <= times)
                near = inside & (t[np.minimum(after, len(t) - 1)] - t[before] <= self._gap)
                for axis in range(3):
                    out[near, tag, axis] = np.interp(times[near], t, at[:, axis])
        return out

    def _forget_before(self, end: int) -> None:
        keep = int(np.searchsorted(self._t, end))
        self._t, self._tag, self._at = self._t[keep:], self._tag[keep:], self._at[keep:]

    def _read_to(self, end: int) -> None:
        parts = [(self._t, self._tag, self._at)]
        start = self._frames.start - self._gap
        while not self._ended and (not len(parts[-1][0]) or parts[-1][0][-1] < end):
            rows = next(self._rows, None)
            if rows is None:
                self._ended = True
                break
            if not len(rows) or rows.t[-1] < start:
                continue
            tag = rows.texts["object_id"].numbers(self._numbers)
            at = np.stack([rows.numbers[axis] for axis in _AXES], axis=1)
            good = (tag >= 0) & np.isfinite(at).all(axis=1)
            if good.any():
                parts.append((rows.t[good], tag[good], at[good]))
            elif rows.t[-1] >= end:
                break
        self._t, self._tag, self._at = (np.concatenate(part) for part in zip(*parts, strict=True))
