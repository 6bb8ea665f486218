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

_FORMAT = 1
# format, kind, transform, width, has nulls, rows, bytes of the tables, checksum of all that precedes the frames
_HEAD = struct.Struct("<BcBBBIII")
_PLAIN, _FLOOR, _DELTA, _LINE = range(4)
_BASES = {_PLAIN: 0, _FLOOR: 1, _DELTA: 1, _LINE: 3}
_STEPS = np.arange(CELL, dtype=np.int64)
_ONE = np.uint64(1)
# A plane of bytes with more bits of entropy than this gains nothing from being compressed.
_NOISE = 7.3
_LEVEL = 1
# A line through a cell is reckoned in 64 bits, so its ends may not be farther apart.
_FAR = 2**53

# How many bytes are decoded at a time: what stays in the processor's cache.
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
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.ends)

    def frame(self, low: int, high: int) -> memoryview:
        """The frames of the cells [low, high), which follow each other."""
        return self.frames[int(self.ends[low - 1]) if low else 0 : int(self.ends[high - 1]) if high else 0]


def encode_times(t: Micros) -> bytes:
    """Ascending times in microseconds as cells."""
    return _encode("t", t, None)


def encode(column: Column) -> bytes:
    """A column as cells; strings as numbers of a dictionary that stands behind them."""
    values, valid = column.values, column.valid
    if valid is not None and valid.all():
        valid = None
    match values.dtype.kind:
        case "f":
            return _encode("f", np.ascontiguousarray(values).view(np.int64), valid)
        case "i":
            return _encode("i", values, valid)
        case "b":
            return _encode("b", values.astype(np.int64), valid)
    numbers: dict[str, int] = {}
    mask = column.mask().tolist()
    codes = [numbers.setdefault(value, len(numbers)) if there else 0 for value, there in zip(values, mask, strict=True)]
    cells = _encode("s", np.array(codes, np.int64), valid)
    words = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(json.dumps(list(numbers)).encode())
    return struct.pack("<I", len(cells)) + cells + words


def _encode(kind: str, ints: Ints, valid: Bools | None) -> bytes:
    rows = len(ints)
    cells = -(-rows // CELL)
    if valid is not None and rows:
        # A null repeats what stands before it, so that it costs next to nothing.
        ints = ints[np.maximum.accumulate(np.where(valid, np.arange(rows), 0))]
    matrix = _padded(ints, cells, kind == "t").reshape(cells, CELL)
    transforms = (_PLAIN, _DELTA) if kind == "f" else (_LINE, _DELTA, _FLOOR) if kind == "t" else (_FLOOR, _DELTA)
    sample = _sample(matrix)
    transform = min(transforms, key=lambda one: _cost(_transformed(one, sample)[0]))
    residuals, bases = _transformed(transform, matrix)
    most = int(residuals.max()) if rows else 0
    width = (most.bit_length() + 7) // 8
    planes = _planes(residuals, width)
    if valid is not None:
        mask = np.zeros(cells * CELL, np.uint8)
        mask[:rows] = valid
        planes = np.concatenate([mask.reshape(cells, 1, CELL), planes], axis=1)
    frames = _frames(planes, _noise_from(planes))
    sizes = np.array([len(frame) for frame in frames], np.uint16)
    tables = _pack_tables(bases, sizes)
    about = (_FORMAT, kind.encode(), transform, width, valid is not None, rows, len(tables))
    check = zlib.crc32(tables, zlib.crc32(_HEAD.pack(*about, 0)))
    return b"".join((_HEAD.pack(*about, check), tables, *frames))


def _pack_tables(bases: Ints, sizes: npt.NDArray[np.uint16]) -> bytes:
    """What is known of each cell: its base's steps from one cell to the next, byte by byte, and its frame's size."""
    steps = np.diff(bases, axis=0, prepend=np.zeros((1, bases.shape[1]), np.int64))
    octets = np.ascontiguousarray(steps.astype("<i8", copy=False)).view(np.uint8)
    tables = octets.T.tobytes() + sizes.astype("<u2").tobytes()
    return zstandard.ZstdCompressor(level=_LEVEL).compress(tables)


def _unpack_tables(tables: memoryview, cells: int, count: int) -> tuple[Ints, Ints]:
    """The cells' bases, and where their frames end."""
    octets = np.frombuffer(zstandard.ZstdDecompressor().decompress(tables), np.uint8)
    size = 8 * count * cells
    steps = np.ascontiguousarray(octets[:size].reshape(8 * count, cells).T).view("<i8").reshape(cells, count)
    return np.add.accumulate(steps, axis=0), np.add.accumulate(octets[size:].view("<u2"), dtype=np.int64)


def _padded(ints: Ints, cells: int, line: bool) -> Ints:
    """The rows and as many more as fill the last cell: the last again, or, of times, the line on."""
    lacking = cells * CELL - len(ints)
    if not lacking:
        return np.ascontiguousarray(ints)
    step = 0
    if line:
        last = ints[-(CELL - lacking) :]
        step = int(last[-1] - last[0]) // max(1, len(last) - 1) if len(last) > 1 else 0
        if step * lacking > _FAR:
            step = 0
    return np.concatenate([ints, ints[-1] + step * np.arange(1, lacking + 1, dtype=np.int64)])


def _transformed(transform: int, matrix: Ints) -> tuple[Words, Ints]:
    """Residuals of (cells, 256), and what each cell's are added to."""
    if transform == _DELTA:
        steps = np.zeros_like(matrix)
        np.subtract(matrix[:, 1:], matrix[:, :-1], out=steps[:, 1:])
        sign = steps >> 63
        steps <<= 1
        steps ^= sign
        return steps.view(np.uint64), matrix[:, :1]
    if transform == _PLAIN:
        return matrix.view(np.uint64), np.empty((len(matrix), 0), np.int64)
    ends = matrix[:, :1], matrix[:, -1:]
    over = matrix - _lines(*ends) if transform == _LINE else matrix
    least = over.min(axis=1, keepdims=True)
    return (over - least).view(np.uint64), np.concatenate([*ends, least], axis=1) if transform == _LINE else least


def _lines(first: Ints, last: Ints) -> Ints:
    """Straight lines from first to last; flat ones where the way is too far to reckon."""
    way = last - first
    return first + _STEPS * np.where((way >= 0) & (way < _FAR), way, 0) // (CELL - 1)


def _planes(residuals: Words, width: int) -> npt.NDArray[np.uint8]:
    """Bytes as (cells, planes, rows), the highest plane first."""
    octets = residuals.astype("<u8", copy=False).view(np.uint8).reshape(len(residuals), CELL, 8)
    return np.ascontiguousarray(octets[:, :, :width].transpose(0, 2, 1)[:, ::-1])


def _sample(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Three cells; not the last, which may be filled up."""
    return cells[: max(1, len(cells) - 1) : max(1, len(cells) // 3)]


def _entropy(plane: npt.NDArray[np.uint8]) -> float:
    counts = np.bincount(plane.reshape(-1))
    counts = counts[counts > 0]
    return float(np.log2(plane.size) - (counts * np.log2(counts)).sum() / plane.size)


def _cost(residuals: Words) -> float:
    """Bits a value, about."""
    if not residuals.size:
        return 0.0
    planes = _planes(residuals, (int(residuals.max()).bit_length() + 7) // 8)
    return sum(_entropy(planes[:, plane]) for plane in range(planes.shape[1]))


def _noise_from(planes: npt.NDArray[np.uint8]) -> int:
    """The first of the low planes that are noise; the number of planes if none is."""
    count: int = planes.shape[1]
    sample = _sample(planes)
    while count > 0 and len(planes) > 1 and _entropy(sample[:, count - 1]) > _NOISE:
        count -= 1
    return count


def _frames(planes: npt.NDArray[np.uint8], cut: int) -> list[bytes]:
    cells, count, _ = planes.shape
    size = count * CELL
    if not size:
        return [b""] * cells
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(_LEVEL, write_checksum=1, window_log=12)
    )
    octets = memoryview(planes.reshape(-1).data)
    if cut in (0, count):
        return [compressor.compress(octets[at : at + size]) for at in range(0, cells * size, size)]
    frames = []
    for at in range(0, cells * size, size):
        stream = compressor.compressobj(size=size)
        middle = at + cut * CELL
        high = stream.compress(octets[at:middle]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        frames.append(high + stream.compress(octets[middle : at + size]) + stream.flush())
    return frames


def open_cells(data: bytes | memoryview) -> Encoded:
    """Reads what stands before the frames; StoreDamaged where it is not what was written."""
    view = memoryview(data)
    try:
        *about, check = _HEAD.unpack_from(view)
        form, kind, transform, width, nulls, rows, length = about
        cells = -(-rows // CELL)
        start = _HEAD.size + length
        if form != _FORMAT or zlib.crc32(view[_HEAD.size : start], zlib.crc32(_HEAD.pack(*about, 0))) != check:
            raise StoreDamaged("a column's head does not have the checksum it was written with")
        bases, ends = _unpack_tables(view[_HEAD.size : start], cells, _BASES[transform])
    except (struct.error, zstandard.ZstdError, KeyError, ValueError) as error:
        raise StoreDamaged(f"a column's head is not readable: {error}") from error
    if cells and len(view) - start < ends[-1]:
        raise StoreDamaged("a column ends too early")
    return Encoded(kind.decode(), transform, width, bool(nulls), rows, bases, ends, view[start:])


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
    return open_cells(view[4 : 4 + size]), dictionary


def decode_cells(parts: Sequence[tuple[Encoded, int, int]]) -> tuple[Ints, Bools | None]:
    """Integers of the cells [low, high) of each part as (cells, 256), and which of them are there."""
    total = sum(high - low for _, low, high in parts)
    out = np.empty((total, CELL), np.int64)
    mask = np.ones((total, CELL), np.bool_) if any(part.nulls for part, _, _ in parts) else None
    at = begin = 0
    while begin < len(parts):
        # Parts of one form are decoded together, as many as fit the cache.
        form = _form(parts[begin][0])
        end, cells = begin, 0
        while end < len(parts) and _form(parts[end][0]) == form and (not cells or cells < _BATCH_CELLS):
            cells += parts[end][2] - parts[end][1]
            end += 1
        _decode_batch(parts[begin:end], out[at : at + cells], None if mask is None else mask[at : at + cells])
        at += cells
        begin = end
    return out, mask


def _form(part: Encoded) -> tuple[int, int, bool]:
    return part.transform, part.width, part.nulls


def _decode_batch(parts: Sequence[tuple[Encoded, int, int]], out: Ints, mask: Bools | None) -> None:
    first = parts[0][0]
    cells, count = len(out), first.width + first.nulls
    planes = np.empty((cells, count, CELL), np.uint8)
    if count and cells:
        _inflate(b"".join(part.frame(low, high) for part, low, high in parts), planes)
    if first.nulls and mask is not None:
        mask[:] = planes[:, 0]
        planes = planes[:, 1:]
    words = out.view(np.uint64)
    if first.width < 8:
        words[:] = 0
    octets = out.view(np.uint8).reshape(cells, CELL, 8)
    for plane in range(first.width):
        octets[:, :, first.width - 1 - plane] = planes[:, plane]
    if first.transform == _PLAIN:
        return
    bases = np.concatenate([part.bases[low:high] for part, low, high in parts])
    if first.transform == _LINE:
        out += _lines(bases[:, :1], bases[:, 1:2])
        out += bases[:, 2:3]
        return
    if first.transform == _DELTA:
        sign = words & _ONE
        np.negative(sign, out=sign)
        words >>= _ONE
        words ^= sign
        np.cumsum(out, axis=1, out=out)
    out += bases


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


def flat(parts: Sequence[tuple[Encoded, int, int]], matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The rows of whole decoded parts, without what filled their last cells."""
    if all(part.rows == part.cells * CELL for part, _, _ in parts):
        return matrix.reshape(-1)
    rows, at = [], 0
    for part, low, high in parts:
        rows.append(matrix[at : at + high - low].reshape(-1)[: part.rows - low * CELL])
        at += high - low
    return np.concatenate(rows)


def decode_times(parts: Sequence[Encoded]) -> Micros:
    """Times of whole parts that follow each other."""
    whole = [(part, 0, part.cells) for part in parts]
    return flat(whole, decode_cells(whole)[0])


def decode(blobs: Sequence[bytes | memoryview], kind: str) -> Column:
    """Column of encoded ones of one kind that follow each other."""
    if kind == "s":
        columns = []
        for blob in blobs:
            part, dictionary = open_strings(blob)
            ints, mask = decode_cells([(part, 0, part.cells)])
            columns.append(
                as_column(
                    "s", ints.reshape(-1)[: part.rows], None if mask is None else mask.reshape(-1)[: part.rows], dictionary
                )
            )
        if len(columns) == 1:
            return columns[0]
        valid = None if all(c.valid is None for c in columns) else np.concatenate([c.mask() for c in columns])
        return Column(np.concatenate([c.values for c in columns]), valid)
    whole = [(part, 0, part.cells) for part in map(open_cells, blobs)]
    ints, mask = decode_cells(whole)
    return as_column(kind, flat(whole, ints), None if mask is None else flat(whole, mask))
