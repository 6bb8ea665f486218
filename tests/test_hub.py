"""The hub over the wire (contracts A2 to A4, design 4), as plain Autobahn clients meet it."""

from __future__ import annotations

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError

from tests.plain import BASE, shared, until

ADD, SUBTRACT, CLAIM = BASE + "data_node.add", BASE + "data_node.subtract", BASE + "data_node.claim"
LIST = BASE + "consumer.get_data_node"
ADDED, SUBTRACTED = BASE + "consumer.data_node_added", BASE + "consumer.data_node_subtracted"


async def listen(session):
    heard = []
    await session.subscribe(lambda *args: heard.append(("added", *args)), ADDED)
    await session.subscribe(lambda *args: heard.append(("subtracted", *args)), SUBTRACTED)
    return heard


async def add(session, name, description="", **more):
    return await session.call(ADD, name, description, session._session_id, **more)


@pytest_twisted.ensureDeferred
async def test_a_node_comes_and_goes(guests):
    consumer = await guests()
    heard = await listen(consumer)
    node = await guests.node("hub.one")
    assert await add(node, "hub.one", "The first.") is True
    told = {"name": "hub.one", "description": "The first."}
    await until(lambda: heard == [("added", told)])
    assert told in await consumer.call(LIST)
    assert await node.call(SUBTRACT, "hub.one", node._session_id) is None
    await until(lambda: ("subtracted", told) in heard)
    assert told not in await consumer.call(LIST)


@pytest_twisted.ensureDeferred
async def test_nodes_are_listed_oldest_first(guests):
    consumer = await guests()
    names = ["order.z", "order.a", "order.m"]
    for name in names:
        assert await add(await guests.node(name), name)
    listed = [node["name"] for node in await consumer.call(LIST)]
    assert [name for name in listed if name in names] == names


@pytest_twisted.ensureDeferred
async def test_a_taken_name_is_refused_without_an_event_and_the_refused_stays(guests):
    consumer = await guests()
    node = await guests.node("hub.taken")
    assert await add(node, "hub.taken") is True
    heard = await listen(consumer)
    assert await add(node, "hub.taken") is False
    rival = await guests("server")
    assert await add(rival, "hub.taken") is False
    assert rival.is_attached()
    assert heard == []


@pytest_twisted.ensureDeferred
async def test_all_nodes_of_a_leaving_session_go(guests):
    consumer = await guests()
    server = await guests("server")
    names = ["many.a", "many.b", "many.c"]
    for name in names:
        await server.register(lambda *a: [{}, {}], f"{BASE}consumer.{name}.get_fields")
        await server.register(lambda *a: False, f"{BASE}consumer.{name}.get_data")
        assert await add(server, name)
    heard = await listen(consumer)
    server._transport.abort()
    await until(lambda: len(heard) == 3)
    assert [event[1]["name"] for event in heard] == names
    assert not [node for node in await consumer.call(LIST) if node["name"] in names]


@pytest_twisted.ensureDeferred
async def test_the_caller_is_the_session_that_the_router_discloses(guests):
    consumer = await guests()
    node = await guests.node("hub.honest")
    victim = await guests.node("hub.victim")
    # It tells the session of another; the node is its own all the same.
    assert await node.call(ADD, "hub.honest", "", victim._session_id) is True
    await node.quit()
    await until(lambda: _gone(consumer, "hub.honest"))
    assert await add(victim, "hub.victim") is True
    thief = await guests.node("hub.thief")
    assert await thief.call(SUBTRACT, "hub.victim", victim._session_id) is None
    assert "hub.victim" in [node["name"] for node in await consumer.call(LIST)]


async def _gone(consumer, name):
    return name not in [node["name"] for node in await consumer.call(LIST)]


@pytest_twisted.ensureDeferred
async def test_subtracting_what_is_not_there_does_nothing(guests):
    node = await guests.node("hub.none")
    for args in (("nobody", 1), ("hub.none", node._session_id), (None, None), ("",)):
        assert await node.call(SUBTRACT, *args) is None


@pytest_twisted.ensureDeferred
async def test_a_node_holds_its_procedures_before_it_is_added(guests):
    node = await guests.node("hub.bare", register=False)
    with pytest.raises(ApplicationError, match="register") as told:
        await add(node, "hub.bare")
    assert told.value.error == "sisock.error.not_registered"
    await node.register(lambda *a: [{}, {}], f"{BASE}consumer.hub.bare.get_fields")
    with pytest.raises(ApplicationError, match="get_data"):
        await add(node, "hub.bare")
    await node.register(lambda *a: False, f"{BASE}consumer.hub.bare.get_data")
    assert await add(node, "hub.bare") is True


@pytest_twisted.ensureDeferred
async def test_a_user_adds_only_the_nodes_that_are_its_own(guests):
    node = await guests.node("hub.mine")
    with pytest.raises(ApplicationError) as told:
        await add(node, "hub.yours")
    assert told.value.error == "sisock.error.not_authorized"
    with pytest.raises(ApplicationError) as told:
        await node.call(CLAIM, "hub.yours", "instance")
    assert told.value.error == "sisock.error.not_authorized"


@pytest.mark.parametrize("name", ["", "a b", "a#b", ".a", "a..b", "x.data", "get_data", "n" * 256, 7, None, ["a"]])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_a_name_is_refused(guests, name):
    server = await guests("server", serializer="json")
    with pytest.raises(ApplicationError) as told:
        await add(server, name)
    assert told.value.error == "sisock.error.invalid_argument"
    assert await (await guests()).call(LIST) is not None


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("a",) * 9, {}), (("a",), {"colour": 1}), (("wire.odd", 5, 5), {})])
@pytest_twisted.ensureDeferred
async def test_wrong_arguments_are_a_typed_error(guests, args, kwargs):
    server = await guests("server")
    with pytest.raises(ApplicationError) as told:
        await server.call(ADD, *args, **kwargs)
    assert told.value.error == "sisock.error.invalid_argument" or args == ("a",)


@pytest_twisted.ensureDeferred
async def test_a_claim_fails_while_another_instance_answers(guests):
    user = guests.router.user("node:hub.held", "hub.held")
    holder = await guests.node("hub.held")
    assert await add(holder, "hub.held", instance="one", start=1)
    rival = await guests(user)
    assert await rival.call(CLAIM, "hub.held", "two", 5) is False
    assert holder.is_attached()


@pytest_twisted.ensureDeferred
async def test_a_newer_start_of_the_same_instance_takes_over_and_an_older_one_is_told_to_leave(guests):
    consumer = await guests()
    user = guests.router.user("node:hub.twin", "hub.twin")
    old = await guests.node("hub.twin")
    assert await add(old, "hub.twin", instance="one", start=3)
    older = await guests(user)
    with pytest.raises(ApplicationError) as told:
        await older.call(CLAIM, "hub.twin", "one", 2)
    assert told.value.error == "sisock.error.superseded"
    newer = await guests(user)
    heard = await listen(consumer)
    assert await newer.call(CLAIM, "hub.twin", "one", 4) is True
    await newer.register(lambda *a: [{}, {}], f"{BASE}consumer.hub.twin.get_fields")
    await until(lambda: [event[0] for event in heard] == ["subtracted"])
    await shared(old.gone)
    assert old.reason == "sisock.error.superseded"


@pytest_twisted.ensureDeferred
async def test_a_claim_takes_the_name_of_one_that_does_not_answer(guests):
    from twisted.internet.defer import Deferred

    user = guests.router.user("node:hub.dead", "hub.dead")
    stuck = await guests.node("hub.dead", register=False)
    await stuck.register(lambda *a: Deferred(lambda _: None), f"{BASE}consumer.hub.dead.get_fields")
    await stuck.register(lambda *a: False, f"{BASE}consumer.hub.dead.get_data")
    assert await add(stuck, "hub.dead", instance="one", start=1)
    heir = await guests(user)
    assert await heir.call(CLAIM, "hub.dead", "two", 1) is True
    await heir.register(lambda *a: [{}, {}], f"{BASE}consumer.hub.dead.get_fields")


@pytest_twisted.ensureDeferred
async def test_a_claim_of_half_a_node_looks_at_what_is_registered(guests):
    """One procedure is held by a session that was never listed: the claim finds it there."""
    user = guests.router.user("node:hub.half", "hub.half")
    half = await guests.node("hub.half", register=False)
    await half.register(lambda *a: [{}, {}], f"{BASE}consumer.hub.half.get_data")
    heir = await guests(user)
    assert await heir.call(CLAIM, "hub.half", "two", 1) is True
    await shared(half.gone)


@pytest_twisted.ensureDeferred
async def test_a_free_name_is_claimed_at_once(guests):
    node = await guests.node("hub.free", register=False)
    assert await node.call(CLAIM, "hub.free", "one", 1) is True
