"""The old database's coordinates as PostgreSQL writes them into CSV: `time,device_id,assignment_id,geom_id,coordinates`.

They are millions of rows a day, so they are taken apart by columns; only where a portion holds a row that is none, its rows are
looked at more closely.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute, csv

from sisock.blocks import Block, Column
from sisock.nodes.geom.keeping import FARTHEST, SCALE
from sisock.nodes.geom.sources.files import InputError
from sisock.times import Micros

# Bytes of the file that are read, and committed, together.
TOGETHER = 4 << 20
MAX_REASONS = 20
# Of more rows that are none, the file is none.
MAX_WRONG = 1_000
# The geoms whose rows are read, and those whose rows are counted.
_Wanted = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_NEEDED = ("time", "device_id", "geom_id", "coordinates")


@dataclass
class Rejected:
    """Rows that are no coordinates: how many, and of some, why."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """One more."""
        self.count += 1
        if self.count > MAX_WRONG:
            raise InputError(f"{reason}. So many rows are none that this is no dump of coordinates: nothing is imported.")
        if len(self.reasons) < MAX_REASONS:
            self.reasons.append(reason)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A geom's coordinates on a device: ascending times, and (times, numbers), NaN where there is none."""

    t: Micros
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Portion:
    """Some rows, by device and geom; how many others were late; and how many bytes of the file are read, of how many."""

    devices: Mapping[str, dict[int, Track]]
    rows: int
    late: int
    read: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Columns of rows: a row's numbers are the `lengths` ones from where it `begins`."""

    t: Micros
    devices: pa.StringArray
    geoms: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]
    late: int


def portions(path: Path, geoms: Collection[int], rejected: Rejected, late: Collection[int] = ()) -> Iterator[Portion]:
    """The rows of these geoms; of `late` ones they are counted. InputError for no such file, or one that lacks a column."""
    wanted, others = (np.array(sorted(some), np.int64) for some in (geoms, late))

    def short(row: csv.InvalidRow) -> str:
        rejected.add(f"{path}: a row has {row.actual_columns} columns, not {row.expected_columns}: {row.text[:60]}")
        return "skip"

    try:
        size, row = path.stat().st_size, 2
        with path.open("rb") as file:
            reader = csv.open_csv(
                file,
                read_options=csv.ReadOptions(block_size=TOGETHER, use_threads=False),
                parse_options=csv.ParseOptions(invalid_row_handler=short),
                convert_options=csv.ConvertOptions(
                    include_columns=_NEEDED, column_types=dict.fromkeys(_NEEDED, pa.string()), strings_can_be_null=False
                ),
            )
            for batch in reader:
                for rows in _sifted(path, batch, row, (wanted, others), rejected):
                    read = min(file.tell(), size)
                    yield Portion(_apart(rows) if len(rows.t) else {}, len(rows.t), rows.late, read, size)
                row += len(batch)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _sifted(path: Path, batch: pa.RecordBatch, first: int, wanted: _Wanted, rejected: Rejected) -> Iterator[_Rows]:
    """The rows of the wanted geoms, without those that are none: these are found by halving."""
    try:
        yield _parsed(batch, wanted)
    except (pa.ArrowInvalid, ValueError) as error:
        if len(batch) == 1:
            rejected.add(f"{path}, line {first}: {error}")
            return
        half = len(batch) // 2
        yield from _sifted(path, batch.slice(0, half), first, wanted, rejected)
        yield from _sifted(path, batch.slice(half), first + half, wanted, rejected)


def _parsed(batch: pa.RecordBatch, wanted: _Wanted) -> _Rows:
    """The rows of the wanted geoms; ArrowInvalid or ValueError if any of them is none."""
    geoms = batch.column("geom_id").cast(pa.int64()).to_numpy(zero_copy_only=False)
    mine, late = np.isin(geoms, wanted[0]), int(np.isin(geoms, wanted[1]).sum())
    rows = batch.filter(pa.array(mine))
    times, texts = rows.column("time"), rows.column("coordinates")
    zone = compute.any(compute.match_substring_regex(times, r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$")).as_py()
    t = times.cast(pa.timestamp("us", "UTC" if zone else None)).cast(pa.int64()).to_numpy(zero_copy_only=False)
    if len(rows) and not compute.all(compute.match_substring_regex(texts, r"^\{.*\}$")).as_py():
        raise ValueError(f"{texts[0].as_py()!r:.40} is no array: {{1.5,NULL}}")
    listed = compute.split_pattern(compute.utf8_slice_codeunits(texts, 1, -1), ",")
    words = listed.flatten()
    # What is no number is null; so is the empty text, which is what the empty array holds.
    numbers = compute.if_else(compute.is_in(words, pa.array(["NULL", "NaN", ""])), None, words).cast(pa.float64())
    lengths = compute.list_value_length(listed).to_numpy(zero_copy_only=False).astype(np.int64)
    odd = lengths % 2 == 1
    if odd.any() and compute.any(compute.not_equal(texts.filter(pa.array(odd)), "{}")).as_py():
        raise ValueError("coordinates are pairs of x and y")
    begins = np.cumsum(lengths) - lengths
    return _Rows(
        t, rows.column("device_id"), geoms[mine], begins, lengths // 2 * 2, numbers.to_numpy(zero_copy_only=False), late
    )


def _apart(rows: _Rows) -> dict[str, dict[int, Track]]:
    t, geoms = rows.t, rows.geoms
    coded = rows.devices.dictionary_encode()
    devices = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    # By device and geom, and in the order of time; of two at one time the last counts, as it stands last.
    order = np.lexsort((t, geoms, codes))
    edges = np.flatnonzero(np.diff(codes[order], prepend=-1) | np.diff(geoms[order], prepend=geoms[order[0]]))
    found: dict[str, dict[int, Track]] = {}
    for part in np.split(order, edges[1:]):
        last = np.append(np.diff(t[part]) != 0, True)
        track = _track(rows, part[last])
        if track.values.shape[1]:
            found.setdefault(devices[codes[part[0]]], {})[int(geoms[part[0]])] = track
    return found


def _track(rows: _Rows, some: npt.NDArray[Any]) -> Track:
    lengths = rows.lengths[some]
    places = np.arange(int(lengths.max()))
    there = places < lengths[:, None]
    values = rows.numbers[np.where(there, rows.begins[some, None] + places, 0)]
    values[~there] = np.nan
    return Track(rows.t[some], values)


def blocks(tracks: Mapping[int, Track]) -> Iterator[Block]:
    """Blocks of the geoms of a device that have the same times, as they are kept."""
    alike: dict[bytes, list[int]] = {}
    for geom, track in tracks.items():
        alike.setdefault(track.t.tobytes(), []).append(geom)
    for some in alike.values():
        columns: dict[str, Column] = {}
        for geom in some:
            scaled = np.rint(tracks[geom].values.T * SCALE)
            there = np.abs(scaled) < FARTHEST
            whole = np.where(there, scaled, 0).astype(np.int64)
            for place, (number, valid) in enumerate(zip(whole, there, strict=True)):
                columns[f"{geom}.{'xy'[place % 2]}{place // 2}"] = Column(number, None if valid.all() else valid)
        yield Block(tracks[some[0]].t, columns)
