"""The door of a face: who may ask the bridge for what, with which token, from where; and a WebSocket behind the same door."""

from __future__ import annotations

import base64
import json
import time

import pytest
import pytest_twisted
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint

from sisock import DataNode, Field
from sisock.credentials import Scram, ticket_digest
from sisock.doors import LOOPBACK, Door
from sisock.errors import TooManyLogins
from sisock.grafana_bridge.service import create_app
from sisock.home import Home
from sisock.http import listen
from sisock.throttle import HELD
from sisock.users import User
from tests.bridge.http_client import Client
from tests.bridge.memory_consumer import MemoryConsumer
from tests.test_tokens import BAD, BELIEVED, jwks, token

SECRETS = {
    "anna": User("anna", "consumer", "anna's secret"),
    "bob": User("bob", "consumer", ticket=ticket_digest("bob's ticket")),
    "old": User("old", "consumer", "old secret", expires=1.0),
    "eve": User("eve", "consumer", "eve's secret"),
    "sam": User("sam", "consumer", scram=Scram("ab" * 16, "cd" * 32, "ef" * 32)),
    "key": User("key", "consumer", keys=("12" * 32,)),
    "roof": User("roof", "node", "roof's secret", ("roof",)),
    "server": User("server", "server", "server's secret"),
}
RULES = f"""
blocked = ["eve", "jwt:lab:mallory"]
{BELIEVED}
[[rule]]
who = ["anna", "group:lab:astronomers"]
nodes = ["roof"]
verbs = ["see", "read"]

[[rule]]
who = ["public"]
nodes = ["door*"]
verbs = ["see"]

[[rule]]
who = ["*"]
nodes = ["door"]
verbs = ["read"]
"""


def node(name):
    class Node(DataNode):
        fields = {"air": Field()}

    Node.name = name
    made = Node()
    made.append("t", 1000.0, {"air": 1.0}).result()
    return made


class Made:
    """A bridge behind its door in this process."""

    def __init__(self, home, **how):
        self.home = Home(home)
        self.home.make()
        for user in SECRETS.values():
            self.home.users.add(user)
        (home / "keys.json").write_text(jwks())
        self.how = how

    def serve(self, rules=RULES, default=LOOPBACK):
        if rules:
            self.home.rules.path.write_text(rules)
        self.door = Door.of(self.home, "bridge", default=default, **self.how)
        app = create_app(MemoryConsumer(node("roof"), node("door"), node("attic")))
        self.port = listen(app, "127.0.0.1", 0, door=self.door)
        return Client(self.port.getHost().port)

    def lines(self):
        self.door.close()
        path = self.home.audit("bridge")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest_twisted.async_yield_fixture
async def bridge(tmp_path):
    made = Made(tmp_path)
    yield made
    made.door.close()
    await made.port.stopListening()


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def basic(name, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def seen(client, headers=None):
    answer = await client.get("/search", headers=headers or {})
    return sorted(answer.json) if answer.status == 200 else answer.status


async def read(client, name, headers=None):
    """What a query of one field of a node gives: its number of points, or what is said of it."""
    target = {"target": f"{name}::air", "type": "timeserie"}
    body = {"range": {"from": "1970-01-01T00:00:00Z", "to": "1970-01-02T00:00:00Z"}, "targets": [target]}
    answer = await client.post("/query", body, headers=headers or {})
    if answer.status != 200:
        return answer.status
    target = answer.json[0]
    return len(target["datapoints"]) if not target.get("error") else target["error"]


RIGHTS = {
    "anna by Bearer": (lambda: bearer("anna:anna's secret"), {"roof", "door"}, {"roof", "door"}),
    "anna by Basic": (lambda: basic("anna", "anna's secret"), {"roof", "door"}, {"roof", "door"}),
    "bob by his ticket": (lambda: bearer("bob:bob's ticket"), {"door"}, {"door"}),
    "bob by Basic": (lambda: basic("bob", "bob's ticket"), {"door"}, {"door"}),
    "an astronomer": (lambda: bearer(token()), {"roof", "door"}, {"roof", "door"}),
    "a visitor": (lambda: bearer(token(groups=["visitors"])), {"door"}, {"door"}),
    "nobody": (dict, {"door"}, set()),
    "the server": (lambda: bearer("server:server's secret"), {"roof", "door", "attic"}, {"roof", "door", "attic"}),
    "a node": (lambda: bearer("roof:roof's secret"), set(), set()),
}


@pytest.mark.parametrize("who", RIGHTS)
@pytest_twisted.ensureDeferred
async def test_what_each_sees_and_reads(bridge, who):
    headers, sees, reads = RIGHTS[who]
    client = bridge.serve()
    assert await seen(client, headers()) == sorted(f"{name}::air" for name in sees)
    absent = await read(client, "absent", headers())
    for name in ("roof", "door", "attic"):
        told = await read(client, name, headers())
        if name in reads:
            assert told == 1
        elif name in sees:
            assert "may not read" in json.dumps(told)
        else:
            assert json.dumps(told).replace(name, "absent") == json.dumps(absent)
    lines = bridge.lines()
    assert {line["event"] for line in lines} <= {"login"}
    assert len(lines) == (who != "nobody")


WRONG = {
    "a wrong secret": lambda: bearer("anna:wrong"),
    "another's secret": lambda: bearer("bob:anna's secret"),
    "the digest for the ticket": lambda: bearer("bob:" + SECRETS["bob"].ticket),
    "nobody": lambda: bearer("nobody:secret"),
    "no secret": lambda: bearer("anna:"),
    "no secret of one who has none": lambda: bearer("key:"),
    "scram has no secret here": lambda: bearer("sam:" + "cd" * 32),
    "a public key": lambda: bearer("key:" + "12" * 32),
    "expired": lambda: bearer("old:old secret"),
    "blocked": lambda: bearer("eve:eve's secret"),
    "a blocked token": lambda: bearer(token(sub="mallory")),
    "public": lambda: bearer("public:"),
    "the page's form": lambda: bearer("secret"),
    "empty": lambda: bearer(""),
    "Basic rubbish": lambda: {"Authorization": "Basic !!!"},
    "Basic without a colon": lambda: {"Authorization": "Basic " + base64.b64encode(b"anna").decode()},
    "Basic that is no text": lambda: {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
    "another scheme": lambda: {"Authorization": "Digest anna"},
    "two of them": lambda: {"Authorization": ["Bearer anna:anna's secret", "Bearer bob:bob's ticket"]},
    "very long": lambda: bearer("anna:" + "x" * 10_000),
    "look-alikes": lambda: bearer("аnna:anna's secret".encode().decode("latin-1")),
    **{f"a token: {kind}": (lambda make=make: bearer(make())) for kind, make in BAD.items() if "\n" not in make()},
}


@pytest_twisted.ensureDeferred
async def test_what_is_not_believed_is_refused_even_where_no_token_is_needed(bridge):
    client = bridge.serve()
    answers = await gatherResults(
        [ensureDeferred(client.get("/search", headers=make())) for make in WRONG.values()], consumeErrors=True
    )
    for kind, answer in zip(WRONG, answers, strict=True):
        assert answer.error[:2] == (401, "sisock.error.not_authenticated"), kind
        assert answer.headers["www-authenticate"].startswith("Basic")
    text = json.dumps(bridge.lines())
    for secret in ("anna's secret", "bob's ticket", "eve's secret", 'wrong"', token().partition(".")[0] + "."):
        assert secret not in text
    assert await seen(client, bearer("anna:anna's secret")) == ["door::air", "roof::air"]


@pytest.mark.parametrize(
    ("default", "rules", "status"),
    [
        (LOOPBACK, "", 200),
        ((), "", 401),
        (LOOPBACK, "[face.bridge]\nwithout_token = []\n", 401),
        ((), '[face.bridge]\nwithout_token = ["127.0.0.1"]\n', 200),
        ((), '[face.bridge]\nwithout_token = ["192.0.2.0/24", "fd00::/8"]\n', 401),
        (LOOPBACK, '[face.other]\nwithout_token = ["192.0.2.0/24"]\n', 200),
        (LOOPBACK, "rubbish", 200),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_these_networks_may_come_without_a_token(bridge, default, rules, status):
    client = bridge.serve(rules, default)
    answer = await client.get("/search")
    assert answer.status == status
    if rules == "rubbish":
        assert answer.json == [], "a file that was never whole grants nothing"
    assert (await client.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_hosts_and_origins_of_the_access_file_count(bridge):
    client = bridge.serve('[face.bridge]\nhosts = ["dash.example"]\norigins = ["https://dash.example"]\n')

    async def status(host, origin=None):
        headers = {"Host": host} | ({"Origin": origin} if origin else {})
        return (await client.post("/search", {}, headers=headers)).status

    assert await status("dash.example") == 200
    assert await status("dash.example", "https://dash.example") == 200
    assert await status("evil.example") == 403
    assert await status("dash.example", "https://evil.example") == 403
    assert await status("localhost", "null") == 403


@pytest_twisted.ensureDeferred
async def test_an_edit_of_users_and_rules_counts_for_the_next_request(bridge):
    from tests.plain import until

    client = bridge.serve()
    anna = bearer("anna:anna's secret")
    assert await seen(client, anna) == ["door::air", "roof::air"]
    bridge.home.rules.path.write_text('[[rule]]\nwho = ["anna"]\nnodes = ["attic"]\nverbs = ["read"]\n')

    async def edited():
        return await seen(client, anna) == ["attic::air"]

    await until(edited)
    bridge.home.users.remove("anna")
    assert await seen(client, anna) == 401


@pytest_twisted.ensureDeferred
async def test_a_flood_of_wrong_secrets_does_not_keep_the_right_one_out(bridge):
    client = bridge.serve()
    wrong = [ensureDeferred(client.get("/search", headers=bearer(f"anna:{number}"))) for number in range(300)]
    right = await seen(client, bearer("anna:anna's secret"))
    assert right == ["door::air", "roof::air"]
    assert {answer.status for answer in await gatherResults(wrong, consumeErrors=True)} == {401}
    lines = bridge.lines()
    told = len([line for line in lines if line["event"] == "refused" and "more" not in line])
    counted = sum(line["more"] for line in lines if "more" in line)
    assert told + counted == 300
    assert told < 200


@pytest_twisted.ensureDeferred
async def test_in_a_flood_from_elsewhere_who_has_got_in_from_there_gets_in_and_no_secret_is_written(bridge):
    bridge.serve()
    door, far, secret = bridge.door, "192.0.2.9", "hunter2-in-the-wrong-place"
    assert (await door.admit(f"Bearer {token()}", far)).user.authid == "jwt:lab:alice"
    for _ in range(HELD):
        door._throttle.hold(far)
    assert (await door.admit(f"Bearer {token()}", far)).user.authid == "jwt:lab:alice"
    for other in (token(sub="bob"), token(iss="https://evil.example/"), f"{secret}:x", secret, "anna:anna's secret"):
        with pytest.raises(TooManyLogins):
            await door.admit(f"Bearer {other}", far)
    told = json.dumps(bridge.lines())
    assert '"why": "too many"' in told
    assert "hunter" not in told
    assert '"user": "anna"' in told


class Echo(WebSocketServerProtocol):
    door: Door

    async def onConnect(self, request):
        self.caller = await self.door.admit_websocket(request)

    def onMessage(self, payload, *_):
        self.sendMessage(json.dumps([self.caller.user.authid, self.caller.may("read", payload.decode())]).encode())


class Asker(WebSocketClientProtocol):
    def onOpen(self):
        self.sendMessage(b"roof")

    def onMessage(self, payload, *_):
        self.told.callback(json.loads(payload))
        self.sendClose()

    def onClose(self, *why):
        if not self.told.called:
            self.told.callback(str(why[-1]))


@pytest_twisted.ensureDeferred
async def test_a_websocket_stands_behind_the_same_door(bridge):
    from twisted.internet import reactor

    bridge.serve()
    factory = WebSocketServerFactory()
    factory.protocol = type("Behind", (Echo,), {"door": bridge.door})
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    number = port.getHost().port

    async def ask(headers=None, host="localhost", origin=None):
        told = Deferred()
        client = WebSocketClientFactory(f"ws://{host}:{number}/", headers=headers or {}, origin=origin)
        client.protocol = type("Once", (Asker,), {"told": told})
        client.noisy = False
        await HostnameEndpoint(reactor, "127.0.0.1", number).connect(client)
        return await told

    try:
        assert await ask() == ["public", False]
        assert await ask(bearer("anna:anna's secret")) == ["anna", True]
        assert await ask(bearer(token())) == ["jwt:lab:alice", True]
        assert await ask(basic("bob", "bob's ticket")) == ["bob", False]
        assert await ask(origin=f"http://localhost:{number}") == ["public", False]
        for refused in (
            {"headers": bearer("anna:wrong")},
            {"headers": bearer(token(exp=time.time() - 1))},
            {"headers": bearer(BAD["alg none"]())},
            {"headers": {"Authorization": "Bearer"}},
        ):
            assert "401" in await ask(**refused)
        for refused in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "http://localhost:1"}):
            assert "403" in await ask(**refused)
    finally:
        await port.stopListening()
