"""The whole table over the wire: every role, action and class of URI. What is not in it is refused."""

from __future__ import annotations

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError, InvalidUriError
from autobahn.wamp.types import CallOptions, PublishOptions, RegisterOptions, SubscribeOptions
from twisted.internet.defer import Deferred, DeferredList

from sisock.testing import Router
from tests.plain import BASE, Refused, join, shared

LONG = "n" * 10_000
# Classes of URIs, each with one that stands for it. `mine` is the node's own, `seen` what the consumer may see and read,
# `heard` what it may follow, `hidden` what it may not.
URIS = {
    "list": "consumer.get_data_node",
    "add": "data_node.add",
    "claim": "data_node.claim",
    "watched": "data_node.watched",
    "joins": "consumer.data_node_added",
    "leaves": "consumer.data_node_subtracted",
    "watch mine": "data_node.watched.table.mine",
    "watch other": "data_node.watched.table.seen",
    "mine.get_fields": "consumer.table.mine.get_fields",
    "mine.get_data": "consumer.table.mine.get_data",
    "mine.latest": "consumer.table.mine.latest",
    "mine.data": "consumer.table.mine.data.t",
    "seen.get_fields": "consumer.table.seen.get_fields",
    "seen.get_data": "consumer.table.seen.get_data",
    "seen.latest": "consumer.table.seen.latest",
    "seen.data": "consumer.table.seen.data.t",
    "heard.get_data": "consumer.table.heard.get_data",
    "heard.latest": "consumer.table.heard.latest",
    "heard.data": "consumer.table.heard.data.t",
    "heard.data.": "consumer.table.heard.data.",
    "hidden.get_data": "consumer.table.hidden.get_data",
    "hidden.latest": "consumer.table.hidden.latest",
    "hidden.data.": "consumer.table.hidden.data.",
    "below mine": "consumer.table.mine.more.get_data",
    "above mine": "consumer.table.get_data",
    "percent": "consumer.table%2Emine.get_data",
    "look-alike": "consumer.tаble.mine.get_data",
    "long": f"consumer.{LONG}.get_data",
    "else": "anything",
    "base": "",
    "foreign": "/com.example.x",
    "observatory": "/observatory.dome.feeds.air",
    "wamp": "/wamp.session.list",
    "wamp kill": "/wamp.session.kill",
    "wamp join": "/wamp.session.on_join",
    "authenticator": "/sisock.hub.authenticate",
    "authorizer": "/sisock.hub.authorize",
    "everything": "/",
}
UNDER_BASE = {name for name, uri in URIS.items() if not uri.startswith("/") and name != "base"}
EXACT = UNDER_BASE - {"heard.data.", "hidden.data."}

ROLES = {
    "consumer": {
        ("call", "exact"): {"list", "seen.get_fields", "seen.get_data"},
        ("subscribe", "exact"): {"joins", "leaves", "heard.latest", "heard.data"},
        ("subscribe", "prefix"): {"heard.data."},
    },
    "node": {
        ("call", "exact"): {"add", "claim", "watched"},
        ("subscribe", "exact"): {"watch mine"},
        ("register", "exact"): {"mine.get_fields", "mine.get_data"},
        ("publish", "exact"): {"mine.latest", "mine.data"},
    },
    "server": {
        # What nobody has registered answers that nobody did, which is no refusal.
        ("call", "exact"): EXACT | {"observatory"},
        ("register", "exact"): EXACT | {"observatory"},
        ("publish", "exact"): EXACT | {"observatory"},
        ("subscribe", "exact"): EXACT | {"observatory"},
        ("subscribe", "prefix"): UNDER_BASE | {"observatory", "base"},
        ("subscribe", "wildcard"): UNDER_BASE | {"observatory", "base"},
    },
    "anonymous": {
        ("publish", "exact"): {"observatory"},
        **{("subscribe", match): {"observatory"} for match in ("exact", "prefix", "wildcard")},
    },
}

# How a router says for whom it asks: whoever is none says it in vain.
FORGED = [{"session": 1, "authid": "server", "authrole": "server"}]

# Errors by which the router, or whoever answers, says that something was allowed and went wrong.
ALLOWED = ("sisock.error.", "wamp.error.runtime_error", "wamp.error.procedure_already_exists", "wamp.error.no_such_procedure")
REFUSED = ("wamp.error.not_authorized", "wamp.error.invalid_uri")


def uri(name):
    told = URIS[name]
    return told[1:] if told.startswith("/") else BASE + told if told else BASE


async def attempt(session, action, match, what):
    """Whether one was let do it. To what is no URI at all, the router hangs up."""
    trying = Deferred.fromCoroutine(let(session, action, match, what))
    return (await DeferredList([trying, Deferred.fromCoroutine(shared(session.gone))], fireOnOneCallback=True))[0] is True


async def let(session, action, match, what):
    said = session.said
    try:
        if action == "call":
            await session.call(what, "x", options=CallOptions(**said))
        elif action == "register":
            registered = await session.register(lambda *_: 1, what, RegisterOptions(match=match, **said))
            await registered.unregister()
        elif action == "publish":
            await session.publish(what, 1, options=PublishOptions(acknowledge=True, **said))
        else:
            subscribed = await session.subscribe(lambda *_: 1, what, SubscribeOptions(match=match, **said))
            await subscribed.unsubscribe()
    except InvalidUriError:
        # Autobahn does not even send it.
        return False
    except ApplicationError as error:
        if error.error in REFUSED:
            return False
        assert error.error.startswith(ALLOWED), error
        # A node that one may not see is not there; one of a name that cannot be is refused.
        return error.error != "wamp.error.no_such_procedure" or session.role == "server"
    return True


@pytest.fixture(scope="module")
def table_router():
    """A router with the plain transport, for this table alone."""
    router = Router(ocs=True)
    router.home.rules.path.write_text(
        '[[rule]]\nwho = ["simonsobs"]\nnodes = ["table.seen"]\nverbs = ["read"]\n'
        '[[rule]]\nwho = ["role:consumer"]\nnodes = ["table.heard"]\nverbs = ["follow"]\n'
        '[[rule]]\nwho = ["role:consumer"]\nnodes = ["table.hidden", "table.mine"]\nverbs = ["serve"]\n'
    )
    yield router
    router.remove()


@pytest_twisted.ensureDeferred
async def test_the_table(table_router):
    router = await table_router.start()
    users = {"consumer": router.consumer, "node": router.user("node:table", "table.mine"), "server": router.server}
    open_sessions = []
    try:
        for name in ("seen", "heard", "hidden"):
            node = await join(router.ws, (f"node:{name}", router.user(f"node:{name}", f"table.{name}").secret))
            open_sessions.append(node)
            for procedure in ("get_fields", "get_data"):
                await node.register(lambda *_: [{}, {}], f"{BASE}consumer.table.{name}.{procedure}")
        wrong = []
        for role, table in ROLES.items():
            local = f"unix://{router.home.socket}"
            for url in (router.ocs,) if role == "anonymous" else (router.ws, local):
                user = None if role == "anonymous" else (users[role].authid, users[role].secret)
                session = None
                for action in ("call", "register", "publish", "subscribe"):
                    for match in ("exact", "prefix", "wildcard") if action in ("register", "subscribe") else ("exact",):
                        could = set()
                        for name in URIS:
                            if session is None or not session.is_attached():
                                session = await join(url, user, serializer="cbor")
                                session.role = role
                                session.said = {"forward_for": FORGED} if url == local else {}
                                open_sessions.append(session)
                            if await attempt(session, action, match, uri(name)):
                                could.add(name)
                        expected = table.get((action, match), set())
                        if could != expected:
                            wrong.append((role, url[:4], action, match, "more", could - expected, "less", expected - could))
        assert not wrong, "\n".join(map(str, wrong))
        for url in (router.ws, f"unix://{router.home.socket}"):
            with pytest.raises(Refused):
                await join(url, None)
    finally:
        for session in open_sessions:
            await session.quit()
        await router.stop()
