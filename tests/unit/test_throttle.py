"""The throttle: what failed logins cost those who go on, by a clock of the test's own."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from sisock import throttle
from sisock.throttle import BURST, HELD, HELD_IN_ALL, KNOWN_FOR, NAMES, RATE, REMEMBERED, Throttle, network_of

FAR, OTHER = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gate(clock):
    return Throttle(clock.seconds)


def fail(gate, address=FAR, user="anna", times=1):
    """Whether the last of so many failures was held back."""
    held = False
    for _ in range(times):
        held = gate.failed(address, user)
    return held


def test_the_first_failures_are_answered_at_once_and_the_next_late_until_time_has_passed(gate, clock):
    assert not fail(gate, times=int(BURST))
    assert fail(gate)
    assert not fail(gate, OTHER, "bob"), "another address and another user are another matter"
    clock.advance(1 / RATE)
    assert not fail(gate)
    assert fail(gate)


def test_a_user_who_is_guessed_at_from_many_addresses_is_slow_for_all_of_them(gate):
    for number in range(int(BURST)):
        assert not fail(gate, f"198.51.100.{number}")
    assert fail(gate, "198.51.100.200")
    assert not fail(gate, "198.51.100.200", "bob")


def test_whether_there_is_a_user_changes_no_delay(gate):
    """Each name that is tried is counted by itself, so that one which many others try tells nothing of itself."""
    for number in range(int(BURST)):
        fail(gate, f"198.51.100.{number}", f"nobody{number}")
    assert not fail(gate, "198.51.100.200", "nobody at all")
    assert not fail(gate, "198.51.100.201", "anna")


def test_of_another_machine_a_few_are_waited_with_and_the_rest_is_turned_away(gate):
    fail(gate, times=int(BURST))
    for _ in range(HELD):
        assert fail(gate)
        assert not gate.turns_away(FAR, "anna")
        gate.hold(FAR)
    assert not fail(gate), "no more are held than may be"
    assert gate.turns_away(FAR, "anna")
    assert not gate.turns_away(OTHER, "anna")
    gate.let_go(FAR)
    assert not gate.turns_away(FAR, "anna")


def test_who_has_got_in_from_there_is_never_turned_away(gate, clock):
    assert gate.succeeded(FAR, "anna")
    for _ in range(HELD):
        gate.hold(FAR)
    assert not gate.turns_away(FAR, "anna")
    assert gate.turns_away(FAR, "bob")
    assert not gate.turns_away(FAR, "", "anna"), "a token may claim more than one name"
    assert gate.turns_away(FAR, "", "bob")
    assert gate.turns_away(FAR)
    clock.advance(KNOWN_FOR + 1)
    assert gate.turns_away(FAR, "anna")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "", "::ffff:127.0.0.1"])
def test_this_machine_is_never_turned_away(gate, address):
    for _ in range(HELD):
        gate.hold(address)
    assert not gate.turns_away(address, "anna")


def test_no_more_are_held_than_memory_and_sockets_bear(gate):
    for number in range(HELD_IN_ALL):
        gate.hold(f"10.0.{number // 250}.{number % 250}")
    assert not fail(gate, times=int(BURST) + 5)
    gate.let_go("10.0.0.0")
    assert fail(gate)


def test_a_login_is_news_once_an_hour(gate, clock):
    assert gate.succeeded(FAR, "anna")
    assert not gate.succeeded(FAR, "anna")
    assert gate.succeeded(OTHER, "anna")
    clock.advance(throttle.NEWS + 1)
    assert gate.succeeded(FAR, "anna")


def test_a_million_addresses_take_no_more_memory_than_some_thousands(gate):
    for number in range(2 * REMEMBERED):
        fail(gate, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"user{number}")
    assert len(gate._failures) == REMEMBERED
    assert len(gate._guessed) <= NAMES


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (FAR, FAR),
        ("::ffff:192.0.2.7", FAR),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_address(address, place):
    assert network_of(address) == place
