"""The guard before the router's ways in, before one that lets in whoever says "right"."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from autobahn.wamp.types import Accept, Deny

from sisock.errors import TooManyLogins
from sisock.home import Home
from sisock.router.admission import guarded
from sisock.router.gate import Gate
from sisock.throttle import HELD
from tests.test_tokens import BELIEVED, token

FAR = "192.0.2.9"


class Way:
    def __init__(self, *_):
        self._authid = None

    def hello(self, realm, details):
        return "asked"

    def authenticate(self, signature):
        return Deny()

    def _compute_challenge(self):
        return self._authrole


@pytest.fixture
def gate(tmp_path):
    home = Home(tmp_path)
    home.make()
    home.rules.path.write_text(BELIEVED)
    made = Gate(tmp_path)
    yield made
    made.audit.close()


def come(gate, method, name=None, address=FAR):
    way = guarded(Way, method, gate, "sisock")(7, SimpleNamespace(peer=f"tcp4:{address}:51234"))
    return way, way.hello("sisock", SimpleNamespace(authid=name, authextra={}))


def flooded(gate):
    for _ in range(HELD):
        gate.throttle.hold(FAR)


@pytest.mark.parametrize("name", [None, "", "whatever"])
def test_in_a_flood_a_token_is_looked_at_whose_bearer_has_got_in_from_there(gate, name):
    gate.throttle.succeeded(FAR, "jwt:lab:alice")
    flooded(gate)
    outcomes = {}
    for who, ticket in {"alice": token(), "bob": token(sub="bob"), "other": token(iss="x"), "none": "secret"}.items():
        way, asked = come(gate, "ticket", name)
        assert asked == "asked"
        outcomes[who] = way.authenticate(ticket)
    looked_at = {who for who, outcome in outcomes.items() if getattr(outcome, "reason", None) != TooManyLogins.uri}
    assert looked_at == {"alice"}


def test_in_a_flood_who_is_unknown_there_is_turned_away_and_no_secret_is_written(gate):
    flooded(gate)
    secret = "secret-in-the-wrong-place"
    _, refused = come(gate, "wampcra", secret)
    assert refused.reason == TooManyLogins.uri
    way, _ = come(gate, "ticket", secret)
    assert way.authenticate("x").reason == TooManyLogins.uri
    lines = [json.loads(line) for line in gate.audit.path.read_text().splitlines()]
    assert [line["why"] for line in lines] == ["too many"] * 2
    assert not [line for line in lines if secret[:4] in line["user"]]


def test_the_question_tells_no_role(gate):
    way, _ = come(gate, "wampcra", "anna")
    way._authrole = "node"
    assert way._compute_challenge() == "consumer"
    assert way._authrole == "node"


def test_whoever_has_a_session_without_a_login_is_nobody(gate):
    gate.users.ensure("anna", "consumer")
    assert gate.who(7, "anna", "consumer") is None
    way, _ = come(gate, "wampcra", "anna")
    way.principal = {"user": gate.users.get("anna")}
    assert isinstance(way.decide(Accept("sisock", "anna", "consumer")), Accept)
    assert gate.who(7, "anna", "consumer") == gate.users.get("anna")
    assert gate.who(8, "anna", "consumer") is None
