"""Live blocks: what a timeline took in, as one event on the wire.

    {"timeline", "epoch", "seq", "after", "t", "data": {field: column}, "finalized_until", "revises"}

An event holds what the blocks `after + 1` to `seq` brought: rows behind all others, or, where it names `revises`, all
that the timeline now has in that range [start, end), in seconds. A block without rows only repeats the position.

Up to 32 rows, times are a list of seconds and a column is a list of values, null where there is none. Above, times are
the bytes of little-endian float64 seconds and a column is {"type": "f8" | "i8" | "b1", "values": bytes, "valid": bytes}:
float64, int64, or one byte a boolean, and one byte a row that says which of them are there ("valid" is left out where
all are). A short column takes that form, too, if a list cannot hold it: NaN, infinities, integers beyond 2^53. Texts are
always lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.blocks import EXACT, Block, Column, micros_of
from sisock.errors import InvalidArgument, shown
from sisock.positions import Position
from sisock.times import MICROS, is_seconds, to_micros, to_seconds

# Up to so many rows a column is a list, which is what a person reads in a trace.
LISTED_ROWS = 32

_FORMS = {"f": ("f8", "<f8"), "i": ("i8", "<i8"), "b": ("b1", "u1")}
_READ = {"f8": ("<f8", np.float64), "i8": ("<i8", np.int64), "b1": ("u1", np.bool_)}


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """What the blocks `after + 1` to `position.seq` of a timeline brought; `revises` in microseconds, [start, end)."""

    timeline: str
    position: Position
    after: int
    block: Block
    finalized_until: float | None = None
    revises: tuple[int, int] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The event."""
        block = self.block
        listed = len(block) <= LISTED_ROWS
        seconds = block.t / MICROS
        event: dict[str, Any] = {
            "timeline": self.timeline,
            "epoch": self.position.epoch,
            "seq": self.position.seq,
            "after": self.after,
            "t": seconds.tolist() if listed else seconds.astype("<f8", copy=False).tobytes(),
            "data": {name: _column_to_wire(column, listed) for name, column in block.columns.items()},
            "finalized_until": self.finalized_until,
        }
        if self.revises is not None:
            event["revises"] = [to_seconds(end) for end in self.revises]
        return event

    @classmethod
    def from_wire(cls, event: Any) -> LiveBlock:
        """The block of an event; InvalidArgument says what is wrong with it."""
        if not isinstance(event, Mapping) or not isinstance(event.get("data"), Mapping):
            raise InvalidArgument(f"a live event is a dict with data, not {shown(event)}")
        timeline, after = event.get("timeline"), event.get("after")
        if not isinstance(timeline, str) or isinstance(after, bool) or not isinstance(after, int):
            raise InvalidArgument("a live event names its timeline and the seq that it follows")
        t = event.get("t")
        micros = micros_of(
            np.frombuffer(_whole(t, 8, "t"), "<f8") if isinstance(t, (bytes, bytearray, memoryview)) else t or []
        )
        if len(micros) > 1 and not (micros[1:] > micros[:-1]).all():
            raise InvalidArgument("the times of a live event ascend")
        columns = {str(name): _column_from_wire(str(name), wire) for name, wire in event["data"].items()}
        for name, column in columns.items():
            if len(column) != len(micros):
                raise InvalidArgument(f"{name} has {len(column)} values for {len(micros)} times")
        final = event.get("finalized_until")
        if final is not None and not is_seconds(final):
            raise InvalidArgument("finalized_until is a number of seconds or null")
        position = Position.from_wire(event)
        return cls(timeline, position, after, Block(micros, columns), final, _range(event.get("revises")))


def _range(wire: Any) -> tuple[int, int] | None:
    if wire is None:
        return None
    if not isinstance(wire, (list, tuple)) or len(wire) != 2 or not all(is_seconds(end) for end in wire):
        raise InvalidArgument(f"revises is [start, end] in seconds, not {shown(wire)}")
    return to_micros(wire[0]), to_micros(wire[1])


def _column_to_wire(column: Column, listed: bool) -> Any:
    kind = column.values.dtype.kind
    if kind == "O" or (listed and _is_plain(column)):
        return column.to_list()
    form, dtype = _FORMS[kind]
    wire: dict[str, Any] = {"type": form, "values": column.values.astype(dtype, copy=False).tobytes()}
    if column.valid is not None:
        wire["valid"] = column.valid.astype("u1").tobytes()
    return wire


def _is_plain(column: Column) -> bool:
    """Whether a list of JSON values says all that is in the column."""
    values = column.values if column.valid is None else column.values[column.valid]
    match column.values.dtype.kind:
        case "f":
            # A list of whole numbers and nothing else would come back as integers from some serializers.
            return bool(np.isfinite(values).all())
        case "i":
            return bool(((values <= EXACT) & (values >= -EXACT)).all())
    return True


def _column_from_wire(name: str, wire: Any) -> Column:
    if not isinstance(wire, Mapping):
        return Column.of(wire, name)
    kind = wire.get("type")
    if kind not in _READ:
        raise InvalidArgument(f"{name} has the form {shown(kind)}; there are {', '.join(_READ)}")
    dtype, held = _READ[kind]
    octets = _whole(wire.get("values"), np.dtype(dtype).itemsize, name)
    values: npt.NDArray[Any] = np.frombuffer(octets, dtype).astype(held, copy=False)
    if wire.get("valid") is None:
        return Column(values)
    valid = np.frombuffer(_whole(wire["valid"], 1, name), "u1").astype(np.bool_)
    if len(valid) != len(values):
        raise InvalidArgument(f"{name} says of {len(valid)} rows whether they are there, and has {len(values)}")
    return Column(values, valid)


def _whole(octets: Any, size: int, name: str) -> bytes:
    if not isinstance(octets, (bytes, bytearray, memoryview)) or len(octets) % size:
        raise InvalidArgument(f"{name} takes bytes, {size} a row")
    return bytes(octets)
