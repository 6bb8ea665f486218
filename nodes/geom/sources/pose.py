"""The source `pose`: people's key points as cameras saw them, to points and the skeleton's lines.

Files: `keypoints` (timestamp, device_id, object_id, keypoint, x, y in pixels, and perhaps confidence), `cameras` (device_id,
width, height), and, for names, `objects`. The key points are COCO's seventeen, unless a file `skeleton.json` says others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sisock.nodes.geom.shapes import Geom, Shapes, Task
from sisock.nodes.geom.sources.files import InputError, Rows, find, numbered, rows_of
from sisock.nodes.geom.sources.grid import Grid, Placed, read_sizes
from sisock.nodes.geom.sources.objects import Thing, things, uuid_of

# The order and the names are those of the COCO data set's annotations.
KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
LINES = (
    *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip")),
    *(("right_shoulder", "right_hip"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("left_hip", "left_knee")),
    *(("left_knee", "left_ankle"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
)
# Points of which the inference was less sure are left out, where the file has a `confidence`.
MIN_CONFIDENCE = 0.3


def pose(task: Task) -> Shapes:
    """The people's points and lines in each camera."""
    path = find(task.folder, "keypoints")
    sizes = read_sizes(find(task.folder, "cameras"))
    keypoints, lines = _skeleton(task.folder)
    known = things(task.folder)
    found = _people(path, task)
    people = [known.get(one, Thing(one, "person")) for one in found]
    geoms: list[Geom] = []
    place = {name: at for at, name in enumerate(keypoints)}
    for number, person in enumerate(people):
        base = number * len(keypoints)
        told = (person.id, person.type or "person", person.name or person.id)
        for name, at in place.items():
            attributes = {"color": person.color, "marker": "o", "size": 4, "alpha": 1.0, "keypoint": name}
            geoms.append(Geom(uuid_of("pose", person.id, name), "Point2D", (base + at,), attributes, *told))
        for one, other in lines:
            attributes = {"color": person.color, "line_width": 2, "alpha": 1.0}
            ends = (base + place[one], base + place[other])
            geoms.append(Geom(uuid_of("pose", person.id, one, other), "Line2D", ends, attributes, *told))
    # A key point may be told by its name or by its number.
    person_number, point_number = numbered(found), numbered(map(str, range(len(keypoints)))) | place

    def placed(rows: Rows) -> Placed:
        person, point = rows.texts["object_id"].numbers(person_number), rows.texts["keypoint"].numbers(point_number)
        sure = rows.numbers.get("confidence", np.ones(len(rows))) >= MIN_CONFIDENCE
        index = np.where((person >= 0) & (point >= 0) & sure, person * len(keypoints) + point, -1)
        return Placed(np.arange(len(rows)), index, np.stack([rows.numbers["x"], rows.numbers["y"]], axis=1))

    rows = rows_of(path, ("x", "y", "confidence"), ("device_id", "object_id", "keypoint"), ("confidence",))
    grid = Grid(rows, task.frames, list(sizes), len(people) * len(keypoints), placed)
    return Shapes(geoms, sizes, len(people) * len(keypoints), grid.collect)


def _people(path: Path, task: Task) -> list[str]:
    found: set[str] = set()
    for rows in rows_of(path, (), ("object_id",)):
        frame = task.frames.nearest(rows.t)
        found.update(rows.texts["object_id"].take((frame >= 0) & (frame < task.frames.count)).distinct())
    return sorted(found)


def _skeleton(folder: Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    import orjson

    path = folder / "skeleton.json"
    if not path.exists():
        return KEYPOINTS, LINES
    try:
        told = orjson.loads(path.read_bytes())
        keypoints = tuple(str(one) for one in told["keypoints"])
        lines = tuple((str(one), str(other)) for one, other in told["lines"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is {{"keypoints": [names], "lines": [[name, name], ...]}}: {error}') from error
    if not keypoints or len(set(keypoints)) != len(keypoints) or not {one for line in lines for one in line} <= set(keypoints):
        raise InputError(f"{path}: the key points have different names, and lines join them")
    return keypoints, lines
