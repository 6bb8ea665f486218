"""The node `apex_archive`: weather files as history that grows with them."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from pathlib import Path

from sisock import DataNode, Field, Timeline
from sisock.errors import InvalidArgument, SetupError
from sisock.nodes.weather.source import Archive, Piece, Problem

log = logging.getLogger(__name__)

# The newest problems that are kept for whoever asks.
MAX_PROBLEMS = 1000
# Seconds until rows must be kept; then their file is read again.
KEEPING = 60.0


class Weather(DataNode):
    """Archived APEX weather."""

    name = "apex_archive"
    description = "Archived APEX weather."
    interval = 1.0
    max_rows = 20_000_000

    def __init__(self, folder: Path | str | None = None) -> None:
        """`folder` holds the files; without it SISOCK_WEATHER_DIR does, or else a sample that is made at the start."""
        super().__init__()
        given = folder or os.environ.get("SISOCK_WEATHER_DIR")
        self.is_sample = not given
        self.folder = Path(given).expanduser() if given else _home() / "weather"
        self.archive = Archive(self.folder)
        self.problems: deque[Problem] = deque(maxlen=MAX_PROBLEMS)

    def start(self) -> None:
        """Reads all that is there, so that the node is complete when it is announced."""
        if self.is_sample:
            from sisock.nodes.weather.sample import ensure

            ensure(self.folder)
        if not self.folder.is_dir():
            raise SetupError(f"{self.folder} is no folder. Give the one that holds the .dat files, or SISOCK_WEATHER_DIR.")
        self._scan()

    def sample(self) -> None:
        """Reads what is new in the files; that gives no row of its own."""
        self._scan()

    def _scan(self) -> None:
        for found in self.archive.scan(time.time()):
            if isinstance(found, Problem):
                self._report(found)
            else:
                self._take(found)

    def _take(self, piece: Piece) -> None:
        try:
            self._declare(piece)
            if len(piece.t):
                rows = self.append(piece.header.timeline, piece.t, {piece.field: piece.values}, correct=True)
                rows.result(KEEPING)
        except InvalidArgument as error:
            self.archive.refuse(piece.field)
            self._report(Problem(_printable(piece.field), None, f"cannot be served: {_printable(str(error))}"))
        except Exception:
            self.archive.forget(piece.field)
            raise

    def _declare(self, piece: Piece) -> None:
        header = piece.header
        spec = Field(description=header.description, units=header.units, timeline=header.timeline)
        if self.fields.get(piece.field) != spec:
            # Said of each timeline, so that one named "t" does not take the pace of the scans for its interval.
            self.declare({piece.field: spec}, {header.timeline: Timeline()})

    def _report(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
            log.warning("%s", problem)


def _home() -> Path:
    home = os.environ.get("SISOCK_HOME")
    return Path(home).expanduser() if home else Path.home() / ".sisock"


def _printable(text: str) -> str:
    # A name in another encoding than UTF-8 could not be written to a log.
    return text.encode("utf-8", "backslashreplace").decode()
