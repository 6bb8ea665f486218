"""`sisock user` and `sisock tls` as an operator meets them."""

from __future__ import annotations

import json
import stat

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sisock.cli import sisock as program
from sisock.credentials import Scram, ticket_digest
from sisock.errors import InvalidArgument, SisockError
from sisock.home import Home


@pytest.fixture
def run(tmp_path):
    def call(*words, stdin=None):
        done = CliRunner().invoke(program, ["--home", str(tmp_path), *words], input=stdin)
        if isinstance(done.exception, SisockError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return call


@pytest.fixture
def users(tmp_path):
    return Home(tmp_path).users


def told(output):
    return json.loads(output)


def test_each_way_in(run, users, tmp_path):
    secret = told(run("user", "add", "anna", "--json"))["secret"]
    assert users.get("anna").secret == secret
    assert len(secret) > 40
    ticket = told(run("user", "add", "anna", "--method", "ticket", "--json"))["ticket"]
    assert users.get("anna").ticket == ticket_digest(ticket)
    secret = told(run("user", "add", "sam", "--method", "scram", "--json"))["secret"]
    scram = users.get("sam").scram
    assert scram == Scram.of(secret, bytes.fromhex(scram.salt))
    file = tmp_path / "roof.key"
    shown = told(run("user", "add", "roof", "--nodes", "roof,attic", "--key-file", str(file), "--json"))
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text().strip()))
    assert users.get("roof").keys == (shown["key"],) == (private.public_key().public_bytes_raw().hex(),)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (users.get("roof").role, users.get("roof").nodes) == ("node", ("roof", "attic"))
    shown = told(run("user", "add", "cam", "--method", "cryptosign", "--json"))
    assert len(shown["private_key"]) == 64
    run("user", "add", "cam", "--key", "AB" * 32)
    assert users.get("cam").keys == (shown["key"], "ab" * 32)


def test_a_compiled_in_secret_is_taken_from_a_file_and_not_shown(run, users, tmp_path):
    file = tmp_path / "secret"
    file.write_text("compiled in\n")
    assert "compiled in" not in run("user", "add", "simonsobs", "--secret-file", str(file))
    assert users.get("simonsobs").secret == "compiled in"
    run("user", "add", "bob", "--method", "ticket", "--secret-file", "-", stdin="a ticket\n")
    assert users.get("bob").ticket == ticket_digest("a ticket")


def test_the_list_shows_no_secret(run, users):
    secrets = [told(run("user", "add", name, "--json"))["secret"] for name in ("anna", "bob")]
    run("user", "add", "old", "--expires", "0s")
    for output in (run("user", "list"), run("user", "list", "--json")):
        assert not [secret for secret in secrets if secret in output]
        assert "anna" in output
    assert "(over)" in run("user", "list")
    assert told(run("user", "list", "--json"))[0]["methods"] == ["wampcra"]


def test_rotate_puts_a_new_one_in_place_of_the_old_alone(run, users):
    run("user", "add", "anna")
    run("user", "add", "anna", "--method", "ticket")
    before = users.get("anna")
    with pytest.raises(InvalidArgument, match="--method"):
        run("user", "rotate", "anna")
    run("user", "rotate", "anna", "--method", "wampcra", "--expires", "30d")
    after = users.get("anna")
    assert after.secret != before.secret
    assert after.ticket == before.ticket
    assert after.expires > 0
    assert after.fingerprint != before.fingerprint
    run("user", "add", "cam", "--key", "ab" * 32)
    run("user", "rotate", "cam", "--key", "cd" * 32)
    assert users.get("cam").keys == ("cd" * 32,)


def test_revoke_takes_away_who_is_there_and_names_who_is_not(run, users):
    run("user", "add", "anna")
    with pytest.raises(InvalidArgument, match="'nobody'"):
        run("user", "revoke", "nobody", "anna")
    assert users.get("anna") is None
    run("user", "add", "anna")
    run("user", "add", "bert")
    assert run("user", "revoke", "anna", "bert").startswith("anna, bert: taken away")


@pytest.mark.parametrize(
    "words",
    [
        ("add", "public"),
        ("add", "hub"),
        ("add", "jwt:lab:anna"),
        ("add", "two words"),
        ("add", ""),
        ("add", "n" * 256),
        ("add", "there"),
        ("add", "there", "--role", "server", "--method", "ticket"),
        ("add", "x", "--nodes", "roof", "--role", "consumer"),
        ("add", "x", "--key", "zz"),
        ("add", "x", "--method", "wampcra", "--key", "ab" * 32),
        ("add", "x", "--method", "cryptosign", "--secret-file", "-"),
        ("add", "x", "--secret-file", "/nowhere/at/all"),
        ("add", "x", "--secret-file", "-"),
        ("add", "x", "--expires", "soon"),
        ("rotate", "nobody"),
        ("rotate", "there", "--method", "scram"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said_and_changes_nothing(run, users, words):
    run("user", "add", "there")
    before = users.all()
    with pytest.raises(SisockError):
        run("user", *words, stdin="")
    assert users.all() == before


def test_tls(run, tmp_path):
    first = run("tls", "init", "--name", "obs.example.org")
    assert first.startswith("made: authority, bridge, router\n")
    assert str(tmp_path / ".crossbar" / "server_cert.pem") in first
    shown = told(run("tls", "show", "--json"))
    assert [one["certificate"] for one in shown] == ["authority", "bridge", "router"]
    assert "obs.example.org" in shown[1]["names"]
    assert "obs.example.org" in run("tls", "show")
    assert "all certificates are there already" in run("tls", "init")
    assert "made: bridge, router\n" in run("tls", "init", "--name", "second.example.org")
    shown = told(run("tls", "show", "--json"))
    assert told(run("tls", "show", "--json")) == shown
    run("tls", "renew")
    renewed = told(run("tls", "show", "--json"))
    assert renewed[0] == shown[0]
    assert {one["fingerprint"] for one in renewed[1:]}.isdisjoint({one["fingerprint"] for one in shown})
    assert renewed[2]["names"] == shown[2]["names"]
    run("tls", "renew", "--authority", "--name", "192.0.2.7")
    last = told(run("tls", "show", "--json"))
    assert last[0]["fingerprint"] != shown[0]["fingerprint"]
    assert {"obs.example.org", "192.0.2.7"} <= set(last[2]["names"])
