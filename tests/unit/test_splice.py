"""The splice against a model of a node, its history, a network that does what it likes, and a reader who comes and goes.

The model's node commits blocks of every kind and publishes them as `publishing` does; the model's driver does what the
splice asks as `following` does, in as many steps as things can happen between.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sisock import splice as splicing
from sisock.blocks import Block, Column
from sisock.history import joined_ranges
from sisock.live import LiveBlock
from sisock.positions import Position
from sisock.splice import AskSince, AskTail, Deliver, Gap, ReadPages, Splice, State
from sisock.times import LATEST

FIELDS = ("a", "b", "other")
FOLLOWED = ("a", "b")
# More changed rows than one answer with `since` holds, and rows of a page.
MOST_CHANGED = 8
PAGE_ROWS = 2


def block_of(rows, names=FIELDS):
    """The block of rows {t: {field: value}}, whole as a history reads them."""
    t = sorted(rows)
    columns = {}
    for name in names:
        values = [rows[at].get(name) for at in t]
        there = np.array([value is not None for value in values], np.bool_)
        if there.any():
            columns[name] = Column(np.array([value or 0.0 for value in values]), None if there.all() else there)
    return Block(np.array(t, np.int64), columns)


def rows_of(block):
    """Rows {t: (values of the followed fields)} of a block that was delivered."""
    lists = {name: column.to_list() for name, column in block.columns.items()}
    return {t: tuple(lists[name][at] if name in lists else None for name in FOLLOWED) for at, t in enumerate(block.t.tolist())}


class Node:
    """A timeline as a history keeps it, and the publisher of its live blocks."""

    def __init__(self):
        self.epochs = 0
        self.rows = {}
        self.began_anew()

    def began_anew(self):
        """Another life of the history, with whatever rows it has."""
        self.epochs += 1
        self.seq = self.dropped = 0
        # Rows that were dropped, and before when; what comes before that is not looked into.
        self.gone, self.cut = {}, 0
        self.touched, self.newest_at = [], [self.newest]
        self.started()

    def started(self):
        """The node's program is started: what its publisher had waiting is gone."""
        self.waiting = []
        self.published_newest = max(self.rows, default=None)

    @property
    def position(self):
        return Position(f"epoch {self.epochs}", self.seq)

    @property
    def newest(self):
        return max(self.rows, default=self.cut - 1)

    def commit(self, block):
        """Rows {t: {field: value}}, where a field that is not named stays as it is."""
        block = {t: row for t, row in block.items() if t >= self.cut}
        if not block:
            return
        for t, row in block.items():
            self.rows[t] = {**self.rows.get(t, {}), **row}
        self.touch(min(block), max(block) + 1, deleted=False)
        fresh = self.published_newest is None or min(block) > self.published_newest
        self.published_newest = max(block) if self.published_newest is None else max(self.published_newest, *block)
        self.waiting.append((self.position, dict(block), fresh))

    def delete(self, start, end):
        """Deletes rows, which is not published."""
        rest = {t: row for t, row in self.rows.items() if not start <= t < end}
        if rest or not self.gone:
            # With no row left nobody knows where those begin that are kept.
            self.rows = rest
            self.touch(start, end, deleted=True)

    def drop(self, end):
        """Keeps rows from `end` on only, which is told to nobody; a follower who lacks a block of those is told that."""
        self.gone |= self.followed(0, end)
        self.rows = self.read(end, LATEST)
        self.cut = end
        self.dropped = max([self.dropped, *(seq for seq, low, _, _ in self.touched if low < end)])

    def touch(self, start, end, *, deleted):
        self.seq += 1
        self.touched.append((self.seq, start, end, deleted))
        self.newest_at.append(self.newest)

    def events(self, waiting, together):
        """The events of blocks that were committed: `together` are joined where they follow each other."""
        while waiting:
            run = [waiting.pop(0)]
            while waiting and together and run[-1][2] and waiting[0][2] and follows(run[-1][0], waiting[0][0]):
                run.append(waiting.pop(0))
            first, last = run[0], run[-1]
            rows = {t: row for _, block, _ in run for t, row in block.items()}
            revises = None
            if not first[2]:
                if first[0].seq <= self.dropped:
                    # No node drops what came a moment ago, so this is not looked into.
                    continue
                revises = min(rows), max(rows) + 1
                rows = self.read(*revises)
            yield LiveBlock("t", last[0], first[0].seq - 1, block_of(rows), None, revises)

    def repeat(self):
        return LiveBlock("t", self.position, self.seq, block_of({}))

    def read(self, start, end):
        return {t: row for t, row in self.rows.items() if start <= t < end}

    def followed(self, start, end=LATEST):
        """What a follower of the fields should have."""
        found = {t: tuple(row.get(name) for name in FOLLOWED) for t, row in self.read(start, end).items()}
        return {t: row for t, row in found.items() if any(value is not None for value in row)}

    def changes(self, since, start, end, wider):
        """As History.changes; a string for what is refused. `wider` names more than changed, as chunks do."""
        if since.epoch != self.position.epoch or not self.dropped <= since.seq <= self.seq:
            return "position_lost"
        later = [one for one in self.touched if one[0] > since.seq]
        # What lies behind all that was there is new, and replaces nothing.
        old_end = self.newest_at[since.seq] + 1
        touched = [(max(low - wider, min(low, self.cut)), high + wider) for _, low, high, deleted in later if not deleted]
        revised = [(low, high) for _, low, high, deleted in later if deleted]
        revised += [(low, min(high, old_end)) for low, high in touched if low < old_end]
        revises = joined_ranges((max(low, start), min(high, end)) for low, high in revised)
        asked = joined_ranges([*revises, *((max(low, start), min(high, end)) for low, high in touched)])
        rows = {t: row for low, high in asked for t, row in self.read(low, high).items()}
        if len(rows) > MOST_CHANGED:
            return "too_much"
        return block_of(rows), revises, self.position


def follows(one, other):
    return one.epoch == other.epoch and other.seq == one.seq + 1


values = st.none() | st.integers(1, 9).map(float)
rows = st.one_of(
    st.integers(1, 9).map(lambda value: {"a": float(value)}),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=3),
)


class Following(RuleBasedStateMachine):
    """Drives a splice; what was delivered is put together by the rules and held against the node's rows."""

    @initialize(start=st.integers(0, 5), held=st.lists(rows, max_size=12))
    def begin(self, start, held):
        self.node = Node()
        self.start = start
        for t, row in enumerate(held):
            self.node.commit({2 * t: row})
        self.node.started()
        # Blocks of a publisher whose node was taken over, which it may still send.
        self.ghost = []
        self.newest = -1
        self.read_anew()

    def read_anew(self):
        """A reader who knows nothing."""
        self.copy, self.named, self.known, self.unread = {}, set(), None, None
        # Ranges that were named as gaps or revised, and the oldest row that was delivered.
        self.told, self.oldest = [], LATEST
        self.drive(Splice(FOLLOWED, self.start))

    def drive(self, splice):
        self.splice = splice
        self.connected = False
        # Events on their way; what was asked for, and its answer on its way.
        self.wire, self.work, self.answer = [], None, None
        self.reached, self.last, self.paged = splice.position, None, set()

    # The driver

    def do(self, actions):
        asked = [action for action in actions if not isinstance(action, (Deliver, Gap))]
        assert len(asked) <= 1
        for action in actions:
            if isinstance(action, Deliver):
                self.take(action)
            elif isinstance(action, Gap):
                assert action.start < action.end
                # What was delivered there stays, but is known to be in doubt.
                self.told.append((action.start, action.end))
                self.named |= {t for t in self.copy if action.start <= t < action.end}
        if asked:
            assert self.splice.asked == asked[0]
            self.work, self.answer, self.begun = asked[0], None, False
        assert (self.work is not None) == (self.splice.state in (State.OPENING, State.READING, State.ASKING))
        position, before = self.splice.position, self.reached
        assert before is None or (position is not None and (position.epoch != before.epoch or position.seq >= before.seq))
        self.reached = position
        if self.splice.state is State.LIVE and self.last is not None:
            assert self.last.position is not None, "all is delivered, and the position was not told"

    def take(self, delivered):
        assert (np.diff(delivered.block.t) > 0).all()
        assert not len(delivered.block) or delivered.block.t[0] >= self.start
        assert delivered.revises == tuple(sorted(delivered.revises))
        assert all(self.start <= start < end for start, end in delivered.revises)
        assert all(end <= self.newest + 1 for _, end in delivered.revises), "it replaces what never was"
        self.told += delivered.revises
        erased = {t for t in self.copy if any(start <= t < end for start, end in delivered.revises)}
        self.copy = {t: row for t, row in self.copy.items() if t not in erased}
        came = rows_of(delivered.block)
        if self.oldest == LATEST:
            # What was gone before the reader had anything is nobody's.
            self.node.gone = {t: row for t, row in self.node.gone.items() if t in came}
        assert not came.keys() & self.copy.keys(), "a row came twice"
        assert all(any(value is not None for value in row) for row in came.values())
        self.copy |= came
        self.newest, self.oldest = max([self.newest, *came]), min([self.oldest, *came])
        self.last = delivered
        self.named -= erased | came.keys()
        self.named &= self.copy.keys()
        assert delivered.position in (None, delivered.since)
        assert delivered.position is None or delivered.unread is None
        self.known, self.unread = delivered.since, delivered.unread

    def stop(self):
        self.work = self.answer = None

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self):
        self.connected = True
        self.do(self.splice.subscribed())

    @precondition(lambda self: self.connected)
    @rule()
    def lose_the_connection(self):
        self.connected = False
        self.wire = []
        self.stop()
        self.do(self.splice.lost())

    @precondition(lambda self: self.connected and self.splice.state is not State.PAUSED)
    @rule()
    def pause(self):
        self.stop()
        self.do(self.splice.paused())

    @precondition(lambda self: self.splice.state is State.PAUSED)
    @rule()
    def resume(self):
        self.do(self.splice.resumed())

    @precondition(lambda self: self.splice.state is State.LIVE)
    @rule()
    def silence(self):
        self.do(self.splice.silent())

    @rule()
    def restart_the_reader(self):
        """Goes on behind what was delivered last, with all that was."""
        if self.known is None or not self.copy:
            self.read_anew()
        else:
            self.drive(Splice(FOLLOWED, self.start, self.known, max(self.copy), self.unread))

    # The node answers

    @precondition(lambda self: self.work is not None and self.answer is None)
    @rule(wider=st.integers(0, 3))
    def read(self, wider=0):
        match self.work:
            case AskTail(start):
                found = self.node.read(start, LATEST)
                self.answer = "tail", self.node.position, max(found, default=None)
            case ReadPages(start, end):
                if start > self.start and not self.begun:
                    self.do(self.splice.begins(min(self.node.read(self.start, end), default=end)))
                    if self.splice.asked.start > start:
                        start, self.paged = self.splice.asked.start, set()
                self.begun = True
                page = dict(sorted(self.node.read(start, end).items())[:PAGE_ROWS])
                self.answer = "page", self.node.position.epoch, block_of(page), len(page) < PAGE_ROWS
            case AskSince(since, start, end):
                self.answer = "since", self.node.changes(since, start, end, wider)

    @precondition(lambda self: self.answer is not None)
    @rule()
    def answer_comes(self):
        (kind, *told), self.answer = self.answer, None
        splice = self.splice
        if kind == "page":
            epoch, block, done = told
            self.paged |= set(self.node_rows_followed(block))
            self.do(splice.page(block.take(np.isin(block.t, list(self.node_rows_followed(block))))))
            if epoch != splice.position.epoch:
                self.stop()
                self.do(splice.position_lost())
            elif done:
                self.stop()
                self.do(splice.pages_done())
                # What was delivered of another history is left where this one has nothing before or behind it.
                assert not self.paged or not any(min(self.paged) <= t <= max(self.paged) for t in self.named)
            else:
                # As the pages go on, whatever a page holds.
                last = int(block.t[-1])
                self.work = ReadPages(last + 1, self.work.end)
            return
        self.stop()
        self.paged = set()
        if kind == "tail":
            self.do(splice.tail(*told))
        elif isinstance(told[0], str):
            self.do(getattr(splice, told[0])())
        else:
            self.do(splice.changed(*told[0]))

    @staticmethod
    def node_rows_followed(block):
        """Times of rows with a value of a followed field: others are not answered."""
        return [t for t, row in rows_of(block).items() if any(value is not None for value in row)]

    @precondition(lambda self: self.connected)
    @rule(steps=st.integers(0, 5), how=st.sampled_from(["lost", "paused", "restarted"]), steps_after=st.integers(0, 9))
    def interrupted(self, steps, how, steps_after):
        """In the middle of what is read, whatever that is."""
        self.go_on(steps=steps)
        if how == "lost":
            self.lose_the_connection()
        elif how == "restarted":
            self.restart_the_reader()
        elif self.splice.state is not State.PAUSED:
            self.pause()
        self.do(self.splice.resumed() if self.connected else self.splice.subscribed())
        self.connected = True
        self.go_on(steps=steps_after)

    @precondition(lambda self: self.connected)
    @rule(
        many=st.integers(MOST_CHANGED + 1, 2 * MOST_CHANGED), old=st.booleans(), gone=st.integers(0, 9), steps=st.integers(0, 9)
    )
    def away_for_long(self, many, old, gone, steps):
        self.lose_the_connection()
        self.commit_much(many=many)
        if gone:
            self.delete(start=0, length=gone)
        if old:
            self.correct_much()
        self.connect()
        self.go_on(steps=steps)

    # Events come

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), again=st.booleans(), lost=st.booleans())
    def event_comes(self, data, again, lost):
        """Out of order, twice, or not at all."""
        at = data.draw(st.integers(0, len(self.wire) - 1))
        event = self.wire[at] if again else self.wire.pop(at)
        if not lost:
            self.do(self.splice.event(event))

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 5))
    def next_events_come(self, count=1):
        for event in self.wire[:count]:
            self.do(self.splice.event(event))
        self.wire = self.wire[count:]

    @precondition(lambda self: self.work is not None)
    @rule(steps=st.integers(1, 6))
    def go_on(self, steps):
        """What was asked is answered, and what is asked then."""
        for _ in range(steps if self.work is not None else 0):
            if self.answer is not None:
                self.answer_comes()
            elif self.work is not None:
                self.read()

    # The node works

    @rule(step=st.integers(1, 3), row=rows, more=st.lists(rows, max_size=2))
    def commit_behind(self, step, row, more):
        first = self.node.newest + step
        self.node.commit({first + at: one for at, one in enumerate([row, *more])})

    @rule(block=st.dictionaries(st.integers(0, 40), rows, min_size=1, max_size=3))
    def commit_anywhere(self, block):
        self.node.commit(block)

    @rule(many=st.integers(MOST_CHANGED + 1, 3 * MOST_CHANGED))
    def commit_much(self, many):
        self.node.commit({self.node.newest + 1 + at: {"a": float(at + 1)} for at in range(many)})

    @rule()
    def correct_much(self):
        self.node.commit({t: {"b": 7.0} for t in range(9, 9 + MOST_CHANGED + 2)})

    @rule(start=st.integers(0, 40), length=st.integers(1, 60))
    def delete(self, start, length):
        self.node.delete(start, start + length)

    @precondition(lambda self: len(self.node.rows) > 1 and self.splice.state is not State.READING)
    @rule(many=st.integers(1, 20))
    def drop(self, many):
        """The oldest rows are too old to be kept; but not while they are read, page by page."""
        self.node.drop(sorted(self.node.rows)[:-1][:many][-1] + 1)

    @rule()
    def delete_the_end(self):
        self.node.delete(max(0, self.node.newest - 1), self.node.newest + 1)

    @rule(together=st.booleans())
    def publish(self, together):
        self.send(self.node.events(self.node.waiting, together))

    @rule()
    def publish_too_little(self):
        """What is too long, or too fast for the router, is left out, and the position told."""
        self.node.waiting = []
        self.send([self.node.repeat()])

    @rule()
    def repeat(self):
        self.send([self.node.repeat()])

    @rule()
    def node_is_restarted(self):
        self.node.started()
        self.ghost = []

    @rule()
    def node_is_taken_over(self):
        self.ghost = self.node.waiting
        self.node.started()

    @precondition(lambda self: self.ghost)
    @rule()
    def the_former_node_still_publishes(self):
        self.send(self.node.events(self.ghost, together=True))

    @rule(kept=st.integers(0, 40))
    def history_is_another_one(self, kept):
        """In memory only, deleted (nothing is kept), or restored from a copy."""
        self.node.rows = self.node.read(0, kept)
        self.ghost = []
        self.node.began_anew()

    def send(self, events):
        # What nobody hears is lost.
        self.wire += [event for event in events if self.connected]

    # What must hold

    @invariant()
    def what_was_delivered_is_what_the_node_has(self):
        if not hasattr(self, "splice") or self.splice.state is not State.LIVE or self.splice.position != self.node.position:
            return
        expected = self.node.followed(self.start)
        # What was delivered stays where it is only too old for the node.
        kept = {t: row for t, row in self.copy.items() if t not in self.named and (t >= self.node.cut or t in expected)}
        assert kept == {t: row for t, row in expected.items() if t not in self.named}
        gone = {t: row for t, row in self.node.gone.items() if t >= self.oldest and t not in expected}
        for t, row in gone.items():
            assert self.copy.get(t) == row or any(start <= t < end for start, end in self.told), "a hole that is not named"
        assert self.named <= self.copy.keys()
        assert not self.named & expected.keys()

    @rule()
    def all_is_calm(self):
        """Left in peace it comes to the node's position, and asks no more than it must."""
        self.ghost = []
        self.do([] if self.connected else self.splice.subscribed())
        self.connected = True
        self.do(self.splice.resumed())
        # Tail, pages, changes, pages again: each row is read a few times at most.
        for _ in range(60 + 8 * (len(self.node.rows) + len(self.wire))):
            if self.answer is not None:
                self.answer_comes()
            elif self.work is not None:
                self.read()
            elif self.wire:
                self.next_events_come()
            elif self.splice.position == self.node.position:
                break
            else:
                self.send(self.node.events(self.node.waiting, together=True))
                self.send([self.node.repeat()])
        assert (self.splice.state, self.splice.position) == (State.LIVE, self.node.position)
        self.what_was_delivered_is_what_the_node_has()

    def teardown(self):
        if hasattr(self, "splice"):
            self.all_is_calm()


# Without Phase.shrink: making a failure smaller may take minutes. Add it to look into one.
PHASES = [Phase.generate]


def run(examples, steps):
    with mock.patch.multiple(splicing, MAX_HELD=3, MAX_HELD_VALUES=40):
        run_state_machine_as_test(
            Following,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=PHASES,
            ),
        )


def test_whatever_happens_nothing_is_missed_and_nothing_comes_twice():
    run(examples=200, steps=40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_it_does_so_for_long():
    run(examples=20_000, steps=80)
