"""The telemetry's parts: frames, robots, the intake."""

import math
import threading
from concurrent.futures import Future
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import InvalidArgument, LateRow, LostLease, StoreFull, TooMuch
from sisock.nodes.telemetry.intake import Intake
from sisock.nodes.telemetry.source import MAX_TIMESTAMP, Event, Robot, parse
from tests.unit.strategies import some


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        ("1.5,-2,1700000000000,rover", Event("rover", 1.5, -2.0, 1_700_000_000_000)),
        ("0,0,0,R2 D2.\N{GREEK SMALL LETTER ALPHA}", Event("R2 D2.\N{GREEK SMALL LETTER ALPHA}", 0.0, 0.0, 0)),
        ("1e3, 2 ,7, spaces stay ", Event(" spaces stay ", 1000.0, 2.0, 7)),
    ],
)
def test_a_frame_is_an_event(frame, event):
    assert parse(frame) == event


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "1,2,3",
        "1,2,3,a,b",
        "x,2,3,a",
        "1,y,3,a",
        "nan,2,3,a",
        "inf,2,3,a",
        "1e999,2,3,a",
        "1_0,2,3,a",
        "1,2,3.5,a",
        "1,2,-3,a",
        "1,2,,a",
        "1,2,1_0,a",
        "1,2,\N{ARABIC-INDIC DIGIT THREE},a",
        f"1,2,{MAX_TIMESTAMP + 1},a",
        "1,2,99999999999999999999,a",
        "1,2,3,",
        "1,2,3,a\nb",
        "1,2,3," + "a" * 201,
    ],
)
def test_what_is_no_event_is_a_typed_error(frame):
    with pytest.raises(InvalidArgument):
        parse(frame)


@some
@given(st.text(max_size=40))
def test_any_text_is_an_event_or_a_typed_error(text):
    try:
        parse(text)
    except InvalidArgument:
        pass


def test_a_robot_goes_forward_in_time_only():
    robot = Robot("r")
    assert robot.move(Event("r", 0.0, 0.0, 1000)) == (0.0, 0.0)
    assert robot.move(Event("r", 3.0, 4.0, 3000)) == (5.0, 2.5)
    assert robot.move(Event("r", 9.0, 9.0, 3000)) is None
    assert robot.move(Event("r", 9.0, 9.0, 2000)) is None
    assert (robot.odometer, robot.dropped, robot.x) == (5.0, 2, 3.0)


@some
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=200))
def test_the_odometer_is_the_exact_sum_to_one_rounding(places):
    robot = Robot("r")
    steps = []
    before = None
    for t, place in enumerate(places):
        robot.move(Event("r", *place, t))
        if before is not None:
            steps.append(math.hypot(place[0] - before[0], place[1] - before[1]))
        before = place
    exact = sum(map(Fraction, steps), Fraction(0))
    assert abs(Fraction(robot.odometer) - exact) <= 2 * Fraction(math.ulp(float(exact)))


class Keeper:
    """Keeps rows, or refuses them."""

    def __init__(self):
        self.rows = {}
        self.met = []
        self.refuses = []
        self.holds = threading.Event()
        self.holds.set()
        self.commits = 0

    def meet(self, robot):
        self.met.append(robot)

    def keep(self, robot, block, correct):
        self.holds.wait(10)
        done = Future()
        if self.refuses:
            error = self.refuses.pop(0)
            if error is not None:
                done.set_exception(error)
        elif not correct and self.rows.get(robot, [0])[-1] > block.t[0]:
            done.set_exception(LateRow("late"))
        else:
            self.commits += 1
            self.rows.setdefault(robot, []).extend(block.t.tolist())
            done.set_result(None)
        return done


@pytest.fixture
def taken(monkeypatch):
    monkeypatch.setattr("sisock.intake.RETRY", 0.01)
    keeper = Keeper()
    told, all_told = [], threading.Event()

    def answered(answers):
        for answer in answers:
            answer()

    made = Intake(keeper, {}, answered)
    made.start()

    def take(robot, t, last=False):
        made.take(Event(robot, float(t), 0.0, t), lambda: (told.append((robot, t)), last and all_told.set()))

    yield keeper, made, take, told, all_told
    made.stop()


def test_what_comes_together_is_committed_together_and_answered_in_order(taken):
    keeper, _made, take, told, all_told = taken
    keeper.holds.clear()
    take("a", 1)
    for t in range(2, 100):
        take("a" if t % 2 else "b", t)
    take("c", 100, last=True)
    keeper.holds.set()
    assert all_told.wait(10)
    assert [t for _, t in told] == list(range(1, 101))
    assert keeper.commits <= 5
    assert keeper.rows["a"] == [t * 1000 for t in range(1, 100, 2)]
    assert keeper.met == ["a", "b", "c"]


def test_what_the_store_refuses_is_tried_again_before_it_is_answered(taken):
    keeper, made, take, _told, all_told = taken
    keeper.refuses = [StoreFull("no room"), StoreFull("no room")]
    take("a", 1, last=True)
    assert all_told.wait(10)
    assert keeper.rows == {"a": [1000]}
    assert made.problem is None


def test_a_commit_that_was_not_answered_in_time_and_was_one_does_not_stop_it(taken, monkeypatch):
    monkeypatch.setattr("sisock.intake.KEEPING", 0.01)
    keeper, made, take, _told, all_told = taken
    keeper.holds.clear()
    keeper.refuses = [None]
    for t in (1, 2, 3):
        take("a", t)
    keeper.rows["a"] = [1000, 2000, 3000]
    keeper.holds.set()
    take("a", 4, last=True)
    assert all_told.wait(10)
    assert set(keeper.rows["a"]) == {1000, 2000, 3000, 4000}
    assert made.problem is None


def test_whatever_goes_wrong_is_told_and_tried_again(taken):
    keeper, made, take, _told, all_told = taken
    keeper.refuses = [ZeroDivisionError("a defect")] * 3
    keeper.holds.clear()
    take("a", 1, last=True)
    keeper.holds.set()
    assert all_told.wait(10)
    assert keeper.rows == {"a": [1000]}
    assert made.problem is None


def test_who_cannot_be_told_keeps_nobody_from_the_next(taken):
    keeper, made, take, _told, all_told = taken
    tried = threading.Event()

    def fails():
        tried.set()
        raise RuntimeError("a defect")

    made.take(Event("a", 0.0, 0.0, 1), fails)
    assert tried.wait(10)
    take("b", 2, last=True)
    assert all_told.wait(10)
    assert keeper.rows == {"a": [1000], "b": [2000]}


def test_new_robots_beyond_all_bounds_are_not_taken(taken, monkeypatch):
    monkeypatch.setattr("sisock.nodes.telemetry.intake.MAX_ROBOTS", 1)
    keeper, made, take, _told, all_told = taken
    take("a", 1)
    with pytest.raises(TooMuch):
        take("b", 1)
    take("a", 2, last=True)
    assert all_told.wait(10)
    assert set(keeper.rows) == set(made.robots) == {"a"}


def test_a_repeated_event_is_answered_and_not_stored(taken):
    keeper, made, take, _told, all_told = taken
    take("a", 5)
    take("a", 5)
    take("a", 4, last=True)
    assert all_told.wait(10)
    assert keeper.rows == {"a": [5000]}
    assert made.robots["a"].dropped == 2


def test_after_a_takeover_nothing_is_answered(taken):
    keeper, made, take, told, _all_told = taken
    keeper.refuses = [LostLease("taken over")]
    take("a", 1)
    made._thread.join(10)
    assert not made._thread.is_alive()
    assert told == []
