"""The intake: what comes together is committed together, and each sender is told after its own commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from sisock.blocks import Block
from sisock.errors import InvalidArgument, LateRow, LostLease, SisockError

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds between two tries to store what the store would not take, and until a commit counts as failed.
RETRY = 1.0
KEEPING = 60.0
# Items, and bytes of them, that may wait for the store; then senders have to wait, too.
MAX_WAITING = 50_000
MAX_BYTES = 64 << 20
# What one commit holds.
BATCH = 10_000
BATCH_BYTES = 4 << 20


class Intake(Generic[T]):
    """Takes items from any thread and stores them in one of its own, as many at a time as have come meanwhile.

    `blocks` makes of a batch the rows of each timeline, `keep(timeline, block, correct)` appends them, and `stored` is
    told of the batch after its commit, in the storing thread; batches come in the order in which their items were taken.
    While the store takes no rows they wait and it is tried again (`problem` says why), so nothing that was taken is lost
    but by the end of the process, and nobody is told of what is not durable. `full` says that senders should wait. Rows
    that can never be kept, for a field that changed its type, go to `refused`.
    """

    def __init__(
        self,
        name: str,
        keep: Callable[[str, Block, bool], Future[Any]],
        blocks: Callable[[Sequence[T]], Mapping[str, Block]],
        stored: Callable[[Sequence[T]], None],
        refused: Callable[[str, InvalidArgument], None] | None = None,
    ) -> None:
        self.problem: str | None = None
        self._name = name
        self._keep, self._blocks, self._stored, self._refused = keep, blocks, stored, refused or self._say_refused
        self._waiting: list[tuple[T, int]] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._work, name=f"{name}-intake", daemon=True)

    def start(self) -> None:
        """Begins to store."""
        self._thread.start()

    def stop(self) -> None:
        """Stores what waits, as long as the store takes it, and ends."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(KEEPING)

    @property
    def full(self) -> bool:
        """Whether more waits than should."""
        return len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_BYTES

    @property
    def waiting(self) -> int:
        """How many items wait for their commit, beside those whose commit runs."""
        return len(self._waiting)

    def take(self, item: T, size: int = 0) -> None:
        """Takes an item of about so many bytes."""
        with self._changed:
            self._waiting.append((item, size))
            self._bytes += size
            if len(self._waiting) == 1:
                self._changed.notify()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if not self._store(dict(self._blocks(batch))):
                return
            self._stored(batch)

    def _next(self) -> list[T] | None:
        with self._changed:
            while not self._waiting and not self._ends:
                self._changed.wait()
            if not self._waiting:
                return None
            count = size = 0
            for _, one in self._waiting[:BATCH]:
                count, size = count + 1, size + one
                if size >= BATCH_BYTES:
                    break
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            self._bytes -= size
            return [item for item, _ in batch]

    def _store(self, blocks: dict[str, Block]) -> bool:
        """Stores blocks, trying again what is not taken; False if they cannot be stored any more."""
        late: set[str] = set()
        while blocks:
            left: dict[str, Block] = {}
            problem: str | None = None
            kept = {timeline: self._kept(timeline, block, timeline in late) for timeline, block in blocks.items()}
            for timeline, future in kept.items():
                try:
                    future.result(KEEPING)
                except LostLease:
                    # Another start of this node writes now; its senders come to it.
                    return False
                except LateRow:
                    # A clock went back, or a source brings what is old: it is kept all the same.
                    late.add(timeline)
                    left[timeline] = blocks[timeline]
                except InvalidArgument as error:
                    self._refused(timeline, error)
                except (SisockError, TimeoutError) as error:
                    left[timeline], problem = blocks[timeline], f"{type(error).__name__}: {error}"
                    log.warning("%s waits for the store: %s", self._name, error)
            self.problem, blocks = problem, left
            if problem is not None:
                with self._changed:
                    if self._ends:
                        return False
                    self._changed.wait(RETRY)
        return True

    def _kept(self, timeline: str, block: Block, correct: bool) -> Future[Any]:
        try:
            return self._keep(timeline, block, correct)
        except SisockError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _say_refused(self, timeline: str, error: InvalidArgument) -> None:
        log.error("%s: rows of %s cannot be kept: %s", self._name, timeline, error)
