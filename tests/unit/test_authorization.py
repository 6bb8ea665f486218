"""Who may do what: the whole table. What is not in it is refused."""

from __future__ import annotations

from itertools import product

import pytest

from sisock import uris
from sisock.authorization import may
from sisock.users import User

BASE = "org.simonsobservatory."
ACTIONS = ("call", "register", "publish", "subscribe")
MATCHES = ("exact", "prefix", "wildcard", "regex")
USERS = {
    "node": User("n", "node", "s", ("roof", "site.cam")),
    "consumer": User("c", "consumer", "s"),
    "server": User("s", "server", "s"),
    "anonymous": None,
    "hub": None,
}

# What a node offers: of the user's own, and of others, some with names that begin or end alike.
MINE = ("roof", "site.cam")
OTHERS = ("roof.air", "roofs", "Roof", "oof", "site", "cam", "a.roof", "site.cam.x", "get_data_node")


def procedures(names):
    return {make(name) for name in names for make in (uris.get_fields, uris.get_data)}


def topics(names):
    return {uris.latest(name) for name in names} | {
        uris.live(name, line) for name in names for line in ("t", "get_data", "a.b")
    }


def prefixes(names):
    return {uris.live_prefix(name) for name in names}


EVERYONE = MINE + OTHERS
OF_HUB = {uris.ADD, uris.SUBTRACT, uris.CLAIM, uris.GET_DATA_NODE}
UNDER_BASE = {
    *OF_HUB,
    uris.ADDED,
    uris.SUBTRACTED,
    *procedures(EVERYONE),
    *topics(EVERYONE),
    *prefixes(EVERYONE),
    BASE,
    BASE + "consumer",
    BASE + "consumer.",
    BASE + "consumer..get_data",
    BASE + "consumer.roof",
    BASE + "consumer.roof.",
    BASE + "consumer.roof.data",
    BASE + "consumer.roof.data.a.b",
    BASE + "consumer.roof.set_data",
    BASE + "consumer.roof.get_data.x",
    BASE + "consumer..data.t",
    BASE + "data_node.",
    BASE + "data_node.add.x",
    BASE + ".x",
}
UNDER_OBSERVATORY = {"observatory.", "observatory.x.feeds.y", "observatory..feeds", "observatory.wamp."}
ELSEWHERE = {
    "",
    ".",
    "org",
    "org.",
    "org..consumer",
    "org.simonsobservatory",
    "org.simonsobservatoryx.y",
    "observatory",
    "observatoryx.y",
    "Observatory.x",
    "wamp.session.list",
    "wamp.session.on_join",
    "wamp.",
    "sisock.hub.authenticate",
    "sisock.hub.authorize",
    "com.example.x",
}
ALL = UNDER_BASE | UNDER_OBSERVATORY | ELSEWHERE

# role -> (action, match) -> the URIs
TABLE = {
    "node": {
        ("call", "exact"): {uris.ADD, uris.SUBTRACT, uris.CLAIM},
        ("register", "exact"): procedures(MINE),
        ("publish", "exact"): topics(MINE),
    },
    "consumer": {
        ("call", "exact"): {uris.GET_DATA_NODE} | procedures(EVERYONE),
        ("subscribe", "exact"): {uris.ADDED, uris.SUBTRACTED} | topics(EVERYONE),
        ("subscribe", "prefix"): prefixes(EVERYONE),
    },
    "server": {
        (action, match): UNDER_BASE | UNDER_OBSERVATORY
        for action, match in product(ACTIONS, ("exact", "prefix", "wildcard"))
        if action == "subscribe" or match == "exact"
    },
    "anonymous": {
        ("publish", "exact"): UNDER_OBSERVATORY,
        **{("subscribe", match): UNDER_OBSERVATORY for match in ("exact", "prefix", "wildcard")},
    },
    # The router gives the hub's own components what they need; nobody else has that role.
    "hub": {},
}


@pytest.mark.parametrize("role", USERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_table(role, action):
    # Only registrations and subscriptions have a match.
    for match in MATCHES if action in ("register", "subscribe") else ("exact",):
        allowed = {uri for uri in ALL if may(role, USERS[role], action, uri, {"match": match})}
        assert allowed == TABLE[role].get((action, match), set()), (role, action, match)


@pytest.mark.parametrize("role", USERS)
@pytest.mark.parametrize("options", [{}, {"match": None}, {"match": ""}, {"acknowledge": True}])
def test_without_a_match_it_is_exact(role, options):
    for action, uri in product(ACTIONS, ALL):
        assert may(role, USERS[role], action, uri, options) == (uri in TABLE[role].get((action, "exact"), ()))


@pytest.mark.parametrize("role", USERS)
@pytest.mark.parametrize("match", ["EXACT", "suffix", 5, ["exact"], {"exact": 1}, True])
def test_an_odd_match_allows_nothing(role, match):
    for action, uri in product(("register", "subscribe"), ALL):
        assert may(role, USERS[role], action, uri, {"match": match}) is False


@pytest.mark.parametrize("role", USERS)
def test_nobody_takes_a_registration_by_force(role):
    assert not any(may(role, USERS[role], "register", uri, {"force_reregister": True}) for uri in ALL)


def test_who_fills_the_routers_memory_is_trusted():
    def kept(role, **options):
        return {uri for uri in ALL if may(role, USERS[role], "publish", uri, {"retain": True, "exclude_me": True, **options})}

    assert kept("anonymous") == set()
    assert kept("consumer") == set()
    assert kept("node") == {uris.latest(name) for name in MINE}
    assert kept("server") == TABLE["server"]["publish", "exact"]
    for narrowed in ("exclude", "exclude_authid", "exclude_authrole", "eligible", "eligible_authid", "eligible_authrole"):
        assert kept("node", **{narrowed: []}) == set()


@pytest.mark.parametrize("role", ["node", "consumer", "server"])
def test_a_user_who_was_taken_away_or_has_another_role_now_may_nothing(role):
    others = [user for user in USERS.values() if user is None or user.role != role]
    for action, uri, user in product(ACTIONS, ALL, others):
        assert may(role, user, action, uri, {}) is False


@pytest.mark.parametrize("role", ["hub", "admin", "", "Server"])
def test_a_role_that_is_not_in_the_table_may_nothing(role):
    user = User("x", role, "s", MINE)
    for action, uri in product(ACTIONS, ALL):
        assert may(role, user, action, uri, {}) is False


def test_a_node_of_no_name_may_talk_to_the_hub_alone():
    user = User("n", "node", "s")
    for action, uri in product(ACTIONS, ALL):
        expected = action == "call" and uri in {uris.ADD, uris.SUBTRACT, uris.CLAIM}
        assert may("node", user, action, uri, {}) is expected


def test_who_may_serve_a_node():
    assert USERS["node"].may_serve("roof")
    assert not USERS["node"].may_serve("roof.air")
    assert USERS["server"].may_serve("anything")
    assert not User("c", "consumer", "s", ("roof",)).may_serve("roof")
