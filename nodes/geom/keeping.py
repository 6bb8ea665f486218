"""Keeping: samples and geoms in SQL tables, coordinates in the store.

Each sample's coordinates are a history of their own, `geom.<sample>`, with a timeline a device: so whoever prepares it holds
its lease, and it is deleted as a whole. A coordinate is a field `<geom>.x0` of whole thousandths of a pixel, which take a third
of the room that floats would. Points that several geoms share are kept once, as the first of them names them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sisock.beside import Tables
from sisock.blocks import Block, Column
from sisock.errors import SisockError, UnknownNode
from sisock.nodes.geom.shapes import Geom, Pixels
from sisock.store import Store
from sisock.store.history import NodeHistory
from sisock.store.leases import lives
from sisock.times import Micros, now

TABLES = Tables(Path(__file__).parent / "migrations", "geom_version")
# Coordinates are whole thousandths of a pixel.
SCALE = 1000
# Another machine's sample that has not grown for so long is nobody's any more, in seconds.
FORSAKEN = 6 * 3600.0
# Beyond, a number of JSON would not be exact; no frame is so large.
FARTHEST = 2**53

_SAMPLE = (
    "id, environment_id, date, start_time, end_time, frames_per_second, num_frames, frame_width, frame_height, source_id, "
    "source_type, source_name, status, inference_id, inference_name, inference_model, inference_version, devices, holder, begun"
)


class NoSample(SisockError, LookupError):
    """There is no such sample. `sisock geom samples` lists those that there are."""

    uri = "sisock.error.no_sample"
    status = 404


@dataclass(frozen=True, slots=True)
class Sample:
    """One load of shapes. Times are microseconds since 1970; `devices` are its cameras."""

    id: int
    environment_id: str
    date: str
    start_time: int
    end_time: int
    frames_per_second: float
    num_frames: int
    frame_width: int
    frame_height: int
    source_id: str | None
    source_type: str
    source_name: str | None
    status: str
    inference_id: str | None
    inference_name: str | None
    inference_model: str | None
    inference_version: str | None
    devices: tuple[str, ...]
    holder: str
    begun: float

    @classmethod
    def of(cls, row: Sequence[Any]) -> Self:
        """The sample of a row of the table."""
        told = list(row)
        told[-3] = tuple(json.loads(told[-3]))
        return cls(*told)

    @property
    def history(self) -> str:
        """What its history is called in the store."""
        return f"geom.{self.id}"


@dataclass(frozen=True)
class Kept:
    """A geom as it is kept: `points` name the geom and the place whose fields hold each of its points."""

    id: int
    geom: Geom
    points: tuple[tuple[int, int], ...]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of its coordinates in the store: x and y of each point."""
        return tuple(f"{geom}.{axis}{place}" for geom, place in self.points for axis in "xy")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sample is begun with."""

    environment_id: str
    start: int
    end: int
    frames_per_second: float
    num_frames: int
    size: tuple[int, int]
    source_type: str
    devices: Sequence[str]
    about: Mapping[str, Any] = field(default_factory=dict)
    # The importer keeps the old system's numbers.
    id: int | None = None


class Samples:
    """The samples of a store. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Writing

    def begin(self, plan: Plan) -> Sample:
        """A new sample, which nobody sees until it is finished."""
        about = plan.about
        values = {
            "environment_id": plan.environment_id,
            "date": day_of(plan.start),
            "start_time": plan.start,
            "end_time": plan.end,
            "frames_per_second": plan.frames_per_second,
            "num_frames": plan.num_frames,
            "frame_width": plan.size[0],
            "frame_height": plan.size[1],
            "source_id": about.get("source_id"),
            "source_type": plan.source_type,
            "source_name": about.get("source_name"),
            "status": "started",
            "inference_id": about.get("inference_id"),
            "inference_name": about.get("inference_name"),
            "inference_model": about.get("inference_model"),
            "inference_version": about.get("inference_version"),
            "devices": json.dumps(list(plan.devices)),
            "holder": f"{socket.gethostname()} {os.getpid()}",
            "begun": now(),
        }
        if plan.id is not None:
            values["id"] = plan.id
        with self.store.database.writing() as tx:
            marks = ", ".join("?" for _ in values)
            (number,) = tx.known(
                f"INSERT INTO geom_samples ({', '.join(values)}) VALUES ({marks}) RETURNING id",  # noqa: S608  names of ours
                *values.values(),
            )
            if plan.id is not None and self.store.database.engine == "postgresql":
                _catch_up(tx, "geom_samples")
            row = tx.known(f"SELECT {_SAMPLE} FROM geom_samples WHERE id = ?", number)  # noqa: S608
        return Sample.of(row)

    def add(self, sample: Sample, geoms: Sequence[Geom], ids: Sequence[int] | None = None) -> list[Kept]:
        """Adds the geoms of a sample, each once by its uuid; the importer keeps the old system's `ids`."""
        names = "sample_id, uuid, attributes, type, object_id, object_type, object_name, columns"
        kept: list[Kept] = []
        first: dict[int, tuple[int, int]] = {}
        with self.store.database.writing() as tx:
            for at, geom in enumerate(geoms):
                texts = (geom.uuid, json.dumps(dict(geom.attributes)), geom.type)
                told = (sample.id, *texts, geom.object_id, geom.object_type, geom.object_name, "[]")
                if ids is None:
                    (number,) = tx.known(
                        f"INSERT INTO geom_geoms ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",  # noqa: S608
                        *told,
                    )
                else:
                    number = ids[at]
                    tx.run(f"INSERT INTO geom_geoms (id, {names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", number, *told)  # noqa: S608
                points = tuple(first.setdefault(index, (int(number), place)) for place, index in enumerate(geom.indices))
                kept.append(Kept(int(number), geom, points))
            tx.many("UPDATE geom_geoms SET columns = ? WHERE id = ?", [(json.dumps(one.points), one.id) for one in kept])
            if ids is not None and self.store.database.engine == "postgresql":
                _catch_up(tx, "geom_geoms")
        return kept

    def settle(self, sample: Sample, devices: Sequence[str], points: Mapping[int, int]) -> None:
        """Says which devices a sample turned out to have, and how many points each of its geoms, kept by itself."""
        with self.store.database.writing() as tx:
            tx.run("UPDATE geom_samples SET devices = ? WHERE id = ?", json.dumps(list(devices)), sample.id)
            tx.many(
                "UPDATE geom_geoms SET columns = ? WHERE id = ?",
                [(json.dumps([(geom, place) for place in range(count)]), geom) for geom, count in points.items()],
            )

    def finish(self, sample: Sample) -> None:
        """Makes a sample visible, all at once."""
        with self.store.database.writing() as tx:
            if not tx.run("UPDATE geom_samples SET status = 'success' WHERE id = ? AND status = 'started'", sample.id):
                raise NoSample(f"the sample {sample.id} was deleted while it was prepared")

    def forget(self, number: int) -> None:
        """Deletes a sample with all that belongs to it; NoSample if there is none."""
        # First it cannot be seen any more; whoever is killed in between leaves a sample that the next sweep takes.
        with self.store.database.writing() as tx:
            if not tx.run("UPDATE geom_samples SET status = 'started', holder = '' WHERE id = ?", number):
                raise NoSample(f"there is no sample {number}")
        with suppress(UnknownNode):
            self.store.forget(f"geom.{number}")
        with self.store.database.writing() as tx:
            tx.run("DELETE FROM geom_geoms WHERE sample_id = ?", number)
            tx.run("DELETE FROM geom_samples WHERE id = ?", number)

    def sweep(self) -> list[int]:
        """Deletes samples whose preparation ended without an end; answers their numbers."""
        lost = [sample.id for sample in self.all("started") if not self.goes_on(sample)]
        for number in lost:
            with suppress(NoSample):
                self.forget(number)
        return lost

    def goes_on(self, sample: Sample) -> bool:
        """Whether whoever prepares a sample still does."""
        host, _, pid = sample.holder.rpartition(" ")
        if not host:
            return False
        if host == socket.gethostname():
            return lives(int(pid))
        # Of another machine's process we know only when it told last that it goes on.
        return now() - sample.begun < FORSAKEN

    def renew(self, sample: Sample) -> None:
        """Tells other machines that the preparation goes on."""
        with self.store.database.writing() as tx:
            tx.run("UPDATE geom_samples SET begun = ? WHERE id = ?", now(), sample.id)

    # Reading

    def all(self, status: str | None = None) -> list[Sample]:
        """All samples, the oldest first; only those of a status."""
        where, told = ("", ()) if status is None else ("WHERE status = ? ", (status,))
        with self.store.database.reading() as tx:
            rows = tx.rows(f"SELECT {_SAMPLE} FROM geom_samples {where}ORDER BY id", *told)  # noqa: S608
        return [Sample.of(row) for row in rows]

    def shown(self, most: int) -> list[Sample]:
        """The newest finished sample of each environment and day, and those that are being prepared; by their numbers."""
        with self.store.database.reading() as tx:
            rows = tx.rows(
                f"SELECT {_SAMPLE} FROM geom_samples WHERE id IN ("  # noqa: S608
                "SELECT max(id) FROM geom_samples WHERE status = 'success' GROUP BY environment_id, date "
                "UNION ALL SELECT id FROM geom_samples WHERE status = 'started' AND holder <> ''"
                ") ORDER BY id DESC LIMIT ?",
                most,
            )
        return [Sample.of(row) for row in reversed(rows)]

    def newest(self, environment: str, date: str) -> Sample | None:
        """The newest finished sample of an environment that begins on a date (UTC)."""
        with self.store.database.reading() as tx:
            row = tx.one(
                f"SELECT {_SAMPLE} FROM geom_samples WHERE environment_id = ? AND date = ? AND status = 'success' "  # noqa: S608
                "ORDER BY id DESC LIMIT 1",
                *(environment, date),
            )
        return None if row is None else Sample.of(row)

    def get(self, number: int) -> Sample | None:
        """A sample by its number, finished or not."""
        with self.store.database.reading() as tx:
            row = tx.one(f"SELECT {_SAMPLE} FROM geom_samples WHERE id = ?", number)  # noqa: S608
        return None if row is None else Sample.of(row)

    def geoms(self, number: int) -> list[Kept]:
        """The geoms of a sample."""
        with self.store.database.reading() as tx:
            rows = tx.rows(
                "SELECT id, uuid, type, attributes, object_id, object_type, object_name, columns FROM geom_geoms "
                "WHERE sample_id = ? ORDER BY id",
                number,
            )
        return [
            Kept(
                int(id_),
                Geom(uuid, kind, (), json.loads(attributes), who or "", what or "", name or ""),
                tuple((int(geom), int(place)) for geom, place in json.loads(columns)),
            )
            for id_, uuid, kind, attributes, who, what, name, columns in rows
        ]

    def owners(self, geoms: Sequence[int]) -> dict[int, int]:
        """Which of these numbers geoms have that are here, and the samples that they belong to."""
        found: dict[int, int] = {}
        with self.store.database.reading() as tx:
            for low in range(0, len(geoms), 500):
                some = geoms[low : low + 500]
                marks = ", ".join("?" * len(some))
                found |= {
                    int(geom): int(sample)
                    for geom, sample in tx.rows(f"SELECT id, sample_id FROM geom_geoms WHERE id IN ({marks})", *some)  # noqa: S608
                }
        return found

    def reader(self, sample: Sample) -> NodeHistory | None:
        """The coordinates of a sample; None if it has none yet."""
        with suppress(UnknownNode):
            return self.store.reader(sample.history)
        return None


def _catch_up(tx: Any, table: str) -> None:
    """The next number that PostgreSQL gives is behind those that were given by hand."""
    tx.run(
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), GREATEST((SELECT max(id) FROM {table}), "  # noqa: S608
        f"nextval(pg_get_serial_sequence('{table}', 'id'))))"
    )


def day_of(micros: int) -> str:
    """The day (UTC) of a time, YYYY-MM-DD."""
    return str(np.datetime64(micros, "us").astype("datetime64[D]"))


def names_of(geoms: Iterable[Kept], indices: int) -> list[tuple[str, str] | None]:
    """The fields of x and y of each index of a collection; None for one that no geom names."""
    names: list[tuple[str, str] | None] = [None] * indices
    for one in geoms:
        for (geom, place), index in zip(one.points, one.geom.indices, strict=True):
            names[index] = f"{geom}.x{place}", f"{geom}.y{place}"
    return names


def block_of(times: Micros, names: Sequence[tuple[str, str] | None], pixels: Pixels) -> Block:
    """A device's collection of some frames, (frames, indices, 2) in pixels, as it is kept."""
    # One index after the other in memory, since each becomes two columns.
    turned = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    with np.errstate(over="ignore", invalid="ignore"):
        turned *= SCALE
        np.rint(turned, out=turned)
    there: npt.NDArray[np.bool_] = np.abs(turned) < FARTHEST
    whole: npt.NDArray[np.bool_] = np.asarray(there.all(axis=2))
    np.copyto(turned, 0, where=~there)
    ints = turned.astype(np.int64)
    columns = {}
    for index, pair in enumerate(names):
        if pair is None:
            continue
        for axis in (0, 1):
            valid = None if whole[index, axis] else there[index, axis]
            columns[pair[axis]] = Column(ints[index, axis], valid)
    return Block(times, columns)
