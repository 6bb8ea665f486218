"""Sessions: how any program of ours joins the router, and stays joined."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from autobahn.exception import Disconnected
from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.serializer import CBORSerializer
from autobahn.wamp.types import CallOptions, ComponentConfig
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.logger import Logger
from twisted.python.failure import Failure

from sisock import plainlog, trace
from sisock.credentials import Method
from sisock.errors import (
    NotAuthorized,
    NotConnected,
    SetupError,
    SisockError,
    Superseded,
    TimedOut,
    WrongCertificate,
)
from sisock.listening import Listening
from sisock.uris import REALM
from sisock.ways_in import WayIn, way_in
from sisock.wire_errors import error_from_wire

log = Logger()

# All that speak WAMP come by here, the router's components, too.
plainlog.leave_plain()

MAX_MESSAGE = 16 * 1024 * 1024
CALL_TIMEOUT = 30.0
# On one machine a router is back in seconds, so nobody waits long for the next try.
MAX_RETRY_DELAY = 2.0

# Reasons for which another try with the same credentials would fail again. A router whose authenticator is not there yet
# names another one (wamp.error.no_such_procedure), so one refusal is its word.
_REFUSED = (
    "wamp.error.not_authorized",
    "wamp.error.no_such_realm",
    "wamp.error.no_such_principal",
    "wamp.error.no_auth_method",
    "wamp.error.authentication_failed",
    "wamp.error.authentication_denied",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the router is, and as whom to join it by which way in.

    `url` is ws://, wss:// or unix:// (the site's raw socket). `certificate` is the file of the certificate, or of the
    authority, to pin for wss; without it the system's authorities are asked. `secret` is the secret of `wampcra` and
    `scram`, or the `ticket` (a JSON Web Token is one); `secret_file` holds it where it changes, and is read at each
    join. For `cryptosign`, `secret_file` holds the private key.
    """

    url: str
    authid: str
    secret: str = field(default="", repr=False)
    realm: str = REALM
    certificate: Path | None = None
    method: Method = "wampcra"
    secret_file: Path | None = None


class Guest(Protocol):
    """One that wants a session: told when it has one and when it lost it."""

    async def joined(self, session: Session) -> None:
        """Called with a session that has joined; an error ends the session, and the connection tries again."""

    def left(self) -> None:
        """Called when the session is over."""


class QuietSession(ApplicationSession):
    """A session that does not log the errors which its procedures raise for their callers, and that can be traced."""

    def onOpen(self, transport: Any) -> None:  # noqa: N802
        """Lets what is sent be seen by the trace."""
        send = transport.send

        def traced(message: Any) -> Any:
            trace.show(">", message)
            return send(message)

        if trace.enabled():
            transport.send = traced
        super().onOpen(transport)

    def onMessage(self, msg: Any) -> Any:  # noqa: N802
        """Lets what is received be seen by the trace."""
        trace.show("<", msg)
        return super().onMessage(msg)

    def onUserError(self, failure: Failure, message: str) -> None:  # noqa: N802
        """Logs an error in a handler that is no error of the wire; a caller who gave up is none."""
        if not failure.check(ApplicationError, CancelledError):
            log.failure("{message}", failure, message=message)


class AskingSession(QuietSession):
    """A session whose calls always come to an end, and raise sisock's errors."""

    # Not made in __init__, which old nodes' classes call on Autobahn's own class.
    _pending: set[Deferred[Any]] | None = None
    _turns: dict[str, DeferredLock] | None = None

    async def ask(
        self,
        procedure: str,
        *args: Any,
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109
        on_progress: Callable[[Any], None] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls a procedure and answers its result, or raises one of sisock's errors.

        `on_progress` takes what comes before the result. TimedOut after `timeout` seconds in which nothing came; then,
        and when whoever waits is cancelled, the callee is told that nobody waits any more.
        """
        from twisted.internet import reactor

        if not self.is_attached():
            raise NotConnected
        answered: Deferred[Any] = Deferred()
        if self._pending is None:
            self._pending = set()
        self._pending.add(answered)
        late = reactor.callLater(
            timeout, lambda: answered.errback(TimedOut(f"{procedure} did not answer within {timeout:g} s"))
        )

        def progressed(result: Any) -> None:
            if late.active():
                late.reset(timeout)
                if on_progress is not None:
                    on_progress(result)

        # Calls that bring results as they come take as long as they take; the router's own timeout, which comes up to a
        # second early, only frees what it holds for a call that was given up here.
        options = CallOptions(on_progress=progressed) if on_progress else CallOptions(timeout=int(timeout) + 2)
        call: Deferred[Any] | None = None
        try:
            call = self.call(procedure, *args, options=options, **kwargs)
            call.addBoth(lambda result: None if answered.called else answered.callback(result))
            return await answered
        except ApplicationError as error:
            raise error_from_wire(error, procedure) from error
        except (TransportLost, Disconnected) as error:
            raise NotConnected from error
        finally:
            self._pending.discard(answered)
            if late.active():
                late.cancel()
            if call is not None and not call.called and self.is_attached():
                # A transport that closes in this moment need not be told.
                with suppress(TransportLost, Disconnected):
                    call.cancel()

    def listen(self, heard: Callable[..., Any], topic: str) -> Listening:
        """Hears a topic; whoever does may come and go at any time."""
        if self._turns is None:
            self._turns = {}
        return Listening(self, self._turns.setdefault(topic, DeferredLock()), topic, heard)

    def fail_pending(self) -> None:
        """Fails what still waits for an answer that can no longer come."""
        for waiting in tuple(self._pending or ()):
            if not waiting.called:
                waiting.errback(NotConnected("the connection to the router was lost while a call waited for its answer"))


class Session(AskingSession):
    """The session of a Connection."""

    connection: Connection

    _way_in: WayIn

    def onConnect(self) -> None:  # noqa: N802
        """Asks to join by the way in that the access names."""
        access = self.connection.access
        try:
            self._way_in = way_in(access.method, access.authid, access.secret, access.secret_file)
        except SetupError as error:
            self.connection.fail(error)
            self.disconnect()
            return
        extra = self._way_in.authextra or None
        self.join(access.realm, authmethods=[access.method], authid=access.authid or None, authextra=extra)

    def onChallenge(self, challenge: Any) -> Any:  # noqa: N802
        """Answers the router's challenge."""
        method = self.connection.access.method
        if challenge.method != method:
            raise NotAuthorized(f"the router asks for {challenge.method}, not {method}")
        return self._way_in.on_challenge(self, challenge)

    def onWelcome(self, msg: Any) -> str | None:  # noqa: N802
        """Leaves a router that cannot prove that it knows the user, where the way in has such a proof."""
        return self._way_in.on_welcome(self, msg.authextra)

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Hands the session to the guest."""
        await self.connection.session_joined(self)

    def onLeave(self, details: Any) -> None:  # noqa: N802
        """Tells the connection why the session ended."""
        self.connection.session_left(self, details.reason, details.message)
        self.disconnect()

    def onDisconnect(self) -> None:  # noqa: N802
        """Fails what still waits, and tells the connection."""
        self.fail_pending()
        self.connection.session_left(self, None, None)


class _WebSocket(WampWebSocketClientProtocol):
    """Tells the connection why there was none, where that was not for want of a router."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        opened = self._session is not None
        super().connectionLost(reason)
        if not opened:
            self.factory.connection.not_opened(reason.value)


class Connection:
    """Keeps a session with the router: joins, joins again whenever it is lost, and gives up only when it is refused."""

    def __init__(self, access: Access, guest: Guest) -> None:
        from twisted.internet import reactor

        self.access = access
        self.guest = guest
        self.session: Session | None = None
        # Why there is no session, where more is known than that no router answers.
        self.trouble: SisockError | None = None
        self.on_wrong_certificate: Callable[[SisockError], None] | None = None
        self._ended: Deferred[None] = Deferred()
        self._service = ClientService(
            endpoint(reactor, access), self._factory(), retryPolicy=backoffPolicy(0.2, MAX_RETRY_DELAY, 1.5)
        )

    @property
    def ended(self) -> Deferred[None]:
        """Fires when `stop` was called, fails when the router refused the user."""
        return self._ended

    def start(self) -> None:
        """Begins to connect."""
        self._service.startService()

    async def stop(self) -> None:
        """Leaves, and waits until the transport is closed."""
        if self.session is not None and self.session.is_attached():
            self.session.leave()
        await _maybe(self._service.stopService())
        self._end(None)

    def fail(self, error: Exception) -> None:
        """Leaves for good, because of an error that another try would meet again."""
        self._end(error)
        stopped = self._service.stopService()
        if stopped is not None:
            stopped.addErrback(lambda failure: log.failure("while the connection was closed", failure))

    def _end(self, error: Exception | None) -> None:
        if not self._ended.called:
            if error is None:
                self._ended.callback(None)
            else:
                self._ended.errback(error)

    async def session_joined(self, session: Session) -> None:
        """Called by the session."""
        self.session, self.trouble = session, None
        try:
            await self.guest.joined(session)
        except Exception as error:  # noqa: BLE001
            # Autobahn would log this and leave a session that is joined and of no use.
            if isinstance(error, (NotAuthorized, SetupError, Superseded)):
                self.fail(error)
            elif session.is_attached():
                log.failure("joining did not come to an end; trying again")
                session.leave()

    def not_opened(self, error: Exception) -> None:
        """Called by the transport when something listens, but no WebSocket came of it. The next try may meet the router."""
        url, said = self.access.url, _words(error)
        known = self.trouble is not None
        if isinstance(error, VerificationError) or (isinstance(error, TLSError) and "certificate" in said):
            trusted = f"the one in {self.access.certificate}" if self.access.certificate else "one that this machine trusts"
            self.trouble = WrongCertificate(
                f"the router at {url} shows a certificate that is not {trusted} ({said}). "
                "Get the router's own server_cert.pem, or see whether the address is right."
            )
            if self.on_wrong_certificate is not None:
                self.on_wrong_certificate(self.trouble)
        else:
            self.trouble = NotConnected(f"what listens at {url} is no router, it seems ({said}). Is the port the router's?")
        if not known:
            log.warn("{error}", error=self.trouble)

    def session_left(self, session: Session, reason: str | None, message: str | None) -> None:
        """Called by the session, once when it left and once when its transport is gone."""
        if reason in _REFUSED and self.session is None:
            self.fail(
                NotAuthorized(f"the router at {self.access.url} refused user {self.access.authid!r}: {message or reason}")
            )
        if self.session is session:
            self.session = None
            self.guest.left()

    def _factory(self) -> Factory:
        def make() -> Session:
            session = Session(ComponentConfig(realm=self.access.realm))
            session.connection = self
            return session

        if urlsplit(self.access.url).scheme == "unix":
            raw = WampRawSocketClientFactory(make, serializer=CBORSerializer())
            raw.noisy = False
            return raw
        web = WampWebSocketClientFactory(make, url=self.access.url, serializers=[CBORSerializer()])
        web.noisy = False
        web.protocol, web.connection = _WebSocket, self
        web.setProtocolOptions(
            autoPingInterval=5, autoPingTimeout=20, maxMessagePayloadSize=MAX_MESSAGE, openHandshakeTimeout=10, tcpNoDelay=True
        )
        return web


def endpoint(reactor: Any, access: Access) -> IStreamClientEndpoint:
    """The endpoint of an access: a Unix socket, TCP, or TLS that trusts the pinned certificate alone."""
    url = urlsplit(access.url)
    if url.scheme == "unix":
        return UNIXClientEndpoint(reactor, url.path)
    if url.scheme not in ("ws", "wss") or not url.hostname:
        raise SetupError(f"{access.url!r} is no address of a router: it begins with ws://, wss:// or unix://")
    tcp = HostnameEndpoint(reactor, url.hostname, url.port or (443 if url.scheme == "wss" else 80))
    if url.scheme == "ws":
        return tcp
    trust = None
    if access.certificate is not None:
        try:
            trust = Certificate.loadPEM(access.certificate.read_bytes())
        except OSError as error:
            raise SetupError(f"the router's certificate cannot be read: {error}") from error
    options = optionsForClientTLS(url.hostname, trustRoot=trust) if trust else optionsForClientTLS(url.hostname)
    return wrapClientTLS(options, tcp)


def _words(error: Exception) -> str:
    """What OpenSSL says: its errors are lists of (library, function, reason)."""
    first = error.args[0] if error.args else None
    return ", ".join(str(one[-1]) for one in first) if isinstance(first, list) and first else str(error)


async def _maybe(result: Deferred[Any] | None) -> Any:
    return None if result is None else await result
