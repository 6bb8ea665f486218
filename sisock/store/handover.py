"""The hand-over: blocks that waited in an outbox's file go to the database, in their order, each once.

What the database has taken in it knows by the last number of each run of the outbox (`applied`), and a hand-over that
begins anew passes over all up to there. So nothing may be committed behind a block that was not: the committer stops at
the first that fails, and goes on only when that one is crossed off, as refused, in the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unanswered
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from sisock.beside import TableRows
from sisock.blocks import Block, news
from sisock.errors import Busy, LostLease, StoreAway, StoreDamaged, StoreFull
from sisock.positions import Position
from sisock.store.boxes import Box, Kept
from sisock.store.committer import Mark
from sisock.store.history import NodeHistory

P = ParamSpec("P")
T = TypeVar("T")

# Seconds within which the database says that a block is kept, or answers anything else; then it is away.
ANSWER_WITHIN = 15.0
# Blocks that are handed over together: more than may come meanwhile, so that it comes to an end.
HANDED_TOGETHER = 512
HANDED_BYTES = 64 << 20
# So many that are refused are gone through before what came meanwhile is looked at.
REFUSED_TOGETHER = 32
# A block of so many rows is compared with what the database has: a file that was read again may bring nothing new.
MANY_ROWS = 4096

# What is wrong with the database, and not with the block: it waits on. Any other error refuses that block.
NOT_NOW = (StoreAway, StoreFull, LostLease, Busy)


@dataclass(slots=True, eq=False)
class Job:
    """A block on its way to the database or to the file."""

    timeline: str
    block: Block
    lateness: float
    correct: bool
    beside: Sequence[TableRows] = ()
    mark: Mark = field(default_factory=lambda: Mark("", 0))
    done: Future[Position] = field(default_factory=Future)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return 200 + 8 * len(self.block) * (1 + len(self.block.columns)) + sum(one.size for one in self.beside)


class Patience:
    """Waits for what becomes of blocks; a database that makes no progress for so long is away."""

    def __init__(self) -> None:
        self._ends = monotonic() + ANSWER_WITHIN

    def answer(self, future: Future[Position]) -> BaseException | None:
        """Why a block was not kept, None if it was; StoreAway if that is not known in time."""
        try:
            error = future.exception(max(0.0, self._ends - monotonic()))
        except Unanswered:
            return _unanswered()
        self._ends = monotonic() + ANSWER_WITHIN
        return error


def _unanswered() -> StoreAway:
    return StoreAway(f"the database has not answered for {ANSWER_WITHIN:g} s")


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Calls a function in a thread that does not keep the program from ending."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  it goes to whoever asked
            done.set_exception(error)

    threading.Thread(target=run, daemon=True, name="sisock-outbox-asks").start()
    return done


def within(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function that asks the database answers; StoreAway if it does not answer in time."""
    try:
        return in_thread(function, *args, **kwargs).result(ANSWER_WITHIN)
    except Unanswered:
        raise _unanswered() from None


def hand_in(history: NodeHistory, job: Job, earlier: Sequence[Future[Position]], patience: Patience) -> Future[Position]:
    """Hands a block in without waiting for ever for room in the queue of a database that does not answer."""
    how: dict[str, Any] = {"lateness": job.lateness, "correct": job.correct, "wait": False}
    how |= {"mark": job.mark, "beside": job.beside}
    try:
        return history.append(job.timeline, job.block, **how)
    except Busy:
        for future in earlier:
            if isinstance(error := patience.answer(future), StoreAway):
                raise error from None
        return history.append(job.timeline, job.block, **how)


class HandOver:
    """A hand-over that is under way, to a history whose lease was taken before."""

    def __init__(self, history: NodeHistory) -> None:
        self.history = history
        # What comes after a block that was not taken in must not be taken in before it.
        history.store.committer.stops_at = (Exception,)
        # Every append checks the lease: so nobody else adds to it meanwhile.
        self._applied = within(history.applied)
        self._together = HANDED_TOGETHER
        # Timelines of blocks that were taken in before, and whose positions nobody heard.
        self.unheard: set[str] = set()

    def some(self, box: Box) -> None:
        """Hands over those that wait longest, and crosses off what is done; raises why the database takes no more now."""
        waiting = box.first(HANDED_TOGETHER, HANDED_BYTES)
        for _ in range(REFUSED_TOGETHER):
            if not waiting:
                return
            done, refused, moved, error = self._hand(waiting[: self._together])
            if done:
                box.done(waiting[done - 1].key, done, refused, moved=moved)
            if error is not None:
                raise error
            waiting = waiting[done:]
            # Where one is refused the next often is, too, and all behind it go once more: so they go one by one at first.
            self._together = 1 if refused else min(2 * self._together, HANDED_TOGETHER)

    def _hand(self, some: Sequence[Kept]) -> tuple[int, list[tuple[int, str]], bool, BaseException | None]:
        """Hands over up to the first that fails.

        How many are done, which of them was refused and why, whether one got another position than was acknowledged,
        and why it is over for now.
        """
        patience = Patience()
        sent: list[Future[Position] | None] = []
        for kept in some:
            try:
                sent.append(self._sent(kept, [future for future in sent if future is not None], patience))
            except Exception as error:  # noqa: BLE001  it is looked at in its turn
                failed: Future[Position] = Future()
                failed.set_exception(error)
                sent.append(failed)
                break
        done, moved = 0, False
        for kept, future in zip(some, sent, strict=False):
            ours = kept.position.epoch == self.history.epoch
            if future is None:
                if ours:
                    self.unheard.add(kept.timeline)
            elif (wrong := patience.answer(future)) is None:
                moved |= ours and kept.position != future.result()
            elif isinstance(wrong, NOT_NOW):
                return done, [], moved, wrong
            else:
                # Those behind it were not taken in; when all of them have said so it goes on with them.
                for behind in sent[done + 1 :]:
                    late = None if behind is None else patience.answer(behind)
                    if isinstance(late, NOT_NOW):
                        return done + 1, [(kept.key, str(wrong))], moved | ours, late
                self.history.store.committer.go_on()
                return done + 1, [(kept.key, str(wrong))], moved | ours, None
            done += 1
        return done, [], moved, None

    def _sent(self, kept: Kept, earlier: Sequence[Future[Position]], patience: Patience) -> Future[Position] | None:
        """A block on its way; None for one that was taken in before."""
        if kept.mark.number <= self._applied.get(kept.mark.box, 0):
            return None
        block = kept.block
        if isinstance(block, StoreDamaged):
            raise block
        if len(block) >= MANY_ROWS:
            # Not before all that came before it is there.
            for future in earlier:
                patience.answer(future)
            # Where that cannot be read it is handed over as it is.
            with suppress(StoreDamaged):
                columns, (start, end) = list(block.columns), (int(block.t[0]), int(block.t[-1]) + 1)
                block = news(within(self.history.read, kept.timeline, columns, start, end)[0], block)
        # It was checked when it was acknowledged.
        return hand_in(self.history, Job(kept.timeline, block, 0.0, True, kept.beside, kept.mark), earlier, patience)
