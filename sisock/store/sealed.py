"""Makes sealed columns: chooses the transform that suits a column, and lays its residuals into frames."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from sisock.blocks import Bools, Column
from sisock.store.cells import CELL, DELTA, FAR, FLOOR, FORMAT, HEAD, LINE, PLAIN, Ints, Words, lines
from sisock.times import Micros

# A plane of bytes with more bits of entropy than this gains nothing from being compressed.
_NOISE = 7.3
_LEVEL = 1


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
    transforms = (PLAIN, DELTA) if kind == "f" else (LINE, DELTA, FLOOR) if kind == "t" else (FLOOR, DELTA)
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
    about = (FORMAT, kind.encode(), transform, width, valid is not None, rows, len(tables))
    check = zlib.crc32(tables, zlib.crc32(HEAD.pack(*about, 0)))
    return b"".join((HEAD.pack(*about, check), tables, *frames))


def _pack_tables(bases: Ints, sizes: npt.NDArray[np.uint16]) -> bytes:
    """What is known of each cell: its base's steps from one cell to the next, byte by byte, and its frame's size."""
    steps = np.diff(bases, axis=0, prepend=np.zeros((1, bases.shape[1]), np.int64))
    octets = np.ascontiguousarray(steps.astype("<i8", copy=False)).view(np.uint8)
    tables = octets.T.tobytes() + sizes.astype("<u2").tobytes()
    return zstandard.ZstdCompressor(level=_LEVEL).compress(tables)


def _padded(ints: Ints, cells: int, line: bool) -> Ints:
    """The rows and as many more as fill the last cell: the last again, or, of times, the line on."""
    lacking = cells * CELL - len(ints)
    if not lacking:
        return np.ascontiguousarray(ints)
    step = 0
    if line:
        last = ints[-(CELL - lacking) :]
        step = int(last[-1] - last[0]) // max(1, len(last) - 1) if len(last) > 1 else 0
        if step * lacking > FAR:
            step = 0
    return np.concatenate([ints, ints[-1] + step * np.arange(1, lacking + 1, dtype=np.int64)])


def _transformed(transform: int, matrix: Ints) -> tuple[Words, Ints]:
    """Residuals of (cells, 256), and what each cell's are added to."""
    if transform == DELTA:
        steps = np.zeros_like(matrix)
        np.subtract(matrix[:, 1:], matrix[:, :-1], out=steps[:, 1:])
        sign = steps >> 63
        steps <<= 1
        steps ^= sign
        return steps.view(np.uint64), matrix[:, :1]
    if transform == PLAIN:
        return matrix.view(np.uint64), np.empty((len(matrix), 0), np.int64)
    ends = matrix[:, :1], matrix[:, -1:]
    over = matrix - lines(*ends) if transform == LINE else matrix
    least = over.min(axis=1, keepdims=True)
    return (over - least).view(np.uint64), np.concatenate([*ends, least], axis=1) if transform == LINE else least


def _planes(residuals: Words, width: int) -> npt.NDArray[np.uint8]:
    """Bytes as (cells, planes, rows), the highest plane first."""
    octets = residuals.astype("<u8", copy=False).view(np.uint8).reshape(len(residuals), CELL, 8)
    return np.ascontiguousarray(octets[:, :, :width].transpose(0, 2, 1)[:, ::-1])


def _sample(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Three cells; not the last, which may be filled up."""
    return cells[: max(1, len(cells) - 1) : max(1, len(cells) // 3)]


def _entropies(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Bits a byte of each plane of (cells, planes, rows)."""
    count = planes.shape[1]
    places = planes + (np.arange(count) << 8)[:, np.newaxis]
    counts = np.bincount(places.reshape(-1), minlength=count << 8).reshape(count, 256)
    size = planes.size // count
    entropies: npt.NDArray[np.float64] = np.log2(size) - (counts * np.log2(np.maximum(counts, 1))).sum(axis=1) / size
    return entropies


def _cost(residuals: Words) -> float:
    """Bits a value, about."""
    width = (int(residuals.max()).bit_length() + 7) // 8 if residuals.size else 0
    return float(_entropies(_planes(residuals, width)).sum()) if width else 0.0


def _noise_from(planes: npt.NDArray[np.uint8]) -> int:
    """The first of the low planes that are noise; the number of planes if none is."""
    count: int = planes.shape[1]
    if count and len(planes) > 1:
        noisy = _entropies(_sample(planes)) > _NOISE
        while count > 0 and noisy[count - 1]:
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
