"""Live rows as server-sent events, through a real router and behind a door."""

import json

import pytest
import pytest_twisted
from twisted.internet.protocol import Protocol

from sisock import DataNode, Field
from sisock.consumer import Consumer
from sisock.doors import Door, Tickets
from sisock.errors import Busy, NotAuthenticated
from sisock.grafana_bridge import create_app
from sisock.grafana_bridge.data.live import Places
from sisock.home import Home
from sisock.http import listen
from sisock.users import User
from tests.bridge.http_client import Client
from tests.plain import until

T = 1_700_000_000.0


class Ticker(DataNode):
    """Ticks."""

    name = "ticker"
    fields = {"n": Field(), "word": Field(type="string", timeline="words")}


class Heard(Protocol):
    """Collects the events that come."""

    def __init__(self):
        self.text = ""
        self.ended = False

    def dataReceived(self, data):
        self.text += data.decode()

    def connectionLost(self, reason):
        self.ended = True

    def events(self):
        found = []
        for part in self.text.split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":"))
            if "event" in lines:
                found.append((lines["event"], lines.get("id", ""), json.loads(lines["data"])))
        return found

    def values(self, field="n"):
        return [value for kind, _, told in self.events() if kind == "rows" for value in told["data"].get(field, [])]

    def last_id(self):
        return self.events()[-1][1]


class Place:
    """A bridge behind a door that asks for a token, beside a real router."""

    def __init__(self, router, home):
        self.router, self.home = router, Home(home)
        self.heard = []

    async def start(self):
        self.node = Ticker()
        self.service = await self.router.serve(self.node)
        self.consumer = await Consumer(self.router.access()).start()
        self.home.make()
        self.home.users.add(User("anna", "consumer", "secret"))
        self.door = Door.of(self.home, "bridge")
        self.port = listen(create_app(self.consumer), "127.0.0.1", 0, door=self.door)
        self.client = Client(self.port.getHost().port)
        return self

    async def stop(self):
        for heard in self.heard:
            heard.transport.loseConnection()
        await self.port.stopListening()
        await self.consumer.stop()
        await self.service.stop()
        self.door.close()

    async def ticket(self):
        answer = await self.client.post("/api/tickets", b"", headers=ANNA)
        assert answer.json["expires_in"] == 30
        return answer.json["ticket"]

    async def listen(self, query, **headers):
        response = await self.client.ask("GET", f"/api/nodes/ticker/live?{query}", headers=headers, unbuffered=True)
        if response.code != 200:
            await response.content()
            return response.code
        assert response.headers.getRawHeaders(b"content-type") == [b"text/event-stream"]
        heard = Heard()
        response.original.deliverBody(heard)
        self.heard.append(heard)
        return heard


ANNA = {"Authorization": "Bearer anna:secret"}


@pytest_twisted.async_yield_fixture
async def place(router, tmp_path):
    made = await Place(router, tmp_path / "bridge").start()
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_rows_come_as_they_are_kept(place):
    place.node.append("t", [T, T + 1], {"n": [1.0, None]}).result()
    place.node.append("t", T + 1.5, {"n": 2.5}).result()
    heard = await place.listen("field=n&field=word&start=1", **ANNA)
    await until(lambda: heard.values() == [1.0, 2.5])
    place.node.append("words", T, {"word": "a\nb"}).result()
    place.node.append("t", T + 2, {"n": 3.0}).result()
    await until(lambda: heard.values() == [1.0, 2.5, 3.0] and heard.values("word") == ["a\nb"])
    place.node.append("t", T, {"n": 9.0}, correct=True).result()
    await until(lambda: any(told["revises"] for _, _, told in heard.events()))
    last = heard.events()[-1][2]
    assert (last["timeline"], last["t"], last["data"], last["revises"]) == ("t", [T], {"n": [9.0]}, [[T, T + 1e-6]])


@pytest_twisted.ensureDeferred
async def test_a_ticket_lets_in_once_and_the_last_event_goes_on_where_it_was(place):
    ticket = await place.ticket()
    assert await place.listen("field=n") == 401
    place.node.append("t", T, {"n": 1.0}).result()
    heard = await place.listen(f"field=n&start=1&ticket={ticket}")
    await until(lambda: heard.values() == [1.0])
    assert await place.listen(f"field=n&start=1&ticket={ticket}") == 401
    heard.transport.loseConnection()
    await until(lambda: heard.ended)
    place.node.append("t", [T + 1, T + 2], {"n": [2.0, 3.0]}).result()
    # What a browser's EventSource does by itself: the same address, and the id of the last event.
    again = await place.listen(f"field=n&start=1&ticket={ticket}", **{"Last-Event-ID": heard.last_id()})
    await until(lambda: again.values() == [2.0, 3.0])
    assert await place.listen(f"field=n&start=1&ticket={ticket}", **{"Last-Event-ID": heard.last_id()}) == 401
    assert again.last_id().partition("~")[2] not in ("", heard.last_id().partition("~")[2])


@pytest_twisted.ensureDeferred
async def test_who_comes_back_while_the_node_is_away_is_told_to_come_again(place):
    """An EventSource gives up for good at an answer that is none: a restart would need a reload of the page."""
    heard = await place.listen(f"field=n&start=1&ticket={await place.ticket()}")
    place.node.append("t", T, {"n": 1.0}).result()
    await until(lambda: heard.values() == [1.0])
    heard.transport.loseConnection()
    await until(lambda: heard.ended)
    await place.service.stop()
    assert await place.listen("field=n", **ANNA) == 404
    told = await place.listen("field=n&start=1", **{"Last-Event-ID": heard.last_id()})
    await until(lambda: told.ended)
    assert told.text.startswith("retry: 2000\n: there is no node 'ticker'")
    # A browser takes the id of an event that says nothing, too; its ticket was used.
    ident = told.text.rpartition("id: ")[2].strip()
    place.service = await place.router.serve(place.node)
    place.node.append("t", T + 1, {"n": 2.0}).result()
    again = await place.listen("field=n&start=1", **{"Last-Event-ID": ident})
    await until(lambda: again.values() == [2.0])


@pytest_twisted.ensureDeferred
async def test_whoever_is_taken_away_hears_no_more(place):
    heard = await place.listen("field=n&start=1", **ANNA)
    place.node.append("t", T, {"n": 1.0}).result()
    await until(lambda: heard.values() == [1.0])
    place.home.users.update("anna", lambda _: None)
    await until(lambda: heard.ended)
    assert await place.listen("field=n&start=1", **ANNA) == 401


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_followed_is_refused(place):
    for query, status in (("field=nothing", 404), ("", 400), ("field=n&last_event_id=x", 400), ("field=n&ticket=x", 401)):
        headers = {} if "ticket" in query else ANNA
        assert await place.listen(query, **headers) == status
    place.home.rules.path.write_text('[[rule]]\nwho = ["anna"]\nnodes = ["ticker"]\nverbs = ["read"]\n')

    async def is_refused():
        return await place.listen("field=n", **ANNA) == 403

    # An edit counts before long.
    await until(is_refused)


@pytest.mark.parametrize("text", ["e30=", "bnVsbA==", "WzFd", "eyJhIjogMX0=", "!", "eyJhIjpbMSwyLDNdfQ=="])
def test_an_id_that_is_none(text):
    try:
        assert not Places.of_id(text)
    except ValueError as error:
        assert "Last-Event-ID" in str(error)


def test_tickets_have_an_end():
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    anna = type("Anna", (), {"welcome": staticmethod(lambda: True)})()
    first = tickets.give(anna)
    assert tickets.take(first) is anna
    late = tickets.give(anna)
    now[0] = 31.0
    for ticket in (first, late, "", "x" * 10_000):
        with pytest.raises(NotAuthenticated):
            tickets.take(ticket)
    for _ in range(Tickets.MOST):
        tickets.give(anna)
    with pytest.raises(Busy):
        tickets.give(anna)
    now[0] = 62.0
    tickets.give(anna)
