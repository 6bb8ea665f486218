"""Refusals: what came to a node and was not taken, counted by where it came from, with the newest reason of each.

`GET /refused` tells the reasons to those who may read the node; `/healthz`, which asks nobody who they are, has counts alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sisock.doors import caller_of
from sisock.errors import NotAuthorized
from sisock.http import reply

if TYPE_CHECKING:
    from klein import Klein

log = logging.getLogger(__name__)

# Sources that are told apart, and characters of a reason.
MAX_SOURCES = 1000
MAX_REASON = 500
OTHERS = "others"


class Refusals:
    """Counts what is refused. Safe to use from any thread."""

    def __init__(self, name: str) -> None:
        self.counts: dict[str, int] = {}
        self.newest: dict[str, str] = {}
        self._name = name
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """All there were."""
        return sum(tuple(self.counts.values()))

    def say(self, source: str, why: str) -> None:
        """Counts one; the first of each source is logged."""
        with self._lock:
            if source not in self.counts and len(self.counts) >= MAX_SOURCES:
                source = OTHERS
            first = source not in self.counts
            self.counts[source] = self.counts.get(source, 0) + 1
            self.newest[source] = why[:MAX_REASON]
        if first:
            log.warning(
                "%s: something from %s is refused, and so will be others like it: %s", self._name, source, why[:MAX_REASON]
            )


def add_refused(app: Klein, node: str, told: Callable[[], Mapping[str, Any]]) -> None:
    """Adds `GET /refused` to a Klein application: what `told` answers, for those who may read the node."""

    def tell(request: Any) -> bytes:
        # Parts of what came stand in it.
        if not caller_of(request).may("read", node):
            raise NotAuthorized(f"this caller may not read the node {node!r}")
        return reply(request, told())

    app.route("/refused", methods=["GET"])(tell)
