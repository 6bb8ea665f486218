"""The intake: what comes together is committed together, and each sender is told after its own commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any, Generic, TypeVar

from sisock.blocks import Block
from sisock.errors import Busy, InvalidArgument, LateRow, LostLease, SisockError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# Seconds between two tries to store what the store would not take, and until a commit counts as failed.
RETRY = 1.0
KEEPING = 60.0
# Items, and bytes of them, that may wait for the store; then senders have to wait, too.
MAX_WAITING = 50_000
MAX_BYTES = 64 << 20
# What one commit holds.
BATCH = 10_000
BATCH_BYTES = 4 << 20


class Storing(Generic[R]):
    """Stores rows of timelines, and tries again what is not taken; `problem` says why, while that is so.

    `keep(timeline, rows, correct)` appends rows, `correct` where they were late: a clock went back, a source brings what is
    old, or a commit that was not answered in time was one after all. Rows that can never be kept go to `refused`.
    """

    def __init__(
        self,
        name: str,
        keep: Callable[[str, R, bool], Future[Any]],
        refused: Callable[[str, InvalidArgument], None] | None = None,
    ) -> None:
        self.problem: str | None = None
        self._name, self._keep, self._refused = name, keep, refused or self._say_refused
        self._ends = threading.Event()

    def end(self) -> None:
        """Tries nothing again from now on."""
        self._ends.set()

    def wait(self, error: BaseException) -> bool:
        """Notes why it cannot go on, and waits a moment; False if it ends."""
        self.problem = self._said(error)
        return self._again()

    def store(self, rows: Mapping[str, R]) -> SisockError | None:
        """Stores rows of each timeline, and waits until all are; why they cannot be stored any more, if so."""
        late: set[str] = set()
        left = dict(rows)
        while left:
            again: dict[str, R] = {}
            problem: str | None = None
            kept = {timeline: self._kept(timeline, some, timeline in late) for timeline, some in left.items()}
            until = monotonic() + KEEPING
            for timeline, future in kept.items():
                try:
                    future.result(max(0.0, until - monotonic()))
                except LostLease as error:
                    # Another start of this node writes now; its senders come to it.
                    return error
                except LateRow:
                    late.add(timeline)
                    again[timeline] = left[timeline]
                except InvalidArgument as error:
                    self._refused(timeline, error)
                except Exception as error:  # noqa: BLE001  whatever it is, nobody else would try again
                    again[timeline], problem = left[timeline], self._said(error)
            self.problem, left = problem, again
            if problem is not None and not self._again():
                return Busy(f"the node ends, and the store takes nothing: {problem}")
        return None

    def _kept(self, timeline: str, rows: R, correct: bool) -> Future[Any]:
        try:
            return self._keep(timeline, rows, correct)
        except Exception as error:  # noqa: BLE001  told where all others are
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _again(self) -> bool:
        if self._ends.is_set():
            return False
        self._ends.wait(RETRY)
        return True

    def _said(self, error: BaseException) -> str:
        # A Future that is not done in time says nothing.
        said = f"{type(error).__name__}: {str(error) or f'no answer in {KEEPING:g} seconds'}"
        known = isinstance(error, (SisockError, TimeoutError))
        # Once with its traceback: it would come each second.
        log.warning("%s waits for the store: %s", self._name, said, exc_info=None if known or self.problem == said else error)
        return said

    def _say_refused(self, timeline: str, error: InvalidArgument) -> None:
        log.error("%s: rows of %s cannot be kept: %s", self._name, timeline, error)


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
        self._name, self._blocks, self._stored = name, blocks, stored
        self._storing: Storing[Block] = Storing(name, keep, refused)
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
        self._storing.end()
        with self._changed:
            self._ends = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(KEEPING)

    @property
    def problem(self) -> str | None:
        """Why the store does not take what comes, while that is so."""
        return self._storing.problem

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
            blocks = self._made(batch)
            if blocks is None or self._storing.store(blocks) is not None:
                return
            try:
                self._stored(batch)
            except Exception:
                # The next ones are to be stored all the same. Who was not told sends again.
                log.exception("%s: what is stored could not be told", self._name)

    def _made(self, batch: Sequence[T]) -> Mapping[str, Block] | None:
        """The rows of a batch, tried again until there are some; None if it ends."""
        while True:
            try:
                return self._blocks(batch)
            except Exception as error:  # noqa: BLE001  the thread would end with it, and nobody would know
                if not self._storing.wait(error):
                    return None

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
