"""Where a hub is and as whom to join it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sisock.client.address import access_of
from sisock.errors import InvalidArgument, NotAuthorized, NotConnected, SetupError
from sisock.home import Home
from sisock.session import Access
from sisock.users import User
from tests.unit.test_home import RUN


@pytest.fixture
def home(tmp_path, monkeypatch):
    made = Home(tmp_path / "home")
    made.make()
    made.users.add(User("simonsobs", "consumer", "s3"))
    monkeypatch.setenv("SISOCK_HOME", str(made.path))
    return made


def test_the_site_in_the_home_is_joined_over_the_websocket(home):
    home.write_run(RUN)
    assert access_of() == Access("ws://localhost:8080/ws", "simonsobs", "s3", "sisock")
    assert access_of(home=str(home.path)) == access_of(home=home.path) == access_of()
    assert access_of(token="me:mine") == Access("ws://localhost:8080/ws", "me", "mine", "sisock")


def test_a_certificate_is_pinned_for_wss_alone(home):
    pinned = home.path / "cert.pem"
    home.write_run(replace(RUN, ws="wss://localhost:8080/ws", certificate=str(pinned)))
    assert access_of().certificate == pinned
    assert access_of(certificate="other.pem").certificate == Path("other.pem")
    home.write_run(replace(RUN, certificate=str(pinned)))
    assert access_of().certificate is None


def test_without_a_site_it_says_what_to_do(home, monkeypatch):
    with pytest.raises(NotConnected, match=r"no site runs in .*home\. Start one with `sisock up`"):
        access_of()
    monkeypatch.setenv("CROSSBAR_HOST", "router.example")
    with pytest.raises(SetupError, match="WAMP_USER"):
        access_of()
    monkeypatch.setenv("WAMP_USER", "me")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    assert access_of() == Access("wss://router.example:8080/ws", "me", "mine")
    assert access_of("ws://other/ws") == Access("ws://other/ws", "me", "mine")


@pytest.mark.parametrize(
    ("address", "token", "expected"),
    [
        ("ws://h:1/ws", "u:s", ("ws://h:1/ws", "u", "s", "sisock")),
        ("wss://h/ws", "u:a:b", ("wss://h/ws", "u", "a:b", "sisock")),
        ("http://h:1/#token=page:x%3Ay%2B+", None, ("ws://h:1/ws", "page", "x:y++", "sisock")),
        ("http://h:1/#token=page:x&realm=our%20own", None, ("ws://h:1/ws", "page", "x", "our own")),
        ("https://h/", "u:s", ("wss://h/ws", "u", "s", "sisock")),
        ("http://[::1]:1/#token=page:x", None, ("ws://[::1]:1/ws", "page", "x", "sisock")),
        ("http://h:1/#token=page:x", "u:s", ("ws://h:1/ws", "u", "s", "sisock")),
    ],
)
def test_an_address_and_a_token(home, address, token, expected):
    assert access_of(address, token) == Access(*expected)


@pytest.mark.parametrize(
    "wrong", ["", "localhost", "ftp://h/", "ws://", "http://h:port/#token=a:hidden", "ws://[::1", 3, b"ws://h/ws"]
)
def test_what_is_no_address_is_refused_without_its_token(home, wrong):
    with pytest.raises(InvalidArgument) as error:
        access_of(wrong, None if isinstance(wrong, str) and "hidden" in wrong else "u:s")
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("wrong", ["", "secret", ":secret", "user:", 5])
def test_a_token_has_two_halves(home, wrong):
    with pytest.raises(InvalidArgument) as error:
        access_of("ws://h/ws", wrong)
    assert "secret" not in str(error.value).lower().replace("user:secret", "")


def test_an_address_needs_a_token(home):
    with pytest.raises(NotAuthorized, match="say as whom"):
        access_of("ws://h/ws")
