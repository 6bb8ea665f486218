"""Reading a recording back: of each timeline the rows as the node has them, in order, and the gaps by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sisock.blocks import Block
from sisock.errors import InvalidArgument, SetupError
from sisock.fields import Field
from sisock.recording import parts as on_disk
from sisock.recording.about import NAME, About
from sisock.recording.parts import Gap, Part
from sisock.times import EARLIEST, LATEST


class Recording:
    """One node's recording, as it was when this was made.

    A recording that is being written may compose parts meanwhile; then reading raises SetupError.
    """

    def __init__(self, folder: Path) -> None:
        about = About.read(folder)
        if about is None:
            raise SetupError(f"there is no recording in {folder}.")
        self.folder, self.about = folder, about
        self._parts: dict[str, list[Part]] = {}
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            found = [_loaded(path, first, last) for first, last, path in on_disk.names(inner)]
            if found:
                self._parts[found[-1].timeline] = found

    @classmethod
    def find(cls, folder: Path) -> Recording:
        """The recording in a folder, or in the one folder in it; InvalidArgument if there are several."""
        if (folder / NAME).exists():
            return cls(folder)
        inside = sorted(path.parent for path in folder.glob(f"*/{NAME}"))
        if not inside:
            raise SetupError(f"there is no recording in {folder}.")
        if len(inside) > 1:
            raise InvalidArgument(f"{folder} has several recordings; name one: {', '.join(map(str, inside))}")
        return cls(inside[0])

    @property
    def timelines(self) -> list[str]:
        """The timelines of which anything was recorded."""
        return list(self._parts)

    def fields(self, timeline: str) -> dict[str, Field]:
        """The fields of a timeline, those that were ever recorded."""
        found = {name: spec for part in self._parts.get(timeline, ()) for name, spec in part.fields.items()}
        known = self.about.catalogue.fields
        return {name: known.get(name, replace(spec, timeline=timeline)) for name, spec in found.items()}

    def span(self, timeline: str) -> tuple[int, int] | None:
        """The first and last time of a timeline, in microseconds; None without rows."""
        groups = [group for part in self._parts.get(timeline, ()) for group in part.groups]
        return (min(group.first for group in groups), max(group.last for group in groups)) if groups else None

    def gaps(self, timeline: str) -> list[Gap]:
        """What may be missing."""
        found = dict.fromkeys(gap for part in self._parts.get(timeline, ()) for gap in part.told.gaps)
        return sorted(found, key=lambda gap: (gap.start, gap.end))

    def rows(self, timeline: str, start: int = EARLIEST, end: int = LATEST) -> Iterator[Block]:
        """The rows in [start, end), in microseconds, in blocks in order of time."""
        try:
            yield from on_disk.in_groups(on_disk.rows(self._parts.get(timeline, ()), start, end))
        except FileNotFoundError as error:
            raise _changed(self.folder) from error


def _loaded(path: Path, first: int, last: int) -> Part:
    try:
        return on_disk.load(path, first, last)
    except FileNotFoundError as error:
        raise _changed(path.parent) from error


def _changed(folder: Path) -> SetupError:
    return SetupError(f"the recording in {folder} was just being written. Read it once more, or when it has ended.")
