"""Preparing: a source's shapes into a sample, block by block, seen by nobody before all of them are there.

While one block is sealed by the store's thread, the next is collected; so many blocks wait as the store's queue takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from sisock.errors import InvalidArgument
from sisock.nodes.geom.keeping import Plan, Sample, Samples, block_of, names_of
from sisock.nodes.geom.shapes import TYPES, Shapes, Source, Task
from sisock.positions import Position

# Frames of a block: it is sealed as one chunk, as the store does with blocks of that length.
TOGETHER = 8192
# Values of all devices that are collected together; wide collections come in shorter blocks.
MOST_VALUES = 2_000_000
# Blocks of a device that may wait to be sealed.
AHEAD = 2
MAX_GEOMS = 20_000


@dataclass
class Summary:
    """What was prepared, and what took how long. Of the `values`, `drawn` are in a picture, others are null.

    `seconds` are of the clock; the parts are of the thread that works on them.
    """

    sample: int = 0
    frames: int = 0
    devices: int = 0
    geoms: int = 0
    pairs: int = 0
    values: int = 0
    drawn: int = 0
    seconds: float = 0.0
    collecting: float = 0.0
    encoding: float = 0.0
    waiting: float = 0.0

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0


def prepare(
    samples: Samples,
    environment: str,
    source: Source,
    name: str,
    task: Task,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> Summary:
    """Prepares a sample; `told` hears how many frames are done. Whatever stops it, nothing of it stays.

    InvalidArgument, or what the source raises, says what is wrong with the inputs.
    """
    samples.sweep()
    begun = time.perf_counter()
    frames = task.frames
    if not frames.count:
        raise InvalidArgument("the end lies before the start, so there are no frames")
    shapes = source(task)
    _check(shapes)
    widths, heights = zip(*shapes.sizes.values(), strict=True)
    plan = Plan(
        environment_id=environment,
        start=frames.start,
        end=frames.end,
        frames_per_second=frames.per_second,
        num_frames=frames.count,
        size=(max(widths), max(heights)),
        source_type=name,
        devices=list(shapes.sizes),
        about={"source_name": task.folder.resolve().name, **shapes.about},
    )
    sample = samples.begin(plan)
    try:
        summary = _fill(samples, sample, shapes, task, told)
        if not summary.drawn:
            raise InvalidArgument(
                "no shape is in any camera's picture. Do the device_ids of the inputs match those of the cameras "
                f"({', '.join(list(shapes.sizes)[:8])})?"
            )
        samples.finish(sample)
    except BaseException:
        # Also Ctrl-C: what is begun is taken away before the program ends.
        samples.forget(sample.id)
        raise
    summary.seconds = time.perf_counter() - begun
    return summary


def _check(shapes: Shapes) -> None:
    if not shapes.sizes:
        raise InvalidArgument("the source has no camera")
    if not shapes.geoms:
        raise InvalidArgument("the source found nothing to draw between these times")
    if len(shapes.geoms) > MAX_GEOMS:
        raise InvalidArgument(
            f"the source found {len(shapes.geoms)} geoms; a sample takes {MAX_GEOMS}. Prepare a shorter time."
        )
    if len({geom.uuid for geom in shapes.geoms}) != len(shapes.geoms):
        raise InvalidArgument("two geoms of the source have the same uuid")
    for geom in shapes.geoms:
        if geom.type not in TYPES or not geom.indices:
            raise InvalidArgument(f"a geom is one of {', '.join(TYPES)} and has indices; {geom.uuid} is {geom.type}")
        if not all(0 <= index < shapes.indices for index in geom.indices):
            raise InvalidArgument(f"the geom {geom.uuid} names an index that its collection does not have")


def _fill(samples: Samples, sample: Sample, shapes: Shapes, task: Task, told: Callable[[int, int], None]) -> Summary:
    frames = task.frames
    kept = samples.add(sample, shapes.geoms)
    names = names_of(kept, shapes.indices)
    history = samples.store.node(sample.history)
    summary = Summary(sample.id, frames.count, len(shapes.sizes), len(kept))
    summary.pairs = frames.count * len(shapes.sizes) * sum(len(one.points) for one in kept)
    together = max(256, min(TOGETHER, MOST_VALUES // (2 * shapes.indices * len(shapes.sizes)) // 256 * 256))
    waiting: deque[Future[Position]] = deque()
    done = renewed = 0.0
    for low in range(0, frames.count, together):
        high = min(low + together, frames.count)
        before = time.perf_counter()
        collected: Mapping[str, Any] = shapes.collect(low, high)
        summary.collecting += time.perf_counter() - before
        times = frames.times(low, high)
        for device, pixels in collected.items():
            if pixels.shape != (high - low, shapes.indices, 2):
                raise InvalidArgument(f"the source answered {pixels.shape} for {device}, not {(high - low, shapes.indices, 2)}")
            before = time.perf_counter()
            block = block_of(times, names, pixels)
            summary.encoding += time.perf_counter() - before
            summary.values += len(block) * len(block.columns)
            summary.drawn += sum(
                len(block) if one.valid is None else int(np.count_nonzero(one.valid)) for one in block.columns.values()
            )
            before = time.perf_counter()
            waiting.append(history.append(device, block))
            while len(waiting) > AHEAD * len(shapes.sizes):
                waiting.popleft().result()
            summary.waiting += time.perf_counter() - before
        done = high
        told(int(done), frames.count)
        if time.monotonic() - renewed > 60:
            renewed = time.monotonic()
            samples.renew(sample)
    before = time.perf_counter()
    while waiting:
        waiting.popleft().result()
    for device in shapes.sizes:
        history.compact(device).result()
    history.release()
    summary.waiting += time.perf_counter() - before
    return summary
