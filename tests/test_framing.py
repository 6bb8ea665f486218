"""Events that go to many: each reader gets them whole, whatever their size and whatever it speaks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytest_twisted
from autobahn.exception import PayloadExceededError
from autobahn.twisted.websocket import WampWebSocketServerFactory, WampWebSocketServerProtocol
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.message import Event
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer
from autobahn.websocket.protocol import WebSocketServerFactory
from twisted.internet.testing import StringTransport

from sisock.router import framing
from tests.plain import until

# Around the borders of a frame's length, and longer than what is kept.
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, framing.KEPT, framing.KEPT + 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_binary", [False, True])
def test_a_frame_is_what_autobahn_makes_of_it(size, is_binary):
    payload = b"x" * size
    factory = WebSocketServerFactory()
    theirs = factory.prepareMessage(payload, isBinary=is_binary).payloadHybi
    assert framing.Framed().of(payload, framing.prefix(payload, is_binary)) == theirs


class Server(WampWebSocketServerProtocol):
    """An open server's side of a WebSocket, without a handshake."""

    def __init__(self, serializer, transport):
        super().__init__()
        self.factory = WampWebSocketServerFactory(lambda: None)
        self.transport, self._serializer = transport, serializer
        self._session = SimpleNamespace(_authid=None, _session_id=None)
        self._connectionMade()
        self.state = self.STATE_OPEN


def sent(message, *serializers, **settings):
    """What servers of one router write of a message."""
    written = []
    for serializer in serializers:
        transport = StringTransport()
        server = Server(serializer, transport)
        vars(server).update(settings)
        framing._send_on_websocket(server, message)
        written.append(transport.value())
    return written


def event(*args):
    return Event(1, 2, args=list(args))


def test_readers_of_one_language_get_the_same_bytes_and_others_their_own():
    one, other = event("a" * 300), event("b" * 300)
    json, cbor = JsonSerializer(), CBORSerializer()
    first = sent(one, json, json, cbor, json)
    assert first[0] == first[1] == first[3] != first[2]
    assert sent(other, json) != first[:1]
    assert sent(one, json, cbor) == first[:1] + first[2:3]
    assert b"a" * 300 in first[2]


def test_what_is_not_plain_goes_autobahns_way():
    whole = sent(event("x" * 40), JsonSerializer())[0]
    parts = sent(event("x" * 40), JsonSerializer(), autoFragmentSize=10)[0]
    assert parts != whole and parts[0] & 0x80 == 0, "a fragment that is not the last one"
    with pytest.raises(PayloadExceededError):
        sent(event("x" * 40), JsonSerializer(), maxMessagePayloadSize=20)
    with pytest.raises(TransportLost):
        sent(event("x"), JsonSerializer(), _session=None)


@pytest_twisted.ensureDeferred
async def test_many_readers_have_every_event_whole(guests, router):
    topic = "org.simonsobservatory.consumer.framed.data.t"
    unix = f"unix://{router.home.socket}"
    node = await guests.node("framed")
    got = {}
    ways = [
        (router.ws, "json"),
        (router.ws, "json"),
        (router.ws, "cbor"),
        (router.ws, "cbor"),
        (unix, "cbor"),
        (unix, "msgpack"),
    ]
    for number, (url, serializer) in enumerate(ways):
        reader = await guests(url=url, serializer=serializer)
        got[number] = []
        await reader.subscribe(got[number].append, topic)
    told = [f"{number} " + "y" * size for number, size in enumerate((*SIZES, *reversed(SIZES)))]
    for text in told:
        node.publish(topic, text)
    await until(lambda: all(len(one) == len(told) for one in got.values()))
    assert all(one == told for one in got.values())
