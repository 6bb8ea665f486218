"""What moves: the objects that a file `objects` describes, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from sisock.nodes.geom.sources.files import InputError, find_optional, records

COLORS = {"person": "#ff0000", "tray": "#00ff00"}
OTHER = "#0080ff"
_SPACE = UUID("6f1c2c3e-7a0f-4b55-9a52-0f1f7b5d6a11")


@dataclass(frozen=True, slots=True)
class Thing:
    """An object: `id` is what the other files call it."""

    id: str
    type: str = ""
    name: str = ""

    @property
    def color(self) -> str:
        """The colour of its kind."""
        return COLORS.get(self.type, OTHER)


def things(folder: Path) -> Mapping[str, Thing]:
    """The objects of the file `objects`, by their ids; empty if there is no such file."""
    path = find_optional(folder, "objects")
    found: dict[str, Thing] = {}
    for told in records(path) if path else []:
        if "object_id" not in told:
            raise InputError(f"{path}: an object has no object_id")
        one = Thing(*(str(told.get(name, "")) for name in ("object_id", "object_type", "object_name")))
        if one.id in found:
            raise InputError(f"{path}: the object {one.id!r:.80} stands there twice")
        found[one.id] = one
    return found


def uuid_of(*parts: object) -> str:
    """The same uuid for the same parts, at each preparation."""
    return str(uuid5(_SPACE, "\n".join(map(str, parts))))
