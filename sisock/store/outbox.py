"""The outbox: where a node's rows are kept, durably, while its database does not answer or is not the node's to write.

While the database is there every block goes straight to it. When it is away blocks are committed to a small SQLite file
beside the node, checked and numbered as the database would have done; an fsync there counts as the commit. When the
database is back they are handed over in order, while new ones go on coming to the file.

Two things make that safe. Every block has an id of its own (that of this run of the outbox, and a number), which the
database notes in the block's transaction: a replay passes over what the database has taken in, and nothing else. And
positions that the file gave are told apart from those of the database wherever they may differ: a run that starts
without the database, and without knowing all that it took in, numbers in an epoch of its own; and if a replay gives a
block another position than was acknowledged, the history gets a new epoch. Readers then read anew, instead of missing rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from time import monotonic
from uuid import uuid4

from sisock.beside import TableRows
from sisock.blocks import Block
from sisock.errors import LostLease, SisockError, StoreAway, StoreFull
from sisock.history import Keeping
from sisock.positions import Position
from sisock.store.boxes import Box
from sisock.store.committer import Mark
from sisock.store.handover import HandOver, Job, Patience, hand_in, in_thread, within
from sisock.store.history import NodeHistory
from sisock.store.inbox import Inbox
from sisock.store.keeping import checked
from sisock.store.lines import Line, load_all
from sisock.times import now
from sisock.uris import check_field_name

log = logging.getLogger(__name__)

# Seconds between two tries to reach a database that is away.
RETRY_SECONDS = 2.0
# Seconds that a start waits for the database, so that the first rows are its own already; and that an end waits for it.
PATIENCE = 3.0
# So many times as long, while another process writes the node: whoever comes by the name says so (`try_now`).
SELDOM = 5
# Opens the history to be written, given the number of the lease that one had; None while another process may write it.
Connect = Callable[[int | None], NodeHistory | None]


class Outbox:
    """A node's writer that goes on when its database is away. Safe to use from any thread.

    `connect` opens the node's history to be written: None while the node may not write it, StoreAway while it does not
    answer. It is called again every `retry` seconds, and at `try_now`. `check` raises InvalidArgument for a block that
    the database could not keep. `changed` is called, in the outbox's thread, whenever `keeping` is another.
    """

    def __init__(
        self,
        box: Box | str | Path,
        connect: Connect,
        *,
        others: Sequence[Box] = (),
        retry: float = RETRY_SECONDS,
        check: Callable[[Block], None] = lambda _: None,
        changed: Callable[[Keeping], None] = lambda _: None,
    ) -> None:
        self._box = box if isinstance(box, Box) else Box(box)
        self._others = list(others)
        self._connect, self._retry, self._check, self._changed = connect, retry, check, changed
        self._run, self._number = uuid4().hex, 0
        self._lines, self._epoch = self._box.lines, self._box.epoch
        # Whether the file knows less than `_lines`: then the next block takes all of them with it.
        self._know_all = True
        self._history: NodeHistory | None = None
        self._replay: HandOver | None = None
        self._mine: int | None = None
        self._lost: LostLease | None = None
        self._trouble: Exception | None = StoreAway("the database has not been reached yet")
        self._since: float | None = now()
        self._told: Keeping | None = None
        self._jobs: Inbox[Job] = Inbox()
        # A server that is away may take long to say so: it is asked in a thread of its own.
        self._answer: Future[NodeHistory | None] | None = None
        self._next_try = monotonic()
        self._soon = False
        self._closing: list[threading.Thread] = []
        self._begun = threading.Event()
        self._box.add_run(self._run)
        self._thread = threading.Thread(target=self._work, name="sisock-outbox", daemon=True)
        self._thread.start()
        self._begun.wait(PATIENCE)

    def append(
        self,
        timeline: str,
        block: Block,
        *,
        lateness: float = 0.0,
        correct: bool = False,
        wait: bool = True,
        beside: Sequence[TableRows] = (),
    ) -> Future[Position]:
        """Keeps a block as NodeHistory.append does; the Future is done when it is durable, here or there."""
        check_field_name(timeline, "timeline")
        for name in block.columns:
            check_field_name(name)
        self._check(block)
        job = Job(timeline, block, lateness, correct, beside)
        self._jobs.put(job, wait=wait)
        return job.done

    @property
    def writing(self) -> bool:
        """Whether blocks go to the database itself."""
        return self._history is not None

    @property
    def history(self) -> NodeHistory | None:
        """The history in the database, while blocks go there; None while it is away or another's to write."""
        return self._history

    @property
    def trouble(self) -> Exception | None:
        """Why blocks do not go to the database; StoreAway where it does not answer, None while another may write it."""
        return self._trouble

    @property
    def away(self) -> str | None:
        """Why blocks do not go to the database now; None while they do."""
        if self._history is not None:
            return None
        return str(self._lost or self._trouble or "the name of this node, and with it the lease, is another process's")

    @property
    def waiting(self) -> int:
        """How many blocks wait here for the database."""
        return self._box.waiting + sum(box.waiting for box in self._others)

    @property
    def refused(self) -> int:
        """How many blocks the database would not take in when they were replayed; they stay in the file."""
        return self._box.refused + sum(box.refused for box in self._others)

    @property
    def keeping(self) -> Keeping:
        """How it goes, for those who look after the node."""
        return Keeping(self.away, None if self.writing else self._since, self.waiting, self.refused)

    def newest(self, timeline: str) -> int | None:
        """The last time of a timeline that was acknowledged, as far as it is known here; None for no rows."""
        line = self._lines.get(timeline)
        return None if line is None else line.newest

    def try_now(self) -> None:
        """Asks for the database at once, since the node may write it now."""
        self._soon = True
        self._jobs.wake()

    def close(self) -> None:
        """Keeps what is queued, ends the thread and gives the lease up; what waits for the database stays in the file."""
        if not self._thread.is_alive():
            return
        self._jobs.close()
        self._thread.join()
        if self._answer is not None:
            self._answer.add_done_callback(_close_unused)
        if self._history is not None:
            # Without it the next start numbers in an epoch of its own, should the database be away then.
            with suppress(SisockError):
                self._box.know(self._lines, self._epoch)
        self._let_go(release=True)
        # A server that does not answer does not keep the program from ending.
        for closing in self._closing:
            closing.join(PATIENCE)
        self._close_boxes()

    def _close_boxes(self) -> None:
        for box in (self._box, *self._others):
            box.close()

    # The thread

    def _work(self) -> None:
        ends = False
        while not ends:
            self._attend()
            self._tell()
            jobs, ends = self._jobs.take(self._patience())
            self._keep([job for job in jobs if job.done.set_running_or_notify_cancel()])
            if self._replay is not None and not ends:
                self._guarded(self._hand_some_over)

    def _patience(self) -> float | None:
        """How long to wait for blocks; None where nothing else is to be done."""
        if self._replay is not None:
            return 0.0
        if self._history is not None or self._lost is not None or self._answer is not None:
            return None
        return 0.0 if self._soon else max(0.0, self._next_try - monotonic())

    def _attend(self) -> None:
        """Asks for the database when it is time, and begins to hand over when it has answered."""
        if self._history is not None or self._replay is not None or self._lost is not None:
            return
        if self._answer is None and (self._soon or monotonic() >= self._next_try):
            self._soon = False
            self._answer = in_thread(self._connect, self._mine)
            self._answer.add_done_callback(lambda _: self._jobs.wake())
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            self._next_try = monotonic() + self._retry
            if isinstance(error := answer.exception(), LostLease):
                # What waits stays in the file, and nothing more is taken in.
                self._lost = error
            self._guarded(lambda: self._reached(answer.result()))
            if self._replay is None:
                self._begun.set()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Takes a step towards the database; if it fails, blocks are kept here, and `away` says what is wrong."""
        try:
            step()
        except LostLease:
            # Somebody has taken the lease since: whether it is ours is asked anew.
            self._fall_back(None)
        except Exception as error:  # noqa: BLE001  whatever it is, rows come all the same
            self._fall_back(error)

    def _reached(self, history: NodeHistory | None) -> None:
        if history is None:
            self._trouble = None
            self._next_try = monotonic() + SELDOM * self._retry
            return
        if not isinstance(self._trouble, StoreFull):
            self._trouble = StoreAway("the database is back, and the blocks that waited for it are handed over to it")
        self._mine = history.number
        try:
            self._replay = HandOver(history)
        except BaseException:
            self._leave(history)
            raise
        if not self.waiting:
            self._settle(self._replay)

    def _fall_back(self, error: Exception | None) -> None:
        self._let_go()
        self._trouble = error
        self._begun.set()

    def _let_go(self, *, release: bool = False) -> None:
        """Leaves the database; a thread closes it, since it may not answer."""
        history = self._history or (self._replay.history if self._replay is not None else None)
        if self._history is not None:
            self._know_all = True
            self._since = now()
        self._history = self._replay = None
        if history is not None:
            self._leave(history, release=release)

    def _leave(self, history: NodeHistory, *, release: bool = False) -> None:
        closing = threading.Thread(target=_leave, args=(history, release), daemon=True, name="sisock-outbox-close")
        closing.start()
        self._closing = [*(one for one in self._closing if one.is_alive()), closing]

    def _tell(self) -> None:
        keeping = self.keeping
        # At a start it is not known yet how it goes.
        if keeping != self._told and self._begun.is_set():
            self._told = keeping
            try:
                self._changed(keeping)
            except Exception:
                # Whoever is told may fail; rows are kept all the same.
                log.exception("how rows are kept could not be told")

    # Blocks that come

    def _keep(self, jobs: list[Job]) -> None:
        try:
            if self._lost is not None:
                raise self._lost
            for job in jobs:
                self._number += 1
                job.mark = Mark(self._run, self._number)
            if self._history is not None:
                jobs = self._hand_in(self._history, jobs)
            if jobs:
                self._store(jobs)
        except Exception as error:  # noqa: BLE001  every error goes to those who wait for it
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(error)

    def _hand_in(self, history: NodeHistory, jobs: list[Job]) -> list[Job]:
        """Gives blocks to the database; those that it did not answer."""
        sent: list[tuple[Job, Future[Position]]] = []
        left: list[Job] = []
        patience = Patience()
        away: Exception | None = None
        for job in jobs:
            try:
                sent.append((job, hand_in(history, job, [future for _, future in sent], patience)))
            except StoreAway as error:
                away = error
                left.append(job)
            except SisockError as error:
                job.done.set_exception(error)
        unanswered: list[Job] = []
        for job, future in sent:
            failed = patience.answer(future)
            if isinstance(failed, StoreAway):
                away = failed
                # It may be taken in yet; what comes behind it may not, if it is refused: it is handed over in its turn.
                history.store.committer.stops_at = (Exception,)
                unanswered.append(job)
            elif failed is not None:
                if isinstance(failed, LostLease):
                    self._lost = failed
                job.done.set_exception(failed)
            else:
                line, position = self._line(job.timeline), future.result()
                _mirror(line, job.block, checked(line, job.block, job.lateness, True))
                # What was deleted is counted, too.
                line.epoch, line.seq = position.epoch, position.seq
                job.done.set_result(position)
        if away is not None:
            self._fall_back(away)
        return [*unanswered, *left]

    def _store(self, jobs: list[Job]) -> None:
        """Commits blocks to the file, numbered as the database would have."""
        kept: list[tuple[Job, Position]] = []
        touched = dict.fromkeys(job.timeline for job in jobs)
        before = {name: deepcopy(self._lines[name]) for name in touched if name in self._lines}
        try:
            for job in jobs:
                line = self._line(job.timeline)
                try:
                    kinds = checked(line, job.block, job.lateness, job.correct)
                except SisockError as error:
                    job.done.set_exception(error)
                    continue
                _mirror(line, job.block, kinds)
                line.seq += 1
                kept.append((job, Position(line.epoch, line.seq)))
            known = self._lines if self._know_all else {name: self._lines[name] for name in touched}
            blocks = [(job.timeline, position, job.mark, job.block, job.beside) for job, position in kept]
            self._box.put(blocks, known, self._epoch)
        except BaseException:
            for name in touched:
                self._lines.pop(name, None)
            self._lines.update(before)
            raise
        self._know_all = False
        for job, position in kept:
            job.done.set_result(position)

    def _line(self, timeline: str) -> Line:
        if timeline not in self._lines:
            self._lines[timeline] = Line(0, timeline, self._epoch)
        return self._lines[timeline]

    # Blocks that waited

    def _hand_some_over(self) -> None:
        """Hands over the blocks that wait longest; when none is left the database is written to directly."""
        if self._replay is None:
            return
        self._replay.some(next((box for box in self._others if box.waiting), self._box))
        if not self.waiting:
            self._settle(self._replay)

    def _settle(self, replay: HandOver) -> None:
        """Goes on with the database, now that nothing waits any more."""
        boxes = [self._box, *self._others]
        runs = [run for box in boxes for run in box.runs if run != self._run]
        history, lines = replay.history, within(_lines_of, replay.history)
        # Where nobody heard which numbers were given, the last one tells.
        unheard = [(self._lines[name], lines[name]) for name in replay.unheard if name in lines and name in self._lines]
        if any(box.moved for box in boxes) or any(
            ours.epoch == theirs.epoch and ours.seq != theirs.seq for ours, theirs in unheard
        ):
            replay.history = history = within(history.begin_anew)
            self._mine = history.number
            lines = within(_lines_of, history)
        # From here on the database counts alone, until it is away: then nothing more may be taken in before that.
        history.store.committer.stops_at = (StoreAway,)
        self._box.settle([self._run])
        while self._others:
            self._others[0].settle([])
            self._others.pop(0).remove()
        # Not before the files know that nothing of those runs is to be handed over again.
        within(history.forget_applied, runs)
        self._lines, self._epoch, self._know_all = lines, history.epoch, False
        self._history, self._replay, self._trouble, self._since = history, None, None, None
        self._begun.set()


def _lines_of(history: NodeHistory) -> dict[str, Line]:
    """What the database knows of the timelines."""
    with history.store.database.reading() as tx:
        return {line.name: line for line in load_all(tx, history.node)}


def _mirror(line: Line, block: Block, kinds: dict[str, str]) -> None:
    line.kinds.update(kinds)
    if len(block):
        last = int(block.t[-1])
        line.newest = last if line.newest is None else max(line.newest, last)


def _leave(history: NodeHistory, release: bool) -> None:
    """Closes a history's store; an error is of a database that is away, or of a lease that is another's."""
    if release:
        with suppress(SisockError):
            history.release()
    history.store.close()


def _close_unused(answer: Future[NodeHistory | None]) -> None:
    """Closes what was opened too late."""
    if answer.exception() is None and (history := answer.result()) is not None:
        history.store.close()
