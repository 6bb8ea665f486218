"""A believable day that never was: a room, cameras in its corners, people who walk and trays that they carry.

Where everybody is is a function of the time, so that any part of a day can be made, in blocks, and always the same for a seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.nodes.geom.camera import Camera, cameras
from sisock.nodes.geom.shapes import Frames
from sisock.nodes.geom.sources.files import ENDINGS
from sisock.nodes.geom.sources.pose import KEYPOINTS
from sisock.times import MICROS, Micros

Floats = npt.NDArray[np.float64]

ROOM = (12.0, 9.0, 3.0)
SIZE = (1296, 972)
# What the file of each source's rows is called.
INPUTS = {"cuwb": "positions", "pose": "keypoints", "detection": "boxes"}
# Seconds that are made together.
TOGETHER = 600
NAMES = (
    *("Ada", "Ben", "Caro", "Dov", "Ela", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Lea", "Max", "Nora", "Ole", "Pia"),
    *("Quin", "Rosa", "Sam", "Tess", "Udo", "Vera", "Wim", "Xena", "Yara", "Zeno"),
)
# Where a person's key points are: to the side, ahead and up, in metres.
_BODY: dict[str, tuple[float, float, float]] = {
    "nose": (0, 0.10, 1.62),
    **{f"{side}_{part}": (sign * at[0], at[1], at[2]) for side, sign in (("left", -1), ("right", 1)) for part, at in {
        "eye": (0.03, 0.09, 1.65), "ear": (0.08, 0.0, 1.64), "shoulder": (0.19, 0.0, 1.42), "elbow": (0.24, 0.02, 1.14),
        "wrist": (0.25, 0.12, 0.90), "hip": (0.11, 0.0, 0.92), "knee": (0.11, 0.03, 0.50), "ankle": (0.11, 0.0, 0.09),
    }.items()},
}  # fmt: skip
_TRAY = (0.25, 0.18, 0.03)


@dataclass(frozen=True, slots=True)
class Mover:
    """A person, or a tray: `id`, kind and name."""

    id: str
    type: str
    name: str


class Room:
    """The room with all that moves in it."""

    def __init__(self, people: int, trays: int, count: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self.people = [Mover(f"tag-{n:03d}", "person", _name(n)) for n in range(people)]
        self.trays = [Mover(f"tray-{n:03d}", "tray", f"Tray {n + 1}") for n in range(trays)]
        self.cameras = _cameras(count)
        # Each way is a sum of waves, over a clock that goes slower and faster and now and then almost stands.
        self._rates = chance.uniform(0.02, 0.11, (people, 2, 4)) * 2 * np.pi / np.array([1.0, 2.3, 4.1, 7.9])
        self._phases = chance.uniform(0, 2 * np.pi, (people, 2, 4))
        self._weights = chance.dirichlet((3.0, 2.0, 1.0, 1.0), (people, 2)) * 0.46
        self._pauses = chance.uniform(20, 90, people)
        self._shelves = chance.uniform((0.5, 0.5), (ROOM[0] - 0.5, 1.2), (trays, 2))
        self._bearers = chance.integers(0, max(people, 1), trays)
        self._turns = chance.uniform(120, 600, trays)

    def person(self, number: int, seconds: Floats) -> Floats:
        """Where a person stands, (times, 2) in metres."""
        pause = self._pauses[number]
        own = seconds + pause / (2 * np.pi) * 0.97 * np.sin(2 * np.pi * seconds / pause)
        waves = np.sin(own[:, None, None] * self._rates[number] + self._phases[number]) * self._weights[number]
        place: Floats = (0.5 + waves.sum(axis=2)) * np.array(ROOM[:2])
        return place

    def tray(self, number: int, seconds: Floats) -> Floats:
        """Where a tray is: on its shelf, or with who carries it, (times, 3)."""
        shelf = np.append(self._shelves[number], 0.8)
        if not self.people:
            return np.broadcast_to(shelf, (len(seconds), 3)).copy()
        carried = 1 / (1 + np.exp(-8 * np.sin(2 * np.pi * seconds / self._turns[number])))
        bearer = np.column_stack([self.person(int(self._bearers[number]), seconds), np.full(len(seconds), 1.0)])
        place: Floats = shelf + carried[:, None] * (bearer - shelf)
        return place

    def place(self, mover: Mover, seconds: Floats) -> Floats:
        """Where the tag of a person or a tray is, (times, 3)."""
        if mover.type == "tray":
            return self.tray(self.trays.index(mover), seconds)
        at = self.person(self.people.index(mover), seconds)
        return np.column_stack([at, 1.1 + 0.03 * np.sin(11 * seconds)])

    def body(self, number: int, seconds: Floats) -> Floats:
        """A person's key points, (times, points, 3)."""
        at = self.person(number, seconds)
        ahead = self.person(number, seconds + 0.2) - at
        turn = np.arctan2(ahead[:, 1], ahead[:, 0]) - np.pi / 2
        swing = 0.25 * np.sin(6 * seconds) * np.minimum(1, np.hypot(*ahead.T) / 0.2)
        points = np.repeat(np.array([_BODY[name] for name in KEYPOINTS])[None], len(seconds), axis=0)
        for name, sign in (("left_wrist", 1), ("right_wrist", -1), ("left_ankle", -1), ("right_ankle", 1)):
            points[:, KEYPOINTS.index(name), 1] += sign * swing
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        x, y = points[..., 0] * cos - points[..., 1] * sin, points[..., 0] * sin + points[..., 1] * cos
        return np.stack([x + at[:, :1], y + at[:, 1:], points[..., 2]], axis=-1)


def _name(number: int) -> str:
    again, which = divmod(number, len(NAMES))
    return NAMES[which] + (f" {again + 1}" if again else "")


def _cameras(count: int) -> list[Camera]:
    return cameras([_camera(number, count) for number in range(count)]) if count else []


def _camera(number: int, count: int) -> dict[str, Any]:
    """A camera under the ceiling, which looks at the middle of the room."""
    corners = ((0.1, 0.1), (ROOM[0] - 0.1, ROOM[1] - 0.1), (ROOM[0] - 0.1, 0.1), (0.1, ROOM[1] - 0.1))
    x, y = corners[number % 4] if number < 4 else (ROOM[0] * (number - 3) / (count - 2), 0.1)
    at = np.array([x, y, ROOM[2] - 0.2])
    ahead = np.array([ROOM[0] / 2, ROOM[1] / 2, 0.8]) - at
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    matrix = np.stack([right, np.cross(ahead, right), ahead])
    return {
        "device_id": f"camera-{number + 1}",
        "name": f"Camera {number + 1}",
        "camera_matrix": [[760.0, 0, SIZE[0] / 2], [0, 760.0, SIZE[1] / 2], [0, 0, 1]],
        "dist_coeffs": [-0.28, 0.09, 0.0006, -0.0004, -0.012],
        "rvec": rotation_vector(matrix).tolist(),
        "tvec": (-matrix @ at).tolist(),
        "width": SIZE[0],
        "height": SIZE[1],
    }


def rotation_vector(matrix: Floats) -> Floats:
    """The rotation vector of a matrix: axis times angle."""
    angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    length = np.linalg.norm(axis)
    if length < 1e-9:
        # No turn, or half of one, about the column of M + 1 that is longest.
        both = matrix + np.eye(3)
        longest = both[:, np.linalg.norm(both, axis=0).argmax()]
        axis, length = longest, np.linalg.norm(longest)
    vector: Floats = axis / length * angle
    return vector


@dataclass(frozen=True, slots=True)
class Day:
    """What is made: from `start` on, in microseconds, so many seconds; tags report `rate` times a second."""

    room: Room
    start: int
    seconds: float
    rate: float = 5.0
    frames_per_second: float = 10.0
    seed: int = 0

    @property
    def spans(self) -> Iterator[tuple[float, float]]:
        """Its parts, in seconds from its start."""
        at = 0.0
        while at < self.seconds:
            yield at, min(at + TOGETHER, self.seconds)
            at += TOGETHER


def write(day: Day, folder: Path, source: str, ending: str, told: Callable[[float], None] = lambda _: None) -> tuple[Path, int]:
    """Writes the files of a source, over those that were; answers where its rows are, and how many.

    `told` hears how many seconds of the day are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    room = day.room
    listed = [
        {
            "device_id": one.device_id,
            "name": one.name,
            "camera_matrix": one.camera_matrix.tolist(),
            "dist_coeffs": one.dist_coeffs[:5].tolist(),
            "rvec": one.rvec.tolist(),
            "tvec": one.tvec.tolist(),
            "width": one.width,
            "height": one.height,
        }
        for one in room.cameras
    ]
    for name in ("cameras", "objects"):
        _only(folder, name, ".json")
    (folder / "cameras.json").write_text(json.dumps(listed, indent=1) + "\n")
    objects = [{"object_id": one.id, "object_type": one.type, "object_name": one.name} for one in [*room.people, *room.trays]]
    (folder / "objects.json").write_text(json.dumps(objects, indent=1) + "\n")
    name = INPUTS[source]
    make = {"cuwb": _positions, "pose": _keypoints, "detection": _boxes}[source]
    rows = 0
    part = folder / f"{name}.part"
    with _Writer(part, ending) as writer:
        for low, high in day.spans:
            rows += writer.write(make(day, low, high))
            told(high)
    _only(folder, name, "")
    return part.rename(folder / (name + ending)), rows


def _only(folder: Path, name: str, ending: str) -> None:
    """Takes away files of before, which would be a second one of the name."""
    for other in ENDINGS:
        if other != ending:
            (folder / (name + other)).unlink(missing_ok=True)


def _positions(day: Day, low: float, high: float) -> dict[str, Any]:
    movers = [*day.room.people, *day.room.trays]
    chance = np.random.default_rng((day.seed, round(low)))
    t, who, at = [], [], []
    step = 1 / day.rate
    for number, mover in enumerate(movers):
        grid = np.arange(low, high - step / 2, step)
        grid += step * chance.uniform(0.05, 0.9, len(grid))
        # Now and then a report is lost.
        grid = grid[chance.random(len(grid)) > 0.02]
        t.append(grid)
        who.append(np.full(len(grid), number))
        at.append(day.room.place(mover, grid) + chance.normal(0, 0.02, (len(grid), 3)))
    seconds, whose, place = np.concatenate(t), np.concatenate(who), np.concatenate(at)
    order = np.argsort(seconds, kind="stable")
    ids = np.array([mover.id for mover in movers], object)
    x, y, z = np.round(place[order], 4).T
    return {"timestamp": _stamps(day, seconds[order]), "object_id": (ids, whose[order]), "x": x, "y": y, "z": z}


def _stamps(day: Day, seconds: Floats) -> Micros:
    stamps: Micros = day.start + np.rint(seconds * MICROS).astype(np.int64)
    return stamps


def _frames(day: Day, low: float, high: float) -> tuple[Micros, Floats]:
    frames = Frames.between(day.start, day.start + round(day.seconds * MICROS), day.frames_per_second)
    first, last = (int(np.ceil(one * day.frames_per_second - 1e-9)) for one in (low, high))
    times = frames.times(first, min(last, frames.count))
    return times, (times - day.start) / MICROS


def _keypoints(day: Day, low: float, high: float) -> dict[str, Any]:
    times, seconds = _frames(day, low, high)
    room = day.room
    frame, who, camera, point, found = [], [], [], [], []
    for number in range(len(room.people)):
        body = room.body(number, seconds)
        for which, view in enumerate(room.cameras):
            seen = view.seen(body)
            rows, points = np.nonzero(~np.isnan(seen[..., 0]))
            frame.append(rows)
            who.append(np.full(len(rows), number))
            camera.append(np.full(len(rows), which))
            point.append(points)
            found.append(seen[rows, points])
    return _table(day, times, frame, who, camera, found, {"keypoint": (np.array(KEYPOINTS, object), point)}, room.people)


def _boxes(day: Day, low: float, high: float) -> dict[str, Any]:
    times, seconds = _frames(day, low, high)
    room = day.room
    corners = np.stack(np.meshgrid(*[(-one, one) for one in _TRAY], indexing="ij"), axis=-1).reshape(-1, 3)
    frame, who, camera, boxes = [], [], [], []
    for number in range(len(room.trays)):
        place = room.tray(number, seconds)[:, None] + corners
        for which, view in enumerate(room.cameras):
            seen = view.seen(place)
            rows = np.flatnonzero(~np.isnan(seen).any(axis=(1, 2)))
            least, most = seen[rows].min(axis=1), seen[rows].max(axis=1)
            frame.append(rows)
            who.append(np.full(len(rows), number))
            camera.append(np.full(len(rows), which))
            boxes.append(np.column_stack([least, most - least]))
    return _table(day, times, frame, who, camera, boxes, {}, room.trays)


def _table(
    day: Day, times: Micros, frame: Any, who: Any, camera: Any, numbers: Any, more: dict[str, Any], movers: list[Mover]
) -> dict[str, Any]:
    at = np.concatenate(frame) if frame else np.empty(0, np.int64)
    order = np.argsort(at, kind="stable")
    columns: dict[str, Any] = {
        "timestamp": times[at[order]],
        "device_id": (np.array([one.device_id for one in day.room.cameras], object), np.concatenate(camera)[order]),
        "object_id": (np.array([one.id for one in movers], object), np.concatenate(who)[order]),
    }
    for name, (words, codes) in more.items():
        columns[name] = words, np.concatenate(codes)[order]
    pixels = np.round(np.concatenate(numbers)[order], 2).T
    return columns | dict(zip(("x", "y", "width", "height"), pixels, strict=False))


class _Writer:
    """Writes columns to CSV or Parquet; texts are (words, codes)."""

    def __init__(self, path: Path, ending: str) -> None:
        self._path, self._ending, self._writer = path, ending, None

    def __enter__(self) -> _Writer:
        return self

    def write(self, columns: dict[str, Any]) -> int:
        """Writes rows; answers how many."""
        import pyarrow as pa
        from pyarrow import csv, parquet

        arrays = {}
        for name, column in columns.items():
            if name == "timestamp":
                seconds = pa.array(column / MICROS) if self._ending == ".csv" else None
                arrays[name] = pa.array(column, pa.timestamp("us", "UTC")) if seconds is None else seconds
            elif isinstance(column, tuple):
                words, codes = column
                text = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(list(words), pa.string()))
                arrays[name] = text.cast(pa.string())
            else:
                arrays[name] = pa.array(column)
        table = pa.table(arrays)
        writer: Any = self._writer
        if writer is None:
            make: Any = csv.CSVWriter if self._ending == ".csv" else parquet.ParquetWriter
            writer = self._writer = make(str(self._path), table.schema)
        writer.write_table(table)
        return int(table.num_rows)

    def __exit__(self, kind: Any, *_: object) -> None:
        writer: Any = self._writer
        if writer is not None:
            writer.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)
