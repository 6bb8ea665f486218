"""Retention: how long a node that learns of its timelines as they come keeps their rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sisock.errors import InvalidArgument, SetupError, SisockError
from sisock.node import DataNode
from sisock.times import parse_duration

log = logging.getLogger(__name__)


class Retention:
    """Has the rows of each timeline kept for `keep` seconds, and for ever with None. Its methods may wait for the store."""

    def __init__(self, node: DataNode, keep: float | None) -> None:
        self._node, self._keep = node, keep
        self._told: set[str] = set()
        self._failed = False

    def apply(self, timelines: Iterable[str]) -> None:
        """Tells the history of those that it has not been told of; what fails is tried again the next time."""
        if self._keep is None:
            return
        for timeline in set(timelines) - self._told:
            try:
                self._node.retain(timeline, self._keep)
            except (SisockError, TimeoutError) as error:
                if not self._failed:
                    log.warning("%s: how long %s is kept could not be said yet: %s", self._node.name, timeline, error)
                self._failed = True
                return
            self._told.add(timeline)


def keep_of(environ: Mapping[str, str], *names: str) -> float | None:
    """How long rows are kept, in seconds, as the first of these variables says that is set; None for ever."""
    for name in names:
        text = environ.get(name)
        if text:
            try:
                keep = parse_duration(text)
            except InvalidArgument as error:
                raise SetupError(f"{name}: {error}") from None
            if keep <= 0:
                raise SetupError(f"{name}={text} is no length of time above 0.")
            return keep
    return None
