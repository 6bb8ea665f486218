"""The rules of single nodes over the wire: a node that one may not see is nowhere, and an edit counts without a restart."""

from __future__ import annotations

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import SubscribeOptions

from sisock.consumer import Consumer
from sisock.credentials import new_secret
from sisock.errors import NotAuthorized
from sisock.session import Access
from sisock.users import User
from tests.conftest import audit
from tests.plain import BASE, shared, until

LIST = BASE + "consumer.get_data_node"
ADDED, SUBTRACTED = BASE + "consumer.data_node_added", BASE + "consumer.data_node_subtracted"


@pytest.fixture
def anna(router):
    secret = new_secret()
    router.home.users.add(User("anna", "consumer", secret), keep=False)
    return "anna", secret


async def put_up(guests, *names):
    made = []
    for name in names:
        node = await guests.node(name)
        assert await node.call(BASE + "data_node.add", name, f"The {name}.", 0)
        made.append(node)
    return made


async def listed(session):
    return [node["name"] for node in await session.call(LIST)]


async def error_of(call):
    with pytest.raises(ApplicationError) as told:
        await call
    return told.value.error, [str(arg) for arg in told.value.args]


async def listen(session):
    heard = []
    await session.subscribe(lambda node: heard.append(("added", node["name"])), ADDED)
    await session.subscribe(lambda node: heard.append(("subtracted", node["name"])), SUBTRACTED)
    return heard


@pytest_twisted.ensureDeferred
async def test_a_hidden_node_is_not_listed_not_announced_and_not_found_by_guessing(guests, rules, anna):
    await rules((["anna"], ["rule.seen"], ["see", "read", "follow"]))
    session, trusted = await guests(anna), await guests("server")
    heard, all_of_it = await listen(session), await listen(trusted)
    await put_up(guests, "rule.seen", "rule.hidden")
    assert await listed(session) == ["rule.seen"]
    assert {"rule.seen", "rule.hidden"} <= set(await listed(trusted))
    for procedure, args in (("get_fields", (1, 0)), ("get_data", (["x"], 1, 0))):
        hidden = await error_of(session.call(f"{BASE}consumer.rule.hidden.{procedure}", *args))
        absent = await error_of(session.call(f"{BASE}consumer.rule.absent.{procedure}", *args))
        assert hidden[0] == absent[0] == "wamp.error.no_such_procedure"
        assert hidden[1] == [text.replace("absent", "hidden") for text in absent[1]]
        assert await session.call(f"{BASE}consumer.rule.seen.{procedure}", *args) is not None
    # One that a rule grants and nobody serves is told of in the router's own words, which are the same.
    await rules((["anna"], ["rule.*"], ["see", "read"]))
    routers = await error_of(session.call(f"{BASE}consumer.rule.absent.get_data", [], 1, 0))
    assert routers == absent
    await until(lambda: len(all_of_it) == 2)
    assert [event for event in heard if event[1] == "rule.hidden"] in ([], [("added", "rule.hidden")])
    assert heard[0] == ("added", "rule.seen")


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_taken_is_no_business_of_who_may_not_have_it(guests, rules, anna):
    await rules((["anna"], ["rule.seen"], ["see"]))
    session = await guests(anna)
    await put_up(guests, "rule.secret")
    taken = await error_of(session.register(print, f"{BASE}consumer.rule.secret.get_data"))
    free = await error_of(session.register(print, f"{BASE}consumer.rule.absent.get_data"))
    assert taken[0] == free[0] == "wamp.error.not_authorized"
    assert taken[1] == [text.replace("absent", "secret") for text in free[1]]


@pytest.mark.parametrize(
    ("verbs", "can"),
    [
        (["see"], {"listed", "get_fields"}),
        (["read"], {"listed", "get_fields", "get_data"}),
        (["follow"], {"listed", "get_fields", "latest", "data.t", "data."}),
        (["see", "read", "follow"], {"listed", "get_fields", "get_data", "latest", "data.t", "data."}),
        (["serve"], set()),
    ],
    ids=lambda value: "" if isinstance(value, set) else " ".join(value),
)
@pytest_twisted.ensureDeferred
async def test_each_verb_lets_one_do_that_alone(guests, rules, anna, verbs, can):
    await rules((["anna"], ["rule.verb"], verbs), (["role:consumer"], ["rule.other"], ["see", "read", "follow"]))
    await put_up(guests, "rule.verb")
    session = await guests(anna)
    node = f"{BASE}consumer.rule.verb."
    tries = {
        "listed": lambda: session.call(LIST),
        "get_fields": lambda: session.call(node + "get_fields", 1, 0),
        "get_data": lambda: session.call(node + "get_data", [], 1, 0),
        "latest": lambda: session.subscribe(print, node + "latest"),
        "data.t": lambda: session.subscribe(print, node + "data.t"),
        "data.": lambda: session.subscribe(print, node + "data.", SubscribeOptions(match="prefix")),
    }
    could = set()
    for name, attempt in tries.items():
        try:
            answer = await attempt()
        except ApplicationError as error:
            seen = "listed" in can
            hides = name in ("get_fields", "get_data") and not seen
            assert error.error == ("wamp.error.no_such_procedure" if hides else "wamp.error.not_authorized")
        else:
            if name != "listed" or [entry for entry in answer if entry["name"] == "rule.verb"]:
                could.add(name)
    assert could == can


@pytest_twisted.ensureDeferred
async def test_an_edit_counts_at_once_and_one_that_breaks_the_file_changes_nothing(guests, rules, anna, router):
    await put_up(guests, "rule.edited")
    session = await guests(anna)
    assert "rule.edited" in await listed(session), "without rules everybody sees everything"
    heard = await listen(session)
    await rules((["somebody else"], ["*"], ["see"]))
    await until(lambda: heard == [("subtracted", "rule.edited")])
    assert await listed(session) == []
    await rules((["an*"], ["rule.edit*"], ["see", "follow"]))
    await until(lambda: heard[1:] == [("added", "rule.edited")])
    topic = f"{BASE}consumer.rule.edited.latest"
    await session.subscribe(print, topic)
    one_verb = '[[rule]]\nwho = ["a"]\nnodes = ["*"]\nverbs = ["own"]'
    for broken in ("rule = 5", "[[rule]]\nwho = ['anna']", "[[rule]\n", one_verb, "rul = []"):
        await rules(more=broken)
        assert await listed(session) == ["rule.edited"]
        assert "why" in audit(router)[-1]
    await until(lambda: "'rul' is not known" in router.output)
    assert session.is_attached()
    # What it listens to it may not any more, so that the session ends.
    await rules((["anna"], ["rule.edited"], ["see"]))
    await shared(session.gone)
    assert session.reason == "sisock.error.not_authorized"
    assert await listed(await guests(anna)) == ["rule.edited"]


@pytest_twisted.ensureDeferred
async def test_a_rule_lets_a_node_serve_and_takes_it_away_again(guests, rules, router):
    user = router.user("node:rule.own", "rule.own")
    await rules((["node:rule.*"], ["rule.lent", "rule.seen"], ["serve"]))
    node = await guests(user)
    for procedure in ("get_fields", "get_data"):
        await node.register(lambda *args: [{}, {}], f"{BASE}consumer.rule.lent.{procedure}")
    assert await node.call(BASE + "data_node.add", "rule.lent", "", 0)
    await rules((["node:rule.*"], ["rule.seen"], ["serve"]))
    await shared(node.gone)


@pytest_twisted.ensureDeferred
async def test_a_rule_lets_no_consumer_serve_and_no_node_read(guests, rules, anna, router):
    await rules((["*"], ["*"], ["see", "read", "follow", "serve"]))
    await put_up(guests, "rule.any")
    session = await guests(anna)
    assert (await error_of(session.register(print, f"{BASE}consumer.rule.new.get_data")))[0] == "wamp.error.not_authorized"
    node = await guests(router.user("node:rule.reader", "rule.reader"))
    assert (await error_of(node.call(f"{BASE}consumer.rule.any.get_data", [], 1, 0)))[0] == "wamp.error.not_authorized"
    assert (await error_of(node.call(LIST)))[0] == "wamp.error.not_authorized"


@pytest_twisted.ensureDeferred
async def test_who_may_read_and_not_follow_is_told_so(guests, rules, anna, router):
    from sisock import DataNode, Field

    class Roof(DataNode):
        """A roof."""

        name = "rule.roof"
        fields = {"air": Field()}

    node = Roof()
    service = await router.serve(node)
    node.append("t", 1_700_000_000.0, {"air": 1.0})
    await rules(([anna[0]], ["rule.roof"], ["read"]))
    consumer = await Consumer(Access(router.ws, *anna)).start()
    try:
        with pytest.raises(NotAuthorized, match=r"may not follow rule\.roof"):
            async for _ in consumer.follow("rule.roof", ["air"], start=1.0):
                pass
    finally:
        await consumer.stop()
        await service.stop()
