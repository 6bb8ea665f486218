"""Who is closed for not logging in, by a clock of the test's own."""

from __future__ import annotations

from twisted.internet.task import Clock

from sisock.router import loitering
from sisock.router.loitering import LOOK_EVERY, MAX_WAITING, WITHIN, Doorstep


def test_a_connection_has_a_while_to_log_in_and_another_after_it_has_left():
    clock = Clock()
    doorstep = Doorstep(clock.seconds)
    there = set()

    def late():
        return doorstep.look(there.__contains__)

    doorstep.opened("in time")
    doorstep.opened("late")
    clock.advance(WITHIN - 0.1)
    there.add("in time")
    assert late() == []
    clock.advance(0.2)
    assert late() == ["late"]
    doorstep.closed("late")
    clock.advance(10 * WITHIN)
    assert late() == []
    assert len(doorstep) == 0
    # It said goodbye, and stays.
    there.clear()
    assert late() == []
    clock.advance(WITHIN + LOOK_EVERY)
    assert late() == ["in time"]


def test_where_very_many_wait_the_oldest_makes_room():
    doorstep = Doorstep(Clock().seconds)
    assert [doorstep.opened(number) for number in range(MAX_WAITING)] == [None] * MAX_WAITING
    assert doorstep.opened(MAX_WAITING) == 0
    doorstep.closed(0)
    assert doorstep.opened(MAX_WAITING + 1) == 1
    assert len(doorstep) == MAX_WAITING + 1
    assert loitering.WITHIN > 5
