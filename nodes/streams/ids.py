"""Ids: which of the producers' ids have come, so that what comes again is kept and sent once."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable

from sisock.history import History
from sisock.nodes.streams.message import id_field
from sisock.times import LATEST, MICROS, now

# Ids that are remembered, and for how long, in seconds.
MAX_IDS = 100_000
IDS_FOR = 86_400.0
PAGE_ROWS = 4096

Id = tuple[str, str]


class Ids:
    """The newest ids of all timelines. Until the history has been read it is not known which ones have come."""

    def __init__(self) -> None:
        self.known = False
        self._ids: OrderedDict[Id, None] = OrderedDict()

    def __contains__(self, one: Id) -> bool:
        return one in self._ids

    def add(self, one: Id) -> None:
        """Notes an id that has come to a timeline."""
        self._ids[one] = None
        if len(self._ids) > MAX_IDS:
            self._ids.popitem(last=False)

    def read(self, history: History, timelines: Iterable[str]) -> list[Id]:
        """The ids that the history has, oldest first; StoreAway while it cannot be read."""
        found: list[tuple[int, str, str]] = []
        since = round((now() - IDS_FOR) * MICROS)
        for timeline in timelines:
            name = id_field(timeline)
            for page, _ in history.pages(timeline, [name], since, LATEST, PAGE_ROWS):
                ids = page.columns[name].to_list() if name in page.columns else []
                found += [(int(t), timeline, one) for t, one in zip(page.t, ids, strict=False) if one is not None]
            if len(found) > 2 * MAX_IDS:
                found = heapq.nlargest(MAX_IDS, found)
        found = heapq.nlargest(MAX_IDS, found)
        return [(timeline, one) for _, timeline, one in sorted(found)]

    def know(self, ids: Iterable[Id]) -> None:
        """Takes over what was read."""
        self._ids = OrderedDict.fromkeys(ids)
        self.known = True
