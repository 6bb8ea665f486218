"""Who watches what: as the hub keeps it and tells nodes."""

import pytest

from sisock import uris
from sisock.watching import Watched, Watchers


def test_topics_come_and_go():
    watchers = Watchers()
    assert watchers.created(1, uris.live("roof", "a.b c"), "exact") == "roof"
    assert watchers.created(2, uris.latest("roof"), "exact") == "roof"
    assert watchers.of("roof") == Watched(frozenset({"a.b c"}), all=False, latest=True)
    assert watchers.of("roof").includes("a.b c")
    assert not watchers.of("roof").includes("t")
    assert watchers.deleted(1) == "roof"
    assert watchers.deleted(2) == "roof"
    assert watchers.of("roof") == Watched()
    assert watchers.deleted(2) is None


def test_a_prefix_watches_all_of_one_node():
    watchers = Watchers()
    assert watchers.created(1, uris.live_prefix("roof"), "prefix") == "roof"
    assert watchers.of("roof").includes("anything")
    assert not watchers.of("roof").latest
    assert watchers.of("cellar") == Watched()


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        (uris.ADDED, "exact"),
        (uris.get_data("roof"), "exact"),
        (uris.live_prefix("roof"), "exact"),
        (uris.live("roof", "t"), "prefix"),
        (uris.live("roof", "t"), "wildcard"),
        ("org.simonsobservatory.consumer.", "prefix"),
        ("wamp.session.on_join", "exact"),
    ],
)
def test_what_is_no_live_topic_is_nobodys(uri, match):
    assert Watchers().created(1, uri, match) is None


def test_what_the_hub_tells_comes_back():
    watched = Watched(frozenset({"t", "u.v"}), all=True, latest=True)
    assert Watched.from_wire(watched.to_wire()) == watched
    assert Watched.from_wire(None) == Watched()
