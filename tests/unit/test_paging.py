"""Pages of a long range: in order, whole, whatever comes first and whatever is lost on the way."""

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from sisock import arrow
from sisock.blocks import Block, Column, concat
from sisock.errors import NodeFailed, NotConnected, TooMuch, UnknownNode
from sisock.paging import LEFT_BYTES, MOST_BYTES, Stretch, read_pages
from sisock.times import MICROS

ROWS = 1_000_000
FIRST = 1_700_000_000 * MICROS
T = FIRST + np.arange(ROWS) * 1000
ALL = Block(T, {"x": Column(np.arange(ROWS, dtype=float))})


class Asked:
    """A call that waits for what the test makes of it."""

    def __init__(self, block, progress):
        self.block, self._progress = block, progress
        self.answered = Deferred()
        self._layout = arrow.schema("t", block.columns)
        self._sent = False

    def send(self, rows):
        if not self._sent:
            self._progress({"timeline": "t", "arrow": arrow.message(self._layout)})
            self._sent = True
        self._progress({"timeline": "t", "arrow": arrow.message(arrow.batch(rows, self._layout))})

    def end(self):
        self.answered.callback({"timeline": {"t": {"finalized_until": None}} if self._sent else {}})

    def all(self):
        if len(self.block):
            self.send(self.block)
        self.end()


class Reading:
    """A reading of all rows, whose calls are in `asked`."""

    def __init__(self, block=ALL, start=FIRST, end=int(T[-1]) + 1, **more):
        self.asked, self.taken = [], []

        async def call(_, first, last, *, on_progress, **kwargs):
            assert kwargs == {"encoding": "arrow"}
            asked = Asked(block.between(round(first * MICROS), round(last * MICROS)), on_progress)
            self.asked.append(asked)
            return await asked.answered

        stretch = Stretch("t", ("x",), start, end, len(block), int(block.t[0]))
        self.done = Deferred.fromCoroutine(read_pages(call, stretch, self.taken.append, **more))

    @property
    def rows(self):
        return sum(map(len, self.taken))

    def finish(self):
        """Answers whatever is asked until nothing is."""
        at = 0
        while not self.done.called:
            waiting = [one for one in self.asked[at:] if not one.answered.called]
            at = len(self.asked) - len(waiting)
            waiting[0].all()


def test_the_next_page_is_asked_for_when_little_is_left_of_one_and_waits_for_its_turn():
    reading = Reading()
    (one,) = reading.asked
    one.send(one.block.take(slice(10)))
    assert len(reading.asked) == 2
    two = reading.asked[1]
    two.all()
    assert reading.rows == 10
    # No third one while two are on their way.
    assert len(reading.asked) == 2
    one.send(one.block.take(slice(10, None)))
    one.end()
    assert reading.rows == len(one.block) + len(two.block)
    reading.finish()
    assert concat(reading.taken) == ALL


def test_of_a_long_page_much_has_to_come_first():
    reading = Reading()
    while not any(len(asked.block) * 16 > 1.5 * LEFT_BYTES for asked in reading.asked):
        next(asked for asked in reading.asked if not asked.answered.called).all()
    (asked,) = (asked for asked in reading.asked if not asked.answered.called)
    there = len(reading.asked)
    enough = len(asked.block) - LEFT_BYTES // 16
    asked.send(asked.block.take(slice(enough - 5000)))
    assert len(reading.asked) == there
    asked.send(asked.block.take(slice(enough - 5000, enough + 5000)))
    assert len(reading.asked) == there + 1
    reading.done.addErrback(lambda _: None)
    reading.done.cancel()


def test_texts_count_with_their_length():
    texts = np.array(["x" * 900] * ROWS, object)
    reading = Reading(Block(T, {"x": Column(texts)}))
    one = reading.asked[0]
    # It was thought to be 256 kB; it is not near its end while megabytes are left.
    one.send(one.block.take(slice(100)))
    assert len(reading.asked) == 1
    one.send(one.block.take(slice(100, None)))
    (two,) = reading.asked[1:]
    assert len(two.block) * 916 <= 1.1 * MOST_BYTES
    reading.done.addErrback(lambda _: None)
    reading.done.cancel()


def test_pages_are_never_longer_than_the_router_holds():
    reading = Reading()
    reading.finish()
    assert concat(reading.taken) == ALL
    assert len(reading.asked) > 2
    assert max(len(one.block) for one in reading.asked) * 16 <= 1.1 * MOST_BYTES


def test_a_gap_is_passed_in_few_pages():
    t = np.concatenate([T[:1000], T[-1000:] + 365 * 86400 * MICROS])
    rows = Block(t, {"x": Column(np.arange(2000.0))})
    # A wrong guess of how dense the rows are begins with a short page.
    reading = Reading(rows, end=int(t[-1]) + 1)
    reading.finish()
    assert concat(reading.taken) == rows
    assert len(reading.asked) < 40


def test_what_is_denser_than_was_thought_is_read_on_behind_what_came():
    reading = Reading()
    one = reading.asked[0]
    one.send(one.block.take(slice(10)))
    reading.asked[1].all()
    one.answered.errback(TooMuch())
    assert len(reading.asked) == 3
    assert int(reading.asked[2].block.t[0]) == int(T[10])
    reading.finish()
    assert concat(reading.taken) == ALL


@pytest_twisted.ensureDeferred
async def test_an_error_ends_it_and_gives_up_what_was_asked_ahead():
    reading = Reading()
    one = reading.asked[0]
    one.send(one.block.take(slice(10)))
    one.answered.errback(NodeFailed())
    with pytest.raises(NodeFailed):
        await reading.done
    # Whoever asked it is told that nobody waits any more.
    assert reading.asked[1].answered.called
    assert reading.rows == 10


@pytest.mark.parametrize("error", [NotConnected(), NodeFailed()])
@pytest_twisted.ensureDeferred
async def test_an_error_before_anything_came_is_raised_as_it_is(error):
    reading = Reading()
    reading.asked[0].answered.errback(error)
    with pytest.raises(type(error)):
        await reading.done


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_page_ahead_waits_for_its_turn():
    reading = Reading()
    one = reading.asked[0]
    one.send(one.block.take(slice(10)))
    reading.asked[1].answered.errback(NodeFailed())
    one.send(one.block.take(slice(10, None)))
    assert not reading.done.called
    one.end()
    with pytest.raises(NodeFailed):
        await reading.done
    assert reading.rows == len(one.block)


@pytest_twisted.ensureDeferred
async def test_it_goes_on_after_a_lost_connection_if_it_may():
    lost = []

    async def again(error):
        lost.append(error)

    reading = Reading(again=again)
    one = reading.asked[0]
    one.send(one.block.take(slice(10)))
    two = reading.asked[1]
    two.send(two.block.take(slice(5)))
    for asked in (one, two):
        asked.answered.errback(NotConnected())
    reading.finish()
    await reading.done
    assert concat(reading.taken) == ALL
    assert len(lost) == 2


@pytest_twisted.ensureDeferred
async def test_given_up_it_gives_up_both_pages():
    reading = Reading()
    one = reading.asked[0]
    one.send(one.block.take(slice(10)))
    reading.done.addErrback(lambda _: None)
    reading.done.cancel()
    assert [asked.answered.called for asked in reading.asked] == [True, True]


@pytest_twisted.ensureDeferred
async def test_room_is_waited_for_before_each_page():
    doors = []

    async def room():
        door = Deferred()
        doors.append(door)
        await door

    reading = Reading(room=room)
    assert not reading.asked
    doors[0].callback(None)
    one = reading.asked[0]
    one.all()
    assert len(reading.asked) == 1
    assert reading.rows == len(one.block)
    doors[1].callback(None)
    assert len(reading.asked) == 2
    reading.done.addErrback(lambda _: None)
    reading.done.cancel()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", [NotConnected, UnknownNode])
async def test_it_goes_on_where_the_node_is_gone_for_a_while(error):
    lost = []

    async def again(why):
        lost.append(why)

    reading = Reading(again=again)
    reading.asked[0].answered.errback(error())
    reading.finish()
    await reading.done
    assert concat(reading.taken) == ALL
    assert len(lost) == 1
