"""The plain transport of a trusted network (contract A1): off unless asked for, and then for `observatory.` alone."""

from __future__ import annotations

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions

from sisock.testing import Router
from tests.plain import BASE, Refused, join, until

ACKNOWLEDGED = PublishOptions(acknowledge=True)


@pytest_twisted.ensureDeferred
async def test_anybody_publishes_and_subscribes_under_observatory_and_nothing_else():
    router = Router(ocs=True)
    await router.start()
    feed = await join(router.ocs, None)
    reader = await join(router.ocs, None, serializer="cbor")
    try:
        heard = []
        await reader.subscribe(heard.append, "observatory.dome.feeds.air")
        await feed.publish("observatory.dome.feeds.air", [{"air": 1}, {}], options=ACKNOWLEDGED)
        await until(lambda: heard == [[{"air": 1}, {}]])
        for attempt in (
            lambda: feed.call(f"{BASE}consumer.get_data_node"),
            lambda: feed.call(f"{BASE}data_node.add", "x", "", 1),
            lambda: feed.register(print, "observatory.x"),
            lambda: feed.register(print, f"{BASE}consumer.x.get_data"),
            lambda: feed.subscribe(print, f"{BASE}consumer.data_node_added"),
            lambda: feed.publish(f"{BASE}consumer.data_node_added", {}, options=ACKNOWLEDGED),
            lambda: feed.publish("observatoryx", {}, options=ACKNOWLEDGED),
        ):
            with pytest.raises(ApplicationError) as told:
                await attempt()
            assert told.value.error == "wamp.error.not_authorized"
        with pytest.raises(Refused):
            await join(router.ocs, (router.server.authid, router.server.secret))
        with pytest.raises(Refused):
            await join(router.ocs, None, origin="http://localhost:8080")
        with pytest.raises(Refused):
            await join(router.ws, None)
    finally:
        await feed.quit()
        await reader.quit()
        await router.stop()
        router.remove()
