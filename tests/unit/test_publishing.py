"""What a node publishes, without a router."""

import pytest_twisted

from sisock import DataNode, Field, uris
from sisock.publishing import Publisher
from sisock.watching import Watched


class Roof(DataNode):
    name = "roof"
    fields = {"air": Field(), "wind": Field()}


class Session:
    """A session with a router that has just been started."""

    def __init__(self):
        self.published = []

    async def subscribe(self, heard, topic):
        pass

    async def ask(self, procedure, *args):
        return Watched(latest=True).to_wire() if procedure == uris.WATCHED else None

    def is_attached(self):
        return True

    def publish(self, topic, event, options=None):
        self.published.append((topic, event))


@pytest_twisted.ensureDeferred
async def test_a_router_that_started_anew_is_told_the_last_row_with_all_its_fields():
    node = Roof()
    publisher = Publisher(node, None)
    node.on_kept = publisher.kept
    node.append("t", [1.0, 2.0], {"air": [1.0, 2.0]})
    node.append("t", 2.0, {"wind": 5.0})
    for _ in range(2):
        session = Session()
        await publisher.joined(session)
        publisher.left()
        ((topic, event),) = session.published
        assert topic == uris.latest("roof")
        assert (event["t"]["t"], event["t"]["data"]) == (2.0, {"air": 2.0, "wind": 5.0})
