"""Brings samples of the old database over (contract B4): its tables as CSV, with their numbers.

The file of coordinates is read once, in portions that fit in memory; it is best in the order of time, as a dump of the old
hypertable is, but any order is right. A sample is seen when all of it is there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sisock.blocks import Block, Column
from sisock.nodes.geom.keeping import FARTHEST, SCALE, Plan, Sample, Samples
from sisock.nodes.geom.shapes import TYPES, Geom
from sisock.nodes.geom.sources.files import InputError
from sisock.store.store import NodeHistory
from sisock.times import MICROS

# Rows of coordinates that are read and committed together.
TOGETHER = 100_000
MAX_WRONG = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABOUT = ("source_id", "source_name", "inference_id", "inference_name", "inference_model", "inference_version")


@dataclass
class Brought:
    """What was imported: numbers of samples, rows of coordinates, samples that were there, and lines that were wrong."""

    samples: list[int] = field(default_factory=list)
    there: list[int] = field(default_factory=list)
    rows: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class _Open:
    """A sample on its way."""

    sample: Sample
    history: NodeHistory
    devices: set[str] = field(default_factory=set)


def bring(samples: Samples, folder: Path, told: Callable[[int, int], None] = lambda _done, _all: None) -> Brought:
    """Imports what is finished in a dump; whatever stops it, nothing of it stays. InputError says which file lacks what."""
    samples.sweep()
    brought = Brought()
    size = (folder / "coordinates.csv").stat().st_size if (folder / "coordinates.csv").exists() else 0
    geoms = _geoms(folder / "geoms.csv")
    opened: dict[int, _Open] = {}
    owner: dict[int, int] = {}
    try:
        for row in _rows(folder / "samples.csv", ("id", "start_time", "end_time", "environment_id", "status")):
            number = int(row["id"])
            if row["status"] != "success":
                continue
            if samples.get(number) is not None:
                brought.there.append(number)
                continue
            opened[number] = _begin(samples, row)
        for number, one in opened.items():
            mine = geoms.get(number, [])
            for kept in samples.add(one.sample, [geom for _, geom in mine], [id_ for id_, _ in mine]):
                owner[kept.id] = number
        points = _coordinates(folder / "coordinates.csv", opened, owner, brought, lambda done: told(done, size))
        for number, one in opened.items():
            for device in one.devices:
                one.history.compact(device).result()
            samples.settle(one.sample, sorted(one.devices), {id_: points.get(id_, 0) for id_, _ in geoms.get(number, [])})
            one.history.release()
            samples.finish(one.sample)
            brought.samples.append(number)
    except BaseException:
        for number in opened:
            if number not in brought.samples:
                samples.forget(number)
        raise
    return brought


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            missing = set(needed) - set(lines.fieldnames or ())
            if missing:
                raise InputError(f"{path} has no column {', '.join(sorted(missing))}")
            yield from lines
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _begin(samples: Samples, row: dict[str, str]) -> _Open:
    try:
        start, end = _moment(row["start_time"]), _moment(row["end_time"])
        rate = float(row.get("frames_per_second") or 10)
        frames = int(row.get("num_frames") or round((end - start) / MICROS * rate))
        size = int(row.get("frame_width") or 0), int(row.get("frame_height") or 0)
    except ValueError as error:
        raise InputError(f"samples.csv: sample {row['id']}: {error}") from None
    about = {name: row.get(name) or None for name in _ABOUT}
    plan = Plan(row["environment_id"], start, end, rate, frames, size, row.get("source_type") or "", [], about, int(row["id"]))
    sample = samples.begin(plan)
    return _Open(sample, samples.store.node(sample.history))


def _geoms(path: Path) -> dict[int, list[tuple[int, Geom]]]:
    """The geoms of each sample. How many points they have is told by their coordinates; so many are named as they may have."""
    found: dict[int, list[tuple[int, Geom]]] = {}
    for row in _rows(path, ("id", "uuid", "attributes", "type", "sample_id")):
        try:
            attributes = json.loads(row["attributes"] or "{}")
            kind = next(one for one in TYPES if one == row["type"])
            told = (row.get("object_id") or "", row.get("object_type") or "", row.get("object_name") or "")
            geom = Geom(row["uuid"], kind, (), attributes, *told)
            found.setdefault(int(row["sample_id"]), []).append((int(row["id"]), geom))
        except (ValueError, StopIteration) as error:
            raise InputError(f"{path}: the geom {row['id']!r:.40} is not understood: {error}") from None
    return found


def _coordinates(
    path: Path, opened: dict[int, _Open], owner: dict[int, int], brought: Brought, told: Callable[[int], None]
) -> dict[int, int]:
    """Keeps the coordinates; answers how many points each geom has."""
    points: dict[int, int] = {}
    read = 0
    lines = enumerate(_rows(path, ("time", "device_id", "geom_id", "coordinates")), 2)
    while some := list(islice(lines, TOGETHER)):
        parts: dict[tuple[int, str], dict[int, dict[int, list[float]]]] = {}
        for line, row in some:
            read += sum(map(len, filter(None, row.values()))) + 4
            try:
                geom, t, values = int(row["geom_id"]), _moment(row["time"]), _numbers(row["coordinates"])
                if geom not in owner:
                    continue
                points[geom] = max(points.get(geom, 0), len(values) // 2)
                device = row["device_id"]
                parts.setdefault((owner[geom], device), {}).setdefault(geom, {})[t] = values
                opened[owner[geom]].devices.add(device)
                brought.rows += 1
            except (ValueError, TypeError) as error:
                if len(brought.wrong) < MAX_WRONG:
                    brought.wrong.append(f"{path}, line {line}: {error}")
        kept: list[Future[Any]] = [
            opened[number].history.append(device, block, correct=True)
            for (number, device), geoms in parts.items()
            for block in _blocks(geoms)
        ]
        for one in kept:
            one.result()
        told(read)
    return points


def _blocks(geoms: dict[int, dict[int, list[float]]]) -> Iterator[Block]:
    """Blocks of the geoms of a device that have the same times."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for geom, rows in geoms.items():
        alike.setdefault(tuple(sorted(rows)), []).append(geom)
    for times, some in alike.items():
        columns: dict[str, Column] = {}
        for geom in some:
            listed = [geoms[geom][t] for t in times]
            count = max(map(len, listed))
            matrix = np.array([row + [np.nan] * (count - len(row)) for row in listed], np.float64) * SCALE
            there = np.abs(np.rint(matrix)) < FARTHEST
            whole = np.rint(np.where(there, matrix, 0)).astype(np.int64)
            for place in range(count):
                name = f"{geom}.{'xy'[place % 2]}{place // 2}"
                columns[name] = Column(
                    np.ascontiguousarray(whole[:, place]), None if there[:, place].all() else there[:, place]
                )
        yield Block(np.array(times, np.int64), columns)


def _numbers(text: str) -> list[float]:
    """PostgreSQL's text of an array of numbers; a null is NaN."""
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError(f"{text!r:.40} is no array: {{1.5,NULL}}")
    inner = text[1:-1]
    values = (
        [float("nan") if one.strip().upper() in ("NULL", "NAN") else float(one) for one in inner.split(",")] if inner else []
    )
    if len(values) % 2:
        raise ValueError("coordinates are pairs of x and y")
    return values


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
