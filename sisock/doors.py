"""Doors: who comes in to a face that speaks HTTP or WebSocket, by token, Host, Origin and network.

    door = Door.of(home, "bridge", default=LOOPBACK)
    listen(app, host, port, door=door)              # each request then has a caller: caller_of(request)

    async def onConnect(self, request):             # of an Autobahn WebSocket server
        self.caller = await door.admit_websocket(request)

A token is a user's secret or ticket as `Authorization: Bearer USER:SECRET` or as Basic, or a JSON Web Token as Bearer. Who
has none is `public`, and let in from the networks that the site's access.toml or the face's default names.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from sisock import audit
from sisock.audit import Audit
from sisock.credentials import looks_like_jwt, new_secret, same, ticket_digest
from sisock.errors import Busy, NotAuthenticated, TooManyLogins
from sisock.http import Policy, headers_of
from sisock.rules import LOOPBACK, Face, Network, Rules, Verb, covers
from sisock.throttle import DELAY, Throttle
from sisock.tokens import Tokens
from sisock.users import ANYBODY, TOKEN_PREFIX, User

if TYPE_CHECKING:
    from sisock.home import Home

MAX_AUTHORIZATION = 12_000
# The code by which a WebSocket is closed whose caller may be here no more: HTTP's 401 among those that applications have.
UNAUTHORIZED = 4401

__all__ = ["LOOPBACK", "Caller", "Door", "Open", "Tickets", "caller_of", "see_off"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what the rules let them do now."""

    user: User
    rules: Callable[[], Rules]
    # Whether the caller still is who it was: asked of what stays open.
    welcome: Callable[[], bool] = lambda: True

    @property
    def has_token(self) -> bool:
        """Whether the caller has shown who that is; if not, its network was let in."""
        return self.user.authid != ANYBODY.authid

    def may(self, verb: Verb, node: str) -> bool:
        """Whether the caller may see, read or follow a node of that name."""
        return self.rules().allow(self.user, verb, node)


class Open(Protocol):
    """A WebSocket that somebody has open; `caller` is None where nobody was asked for."""

    caller: Caller | None

    def sendClose(self, code: int, reason: str) -> None:  # noqa: N802
        """Closes it; who does not answer is cut off."""


def see_off(connections: Iterable[Open]) -> None:
    """Closes the WebSockets of those who may be here no more. To be called every second or so."""
    for one in list(connections):
        if one.caller is not None and one.caller.has_token and not one.caller.welcome():
            one.sendClose(UNAUTHORIZED, "these credentials are accepted no more")


# The caller of a face that has no door: it is asked within one process, by tests and by whoever has the session anyway.
TRUSTED = Caller(User("trusted", "server"), Rules)


def caller_of(request: Any) -> Caller:
    """Who makes an HTTP request."""
    found: Caller = getattr(request, "caller", TRUSTED)
    return found


class Tickets:
    """Tickets of one door: each lets whoever shows it in once, as who it was given to, within some seconds.

    For an EventSource, which sends no header: a ticket may stand in an address, since it is worth nothing afterwards.
    """

    LASTS = 30.0
    MOST = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: dict[str, tuple[Caller, float]] = {}

    def give(self, caller: Caller, lasts: float = LASTS) -> str:
        """A new ticket for a caller."""
        present = self._clock()
        if len(self._given) >= self.MOST:
            self._given = {text: one for text, one in self._given.items() if one[1] > present}
        if len(self._given) >= self.MOST:
            raise Busy("too many tickets were given and not used. Try again in half a minute.")
        ticket = new_secret()
        self._given[ticket_digest(ticket)] = caller, present + lasts
        return ticket

    def take(self, ticket: str) -> Caller:
        """Who shows that ticket, which then is worth nothing; NotAuthenticated for one that is none, or used, or late."""
        caller, until = self._given.pop(ticket_digest(ticket), (None, 0.0))
        if caller is None or until < self._clock() or not caller.welcome():
            raise NotAuthenticated("this ticket was used, or its time is over. POST /api/tickets gives another")
        return caller


class Door:
    """The door of one face. `default` are the networks that may come without a token where access.toml names none."""

    def __init__(
        self,
        home: Home,
        face: str,
        policy: Policy | None = None,
        default: Iterable[Network] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._face = face
        self._users = home.users
        self._rules_file = home.rules
        self._tokens = Tokens(home.path, lambda: self.rules.issuers)
        self._throttle = Throttle()
        self._audit = Audit(home.audit(face))
        self._policy = policy or Policy()
        self._default = tuple(default)
        self._clock = clock
        self.tickets = Tickets()

    @classmethod
    def of(
        cls,
        home: Home,
        face: str,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        default: Iterable[Network] = (),
    ) -> Door:
        """The door of a face that goes by these names, beside those that access.toml gives it."""
        return cls(home, face, Policy.of(hosts, origins), default)

    @property
    def rules(self) -> Rules:
        """The rules as they are now."""
        return self._rules_file.current()

    @property
    def policy(self) -> Policy:
        """Which hosts and origins are known now."""
        laid_down = self._laid_down
        if not laid_down.hosts and not laid_down.origins:
            return self._policy
        more = Policy.of(laid_down.hosts, laid_down.origins)
        return replace(self._policy, hosts=self._policy.hosts | more.hosts, origins=self._policy.origins | more.origins)

    @property
    def open_to(self) -> tuple[Network, ...]:
        """The networks that may come without a token."""
        laid_down = self._laid_down.without_token
        return self._default if laid_down is None else laid_down

    @property
    def _laid_down(self) -> Face:
        return self.rules.faces.get(self._face, Face())

    async def admit(self, authorization: str | None, address: str) -> Caller:
        """Who comes from this address with that Authorization header; None is no header.

        Raises NotAuthenticated or TooManyLogins. A wrong secret is answered late by whom fails often.
        """
        if authorization is None:
            if covers(self.open_to, address):
                return Caller(ANYBODY, lambda: self.rules)
            raise NotAuthenticated("this needs a token: Authorization: Bearer USER:SECRET. `sisock user add` makes one")
        scheme, _, rest = authorization[:MAX_AUTHORIZATION].partition(" ")
        if scheme.lower() == "basic":
            name, secret = _basic(rest.strip())
            return await self.login(name, secret, address)
        if scheme.lower() == "bearer":
            return await self.login(None, rest.strip(), address)
        raise NotAuthenticated("Authorization is Bearer or Basic here")

    async def admit_request(self, request: Any) -> Caller:
        """Who makes an HTTP request; raises as `admit` does."""
        sent = headers_of(request, b"authorization")
        if len(sent) > 1:
            raise NotAuthenticated("one Authorization a request")
        ticket = None if sent else _ticket(request)
        if ticket is not None:
            return self.tickets.take(ticket)
        return await self.admit(sent[0] if sent else None, str(request.getClientAddress().host))

    async def login(self, name: str | None, secret: str, address: str) -> Caller:
        """Who comes with that secret or token; without a name, the secret holds it: USER:SECRET, or a JSON Web Token."""
        method = "token" if name is None and looks_like_jwt(secret) else "secret"
        if name is None and method == "secret":
            # Each half may be percent-encoded, as in the page's address, so that the first colon parts them.
            name, secret = (unquote(half) for half in secret.partition(":")[::2])

        async def find() -> User:
            if name is not None:
                return self._user(name, secret)
            user = await self._tokens.user(secret, self._clock)
            if not self.rules.believes(user.authid):
                raise NotAuthenticated("its bearer is blocked")
            return user

        return await self._enter(name or "", method, address, find, secret if name is None else "")

    async def prove(self, name: str, proves: Callable[[str], bool], address: str) -> Caller:
        """Who comes as that user and has signed with the secret; `proves` says whether it is done with this one."""

        async def find() -> User:
            user = self._admitted(name)
            # It is asked in any case, so that the time of an answer tells nothing of who is there.
            if not proves((user and user.secret) or new_secret()) or user is None:
                raise NotAuthenticated("a wrong signature" if user else "no such user")
            return user

        return await self._enter(name, "signature", address, find)

    async def _enter(
        self, name: str, method: str, address: str, find: Callable[[], Awaitable[User]], token: str = ""
    ) -> Caller:
        """Who comes by that name, or without one and with that token; `find` looks at the secret."""
        away = self._throttle.turns_away(address, name)
        if away and (not token or self._throttle.turns_away(address, *self._tokens.bearers(token))):
            self._refused(name, address, method, "too many")
            raise TooManyLogins
        try:
            user = await find()
        except NotAuthenticated as error:
            await self._refuse(name, address, method, str(error))
            raise NotAuthenticated("these credentials are not accepted") from None
        # A dashboard shows its token with every request; one line an hour tells it.
        if self._throttle.succeeded(address, user.authid):
            self._note("login", user.authid, address, method=method)
        return Caller(user, lambda: self.rules, lambda: self._still(user))

    def _still(self, user: User) -> bool:
        """Whether a user may be here still: not revoked, expired or blocked, and with the same secret."""
        if user.authid in self.rules.blocked or (user.expires is not None and user.expires <= self._clock()):
            return False
        if user.authid.startswith(TOKEN_PREFIX):
            return self.rules.believes(user.authid)
        now = self._users.get(user.authid)
        return now is not None and now.fingerprint == user.fingerprint and (now.expires is None or now.expires > self._clock())

    def _admitted(self, name: str) -> User | None:
        """The user of that name who is neither blocked nor over."""
        user = self._users.get(name)
        if user is not None and (name in self.rules.blocked or (user.expires is not None and user.expires <= self._clock())):
            return None
        return user

    def _user(self, name: str, secret: str) -> User:
        user = self._admitted(name)
        # Both are compared in any case, so that the time of an answer tells nothing of who is there.
        right = same(secret, (user and user.secret) or new_secret())
        right |= same(ticket_digest(secret), (user and user.ticket) or ticket_digest(new_secret()))
        if not right or user is None:
            raise NotAuthenticated("a wrong secret" if user else "no such user")
        return user

    async def _refuse(self, name: str, address: str, method: str, why: str) -> None:
        from twisted.internet import reactor

        self._refused(name, address, method, why)
        if not self._throttle.failed(address, name):
            return
        self._throttle.hold(address)
        held: Deferred[None] = deferLater(reactor, DELAY, lambda: None)
        try:
            await held
        finally:
            self._throttle.let_go(address)

    def _refused(self, name: str, address: str, method: str, why: str) -> None:
        self._note("refused", audit.named(name, self._users.get(name)), address, method=method, why=why)

    def _note(self, event: audit.Event, user: str, address: str, **more: Any) -> None:
        self._audit.note(event, user=user, address=address, door=self._face, **more)

    async def admit_websocket(self, request: Any) -> Caller:
        """Who opens a WebSocket, from Autobahn's ConnectionRequest; for a server's onConnect.

        Raises Autobahn's ConnectionDeny, by which the handshake is refused with 403, 401 or 429.
        """
        from autobahn.websocket.types import ConnectionDeny

        headers: Mapping[str, str] = request.headers
        policy = self.policy
        if not policy.names_us(headers.get("host", "")):
            raise ConnectionDeny(403, "this server does not go by the name in Host")
        if not policy.may_come_from(headers.get("origin"), headers.get("host", "")):
            raise ConnectionDeny(403, "pages of this Origin may not open it")
        try:
            return await self.admit(headers.get("authorization"), address_of_peer(request.peer))
        except (NotAuthenticated, TooManyLogins) as error:
            raise ConnectionDeny(error.status, str(error)) from None

    def close(self) -> None:
        """Closes the audit."""
        self._audit.close()


def _ticket(request: Any) -> str | None:
    """The ticket that a request shows: behind the `~` of the last event that it saw, or else in its address."""
    if request.method != b"GET":
        return None
    for seen in headers_of(request, b"last-event-id")[:1]:
        if "~" in seen:
            return seen.rpartition("~")[2]
    shown = request.args.get(b"ticket")
    return shown[0].decode("latin-1") if shown else None


def address_of_peer(peer: str) -> str:
    """The address in what Autobahn calls a peer: `tcp4:192.0.2.7:51234`; "" for a local socket."""
    family, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].strip("[]") if family.startswith("tcp") else ""


def _basic(text: str) -> tuple[str, str]:
    try:
        name, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise NotAuthenticated("the Basic credentials are not understood") from None
    if not colon or not name:
        raise NotAuthenticated("the Basic credentials are not understood")
    return name, secret
