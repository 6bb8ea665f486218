"""Settings from the environment, and how programs join by them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from sisock.errors import NotAuthorized, NotConnected, SetupError
from sisock.home import Home
from sisock.settings import Settings
from sisock.site.doctor import _environment
from sisock.users import User
from tests.unit.test_home import RUN


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def read(home, **environ):
    return Settings.read({"SISOCK_HOME": str(home.path), **environ})


def running(home, **changes):
    home.make()
    home.write_run(replace(RUN, **changes))


def test_the_defaults(home):
    assert read(home) == Settings(home, None, 8080, 8001, 5000, None, None)


def test_every_name(home):
    assert read(
        home,
        CROSSBAR_HOST="router",
        CROSSBAR_TLS_PORT="18080",
        CROSSBAR_OCS_PORT="18001",
        PORT="15000",
        WAMP_USER="simonsobs",
        WAMP_SECRET="secret",
    ) == Settings(home, "router", 18080, 18001, 15000, "simonsobs", "secret")


def test_an_empty_name_is_none(home):
    names = ("CROSSBAR_HOST", "CROSSBAR_TLS_PORT", "CROSSBAR_OCS_PORT", "PORT", "WAMP_USER", "WAMP_SECRET")
    assert read(home, **dict.fromkeys(names, "")) == Settings(home)


def test_a_home_that_was_given_counts_more(home, tmp_path):
    assert Settings.read({"SISOCK_HOME": str(tmp_path / "other")}, home).home == home


def test_it_reads_the_environment_of_the_process(home, monkeypatch):
    monkeypatch.setenv("SISOCK_HOME", str(home.path))
    monkeypatch.setenv("PORT", "15000")
    assert Settings.read() == Settings(home, bridge_port=15000) == Settings.read(os.environ)


@pytest.mark.parametrize("name", ["CROSSBAR_TLS_PORT", "CROSSBAR_OCS_PORT", "PORT"])
@pytest.mark.parametrize(
    "text", ["0", "65536", "-1", "+1", "x", "80.5", "8080 ", "0x50", "8_080", "²", "1" * 5000, "tcp://10.0.0.1:80"]
)
def test_what_is_no_port(home, name, text):
    with pytest.raises(SetupError, match=name):
        read(home, **{name: text})


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("65535", 65535)])
def test_the_ports_at_the_ends(home, text, port):
    assert read(home, PORT=text).bridge_port == port


def test_a_consumer_needs_a_site(home):
    with pytest.raises(NotConnected, match="home"):
        read(home).consumer()


def test_a_consumer_of_the_site_in_the_home(home):
    running(home)
    with pytest.raises(NotAuthorized, match="simonsobs"):
        read(home).consumer()
    for authid in ("simonsobs", "bridge"):
        home.users.ensure(authid, "consumer")
    access = read(home).consumer()
    known = home.users.get("simonsobs")
    assert (access.url, access.authid, access.secret, access.realm) == (RUN.local, "simonsobs", known.secret, "sisock")
    assert known.role == "consumer"
    assert read(home).consumer("bridge").authid == "bridge"


def test_a_consumer_with_a_name_of_its_own(home):
    running(home, realm="test_realm")
    access = read(home, WAMP_USER="me", WAMP_SECRET="mine").consumer()
    assert (access.url, access.authid, access.secret, access.realm) == (RUN.local, "me", "mine", "test_realm")
    assert home.users.get("me") is None


@pytest.mark.parametrize("role", ["consumer", "node"])
def test_a_router_elsewhere(home, role):
    settings = read(home, CROSSBAR_HOST="router", CROSSBAR_TLS_PORT="18080", WAMP_USER="me", WAMP_SECRET="mine")
    join = settings.consumer if role == "consumer" else lambda: settings.node("roof")
    access = join()
    assert (access.url, access.authid, access.secret) == ("wss://router:18080/ws", "me", "mine")
    assert access.certificate is None, "the system's authorities are asked"
    home.make()
    home.certificate.write_text("PEM")
    assert join().certificate == home.certificate


def test_a_router_elsewhere_by_its_address(home):
    settings = read(home, CROSSBAR_HOST="::1", WAMP_USER="me", WAMP_SECRET="mine")
    assert settings.consumer().url == "wss://[::1]:8080/ws"
    assert settings.consumer().realm == "sisock"


def test_a_router_elsewhere_with_a_realm_of_its_own(home):
    settings = read(home, CROSSBAR_HOST="router", WAMP_USER="me", WAMP_SECRET="mine", WAMP_REALM="test_realm")
    assert settings.consumer().realm == settings.node("roof").realm == "test_realm"


@pytest.mark.parametrize(
    ("environ", "half"),
    [
        ({}, False),
        ({"WAMP_USER": "me"}, True),
        ({"WAMP_SECRET": "s"}, True),
        ({"WAMP_SECRET_FILE": "/s"}, True),
        ({"WAMP_USER": "me", "WAMP_SECRET": "s"}, False),
        ({"WAMP_USER": "me", "WAMP_SECRET_FILE": "/s"}, False),
        ({"WAMP_SECRET": "s", "WAMP_AUTHMETHOD": "ticket"}, False),
        ({"WAMP_SECRET_FILE": "/s", "WAMP_AUTHMETHOD": "ticket"}, False),
        ({"WAMP_USER": "me", "WAMP_AUTHMETHOD": "ticket"}, True),
    ],
)
def test_the_doctor_warns_of_half_a_user(home, environ, half):
    told = [one.what for one in _environment(read(home, **environ)) if one.level == "warning"]
    assert told == ["only one of WAMP_USER and WAMP_SECRET is set"] * half


@pytest.mark.parametrize("environ", [{}, {"WAMP_USER": "me"}, {"WAMP_SECRET": "mine"}])
def test_a_router_elsewhere_needs_a_user(home, environ):
    settings = read(home, CROSSBAR_HOST="router", **environ)
    for join in (settings.consumer, lambda: settings.node("roof")):
        with pytest.raises(SetupError, match="WAMP_SECRET"):
            join()


def test_a_node_has_a_user_of_its_own_before_the_site_runs(home):
    access = read(home).node("roof.air")
    user = home.users.get(access.authid)
    assert user == User("node:roof.air", "node", access.secret, ("roof.air",))
    assert (access.url, access.realm) == (f"unix://{home.socket}", "sisock")
    assert read(home).node("roof.air") == access
    assert read(home).node("roof").secret != access.secret
    running(home, realm="test_realm")
    assert read(home).node("roof").realm == "test_realm"


def test_a_node_as_the_user_that_the_environment_names(home):
    access = read(home, WAMP_USER="server", WAMP_SECRET="s").node("roof")
    assert (access.url, access.authid, access.secret) == (f"unix://{home.socket}", "server", "s")
    assert home.users.get("node:roof") is None


@pytest.mark.parametrize("user", [User("node:roof", "consumer", "s"), User("node:roof", "node", "s", ("attic",))])
def test_a_node_whose_user_may_not_serve_it(home, user):
    home.users.add(user)
    with pytest.raises(SetupError, match=r"node:roof.*users\.json"):
        read(home).node("roof")


def test_a_broken_file_of_users_is_named(home):
    running(home)
    home.users.path.write_text("{")
    for join in (read(home).consumer, lambda: read(home).node("roof")):
        with pytest.raises(SetupError, match=r"users\.json"):
            join()


def test_where_rules_may_hide_nodes_it_is_said_from_whom(home):
    running(home)
    home.users.ensure("simonsobs", "consumer")
    assert read(home).as_far_as_seen() == ""
    home.rules.path.write_text('[[rule]]\nwho = ["anna"]\nnodes = ["*"]\nverbs = ["see"]\n')
    assert "that simonsobs may see" in read(home).as_far_as_seen()
    assert "that anna may see" in read(home, WAMP_USER="anna", WAMP_SECRET="x").as_far_as_seen()
    elsewhere = read(home, CROSSBAR_HOST="router", WAMP_USER="bert", WAMP_SECRET="x")
    assert "that bert may see" in elsewhere.as_far_as_seen()
