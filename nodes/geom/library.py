"""The library: what finished samples hold, for those who ask for shapes; and the samples that a node shows."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sisock.blocks import Block
from sisock.errors import StoreAway, UnknownNode
from sisock.nodes.geom import wire
from sisock.nodes.geom.keeping import TABLES, Kept, Sample, Samples
from sisock.nodes.geom.messages import CoordinatesAsked, GeomsAsked, Refused, Spelling
from sisock.store import Store
from sisock.store.history import NodeHistory

# Samples whose geoms are remembered; and seconds for which one is not asked for again whether it still is there.
REMEMBERED = 64
FRESH = 1.0
# Seconds for which a store that was away is not asked again: it may take long to find out.
AWAY = 2.0
# Coordinates of one answer: a bound of its memory, at about 30 bytes each.
MAX_NUMBERS = 1_000_000


@dataclass(frozen=True)
class Book:
    """A finished sample: its geoms, and where its coordinates are."""

    sample: Sample
    geoms: tuple[Kept, ...]
    fields: tuple[str, ...]
    reader: NodeHistory


class Library:
    """Reads samples of a store, which is opened when it is first needed. Safe to use from any thread."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address, self._clock = address, clock
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._books: OrderedDict[int, Book] = OrderedDict()
        self._asked: dict[int, float] = {}
        # When the store was found away, and why.
        self._away: tuple[float, str] | None = None

    @property
    def samples(self) -> Samples:
        """The samples; StoreAway while the store cannot be opened."""
        with self._lock:
            if self._store is None:
                with self._remembering():
                    self._store = Store.open(self._address, tables=TABLES)
            return Samples(self._store)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Whoever finds the store away waits for all who ask in the next moment."""
        away = self._away
        if away is not None and self._clock() - away[0] < AWAY:
            raise StoreAway(away[1])
        try:
            yield
        except StoreAway as error:
            self._away = self._clock(), str(error)
            raise

    def close(self) -> None:
        """Closes the store."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def book(self, number: int) -> Book | None:
        """A finished sample by its number; None if there is none."""
        now = self._clock()
        with self._lock:
            known = self._books.get(number)
            if known is not None:
                self._books.move_to_end(number)
                if now - self._asked[number] < FRESH:
                    return known
        # It may have been deleted: then there is nothing to read of it, and after a moment it is not found any more.
        samples = self.samples
        sample = samples.get(number)
        if sample is None or sample.status != "success":
            self._forget(number)
            return None
        if known is not None and known.sample == sample:
            with self._lock:
                if number in self._books:
                    self._asked[number] = now
            return known
        reader = samples.reader(sample)
        if reader is None:
            return None
        kept = tuple(samples.geoms(number))
        fields = tuple(dict.fromkeys(name for one in kept for name in one.fields))
        book = Book(sample, kept, fields, reader)
        with self._lock:
            self._books[number], self._asked[number] = book, now
            while len(self._books) > REMEMBERED:
                del self._asked[self._books.popitem(last=False)[0]]
        return book

    def _forget(self, number: int) -> None:
        with self._lock:
            self._books.pop(number, None)
            self._asked.pop(number, None)

    def geoms(self, asked: GeomsAsked) -> bytes:
        """What answers a getGeoms, as JSON; Refused (4404) where there is no such sample."""
        with self._remembering():
            sample = self.samples.newest(asked.environment_id, asked.date)
            book = None if sample is None else self.book(sample.id)
        if book is None:
            raise Refused(4404, f"there are no geoms of {asked.environment_id!r:.80} on {asked.date}")
        return wire.geoms(book.sample, book.geoms)

    def coordinates(self, asked: CoordinatesAsked, spelling: Spelling) -> bytes:
        """What answers a getCoordinates, as JSON; Refused where there is no such sample (4404) or too much (4413)."""
        with self._remembering():
            book = self.book(asked.sample_id)
        if book is None:
            raise Refused(4404, f"there is no sample {asked.sample_id}")
        if asked.device_id not in book.sample.devices:
            return b"{}"
        start, end = max(asked.start, book.sample.start_time), min(asked.end, book.sample.end_time)
        if end < start:
            return b"{}"
        frames = (end - start) / 1e6 * book.sample.frames_per_second + 1
        if frames * sum(len(one.fields) for one in book.geoms) > MAX_NUMBERS:
            raise Refused(4413, "that is more than one answer may hold; ask for fewer seconds")
        return wire.coordinates(book.geoms, self._rows(book, asked.device_id, start, end), spelling)

    def _rows(self, book: Book, device: str, start: int, end: int) -> Block:
        try:
            with self._remembering():
                block, _ = book.reader.read(device, book.fields, start, end + 1)
        except UnknownNode:
            # Deleted meanwhile.
            return Block(np.empty(0, np.int64))
        return block
