"""A node of files: what stands in them is kept as the node's history, and so is what they grow by."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sisock import DataNode, Timeline
from sisock.errors import SisockError, StoreAway
from sisock.home import Home
from sisock.nodes.table.asked import Asked
from sisock.nodes.table.blocks import in_order, timeline_of
from sisock.nodes.table.csvtail import CsvTail, Piece, Place
from sisock.nodes.table.parquetfile import ParquetTable
from sisock.nodes.table.problems import Problem, Problems
from sisock.nodes.table.tablefiles import TableFiles, is_parquet
from sisock.positions import Position
from sisock.users import write_private

log = logging.getLogger(__name__)

# Seconds in which files are read before the node is announced; what is left is read behind it.
AT_START = 10.0
# Seconds of reading after which the place is kept, and between two lines that tell how far it has come.
KEEP_PLACE, TELL = 2.0, 5.0
# Files of a folder that are kept open while they grow: those that were opened last.
OPEN = 50
# Appends that wait for their commit together, and seconds for which they may.
WAITING, KEEPING = 16, 60.0
# Series that one table may have.
MAX_SERIES = 10_000


class FileTable(DataNode):
    """A table in files."""

    max_rows = 20_000_000

    def __init__(self, asked: Asked, *, home: Home | None = None) -> None:
        """SetupError for what cannot be served, before anything is announced."""
        self.asked = asked
        self.name = asked.node  # type: ignore[misc]
        self.interval = asked.every  # type: ignore[misc]
        self.description = asked.description or f"The table {asked.shown}."
        super().__init__()
        self.problems = Problems(self._refused)
        self.files = TableFiles(asked)
        self.notes = self.files.notes
        self.series: set[str] = set()
        if self.files.layout.series is None:
            self._declare(None)
        self._place = (home or Home.default()).path / "nodes" / f"{self.name}.table.json"
        self._tables: dict[Path, CsvTail | ParquetTable] = {}
        self._open: dict[Path, CsvTail | ParquetTable] = {}
        self._places: dict[str, Any] | None = None
        self._ended = False
        self._told = time.monotonic()
        self._pending: list[tuple[str, int, Future[Position]]] = []

    def found(self) -> dict[str, Any]:
        """What there is, for people and programs: fields, about how many rows, the first and the last time."""
        return self.files.found()

    def start(self) -> None:
        """Reads what is there, for some seconds at most."""
        try:
            self._scan(time.monotonic() + AT_START)
        except StoreAway as error:
            # The files are there as long as the database is not.
            log.warning("%s: nothing is read before the store is there: %s", self.name, error)

    def sample(self) -> None:
        """Reads what is new; that gives no row of its own."""
        self._scan(None)

    def _refused(self, problem: Problem, times: int) -> None:
        # `sisock doctor` shows it.
        self.health.refused += times
        self.health.last_refused = str(problem)

    def stop(self) -> None:
        """Closes the files, and keeps how far they were read."""
        self._ended = True
        for table in self._tables.values():
            table.close()

    def _scan(self, until: float | None) -> None:
        if self._places is None:
            self._places = self._known_places()
        paths = self.files.paths()
        kept = time.monotonic()
        for path in paths:
            table = self._table(path)
            for piece in table.scan(time.time()):
                self._take(table, piece)
                now = time.monotonic()
                if now - kept > KEEP_PLACE:
                    # Before the next piece is read, the table's place is behind the one before this.
                    kept = now
                    self._progress(table, piece)
                    if self._ended or (until is not None and now > until):
                        break
            self._keep_open(path, table)
            if self._ended or (until is not None and time.monotonic() > until):
                break
        else:
            self._leave(paths)
        self._settle()
        self._keep_places()

    def _keep_open(self, path: Path, table: CsvTail | ParquetTable) -> None:
        if not table.is_open:
            self._open.pop(path, None)
            return
        self._open[path] = table
        if len(self._open) > OPEN:
            self._open.pop(next(iter(self._open))).close()

    def _leave(self, paths: list[Path]) -> None:
        """Reads to its end what was renamed or deleted in a folder, and forgets it."""
        if paths == [self.files.path] or not paths:
            # A folder that cannot be seen at the moment will be there again with its files.
            return
        for path in sorted({*self._tables, *map(Path, self._places or {})} - set(paths)):
            table = self._table(path)
            for piece in table.last():
                self._take(table, piece)
            self._settle()
            table.close()
            del self._tables[path]
            self._open.pop(path, None)
            (self._places or {}).pop(str(path), None)

    def _table(self, path: Path) -> CsvTail | ParquetTable:
        known = self._tables.get(path)
        if known is not None:
            return known
        told = (self._places or {}).get(str(path), {})
        if is_parquet(path):
            layout = self.files.layout
            columns = [name for name in (layout.time, layout.of_day, layout.series) if name is not None]
            columns += [spec.column for spec in layout.specs]
            self._tables[path] = ParquetTable(path, self.problems, columns, told.get("mark"))
        else:
            self._tables[path] = CsvTail(path, self.asked, self.problems, self.files.kinds, Place.from_wire(told.get("place")))
        return self._tables[path]

    def _take(self, table: CsvTail | ParquetTable, piece: Piece) -> None:
        missing = [
            name
            for name in (self.files.layout.time, self.files.layout.of_day, self.files.layout.series)
            if name is not None and name not in piece.arrays
        ]
        if missing:
            self.problems.once(Problem("other columns", table.name, None, f"has no column {missing[0]!r}; it is left out"))
            return
        if self.files.know_types(piece.arrays):
            for series in self.series or ([None] if self.files.layout.series is None else []):
                self._declare(series)
        layout = self.files.layout
        arrays = {**piece.arrays, layout.time: self.files.times(piece.arrays)}
        self.files.know_unit(arrays[layout.time])
        found = in_order(arrays, layout, self.files.clock)
        for rows, kind, text in (
            (found.untimed, "rows without a time", f"has no time in {layout.time!r}"),
            (found.unnamed, "rows without a series", f"has no name of a series in {layout.series!r}"),
        ):
            if rows:
                self.problems.add(Problem(kind, table.name, piece.line(rows[-1]), text), len(rows))
        if found.repeated:
            text = f"{found.repeated} rows repeat a time; of each time the last row counts"
            self.problems.add(Problem("repeated times", table.name, None, text), found.repeated)
        if found.unsorted:
            self.problems.once(
                Problem("rows in disorder", table.name, None, "is not in order of time; it is sorted as it comes")
            )
        for series, block in found.blocks:
            if series is not None and series not in self.series and not self._meet(series, table):
                continue
            # A file that is read again, after a crash for example, brings what is there; only what is new is written.
            self._pending.append((timeline_of(series), len(block), self.append_block(timeline_of(series), block, correct=True)))
            if len(self._pending) >= WAITING:
                self._settle()

    def _settle(self) -> None:
        """Waits until all that was appended is kept; what was not raises here."""
        pending, self._pending = self._pending, []
        failed: list[Exception] = []
        for _, _, kept in pending:
            try:
                kept.result(KEEPING)
            except (SisockError, TimeoutError) as error:
                failed.append(error)
        if failed:
            # The places stay where they are kept: the files are read from there again.
            for table in self._tables.values():
                table.close()
            self._tables.clear()
            self._open.clear()
            self._places = None
            raise failed[0]

    def _meet(self, series: str, table: CsvTail | ParquetTable) -> bool:
        if len(self.series) >= MAX_SERIES:
            self.problems.once(
                Problem("series too many", table.name, None, f"has more than {MAX_SERIES} series; {series!r} is left out")
            )
            return False
        wanted = self.files.layout.fields(series)
        taken = [name for name, spec in wanted.items() if name in self.fields and self.fields[name].timeline != spec.timeline]
        if taken:
            self.problems.once(
                Problem("series left out", table.name, None, f"the series {series!r} would take the field {taken[0]!r}")
            )
            return False
        self.series.add(series)
        self._declare(series)
        return True

    def _declare(self, series: str | None) -> None:
        # Said of each timeline, so that one named "t" does not take the pace of the scans for its interval.
        self.declare(self.files.layout.fields(series), {timeline_of(series): Timeline(None, self.asked.lateness)})

    def _known_places(self) -> dict[str, Any]:
        """The places that were kept, if the history still is the one of their rows. StoreAway where nobody knows."""
        try:
            told = json.loads(self._place.read_text())
            epoch, places = told["epoch"], dict(told["files"])
            self.files.kinds.update(
                {str(name): str(kind) for name, kind in dict(told["kinds"]).items() if name not in self.files.kinds}
            )
            series = [str(name) for name in told["series"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s: %s cannot be used, so the files are read from their beginning: %s", self.name, self._place, error)
            return {}
        if self._epoch() != epoch:
            return {}
        for name in series:
            self.series.add(name)
            self._declare(name)
        return places

    def _epoch(self) -> str:
        return self.history.position(timeline_of(None)).epoch

    def _keep_places(self) -> None:
        # Those that this start has not come to yet stay as they were kept.
        places = {name: place for name, place in (self._places or {}).items() if Path(name) not in self._tables}
        for path, table in self._tables.items():
            if isinstance(table, ParquetTable):
                places[str(path)] = {"mark": table.mark}
            elif table.place is not None:
                places[str(path)] = {"place": asdict(table.place)}
        if self._places == places:
            return
        try:
            told = {"epoch": self._epoch(), "files": places, "kinds": self.files.kinds, "series": sorted(self.series)}
            write_private(self._place, json.dumps(told))
            self._places = places
            self.problems.over(self._place.name)
        except (OSError, StoreAway) as error:
            # Rows are kept, and read once more after a start.
            self.problems.once(Problem("places not kept", self._place.name, None, str(error)))

    def _progress(self, table: CsvTail | ParquetTable, piece: Piece) -> None:
        self._settle()
        self._keep_places()
        if time.monotonic() - self._told > TELL:
            self._told = time.monotonic()
            log.info("%s: %d %% of %s is read", self.name, 100 * piece.done // max(1, piece.size), table.name)
