"""HTTP: what every face that speaks it shares.

JSON answers in which no NaN can stand, one error shape {"error": {"code", "message"}}, a limit of the request's body,
and the checks of Host and Origin that keep other web pages out.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from errno import EADDRINUSE
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web import server
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource

from sisock.errors import Busy, InvalidArgument, NotAuthenticated, PortTaken, SetupError, SisockError, TooManyLogins

if TYPE_CHECKING:
    from pathlib import Path

    from klein import Klein
    from twisted.internet.interfaces import IListeningPort
    from twisted.python.failure import Failure
    from twisted.web.iweb import IRequest

    from sisock.doors import Caller

log = Logger()

MAX_BODY = 1_000_000
# A body over the limit is read and thrown away, so that its sender gets to read why; beyond so many times the limit the
# connection is cut.
PATIENCE = 16
HEALTH = b"/healthz"
# Seconds in which whoever was turned away in the middle of a request may read why.
LINGERS = 2
# Bytes from which a body is compressed for who takes it so, and up to which that is no work for a thread.
ZIPPED_FROM = 1000
ZIPPED_HERE = 64_000

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(:\d*)?")

_INTERNAL = "internal", "an error inside the server; its log has the traceback"
_SLUGS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


def application() -> Klein:
    """A Klein application whose errors are JSON: a SisockError by its status, all others as 500 with a traceback in the log."""
    # Klein imports the reactor.
    from klein import Klein

    app = Klein()
    # No redirects: a client that was told /search asks /search/ and means the same.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.handle_errors(_answer_failure)
    return app


def reply(request: Any, value: Any, status: int = 200) -> bytes:
    """The body that answers `value` as JSON; status and headers are set."""
    return reply_encoded(request, to_json(value), status)


def reply_encoded(request: Any, body: bytes, status: int = 200) -> bytes:
    """The same for a body that is JSON already."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json; charset=utf-8")
    if len(body) > ZIPPED_FROM:
        request.responseHeaders.addRawHeader(b"Vary", b"Accept-Encoding")
        if len(body) <= ZIPPED_HERE and takes_gzip(request):
            body = _zip(request, body)
    return _bare(request, body)


async def reply_long(request: Any, body: bytes, status: int = 200) -> bytes:
    """The same for a body of any length, which is compressed in a thread where that takes a while."""
    from twisted.internet.threads import deferToThread

    if len(body) <= ZIPPED_HERE or not takes_gzip(request):
        return reply_encoded(request, body, status)
    zipped: bytes = await deferToThread(gzipped, body)
    request.setHeader(b"Content-Encoding", b"gzip")
    return reply_encoded(request, zipped, status)


def takes_gzip(request: Any) -> bool:
    """Whether a request's sender reads gzip."""
    for header in headers_of(request, b"accept-encoding"):
        for part in header.split(","):
            name, _, more = part.partition(";")
            if name.strip().lower() in ("gzip", "*"):
                return more.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def gzipped(body: bytes) -> bytes:
    """A body in gzip, at its quickest: bodies are compressed for the network, not to be kept."""
    return gzip.compress(body, 1, mtime=0)


def _zip(request: Any, body: bytes) -> bytes:
    if request.responseHeaders.hasHeader(b"Content-Encoding"):
        return body
    request.setHeader(b"Content-Encoding", b"gzip")
    return gzipped(body)


def _bare(request: Any, body: bytes) -> bytes:
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return body


def reply_error(request: Any, status: int, code: str, message: str) -> bytes:
    """The body of an error."""
    return reply(request, error_shape(code, message), status)


def error_shape(code: str, message: str) -> dict[str, dict[str, str]]:
    """An error as every HTTP face answers it."""
    return {"error": {"code": code, "message": message}}


def to_json(value: Any) -> bytes:
    """JSON; NaN and the infinities, which it does not have, are null."""
    # Only those who serve HTTP have it.
    import orjson

    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Integers beyond 64 bits, half surrogates: what came from a client may hold them.
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def json_body(request: Any) -> Any:
    """The request's body, which is JSON; None if there is no body."""
    raw = request.content.read()
    if not raw.strip():
        return None
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the request's body is no JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no value in JSON")


def _answer_failure(request: Any, failure: Failure) -> bytes:
    from werkzeug.exceptions import HTTPException, MethodNotAllowed

    error = failure.value
    if isinstance(error, SisockError):
        if isinstance(error, Busy):
            request.setHeader(b"Retry-After", b"1")
        return reply_error(request, error.status, error.uri, str(error))
    if isinstance(error, MethodNotAllowed):
        allowed = sorted(error.valid_methods or ())
        request.setHeader(b"Allow", ", ".join(allowed).encode("ascii"))
        message = f"{_text(request.method)} is not allowed at {_text(request.path)}; allowed: {', '.join(allowed)}"
        return reply_error(request, 405, _SLUGS[405], message)
    if isinstance(error, HTTPException) and error.code in _SLUGS:
        message = f"there is nothing at {_text(request.path)}" if error.code == 404 else "the request is not understood"
        return reply_error(request, error.code, _SLUGS[error.code], message)
    log.failure("{method} {path} failed", failure, method=_text(request.method), path=_text(request.path))
    return reply_error(request, 500, *_INTERNAL)


def _answer_internal(failure: Failure, request: Any, gone: list[Any]) -> None:
    """Answers a request at which the door or the application failed, so that its sender does not wait for ever."""
    log.failure("{method} {path} failed", failure, method=_text(request.method), path=_text(request.path))
    if gone:
        return
    if request.startedWriting:
        request.loseConnection()
        return
    _finish(request, 500, *_INTERNAL)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")[:200]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may ask: the names in a request's Host, with any port, and the foreign origins whose pages may do more than GET."""

    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Policy:
        """The policy of a site that is also called by these names: `bridge`, `192.0.2.7`, `fd00::1`."""
        names = {_bracketed(name.lower()) for name in hosts}
        for name in names:
            match = _HOST.fullmatch(name)
            if match is None or match[2]:
                raise InvalidArgument(f"{name!r:.80} is no host: write a name or an address, without scheme and port")
        for origin in origins:
            if not re.fullmatch(r"https?://[^/\s]+/?", origin):
                raise InvalidArgument(f"{origin!r:.80} is no origin: write https://name or https://name:port")
        return cls(LOOPBACK | names, frozenset(origin.lower().rstrip("/") for origin in origins))

    def knows_host(self, request: IRequest) -> bool:
        """Whether the request names this server. A page whose own name was pointed at our address (DNS rebinding) does not."""
        headers = headers_of(request, b"host")
        return len(headers) == 1 and self.names_us(headers[0])

    def knows_origin(self, request: IRequest) -> bool:
        """Whether the request comes from a program, from a page of this very server or from an origin that is allowed."""
        host = headers_of(request, b"host")
        return all(self.may_come_from(origin, *host[:1]) for origin in headers_of(request, b"origin"))

    def names_us(self, host: str) -> bool:
        """Whether a Host header is one of this server's names, with any port; `*.` is one label, as in certificates."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        label, dot, rest = match[1].partition(".")
        return match[1] in self.hosts or (bool(label and dot) and f"*.{rest}" in self.hosts)

    def may_come_from(self, origin: str | None, host: str = "") -> bool:
        """Whether an Origin header is none, this very server's (by its Host) or one that is allowed."""
        if origin is None:
            return True
        return origin.lower() in self.origins or (bool(host) and origin.lower().partition("://")[2] == host.lower())


def _bracketed(name: str) -> str:
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name


def headers_of(request: Any, name: bytes) -> list[str]:
    """The values of a request's header, as texts."""
    return [raw.decode("latin-1") for raw in request.requestHeaders.getRawHeaders(name, [])]


class Door(Protocol):
    """Who says who comes in: a `sisock.doors.Door`, or a face's own choice between several."""

    @property
    def policy(self) -> Policy:
        """Which hosts and origins are known now."""

    async def admit_request(self, request: Any) -> Caller:
        """Who makes a request; NotAuthenticated or TooManyLogins if nobody who may come in."""


class _Guard(Resource):
    """Lets only those requests through to an application that it may see."""

    isLeaf = True  # noqa: N815

    def __init__(self, inner: Any, policy: Policy, max_body: int, door: Door | None) -> None:
        super().__init__()
        self._inner, self._policy, self._max_body, self._door = inner, policy, max_body, door

    def render(self, request: Any) -> Any:
        if self._answer_page(request):
            return server.NOT_DONE_YET
        refusal = self._refusal(request)
        if refusal is not None:
            _finish(request, *refusal)
            return server.NOT_DONE_YET
        # Whether a server is well is nobody's secret, and those who watch over it have no token.
        if self._door is None or request.path == HEALTH:
            return self._inner.render(request)
        request.door = self._door
        gone: list[Any] = []
        request.notifyFinish().addBoth(gone.append)
        asked = Deferred.fromCoroutine(self._ask(self._door, request, gone))
        asked.addErrback(_answer_internal, request, gone)
        return server.NOT_DONE_YET

    def _answer_page(self, request: Any) -> bool:
        """Lets pages of the allowed origins read the answer; True if that was all that was asked."""
        policy = self._policy if self._door is None else self._door.policy
        origins = headers_of(request, b"origin")
        if not policy.origins or len(origins) != 1 or not policy.knows_host(request):
            return False
        request.responseHeaders.addRawHeader(b"Vary", b"Origin")
        if origins[0].lower() not in policy.origins:
            return False
        request.setHeader(b"Access-Control-Allow-Origin", origins[0].encode("latin-1"))
        request.setHeader(b"Access-Control-Allow-Credentials", b"true")
        if request.method != b"OPTIONS" or not headers_of(request, b"access-control-request-method"):
            return False
        # The browser asks this before it sends anything, so that nobody is asked who comes.
        request.setHeader(b"Access-Control-Allow-Methods", b"GET, POST")
        request.setHeader(b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Last-Event-ID")
        request.setHeader(b"Access-Control-Max-Age", b"600")
        request.setResponseCode(204)
        request.finish()
        return True

    async def _admit(self, door: Door, request: Any) -> SisockError | None:
        try:
            request.caller = await door.admit_request(request)
        except (NotAuthenticated, TooManyLogins) as error:
            return error
        return None

    async def _ask(self, door: Door, request: Any, gone: list[Any]) -> None:
        refused = await self._admit(door, request)
        if gone:
            return
        if refused is not None:
            if isinstance(refused, NotAuthenticated):
                request.responseHeaders.setRawHeaders(b"WWW-Authenticate", [b'Basic realm="sisock"', b"Bearer"])
            else:
                request.setHeader(b"Retry-After", b"60")
            _finish(request, refused.status, refused.uri, str(refused))
            return
        body = self._inner.render(request)
        if body is not server.NOT_DONE_YET:
            request.write(body)
            request.finish()

    def _refusal(self, request: Any) -> tuple[int, str, str] | None:
        policy = self._policy if self._door is None else self._door.policy
        if not policy.knows_host(request):
            return 403, "bad_host", "this server does not go by the name in the request's Host. Add it to the server's hosts."
        if request.method not in (b"GET", b"HEAD") and not policy.knows_origin(request):
            return 403, "bad_origin", "pages of the request's Origin may not do this here. Add it to the allowed origins."
        if request.received > self._max_body:
            return 413, "too_large", f"the request's body is over the limit of {self._max_body} bytes"
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return 400, "bad_path", "the request's path is not UTF-8"
        return None


def _finish(request: Any, status: int, code: str, message: str) -> None:
    request.write(reply_error(request, status, code, message))
    request.finish()


class _Request(server.Request):
    """A request that keeps no more of its body than the site allows."""

    received = 0

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self.received += len(data)
        channel: Any = self.channel
        limit = channel.site.max_body
        if self.received <= limit:
            super().handleContentChunk(data)
        elif self.received > PATIENCE * limit:
            channel.transport.abortConnection()


class _Channel(HTTPChannel):
    """A connection. A line that is too long is answered, which Twisted does not: it cuts the connection."""

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        """Answers, and takes in what still comes for a moment, so that its sender gets to read the answer."""
        message = f"a line of the request is over {self.MAX_LENGTH} bytes. Ask for less at a time."
        body = to_json(error_shape("too_long", message))
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n"
        self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.transport.loseWriteConnection()
        self.dataReceived = self._pass_by
        self.setTimeout(LINGERS)

    def _pass_by(self, data: bytes) -> None:
        """Takes no notice."""


class _Site(server.Site):
    requestFactory = _Request  # noqa: N815
    protocol = _Channel
    noisy = False

    def __init__(self, resource: Resource, max_body: int) -> None:
        super().__init__(resource, parsePOSTFormSubmission=False)
        self.max_body = max_body

    def getContentFile(self, _length: int | None) -> BytesIO:  # noqa: N802
        # In memory, as the limit is small: twisted's own choice would write to a disk in the reactor's thread.
        return BytesIO()

    def log(self, request: Any) -> None:
        # Neither the query nor a header: secrets can stand there.
        log.debug("{method} {path} {status}", method=_text(request.method), path=_text(request.path), status=request.code)


def site(app: Klein, policy: Policy | None = None, max_body: int = MAX_BODY, door: Door | None = None) -> server.Site:
    """The application behind its checks, for a port to listen with. `max_body` is in bytes; a door asks who comes."""
    return _Site(_Guard(app.resource(), policy or Policy(), max_body, door), max_body)


def listen(
    app: Klein,
    host: str,
    port: int,
    *,
    policy: Policy | None = None,
    max_body: int = MAX_BODY,
    door: Door | None = None,
    tls: tuple[Path, Path] | None = None,
) -> IListeningPort:
    """Serves the application at this address; port 0 is any free one. `tls` are the files of a certificate and its key.

    Raises PortTaken, or SetupError for another hindrance.
    """
    from twisted.internet import reactor

    net: Any = reactor
    served = site(app, policy, max_body, door)
    try:
        listening: IListeningPort = (
            net.listenTCP(port, served, interface=host)
            if tls is None
            else net.listenSSL(port, served, server_context(*tls), interface=host)
        )
    except CannotListenError as error:
        if getattr(error.socketError, "errno", None) == EADDRINUSE:
            raise PortTaken(f"another program listens on {host}:{port}. Stop it, or choose another port.") from error
        raise SetupError(f"nothing can listen on {host}:{port}: {error.socketError}") from error
    return listening


def server_context(certificate: Path, key: Path) -> Any:
    """TLS 1.2 and newer with this certificate, for a server; SetupError if the files are not as they should be."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL import SSL
    from twisted.internet.ssl import CertificateOptions, TLSVersion

    try:
        context = CertificateOptions(
            privateKey=load_pem_private_key(key.read_bytes(), None),
            certificate=x509.load_pem_x509_certificate(certificate.read_bytes()),
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        # What does not fit is said now, and not to the first who comes.
        context.getContext()
    except (OSError, SSL.Error, ValueError) as error:
        raise SetupError(f"{certificate} and {key} cannot be used: {error}. `sisock tls renew` makes them anew.") from error
    return context
