"""Tokens of another issuer: as a ticket over WAMP, as an attacker tries them, and what keys are believed."""

from __future__ import annotations

import base64
import hmac
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock.consumer import Consumer
from sisock.errors import NotAuthenticated, NotAuthorized
from sisock.rules import Issuer
from sisock.session import Access
from sisock.tokens import Tokens, usable
from tests.plain import BASE, until

ISSUER, AUDIENCE = "https://login.example.org/", "sisock"
KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
BELIEVED = f'[[issuer]]\nname = "lab"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "keys.json"\n'
OTHER = rsa.generate_private_key(65537, 2048)


def jwk(key, kid, **more):
    kinds = {"RS256": rsa.RSAPrivateKey, "ES256": ec.EllipticCurvePrivateKey, "EdDSA": ed25519.Ed25519PrivateKey}
    name = next(name for name, kind in kinds.items() if isinstance(key, kind))
    told = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
    return {**told, "kid": kid, "use": "sig", "alg": name, **more}


def jwks(*extra):
    return json.dumps({"keys": [*(jwk(key, name) for name, key in KEYS.items()), *extra]})


def claims(**more):
    now = time.time()
    told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 60, "groups": ["astronomers"]}
    return {name: value for name, value in {**told, **more}.items() if value is not None}


def token(algorithm="RS256", key=None, kid=..., headers=None, **more):
    headers = {**({"kid": algorithm if kid is ... else kid} if kid is not None else {}), **(headers or {})}
    return jwt.encode(claims(**more), key or KEYS[algorithm], algorithm, headers)


def forged(header, payload, sign=b""):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part(header) + b"." + part(payload)
    signature = base64.urlsafe_b64encode(sign and hmac.digest(sign, text, "sha256")).rstrip(b"=")
    return (text + b"." + signature).decode()


PUBLIC_PEM = (
    KEYS["RS256"].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)

BAD = {
    "expired": lambda: token(exp=time.time() - 1),
    "not yet": lambda: token(nbf=time.time() + 600),
    "no end": lambda: token(exp=None),
    "another audience": lambda: token(aud="elsewhere"),
    "no audience": lambda: token(aud=None),
    "another issuer": lambda: token(iss="https://evil.example/"),
    "no issuer": lambda: token(iss=None),
    "nobody": lambda: token(sub=None),
    "no name": lambda: token(sub=""),
    "a name with a line": lambda: token(sub="alice\nroot"),
    "a long name": lambda: token(sub="a" * 10_000),
    "a number": lambda: token(sub=5),
    "another key": lambda: token(key=OTHER),
    "an unknown key": lambda: token(kid="nobody's"),
    "the key of another algorithm": lambda: token("RS256", kid="ES256"),
    "alg none": lambda: forged({"alg": "none"}, claims()),
    "alg None": lambda: forged({"alg": "None", "kid": "RS256"}, claims()),
    "HS256 with the public key": lambda: forged({"alg": "HS256", "kid": "RS256"}, claims(), PUBLIC_PEM),
    "HS256 with the secret in the JWKS": lambda: forged({"alg": "HS256", "kid": "secret"}, claims(), b"k" * 32),
    "a longer algorithm": lambda: token("RS256", headers={"alg": "RS512"}),
    "keys in the header": lambda: token(key=OTHER, headers={"jwk": jwk(OTHER, "RS256"), "jku": "https://evil.example/keys"}),
    "cut off": lambda: token()[:-10],
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "groups that are none": lambda: token(groups={"a": 1}),
    "too many groups": lambda: token(groups=["g"] * 200),
    "too long": lambda: token(filling="x" * 9000),
    "rubbish": lambda: "ey.ey.ey",
}


@pytest_twisted.async_yield_fixture
async def issuer(router, rules):
    """The site believes this issuer's tokens."""
    keys = router.home.path / "keys.json"
    keys.write_text(jwks({"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"k" * 32).decode()}))
    await rules(more=BELIEVED)
    yield keys


@pytest.mark.parametrize("algorithm", KEYS)
@pytest_twisted.ensureDeferred
async def test_a_token_is_a_ticket(router, issuer, algorithm):
    consumer = await Consumer(Access(router.ws, "", token(algorithm), method="ticket")).start()
    assert isinstance(await consumer.nodes(), list)
    await consumer.stop()
    assert '"user": "jwt:lab:alice"' in router.home.audit("router").read_text()


@pytest_twisted.ensureDeferred
async def test_a_script_connects_with_a_token(router, issuer, tmp_path):
    code = "import sisock, sys; print(sisock.connect(sys.argv[1], token=sys.stdin.read()).nodes())"
    said = {}
    for name, given in (("good", token()), ("expired", token(exp=time.time() - 1))):
        command = [sys.executable, "-c", code, router.ws]
        home = {**os.environ, "SISOCK_HOME": str(tmp_path)}
        said[name] = await deferToThread(
            subprocess.run, command, input=given, env=home, capture_output=True, text=True, timeout=60, check=False
        )
    assert said["good"].returncode == 0, said["good"].stderr
    assert said["good"].stdout.startswith("[")
    assert said["expired"].returncode == 1
    assert "not accepted" in said["expired"].stderr


@pytest_twisted.ensureDeferred
async def test_as_a_ticket_what_is_no_good_token_is_refused(router, issuer):
    before = router.output.count("Traceback")
    texts = {kind: make() for kind, make in BAD.items()}

    async def attempt(text):
        try:
            consumer = await Consumer(Access(router.ws, "", text, method="ticket")).start()
        except NotAuthorized:
            return "refused"
        await consumer.stop()
        return "let in"

    tries = [Deferred.fromCoroutine(attempt(text)) for text in texts.values()]
    outcomes = {kind: await one for kind, one in zip(texts, tries, strict=True)}
    assert outcomes == dict.fromkeys(BAD, "refused")
    told = router.home.audit("router").read_text() + router.output
    assert not [text for text in texts.values() if text in told]
    assert router.output.count("Traceback") <= before, "what others brought about before is not this test's"


@pytest_twisted.ensureDeferred
async def test_a_token_names_nobody_of_the_sites_own(router, issuer):
    """A token of `server` is not the user `server`, whatever name comes with it."""
    for authid in ("", "server"):
        consumer = await Consumer(Access(router.ws, authid, token(sub="server"), method="ticket")).start()
        session = consumer._connection.session
        with pytest.raises(ApplicationError):
            await session.register(lambda: 1, f"{BASE}consumer.token.get_data")
        assert session._authid == "jwt:lab:server"
        await consumer.stop()


@pytest.mark.parametrize("how", ["expires", "is blocked", "has its issuer taken away"])
@pytest_twisted.ensureDeferred
async def test_a_session_ends_with_its_token(router, issuer, rules, how):
    connected = Consumer(Access(router.ws, "", token(exp=time.time() + (5 if how == "expires" else 60)), method="ticket"))
    refused = []
    await connected.start()
    connected._on_refused = refused.append
    if how == "is blocked":
        await rules(more='blocked = ["jwt:lab:alice"]\n' + BELIEVED)
    elif how != "expires":
        await rules()
    await until(lambda: refused, 20)
    assert isinstance(refused[0], NotAuthorized)
    await connected.stop()


@pytest_twisted.ensureDeferred
async def test_the_rules_know_a_tokens_groups(router, issuer, rules, guests):
    await rules((["group:lab:astro*"], ["token.*"], ["see"]), more=BELIEVED)
    node = await guests.node("token.node")
    assert await node.call(BASE + "data_node.add", "token.node", "", 0)
    for groups, seen in ((["astronomers"], ["token.node"]), (["visitors"], []), ("astronomers", ["token.node"]), ([], [])):
        consumer = await Consumer(Access(router.ws, "", token(groups=groups), method="ticket")).start()
        assert [one["name"] for one in await consumer.nodes()] == seen
        await consumer.stop()


class Server:
    """An issuer's address that counts how often it is asked."""

    def __init__(self, body, status=200, location=None):
        self.body, self.status, self.location, self.asked = body, status, location, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    made = []

    def start(*args, **kwargs):
        made.append(Server(*args, **kwargs))
        return made[-1]

    yield start
    for server in made:
        server.close()


def believing(jwks_at, tmp_path, **more):
    return Tokens(tmp_path, lambda: (Issuer("lab", ISSUER, AUDIENCE, str(jwks_at), **more),))


@pytest_twisted.ensureDeferred
async def test_keys_at_an_address_are_read_once_and_unknown_ones_cost_the_issuer_nothing(serve, tmp_path):
    server = serve(jwks())
    tokens = believing(server.url, tmp_path)
    for _ in range(20):
        assert (await tokens.user(token())).authid == "jwt:lab:alice"
    for number in range(20):
        with pytest.raises(NotAuthenticated):
            await tokens.user(token(kid=f"random{number}"))
    assert server.asked == 1


@pytest_twisted.ensureDeferred
async def test_a_new_key_is_found_and_an_old_one_gone_when_the_file_changes(tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk(OTHER, "old")]}))
    clock = [0.0]
    tokens = believing("keys.json", tmp_path)
    assert (await tokens.user(token(key=OTHER, kid="old"))).expires
    only = next(iter(tokens._sets.values()))
    only._clock = lambda: time.monotonic() + clock[0]
    keys.write_text(jwks())
    clock[0] = 1
    assert await tokens.user(token())
    with pytest.raises(NotAuthenticated):
        await tokens.user(token(key=OTHER, kid="old"))


@pytest.mark.parametrize("what", ["gone", "error", "rubbish", "huge", "redirect", "list"])
@pytest_twisted.ensureDeferred
async def test_while_an_issuer_does_not_answer_its_old_keys_count_for_a_day(serve, tmp_path, what):
    server = serve(jwks())
    tokens = believing(server.url, tmp_path)
    assert await tokens.user(token())
    only = next(iter(tokens._sets.values()))
    other = serve(jwks())
    answers = {
        "error": {"status": 500},
        "rubbish": {"body": "{"},
        "huge": {"body": " " * 1_500_000},
        "redirect": {"status": 302, "location": other.url},
        "list": {"body": "[]"},
        "gone": {},
    }
    for name, value in answers[what].items():
        setattr(server, name, value)
    if what == "gone":
        server.close()
        server.close = lambda: None
    later = [3600.0]
    only._clock = lambda: time.monotonic() + later[0]
    assert await tokens.user(token()), "the keys from before"
    later[0] = 90_000.0
    with pytest.raises(NotAuthenticated):
        await tokens.user(token())
    assert other.asked == 0


def test_keys_that_cannot_check_signatures_are_left_out():
    short = rsa.generate_private_key(65537, 1024)
    listed = [
        jwk(KEYS["RS256"], "good"),
        jwk(short, "short"),
        jwk(KEYS["ES256"], "encrypts", use="enc"),
        {"kty": "oct", "kid": "secret", "k": "a2V5"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": 5},
        "text",
        None,
    ]
    assert [key.key_id for key in usable(json.dumps({"keys": listed}).encode())] == ["good"]
    for text in (b"[]", b"{}", b"5", b'{"keys": {}}', json.dumps({"keys": [{}] * 1000}).encode(), b" " * 1_000_001):
        with pytest.raises(ValueError, match="they"):
            list(usable(text))
