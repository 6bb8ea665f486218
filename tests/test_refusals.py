"""What the router refuses (contracts A1, design 7), tried by plain clients over the wire."""

from __future__ import annotations

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions, PublishOptions, RegisterOptions, SubscribeOptions

from sisock.credentials import new_secret
from sisock.users import User
from tests.plain import BASE, Refused, join, until

ACKNOWLEDGED = PublishOptions(acknowledge=True)
NOT_AUTHORIZED = "wamp.error.not_authorized"
TAKEN = "wamp.error.procedure_already_exists"


async def refused(action, error=NOT_AUTHORIZED):
    with pytest.raises(ApplicationError) as told:
        await action
    assert told.value.error == error


def prefix(session, kind, uri, match="prefix"):
    if kind == "register":
        return session.register(print, uri, RegisterOptions(match=match))
    return session.subscribe(print, uri, SubscribeOptions(match=match))


@pytest_twisted.ensureDeferred
async def test_a_consumer_only_calls_and_subscribes(guests):
    consumer = await guests()
    for name in ("add", "subtract", "claim"):
        await refused(consumer.call(f"{BASE}data_node.{name}", "evil", "", 1))
    await refused(consumer.register(print, f"{BASE}consumer.evil.get_data"))
    await refused(consumer.register(print, "com.example.anything"))
    await refused(consumer.publish(f"{BASE}consumer.data_node_added", {"name": "ghost"}, options=ACKNOWLEDGED))
    await refused(consumer.publish(f"{BASE}consumer.roof.latest", 1, options=ACKNOWLEDGED))
    await refused(consumer.publish("observatory.x", 1, options=ACKNOWLEDGED))
    await refused(consumer.subscribe(print, "observatory.x"))
    await refused(consumer.subscribe(print, "wamp.session.on_join"))
    await refused(consumer.call("wamp.session.list"))
    await refused(consumer.call("wamp.session.kill", 1))
    await refused(consumer.call("sisock.hub.authenticate", "sisock", "server", {}))
    await refused(consumer.call("sisock.hub.authorize", {}, "", "call", {}))


@pytest_twisted.ensureDeferred
async def test_a_consumer_subscribes_by_pattern_to_one_nodes_live_topics_alone(guests):
    consumer = await guests()
    for uri in (
        "",
        "org.",
        BASE,
        f"{BASE}consumer.",
        f"{BASE}consumer.roof",
        f"{BASE}consumer.roof.",
        f"{BASE}consumer.roof.data",
    ):
        await refused(prefix(consumer, "subscribe", uri))
    await refused(prefix(consumer, "subscribe", f"{BASE}consumer..data.t", "wildcard"))
    await prefix(consumer, "subscribe", f"{BASE}consumer.roof.data.")
    await consumer.subscribe(print, f"{BASE}consumer.roof.data.t")
    await consumer.subscribe(print, f"{BASE}consumer.roof.latest")


@pytest_twisted.ensureDeferred
async def test_a_node_registers_exactly_its_own_two_procedures(guests):
    node = await guests.node("wall.roof")
    await guests.node("wall.other")
    for uri in (
        "consumer.wall.other.get_fields",
        "consumer.wall.third.get_data",
        "consumer.wall.roof.more.get_data",
        "consumer.wall.roof.more",
        "consumer.wall.get_data",
        "consumer.get_data_node",
        "data_node.add",
    ):
        await refused(node.register(print, BASE + uri))
    await refused(node.register(print, "com.example.anything"))
    await refused(prefix(node, "register", f"{BASE}consumer.wall.roof."))
    await refused(prefix(node, "register", f"{BASE}consumer.wall.roof.get_fields"))
    await refused(prefix(node, "register", f"{BASE}consumer..roof.get_fields", "wildcard"))
    await refused(node.register(print, f"{BASE}consumer.wall.roof.get_data", RegisterOptions(force_reregister=True)))
    await refused(node.register(print, f"{BASE}consumer.wall.roof.get_data"), TAKEN)


@pytest_twisted.ensureDeferred
async def test_a_node_publishes_its_own_topics_alone(guests):
    node = await guests.node("wall.air")
    await node.publish(f"{BASE}consumer.wall.air.latest", {}, options=ACKNOWLEDGED)
    await node.publish(f"{BASE}consumer.wall.air.data.t", {}, options=ACKNOWLEDGED)
    for uri in (
        "wall.air.data.t.more",
        "wall.latest",
        "wall.air.more.latest",
        "wall.air.data",
        "data_node_added",
    ):
        with pytest.raises(ApplicationError):
            await node.publish(f"{BASE}consumer.{uri}", {}, options=ACKNOWLEDGED)
    await refused(node.call(f"{BASE}consumer.get_data_node"))


@pytest_twisted.ensureDeferred
async def test_nobody_acts_as_somebody_else_by_saying_for_whom_it_asks(guests, rules, router):
    """So one router tells another for whom it forwards; Crossbar would believe it of everybody."""
    said = {"forward_for": [{"session": 1, "authid": "server", "authrole": "server"}]}
    await rules((["nobody"], ["nothing"], ["see"]))
    router.home.users.add(User("wall.anna", "consumer", secret := new_secret()), keep=False)
    consumer, node, trusted = await guests(("wall.anna", secret)), await guests.node("wall.hidden"), await guests("server")
    assert await node.call(f"{BASE}data_node.add", "wall.hidden", "", 0)
    assert await consumer.call(f"{BASE}consumer.get_data_node", options=CallOptions(**said)) == []
    for name in ("add", "claim"):
        called = node.call(f"{BASE}data_node.{name}", "wall.elses", "x", options=CallOptions(**said))
        await refused(called, "sisock.error.not_authorized")
    heard = []
    await trusted.subscribe(
        lambda *_, details: heard.append((details.publisher_authid, details.publisher_authrole)),
        f"{BASE}consumer.wall.hidden.latest",
        SubscribeOptions(details_arg="details"),
    )
    await node.publish(f"{BASE}consumer.wall.hidden.latest", {}, options=PublishOptions(acknowledge=True, **said))
    await until(lambda: heard)
    assert heard == [("node:wall.hidden", "node")]
    await refused(consumer.register(print, f"{BASE}consumer.wall.hidden.get_data", RegisterOptions(**said)))
    await refused(consumer.subscribe(print, f"{BASE}consumer.wall.hidden.latest", SubscribeOptions(**said)))


@pytest_twisted.ensureDeferred
async def test_the_router_keeps_of_a_node_what_is_newest_alone(guests):
    """What it keeps it keeps for as long as it runs: one event a topic, and each that is meant for some alone beside it."""
    node = await guests.node("wall.kept")
    await node.publish(f"{BASE}consumer.wall.kept.latest", {}, options=PublishOptions(acknowledge=True, retain=True))
    for topic, options in (("data.t", {}), ("latest", {"exclude": [1]}), ("latest", {"eligible_authid": ["x"]})):
        kept = PublishOptions(acknowledge=True, retain=True, **options)
        await refused(node.publish(f"{BASE}consumer.wall.kept.{topic}", {}, options=kept))


@pytest_twisted.ensureDeferred
async def test_another_node_is_refused_after_the_owner_registered_and_left(guests):
    """Crossbar's own cache of answers has no user in its key: an answer of ours is never cached."""
    owner = await guests.node("wall.owned")
    intruder = await guests.node("wall.intruder")
    # That the name is taken is not told to whom it is none of their business.
    await refused(intruder.register(print, f"{BASE}consumer.wall.owned.get_data"))
    await owner.quit()
    for _ in range(2):
        await refused(intruder.register(print, f"{BASE}consumer.wall.owned.get_data"))
        await refused(intruder.publish(f"{BASE}consumer.wall.owned.latest", {}, options=ACKNOWLEDGED))
    again = await guests.node("wall.owned")
    assert again.is_attached()


@pytest_twisted.ensureDeferred
async def test_a_server_keeps_to_its_two_worlds(guests):
    server = await guests("server")
    await server.register(lambda *a: 1, f"{BASE}consumer.old.node.get_data")
    await server.publish("observatory.x.feeds.y", [{}, {}], options=ACKNOWLEDGED)
    await prefix(server, "subscribe", "observatory.")
    for uri in ("com.example.x", "org.simonsobservatories.x", "observatoryx.y", "sisock.hub.fake"):
        await refused(server.register(print, uri))
    for uri in ("", "org", "observatory"):
        await refused(prefix(server, "subscribe", uri))
    await refused(server.call("wamp.session.list"))
    await refused(server.subscribe(print, "wamp.session.on_join"))


@pytest.mark.parametrize(
    "user", [("server", "wrong"), ("simonsobs", ""), ("nobody", "secret"), ("hub", "secret"), ("", ""), None], ids=str
)
@pytest_twisted.ensureDeferred
async def test_without_the_secret_nobody_joins(router, user):
    with pytest.raises(Refused):
        await join(router.ws, user)


@pytest_twisted.ensureDeferred
async def test_another_realm_is_refused(router):
    with pytest.raises(Refused):
        await join(router.ws, (router.server.authid, router.server.secret), realm="crossbar")


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_origin_is_refused_and_the_routers_own_is_let_in(router, guests):
    user = (router.consumer.authid, router.consumer.secret)
    for origin in ("http://evil.example", "https://localhost.evil.example", "null", "http://localhost:1"):
        with pytest.raises(Refused):
            await join(router.ws, user, origin=origin)
    assert (await guests(origin=router.page.rstrip("/"))).is_attached()


@pytest_twisted.ensureDeferred
async def test_a_user_that_is_taken_away_may_do_nothing_more(guests):
    import json

    node = await guests.node("wall.revoked")
    path = guests.router.home.users.path
    users = json.loads(path.read_text())
    del users["node:wall.revoked"]
    path.write_text(json.dumps(users))
    await refused(node.publish(f"{BASE}consumer.wall.revoked.latest", {}, options=ACKNOWLEDGED))
    with pytest.raises(Refused):
        await guests(("node:wall.revoked", "any"))


@pytest_twisted.ensureDeferred
async def test_secrets_stand_in_no_log_and_no_configuration(guests):
    router = guests.router
    await guests()
    for user in (router.consumer, router.server):
        assert user.secret not in router.output
        assert user.secret not in (router.home.crossbar / "config.json").read_text()
    assert router.home.users.path.stat().st_mode & 0o777 == 0o600
