"""Watching: which of a node's live topics have subscribers, as the hub keeps it and tells the node.

A node publishes live blocks only while somebody watches. The router tells the hub when a topic's first subscriber came
and when its last one left; the hub tells the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisock import uris

LATEST = "latest"
_DATA = "data."


@dataclass(frozen=True, slots=True)
class Watched:
    """What of one node is watched: these timelines, or `all` of them; and whether its `latest` is."""

    timelines: frozenset[str] = frozenset()
    all: bool = False
    latest: bool = False

    def includes(self, timeline: str) -> bool:
        """Whether somebody watches this timeline."""
        return self.all or timeline in self.timelines

    def to_wire(self) -> dict[str, Any]:
        """What the hub tells the node."""
        return {"timelines": sorted(self.timelines), "all": self.all, "latest": self.latest}

    @classmethod
    def from_wire(cls, wire: Any) -> Watched:
        """What the hub told; nothing is watched where that says nothing."""
        told = wire if isinstance(wire, Mapping) else {}
        return cls(frozenset(told.get("timelines") or ()), bool(told.get("all")), bool(told.get("latest")))


class Watchers:
    """The live topics that have subscribers."""

    def __init__(self) -> None:
        # Subscriptions by their ids: the node, what of it (as uris.parse_consumer says), and how the topic matches.
        self._topics: dict[int, tuple[str, str]] = {}
        self._of: dict[str, set[str]] = {}

    def created(self, subscription: int, uri: str, match: str) -> str | None:
        """Notes a topic that has its first subscriber; answers whose node it is, None if it is no live topic."""
        parts = uris.parse_consumer(uri)
        if parts is None:
            return None
        node, what = parts
        live = what == LATEST or (what.startswith(_DATA) and what != _DATA)
        if not (match == "exact" and live) and not (match == "prefix" and what == _DATA):
            return None
        self._topics[subscription] = node, what
        self._of.setdefault(node, set()).add(what)
        return node

    def deleted(self, subscription: int) -> str | None:
        """Forgets a topic whose last subscriber left; answers whose node it was."""
        if subscription not in self._topics:
            return None
        node, what = self._topics.pop(subscription)
        self._of[node].discard(what)
        if not self._of[node]:
            del self._of[node]
        return node

    def of(self, node: str) -> Watched:
        """What of a node is watched."""
        parts = self._of.get(node, set())
        timelines = {uris.unescape(part.removeprefix(_DATA)) for part in parts if part.startswith(_DATA) and part != _DATA}
        return Watched(frozenset(timelines), _DATA in parts, LATEST in parts)
