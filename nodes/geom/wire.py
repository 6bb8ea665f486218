"""JSON of samples, geoms and coordinates (contract B3), written by columns: a dict a frame would cost ten times as much."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson

from sisock.blocks import Block
from sisock.nodes.geom.keeping import SCALE, Kept, Sample
from sisock.nodes.geom.messages import Spelling

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BETWEEN = b"],["


def geoms(sample: Sample, kept: Sequence[Kept]) -> bytes:
    """What answers getGeoms."""
    return orjson.dumps({"sample": _sample(sample), "geoms": [_geom(one) for one in kept]})


def _sample(sample: Sample) -> dict[str, object]:
    return {
        "id": sample.id,
        "start_time": iso(sample.start_time),
        "end_time": iso(sample.end_time),
        "frames_per_second": _plain(sample.frames_per_second),
        "num_frames": sample.num_frames,
        "frame_width": sample.frame_width,
        "frame_height": sample.frame_height,
        "source_type": sample.source_type,
        "source_name": sample.source_name,
    }


def _geom(one: Kept) -> dict[str, object]:
    return {
        "id": one.id,
        "attributes": one.geom.attributes,
        "type": one.geom.type,
        "object_id": one.geom.object_id,
        "object_type": one.geom.object_type,
        "object_name": one.geom.object_name,
    }


def iso(micros: int) -> str:
    """A time in ISO 8601 with milliseconds and Z."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


def coordinates(kept: Sequence[Kept], block: Block, spelling: Spelling) -> bytes:
    """What answers getCoordinates, of a device's rows; {} where there are none."""
    if not len(block):
        return b"{}"
    millis = (block.t // 1000).tolist()
    if spelling == "event":
        # The geom's number and its coordinates go into each frame's place: as bytes, in one go for all frames.
        frames = ",".join([f'"{ms}":{{"geom_id":\0,"time":{ms},"coordinates":[%b]}}' for ms in millis]).encode()
    else:
        frames = ",".join([f'"{ms}":[%b]' for ms in millis]).encode()
    values = _Values(block)
    parts = []
    for one in kept:
        if block.columns.keys().isdisjoint(one.fields):
            # Only an imported sample has geoms that a device has nothing of.
            continue
        number = b"%d" % one.id
        parts.append(b'"%b":{%b}' % (number, frames.replace(b"\0", number) % values.of(one.fields)))
    return b"{%b}" % b",".join(parts)


class _Values:
    """The coordinates of geoms as JSON, one text a frame; geoms of the same points share them."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._known: dict[tuple[str, ...], tuple[bytes, ...]] = {}

    def of(self, fields: tuple[str, ...]) -> tuple[bytes, ...]:
        """`x0,y0,x1,y1,...` of each frame."""
        found = self._known.get(fields)
        if found is None:
            found = self._known[fields] = self._written(fields)
        return found

    def _written(self, fields: tuple[str, ...]) -> tuple[bytes, ...]:
        columns = self._block.columns
        matrix = np.full((len(self._block), len(fields)), np.nan)
        for place, name in enumerate(fields):
            if name in columns:
                matrix[:, place] = columns[name].numbers()
        matrix /= SCALE
        # NaN is null.
        return tuple(orjson.dumps(matrix, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(_BETWEEN))
