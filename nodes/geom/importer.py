"""Brings samples of the old database over (contract B4): its tables as CSV, with their numbers.

The file of coordinates is read once, in portions that fit in memory; it is best in the order of time, as a dump of the old
hypertable is, but any order is right. A sample is seen when all of it is there.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sisock.nodes.geom.dump import Rejected, Track, blocks, portions
from sisock.nodes.geom.keeping import Plan, Sample, Samples
from sisock.nodes.geom.shapes import TYPES, Geom
from sisock.nodes.geom.sources.files import InputError
from sisock.store.history import NodeHistory
from sisock.times import MICROS

# Seconds after which other machines are told that the import goes on.
RENEW = 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABOUT = ("source_id", "source_name", "inference_id", "inference_name", "inference_model", "inference_version")


@dataclass
class Brought:
    """What was imported.

    `samples` are the numbers of those that are new, `there` of those that were there, `empty` of those that the dump has no
    coordinates of, which are left out. `late` rows are of samples that were there, and are left out, too. `wrong` rows were no
    coordinates; of some, `reasons` say why.
    """

    samples: list[int] = field(default_factory=list)
    there: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    rows: int = 0
    late: int = 0
    wrong: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class _Open:
    """A sample on its way."""

    sample: Sample
    history: NodeHistory
    geoms: list[int] = field(default_factory=list)
    devices: set[str] = field(default_factory=set)


def bring(samples: Samples, folder: Path, told: Callable[[int, int], None] = lambda _done, _all: None) -> Brought:
    """Imports what is finished in a dump; whatever stops it, nothing of it stays. InputError says which file lacks what.

    `told` hears how many bytes of the coordinates are read, of how many.
    """
    samples.sweep()
    brought = Brought()
    geoms = _geoms(folder / "geoms.csv")
    opened: dict[int, _Open] = {}
    owner: dict[int, int] = {}
    try:
        for row in _rows(folder / "samples.csv", ("id", "start_time", "end_time", "environment_id", "status")):
            if row["status"] != "success":
                continue
            plan = _plan(row)
            number = plan.id or 0
            before = samples.get(number)
            if before is not None:
                if (before.environment_id, before.start_time, before.end_time) != (plan.environment_id, plan.start, plan.end):
                    raise InputError(_taken(f"sample {number}", number))
                brought.there.append(number)
                continue
            mine = geoms.get(number, [])
            for geom, other in samples.owners([id_ for id_, _ in mine]).items():
                raise InputError(_taken(f"geom {geom} of sample {number}", other))
            sample = samples.begin(plan)
            one = opened[number] = _Open(sample, samples.store.node(sample.history))
            for kept in samples.add(sample, [geom for _, geom in mine], [id_ for id_, _ in mine]):
                owner[kept.id] = number
                one.geoms.append(kept.id)
        late = {id_ for number in brought.there for id_, _ in geoms.get(number, [])}
        points = _coordinates(samples, folder / "coordinates.csv", opened, owner, late, brought, told)
        for number, one in opened.items():
            if not one.devices:
                one.history.release()
                samples.forget(number)
                brought.empty.append(number)
                continue
            for device in one.devices:
                one.history.compact(device).result()
            samples.settle(one.sample, sorted(one.devices), {id_: points.get(id_, 0) for id_ in one.geoms})
            one.history.release()
            samples.finish(one.sample)
            brought.samples.append(number)
    except BaseException:
        for number in opened:
            if number not in brought.samples and number not in brought.empty:
                samples.forget(number)
        raise
    return brought


def _taken(what: str, other: int) -> str:
    return (
        f"{what} of the dump has the number of another that is here, in sample {other}. Import into a store of its own "
        f"(--store), or first make room by `sisock geom forget {other}`."
    )


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            missing = set(needed) - set(lines.fieldnames or ())
            if missing:
                raise InputError(f"{path} has no column {', '.join(sorted(missing))}")
            for row in lines:
                if any(row[name] is None for name in needed):
                    raise InputError(f"{path}, line {lines.line_num}: the row is too short")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _plan(row: dict[str, str]) -> Plan:
    try:
        number, start, end = int(row["id"]), _moment(row["start_time"]), _moment(row["end_time"])
        rate = float(row.get("frames_per_second") or 10)
        frames = int(row.get("num_frames") or round((end - start) / MICROS * rate))
        size = int(row.get("frame_width") or 0), int(row.get("frame_height") or 0)
        if not (0 <= number < 2**63 and 0 < rate < 1e6 and 0 <= frames < 2**63):
            raise ValueError("a number is out of range")
    except (ValueError, OverflowError) as error:
        raise InputError(f"samples.csv: sample {row['id']!r:.40}: {error}") from None
    about = {name: row.get(name) or None for name in _ABOUT}
    return Plan(row["environment_id"], start, end, rate, frames, size, row.get("source_type") or "", [], about, number)


def _geoms(path: Path) -> dict[int, list[tuple[int, Geom]]]:
    """The geoms of each sample. How many points they have is told by their coordinates; so many are named as they may have."""
    found: dict[int, list[tuple[int, Geom]]] = {}
    for row in _rows(path, ("id", "uuid", "attributes", "type", "sample_id")):
        try:
            attributes = json.loads(row["attributes"] or "{}")
            if not isinstance(attributes, dict):
                raise InputError(f"{path}: the attributes of geom {row['id']!r:.40} are no object")
            kind = next(one for one in TYPES if one == row["type"])
            told = (row.get("object_id") or "", row.get("object_type") or "", row.get("object_name") or "")
            geom = Geom(row["uuid"], kind, (), attributes, *told)
            found.setdefault(int(row["sample_id"]), []).append((int(row["id"]), geom))
        except InputError:
            raise
        except (ValueError, StopIteration, RecursionError) as error:
            raise InputError(f"{path}: the geom {row['id']!r:.40} is not understood: {error}") from None
    return found


def _coordinates(
    samples: Samples,
    path: Path,
    opened: dict[int, _Open],
    owner: dict[int, int],
    late: set[int],
    brought: Brought,
    told: Callable[[int, int], None],
) -> dict[int, int]:
    """Keeps the coordinates; answers how many points each geom has."""
    points: dict[int, int] = {}
    rejected = Rejected()
    renewed = time.monotonic()
    for portion in portions(path, set(owner), rejected, late):
        brought.rows += portion.rows
        brought.late += portion.late
        if time.monotonic() - renewed >= RENEW:
            renewed = time.monotonic()
            for one in opened.values():
                samples.renew(one.sample)
        kept: list[Future[Any]] = []
        for device, part in portion.devices.items():
            for number, tracks in _by_sample(part, owner).items():
                one = opened[number]
                one.devices.add(device)
                for geom, track in tracks.items():
                    points[geom] = max(points.get(geom, 0), track.values.shape[1] // 2)
                kept += [one.history.append(device, block, correct=True) for block in blocks(tracks)]
        for future in kept:
            future.result()
        told(portion.read, portion.size)
    brought.wrong, brought.reasons = rejected.count, rejected.reasons
    return points


def _by_sample(part: dict[int, Track], owner: dict[int, int]) -> dict[int, dict[int, Track]]:
    found: dict[int, dict[int, Track]] = {}
    for geom, track in part.items():
        found.setdefault(owner[geom], {})[geom] = track
    return found


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROS + since.microseconds
