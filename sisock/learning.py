"""Learning: what a node has to know of its history to go on where it was, also after a start while the store is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sisock.errors import SisockError, StoreAway

log = logging.getLogger(__name__)

# Seconds between two tries.
AGAIN = 2.0


class Learning:
    """Calls `read`, which reads of the history; while that raises StoreAway, again and again, in a thread of its own."""

    def __init__(self, name: str, read: Callable[[], None]) -> None:
        self.done = False
        self._name, self._read = name, read
        self._ends = threading.Event()

    def start(self) -> None:
        """Reads at once, in the caller's thread, or else as soon as the store is there."""
        try:
            self._read()
        except StoreAway as error:
            log.warning("%s: what it has kept is not known yet: %s", self._name, error)
            threading.Thread(target=self._work, name=f"{self._name}-learning", daemon=True).start()
        else:
            self.done = True

    def stop(self) -> None:
        """Tries no more."""
        self._ends.set()

    def _work(self) -> None:
        said = ""
        while not self._ends.wait(AGAIN):
            try:
                self._read()
            except StoreAway:
                continue
            except SisockError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("%s: what it has kept cannot be read: %s", self._name, error)
                continue
            self.done = True
            log.info("%s: what it has kept is known now", self._name)
            return
