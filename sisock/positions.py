"""Positions: how far a timeline has come, as histories number it and readers name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisock.errors import InvalidArgument, shown


@dataclass(frozen=True, slots=True)
class Position:
    """How far a timeline has come: `seq` blocks since `epoch`, one life of a history, began."""

    epoch: str
    seq: int

    def to_wire(self) -> dict[str, Any]:
        """The position as answers and events name it."""
        return {"epoch": self.epoch, "seq": self.seq}

    @classmethod
    def from_wire(cls, wire: Any) -> Position:
        """The position that a caller or a node named; InvalidArgument for what is none."""
        epoch, seq = (wire.get("epoch"), wire.get("seq")) if isinstance(wire, Mapping) else (None, None)
        if not isinstance(epoch, str) or isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
            raise InvalidArgument(f'a position is {{"epoch": text, "seq": a whole number}}, not {shown(wire)}')
        return cls(epoch, seq)
