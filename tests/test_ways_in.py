"""The ways in: WAMP-CRA, SCRAM, cryptosign and tickets; and who is taken away is out at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sisock.consumer import Consumer
from sisock.credentials import Scram, new_secret, ticket_digest
from sisock.errors import NotAuthorized, SetupError
from sisock.session import Access
from sisock.users import User
from tests.conftest import audit
from tests.plain import BASE, Plain, Refused, join, shared, until

LIST = BASE + "consumer.get_data_node"


def admit(router, name, method, **more):
    """A user who gets in by one way, and the secret of it."""
    secret = new_secret()
    if method == "cryptosign":
        key = Ed25519PrivateKey.generate()
        secret = key.private_bytes_raw().hex()
        way = {"keys": (key.public_key().public_bytes_raw().hex(),)}
    else:
        way = {
            "wampcra": lambda: {"secret": secret},
            "scram": lambda: {"scram": Scram.of(secret)},
            "ticket": lambda: {"ticket": ticket_digest(secret)},
        }[method]()
    router.home.users.add(User(name, "consumer", **way, **more), keep=False)
    return secret


METHODS = ("wampcra", "scram", "ticket", "cryptosign")


@pytest.mark.parametrize("method", METHODS)
@pytest_twisted.ensureDeferred
async def test_each_way_in_lets_in_who_has_the_secret_and_nobody_else(router, method, tmp_path):
    name = f"way.{method}"
    secret = admit(router, name, method)
    access = Access(router.ws, name, secret, method=method)
    consumer = await Consumer(access).start()
    assert isinstance(await consumer.nodes(), list)
    await consumer.stop()
    file = tmp_path / "secret"
    file.write_text(f"{secret}\n")
    consumer = await Consumer(replace(access, secret="", secret_file=file)).start()
    await consumer.stop()
    # A secret is no private key, so that way is not even tried with it.
    others = [other for other in METHODS if other not in (method, "cryptosign")]
    for wrong in (
        replace(access, secret=secret[:-1] + ("0" if secret[-1] != "0" else "1")),
        replace(access, authid=f"{name}.x"),
        replace(access, authid="server"),
        *(
            replace(access, method=other)
            for other in others
            if {other, method} != {"wampcra", "cryptosign"} and other != "cryptosign"
        ),
    ):
        with pytest.raises(NotAuthorized):
            await Consumer(wrong).start()
    lines = [line for line in audit(router) if line.get("user") == name]
    assert {line["event"] for line in lines} == {"login", "refused"}
    assert all(line["method"] == method for line in lines if line["event"] == "login")
    text = router.home.audit("router").read_text() + router.output
    assert secret not in text
    assert router.home.audit("router").stat().st_mode & 0o777 == 0o600


@pytest_twisted.ensureDeferred
async def test_who_is_not_there_is_asked_like_everybody(router):
    """A user's name cannot be found out by what the router answers."""
    admit(router, "way.there", "wampcra")
    admit(router, "way.keyed", "cryptosign")
    router.user("way.node", "way.node")
    asked, told = {}, {}
    for name in ("way.there", "way.node", "server", "way.keyed", "way.nobody"):
        for method in ("wampcra", "scram", "cryptosign", "ticket"):
            challenges, reason = await question(router, name, method)
            asked.setdefault(method, []).append(challenges)
            told.setdefault(method, []).append(reason)
    for method, questions in asked.items():
        assert all(one == questions[0] and one for one in questions), (method, questions)
    assert len({text for texts in told.values() for text in texts}) == 1
    assert "way." not in told["ticket"][0]


async def question(router, name, method):
    """What the router asks who comes by that name, but for what is new each time, and how it refuses a wrong answer."""
    challenges = []

    class Asks(Plain):
        def onConnect(self):
            extra = {"nonce": "A" * 24, "channel_binding": None} if method == "scram" else {"pubkey": "ab" * 32}
            self.join("sisock", [method], name, authextra=extra if method != "ticket" else None)

        def onChallenge(self, challenge):
            told = {key: value for key, value in challenge.extra.items() if key not in RANDOM}
            if method == "wampcra":
                inside = json.loads(challenge.extra["challenge"])
                told["challenge"] = {key: value for key, value in inside.items() if key not in (*RANDOM, "authid")}
            challenges.append((challenge.method, told))
            return {"wampcra": "AAAA", "scram": "A" * 43 + "=", "cryptosign": "ab" * 96, "ticket": "wrong"}[method]

    with pytest.raises(Refused) as refused:
        await join(router.ws, (name, "wrong"), session=Asks)
    return challenges, str(refused.value)


# What is new with each question: WAMP-CRA's, SCRAM's and cryptosign's.
RANDOM = ("nonce", "timestamp", "session", "challenge", "salt")


@pytest.mark.parametrize(
    "access", [{"secret": ""}, {"method": "cryptosign", "secret": "zz" * 32}, {"method": "cryptosign", "secret": "ab"}]
)
@pytest_twisted.ensureDeferred
async def test_a_secret_that_cannot_be_one_is_said_so_before_anything_is_sent(router, access):
    with pytest.raises(SetupError):
        await Consumer(Access(router.ws, "somebody", **access)).start()


@pytest.mark.parametrize("how", ["revoked", "rotated", "expired", "blocked", "another role"])
@pytest_twisted.ensureDeferred
async def test_who_is_taken_away_is_out_at_once_live_subscriptions_included(router, guests, rules, how):
    import time

    name = f"out.{how.replace(' ', '-')}"
    secret = admit(router, name, "wampcra")
    staying = await guests()
    session = await guests((name, secret))
    heard = []
    await session.subscribe(heard.append, f"{BASE}consumer.out.latest")
    users = router.home.users
    if how == "revoked":
        users.remove(name)
    elif how == "rotated":
        users.update(name, lambda user: replace(user, secret=new_secret()))
    elif how == "expired":
        users.update(name, lambda user: replace(user, expires=time.time() + 0.4))
    elif how == "blocked":
        await rules(more=f'blocked = ["{name}"]\n')
    else:
        users.update(name, lambda user: replace(user, role="node", nodes=("out",)))
    await shared(session.gone)
    assert session.reason == "sisock.error.not_authorized"
    if how == "another role":
        assert (await guests((name, secret))).is_attached()
    else:
        with pytest.raises(Refused):
            await guests((name, secret))
    assert staying.is_attached()
    assert [line for line in audit(router) if line["event"] == "killed" and line.get("user") == name]


@pytest_twisted.ensureDeferred
async def test_one_who_does_not_answer_that_it_shall_leave_is_cut_off(router, guests):
    secret = admit(router, "out.deaf", "wampcra")
    session = await guests(("out.deaf", secret))
    session.onMessage = lambda message: None
    router.home.users.remove("out.deaf")
    await shared(session.gone)


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_taken_away_is_gone_from_the_list(router, guests):
    consumer = await guests()
    node = await guests.node("out.node")
    assert await node.call(BASE + "data_node.add", "out.node", "", 0)
    router.home.users.remove("node:out.node")
    await until(lambda: _gone(consumer, "out.node"))
    with pytest.raises(ApplicationError) as told:
        await consumer.call(f"{BASE}consumer.out.node.get_fields", 1, 0)
    assert told.value.error == "wamp.error.no_such_procedure"


async def _gone(consumer, name):
    return name not in [node["name"] for node in await consumer.call(LIST)]
