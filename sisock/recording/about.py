"""What a recording is of: recording.json beside its timelines, and the lock that keeps it to one writer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from sisock.errors import SetupError, StoreDamaged
from sisock.fields import Catalogue
from sisock.files import sync_folder

NAME = "recording.json"
FORMAT = 1


@dataclass(frozen=True)
class About:
    """Which node is recorded, its fields and timelines, and from when on (microseconds)."""

    node: str
    start: int
    description: str = ""
    catalogue: Catalogue = field(default_factory=Catalogue)

    @classmethod
    def read(cls, folder: Path) -> About | None:
        """What is recorded in a folder; None if nothing is, StoreDamaged if that cannot be told."""
        path = folder / NAME
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise StoreDamaged(f"{path} is of format {told['format']}; this version of sisock reads format {FORMAT}.")
            catalogue = Catalogue.from_wire([told["fields"], told["timelines"]])
            return cls(told["node"], int(told["start"]), told["description"], catalogue)
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise StoreDamaged(f"{path} does not say what is recorded: {error!r}. Record into another folder.") from error

    def write(self, folder: Path) -> None:
        """Writes it, whole or not at all."""
        fields, timelines = self.catalogue.to_wire()
        told = {
            "format": FORMAT,
            "node": self.node,
            "description": self.description,
            "start": self.start,
            "fields": fields,
            "timelines": timelines,
        }
        writing = folder / (NAME + ".writing")
        with writing.open("w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        writing.replace(folder / NAME)
        sync_folder(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one writer; SetupError names the process that has it."""
    with (folder / ".lock").open("a+") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip()
            raise SetupError(f"process {who} records into {folder}. Stop it, or record into another folder.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
