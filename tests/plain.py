"""A plain Autobahn client: what a stranger writes who knows WAMP and nothing of sisock's library."""

from __future__ import annotations

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.util import sleep
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp import auth
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer
from autobahn.wamp.types import ComponentConfig
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS

BASE = "org.simonsobservatory."
SERIALIZERS = {"json": JsonSerializer, "cbor": CBORSerializer, "msgpack": MsgPackSerializer}


class Refused(Exception):
    def __init__(self, reason, message):
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class Plain(ApplicationSession):
    """Joins as a user, or anonymously where that is None; `ready` fires when it has, `gone` when its transport is closed."""

    def __init__(self, realm, user):
        super().__init__(ComponentConfig(realm=realm))
        self.user = user
        self.ready = Deferred()
        self.gone = Deferred()
        self.reason = None

    def onConnect(self):
        if self.user is None:
            self.join(self.config.realm, authmethods=["anonymous"])
        else:
            self.join(self.config.realm, authmethods=["wampcra"], authid=self.user[0])

    def onChallenge(self, challenge):
        return auth.compute_wcs(self.user[1].encode(), challenge.extra["challenge"].encode()).decode()

    def onJoin(self, details):
        self.ready.callback(self)

    def onLeave(self, details):
        self.reason = details.reason
        if not self.ready.called:
            self.ready.errback(Refused(details.reason, details.message))
        self.disconnect()

    def onDisconnect(self):
        if not self.ready.called:
            self.ready.errback(Refused("transport", "closed before the session joined"))
        if not self.gone.called:
            self.gone.callback(None)

    def onUserError(self, failure, message):
        """Errors of procedures go to their callers; nothing is logged here."""

    async def quit(self):
        if self.is_attached():
            self.leave()
        elif self.is_connected():
            self.disconnect()
        await shared(self.gone)


async def shared(deferred):
    """Waits for a Deferred that others wait for, too."""
    mine = Deferred()
    deferred.addBoth(lambda result: (mine.callback(None), result)[1])
    await mine


async def join(url, user, *, realm="sisock", serializer="json", pin=None, origin=None, session=Plain):
    """A joined session at ws://, wss:// (with the certificate's PEM to pin) or unix://; `user` is (authid, secret) or None."""
    from urllib.parse import urlsplit

    from twisted.internet import reactor

    session = session(realm, user)
    where = urlsplit(url)
    if where.scheme == "unix":
        factory = WampRawSocketClientFactory(lambda: session, serializer=SERIALIZERS[serializer]())
        endpoint = UNIXClientEndpoint(reactor, where.path)
    else:
        headers = {"Origin": origin} if origin else None
        factory = WampWebSocketClientFactory(lambda: session, url=url, serializers=[SERIALIZERS[serializer]()], headers=headers)
        factory.setProtocolOptions(openHandshakeTimeout=5)
        endpoint = HostnameEndpoint(reactor, where.hostname, where.port)
        if where.scheme == "wss":
            trust = ssl.Certificate.loadPEM(pin)
            endpoint = wrapClientTLS(ssl.optionsForClientTLS(where.hostname, trustRoot=trust), endpoint)
    factory.noisy = False
    transport = await endpoint.connect(factory)
    # A handshake that is refused never opens a session, so its end is the transport's.
    transport.is_closed.addBoth(lambda _: session.ready.called or session.onDisconnect())
    await session.ready
    return session


async def until(condition, seconds=10):
    """Waits until a condition holds, plain or async, and answers what it gave."""
    from twisted.internet import reactor

    # A condition may take longer than the pause between two looks.
    end = reactor.seconds() + seconds
    while True:
        found = condition()
        if hasattr(found, "__await__"):
            found = await found
        if found:
            return found
        if reactor.seconds() > end:
            break
        await sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")
