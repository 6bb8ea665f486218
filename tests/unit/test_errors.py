"""The errors: each has all that its users rely on."""

from __future__ import annotations

import builtins
import re

import pytest

from sisock import errors
from sisock.errors import BY_URI, InvalidArgument, SisockError, UnknownField, shown


def tree(root):
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


ALL = [error for error in tree(SisockError) if error.__module__ == "sisock.errors"]
everyone = pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)


@everyone
def test_each_has_a_uri_a_status_and_a_sentence(error):
    assert re.fullmatch(r"sisock\.error\.[a-z_]+", error.uri)
    assert 400 <= error.status <= 599
    assert re.match(r"[A-Z].*\.$", error.__doc__, re.DOTALL)


@everyone
def test_each_is_found_by_its_own_uri(error):
    assert BY_URI[error.uri] is error
    assert [other for other in ALL if other.uri == error.uri] == [error]


def test_nothing_else_is_found():
    assert set(BY_URI.values()) == set(ALL)


@everyone
def test_each_says_what_it_was_told_and_without_a_message_its_sentence(error):
    assert str(error("no 'such' thing")) == "no 'such' thing"
    assert str(error()) == " ".join(error.__doc__.split()) or str(error()) in error.__doc__
    assert str(error())


def test_the_page_draws_the_tree():
    drawn = dict(re.findall(r"[├└]── (\w+) +(?:\((\w+)\))?", errors.__doc__))
    assert set(drawn) == {error.__name__ for error in ALL} - {"SisockError"}
    for name, standard in drawn.items():
        error = getattr(errors, name)
        bases = {base.__name__ for base in error.__bases__} - {"SisockError"}
        assert bases == ({standard} if standard else set())
        assert not standard or issubclass(error, getattr(builtins, standard))


def test_a_key_error_shows_no_repr():
    try:
        raise UnknownField("roof has no field 'air'")
    except KeyError as error:
        assert str(error) == "roof has no field 'air'"


def test_what_callers_send_can_always_be_shown():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (10**5000, deep, "x" * 1000, None):
        assert len(shown(value)) <= 80
        assert str(InvalidArgument(shown(value)))
    # Taken apart by hand: freeing so deep a list at once is not for every interpreter.
    while deep:
        deep = deep[0]
