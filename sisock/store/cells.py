"""The form of a sealed column: cells of 256 rows, each of which decodes alone.

Values become 64-bit integers (a float its bits), and a cell's integers become small residuals by whichever transform
suits the column: what is over the cell's least, over the one before, or over a straight line (times). The residuals'
bytes are laid plane by plane, the high bytes first, and each cell is one checksummed zstd frame. Where the low planes
are noise the frame is cut between them and the others, so that the noise does not spoil the coding of the rest.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from sisock.blocks import Bools, Column
from sisock.errors import StoreDamaged
from sisock.times import Micros

CELL = 256

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Index = npt.NDArray[np.intp]
_Form = tuple[int, int, bool]

FORMAT = 1
# format, kind, transform, width, has nulls, rows, bytes of the tables, checksum of all that precedes the frames
HEAD = struct.Struct("<BcBBBIII")
PLAIN, FLOOR, DELTA, LINE = range(4)
_BASES = {PLAIN: 0, FLOOR: 1, DELTA: 1, LINE: 3}
_STEPS = np.arange(CELL, dtype=np.int64)
_ONE = np.uint64(1)
# A line through a cell is reckoned in 64 bits, so its ends may not be farther apart.
FAR = 2**53

# How many cells are decoded at a time: what stays in the processor's cache.
_BATCH_CELLS = 256


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded column, opened but not decoded. `ends` are the frames' ends in `frames`."""

    kind: str
    transform: int
    width: int
    nulls: bool
    rows: int
    bases: Ints
    ends: Ints
    frames: memoryview

    @property
    def form(self) -> _Form:
        """What columns have in common that are decoded together."""
        return self.transform, self.width, self.nulls

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.ends)

    def frame(self, low: int, high: int) -> memoryview:
        """The frames of the cells [low, high), which follow each other."""
        return self.frames[int(self.ends[low - 1]) if low else 0 : int(self.ends[high - 1]) if high else 0]


def lines(first: Ints, last: Ints) -> Ints:
    """Straight lines from first to last; flat ones where the way is too far to reckon."""
    way = last - first
    return first + _STEPS * np.where((way >= 0) & (way < FAR), way, 0) // (CELL - 1)


def open_cells(blobs: Sequence[bytes | memoryview]) -> list[Encoded]:
    """Reads what stands before the frames of columns; StoreDamaged where one is not what was written."""
    heads = []
    # Tables of one form are turned together: a column alone would cost ten times as much.
    alike: dict[tuple[int, int], list[bytes]] = {}
    inflate = zstandard.ZstdDecompressor().decompress
    for data in blobs:
        view = memoryview(data)
        try:
            *about, check = HEAD.unpack_from(view)
            form, kind, transform, width, nulls, rows, length = about
            start = HEAD.size + length
            packed = view[HEAD.size : start]
            if form != FORMAT or zlib.crc32(packed, zlib.crc32(HEAD.pack(*about, 0))) != check:
                raise StoreDamaged("a column's head does not have the checksum it was written with")
            same = alike.setdefault((-(-rows // CELL), _BASES[transform]), [])
            heads.append((kind.decode(), transform, width, bool(nulls), rows, len(same), view[start:]))
            same.append(inflate(packed))
        except (struct.error, zstandard.ZstdError, KeyError, ValueError) as error:
            raise StoreDamaged(f"a column's head is not readable: {error}") from error
    tables = {form: _unpack_tables(packed, *form) for form, packed in alike.items()}
    opened = []
    for kind, transform, width, nulls, rows, at, frames in heads:
        bases, ends = tables[-(-rows // CELL), _BASES[transform]]
        if rows and len(frames) < ends[at, -1]:
            raise StoreDamaged("a column ends too early")
        opened.append(Encoded(kind, transform, width, nulls, rows, bases[at], ends[at], frames))
    return opened


def _unpack_tables(tables: Sequence[bytes], cells: int, count: int) -> tuple[Ints, Ints]:
    """The cells' bases, (columns, cells, count), and where their frames end, (columns, cells)."""
    try:
        octets = np.frombuffer(b"".join(tables), np.uint8).reshape(len(tables), cells * (8 * count + 2))
    except ValueError as error:
        raise StoreDamaged(f"a column's head is not readable: {error}") from error
    planes = octets[:, : 8 * count * cells].reshape(len(tables), 8 * count, cells)
    steps = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i8")
    sizes = np.ascontiguousarray(octets[:, 8 * count * cells :]).view("<u2")
    return np.add.accumulate(steps, axis=1), np.add.accumulate(sizes, axis=1, dtype=np.int64)


def open_strings(data: bytes | memoryview) -> tuple[Encoded, npt.NDArray[Any]]:
    """Reads the numbers of strings, and the strings they stand for."""
    view = memoryview(data)
    try:
        (size,) = struct.unpack_from("<I", view)
        words = json.loads(zstandard.ZstdDecompressor().decompress(view[4 + size :]))
    except (struct.error, zstandard.ZstdError, ValueError) as error:
        raise StoreDamaged(f"a column's dictionary is not readable: {error}") from error
    dictionary = np.empty(max(1, len(words)), object)
    dictionary[: len(words)] = words
    return open_cells([view[4 : 4 + size]])[0], dictionary


def decode_cells(cells: Sequence[tuple[Encoded, int]]) -> tuple[Ints, Bools | None]:
    """Integers of single cells as (cells, 256), and which of them are there."""
    out = np.empty((len(cells), CELL), np.int64)
    mask = np.ones((len(cells), CELL), np.bool_) if any(part.nulls for part, _ in cells) else None
    alike: dict[_Form, list[int]] = {}
    for at, (part, _) in enumerate(cells):
        alike.setdefault(part.form, []).append(at)
    for places in alike.values():
        some, there = _decoded([(cells[at][0], cells[at][1], cells[at][1] + 1) for at in places], len(places))
        out[places] = some
        if mask is not None and there is not None:
            mask[places] = there
    return out, mask


def decode_rows(parts: Sequence[Encoded]) -> tuple[Ints, Bools | None]:
    """Integers of whole parts that follow each other, without what fills their last cells, and which are there."""
    total = sum(part.rows for part in parts)
    out = np.empty(total, np.int64)
    mask = np.ones(total, np.bool_) if any(part.nulls for part in parts) else None
    at = begin = 0
    while begin < len(parts):
        # Parts of one form together, as many as stay in the cache until their rows are copied.
        form = parts[begin].form
        end, cells = begin, 0
        while end < len(parts) and parts[end].form == form and cells < _BATCH_CELLS:
            cells += parts[end].cells
            end += 1
        some, there = _decoded([(part, 0, part.cells) for part in parts[begin:end]], cells)
        cell = 0
        for part in parts[begin:end]:
            rows, cell = slice(cell * CELL, cell * CELL + part.rows), cell + part.cells
            out[at : at + part.rows] = some.reshape(-1)[rows]
            if mask is not None and there is not None:
                mask[at : at + part.rows] = there.reshape(-1)[rows]
            at += part.rows
        begin = end
    return out, mask


def _decoded(parts: Sequence[tuple[Encoded, int, int]], cells: int) -> tuple[Ints, Bools | None]:
    """Integers of the cells [low, high) of parts of one form, and which of them are there."""
    transform, width, nulls = parts[0][0].form
    planes = np.empty((cells, width + nulls, CELL), np.uint8)
    if planes.size:
        _inflate(b"".join([part.frame(low, high) for part, low, high in parts]), planes)
    mask = planes[:, 0].astype(np.bool_) if nulls else None
    out = np.empty((cells, CELL), np.int64)
    words = out.view(np.uint64)
    if width < 8:
        words[:] = 0
    octets = out.view(np.uint8).reshape(cells, CELL, 8)
    for plane in range(width):
        octets[:, :, width - 1 - plane] = planes[:, plane + nulls]
    if transform == PLAIN:
        return out, mask
    bases = np.concatenate([part.bases[low:high] for part, low, high in parts])
    if transform == LINE:
        out += lines(bases[:, :1], bases[:, 1:2])
        out += bases[:, 2:3]
        return out, mask
    if transform == DELTA:
        sign = words & _ONE
        np.negative(sign, out=sign)
        words >>= _ONE
        words ^= sign
        np.cumsum(out, axis=1, out=out)
    out += bases
    return out, mask


def _inflate(frames: bytes, planes: npt.NDArray[np.uint8]) -> None:
    room = memoryview(planes.reshape(-1).data)
    done = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True) as stream:
            while done < len(room):
                got = stream.readinto(room[done:])
                if not got:
                    break
                done += got
    except zstandard.ZstdError as error:
        raise StoreDamaged(f"a cell is not what was written: {error}") from error
    if done < len(room):
        raise StoreDamaged("a column's cells end too early")


def as_column(kind: str, ints: Ints, valid: Bools | None, dictionary: npt.NDArray[Any] | None = None) -> Column:
    """A column of decoded integers."""
    if valid is not None and valid.all():
        valid = None
    match kind:
        case "f":
            values: npt.NDArray[Any] = ints.view(np.float64)
            if valid is not None:
                values[~valid] = np.nan
        case "b":
            values = ints != 0
        case "s":
            values = (np.empty(1, object) if dictionary is None else dictionary)[ints]
            if valid is not None:
                values[~valid] = None
        case _:
            values = ints
    return Column(values, valid)


def decode_times(blobs: Sequence[bytes | memoryview]) -> Micros:
    """Encoded times that follow each other."""
    return decode_rows(open_cells(blobs))[0]


def decode(blobs: Sequence[bytes | memoryview], kind: str) -> Column:
    """Column of encoded ones of one kind that follow each other."""
    if kind != "s":
        return as_column(kind, *decode_rows(open_cells(blobs)))
    columns = []
    for blob in blobs:
        part, dictionary = open_strings(blob)
        columns.append(as_column("s", *decode_rows([part]), dictionary))
    if len(columns) == 1:
        return columns[0]
    valid = None if all(c.valid is None for c in columns) else np.concatenate([c.mask() for c in columns])
    return Column(np.concatenate([c.values for c in columns]), valid)
