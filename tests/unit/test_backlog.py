"""Whose reader is stuck: by what the router holds, and whether it shrinks."""

from sisock.router.backlog import MOST_BYTES, PATIENT_BYTES, SHRINKS_WITHIN, Backlogs, backlog_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_long_backlog_has_to_shrink():
    clock = Clock()
    backlogs = Backlogs(clock)
    assert backlogs.look([(1, PATIENT_BYTES + 10)]) == []
    clock.now += SHRINKS_WITHIN - 0.1
    assert backlogs.look([(1, PATIENT_BYTES + 20)]) == []
    clock.now += 0.1
    (stuck,) = backlogs.look([(1, PATIENT_BYTES + 20)])
    assert (stuck.session, stuck.size) == (1, PATIENT_BYTES + 20)


def test_a_slow_reader_who_goes_on_is_left_alone():
    clock = Clock()
    backlogs = Backlogs(clock)
    for size in range(MOST_BYTES, PATIENT_BYTES, -100_000):
        assert backlogs.look([(1, size)]) == []
        clock.now += SHRINKS_WITHIN / 2


def test_more_than_a_call_may_bring_is_too_much_at_once():
    (stuck,) = Backlogs(Clock()).look([(7, MOST_BYTES + 1), (8, 5)])
    assert stuck.session == 7


def test_who_left_is_forgotten():
    clock = Clock()
    backlogs = Backlogs(clock)
    backlogs.look([(1, PATIENT_BYTES + 1)])
    backlogs.look([])
    clock.now += 10
    assert backlogs.look([(1, PATIENT_BYTES + 1)]) == []


def test_a_session_without_a_transport_holds_nothing():
    assert backlog_of(object()) == 0
