"""The node `geom`: moving shapes, over a WebSocket as the old system served them, and as fields like all others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from math import inf, isfinite

from sisock import DataNode, Field
from sisock.errors import SetupError, SisockError, StoreAway
from sisock.fields import Catalogue, Timeline
from sisock.history import Described
from sisock.nodes.geom.faces import Faces
from sisock.nodes.geom.history import GeomHistory, Shown
from sisock.nodes.geom.keeping import TABLES
from sisock.nodes.geom.library import Library
from sisock.positions import Position
from sisock.settings import Settings
from sisock.times import EARLIEST, LATEST, MICROS

# Seconds between two looks for new samples, and for what came to those that are being prepared.
LOOK_EVERY = 1.0
# Seconds between two looks for what preparations left that were killed.
SWEEP_EVERY = 600.0
LONGEST = 300.0
# Fields of one catalogue: of more, those of the newest samples are listed. What is not listed can be read all the same.
MAX_LISTED = 20_000
# Samples that are shown: the newest of each environment and day, of so many days.
MAX_SHOWN = 400


class Geoms(DataNode):
    """Moving shapes over a video."""

    name = "geom"
    description = "Moving shapes over a video."
    tables = TABLES
    measures = False

    def __init__(self) -> None:
        super().__init__()
        self.longest = _longest()
        self.library = Library(Settings.read().store)
        self.shapes = GeomHistory(self.library)
        self.history: Described = self.shapes
        self.fields = Names(self.shapes)
        self._problem: str | None = None
        self._sweep_after = 0.0
        self._seen: dict[str, Position] = {}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="geom-looking", daemon=True)
        self.faces = Faces(self)

    def start(self) -> None:
        """Looks what there is, and listens."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        self._look_once()
        self._looking.start()
        blockingCallFromThread(reactor, self.faces.listen)

    def stop(self) -> None:
        """Listens no more."""
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        self._ended.set()
        blockingCallFromThread(reactor, self.faces.close)
        self.faces.end()
        if self._looking.ident is not None:
            self._looking.join()
        self.library.close()

    def trouble(self) -> str | None:
        """Whether the store cannot be read."""
        return self._problem

    @property
    def shown(self) -> int:
        """How many samples are shown."""
        return len(self.shapes.shown)

    def get_fields(self, start: float, end: float | None) -> Catalogue:
        """The coordinates of the samples that have frames in [start, end), the newest first."""
        low, high = start * MICROS, inf if end is None else end * MICROS
        fields: dict[str, Field] = {}
        timelines: dict[str, Timeline] = {}
        for one in reversed(self.shapes.shown):
            if one.sample.start_time < high and one.sample.end_time >= low and len(fields) < MAX_LISTED:
                fields |= one.fields
                timelines |= one.timelines()
        return Catalogue(fields, timelines)

    def final(self, timeline: str, end: float) -> float | None:
        """As of all nodes; of a sample that is finished, nothing will change any more (None)."""
        return None if self.shapes.finished(timeline) else super().final(timeline, end)

    def look(self) -> None:
        """Looks which samples there are, and tells those who follow what came to those that are being prepared."""
        samples = self.library.samples
        known = {one.sample.id: one for one in self.shapes.shown}
        shown: list[Shown] = []
        timelines: dict[str, Timeline] = {}
        for sample in samples.shown(MAX_SHOWN):
            before = known.get(sample.id)
            if before is not None and before.sample.status == sample.status:
                shown.append(before)
                continue
            reader = samples.reader(sample)
            if reader is not None:
                shown.append(Shown(sample, tuple(samples.geoms(sample.id)), reader))
        for one in shown:
            timelines |= one.timelines()
        self.timelines = timelines
        self.shapes.show(shown)
        for one in shown:
            if one.sample.status == "started" or any(name in self._seen for name in one.timelines()):
                self._tell(one)
        # Of preparations that were stopped nothing is left.
        self._seen = {name: position for name, position in self._seen.items() if name in timelines}

    def _tell(self, one: Shown) -> None:
        """Tells of the newest block of each timeline that grew; those between are a hole, and who follows asks for them."""
        for timeline in one.timelines():
            position = self.shapes.position(timeline)
            before = self._seen.get(timeline)
            if one.sample.status == "started":
                self._seen[timeline] = position
            else:
                self._seen.pop(timeline, None)
            if self.on_kept is None or position == before or not position.seq:
                continue
            last = Position(position.epoch, position.seq - 1)
            changes = self.shapes.changes(timeline, self.shapes.fields(timeline), last, EARLIEST, LATEST)
            if len(changes.block):
                self.on_kept(timeline, changes.block, changes.position)

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self._look_once()

    def _look_once(self) -> None:
        try:
            self.look()
            if self._sweep_after <= time.monotonic():
                # What is shown is shown, even if a full disk lets nothing be deleted now.
                self._sweep_after = time.monotonic() + SWEEP_EVERY
                self.library.samples.sweep()
            self._problem = None
        except StoreAway as error:
            self._problem = f"waits for the store: {error}"
        except SisockError as error:
            self._problem = str(error)


def _longest() -> float:
    text = os.environ.get("SISOCK_GEOM_SECONDS", str(LONGEST))
    try:
        longest = float(text)
    except ValueError:
        longest = -1.0
    if not isfinite(longest) or longest <= 0:
        raise SetupError(f"SISOCK_GEOM_SECONDS={text} in the environment is no number of seconds")
    return longest


class Names(Mapping[str, Field]):
    """The fields of all samples that are shown, made when they are asked for."""

    def __init__(self, history: GeomHistory) -> None:
        self._history = history

    def __getitem__(self, name: str) -> Field:
        number = name.partition(".")[0]
        for one in self._history.shown:
            if str(one.sample.id) == number:
                return one.fields[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for one in self._history.shown for name in one.fields)

    def __len__(self) -> int:
        return sum(1 for _ in self)
