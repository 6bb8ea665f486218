"""The source `detection`: boxes about what cameras saw, to closed lines.

Files: `boxes` (timestamp, device_id, object_id, x, y, width, height in pixels, x and y of the upper left corner), `cameras`
(device_id, width, height), and, for names and kinds, `objects`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sisock.nodes.geom.shapes import Geom, Shapes, Task
from sisock.nodes.geom.sources.files import Rows, find, numbered, rows_of
from sisock.nodes.geom.sources.grid import Grid, Placed, read_sizes
from sisock.nodes.geom.sources.objects import Thing, things, uuid_of

_SIDES = ("x", "y", "width", "height")
# The corners, as parts of width and height, one after the other around the box.
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))


def detection(task: Task) -> Shapes:
    """The boxes' outlines in each camera."""
    path = find(task.folder, "boxes")
    sizes = read_sizes(find(task.folder, "cameras"))
    known = things(task.folder)
    found = _objects(path, task)
    geoms: list[Geom] = []
    for number, name in enumerate(found):
        one = known.get(name, Thing(name))
        base = 4 * number
        attributes = {"color": one.color, "line_width": 2, "alpha": 1.0}
        indices = (base, base + 1, base + 2, base + 3, base)
        uuid = uuid_of("detection", one.id)
        geoms.append(Geom(uuid, "Line2D", indices, attributes, one.id, one.type, one.name or one.id))
    numbers = numbered(found)

    def placed(rows: Rows) -> Placed:
        number = rows.texts["object_id"].numbers(numbers)
        x, y, width, height = (rows.numbers[side] for side in _SIDES)
        pixels = np.stack([np.stack([x + right * width, y + down * height], axis=1) for right, down in _CORNERS], axis=1)
        index = np.where((number >= 0)[:, None], 4 * number[:, None] + np.arange(4), -1)
        return Placed(np.repeat(np.arange(len(rows)), 4), index.reshape(-1), pixels.reshape(-1, 2))

    rows = rows_of(path, _SIDES, ("device_id", "object_id"))
    grid = Grid(rows, task.frames, list(sizes), 4 * len(found), placed)
    return Shapes(geoms, sizes, 4 * len(found), grid.collect)


def _objects(path: Path, task: Task) -> list[str]:
    found: set[str] = set()
    for rows in rows_of(path, (), ("object_id",)):
        frame = task.frames.nearest(rows.t)
        found.update(rows.texts["object_id"].take((frame >= 0) & (frame < task.frames.count)).distinct())
    return sorted(found)
