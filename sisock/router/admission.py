"""Admission: how Crossbar's ways in are watched over.

Crossbar computes and checks what its ways in ask for. It tells nobody who failed, answers every guess at once, and writes the
signature that it had expected to its log. So each of its classes gets a guard before it: one answer a question, in a form that
cannot be wrong inside, failures counted and told alike, and each login and refusal noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from autobahn.wamp.types import Accept, Deny
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sisock import audit
from sisock.credentials import looks_like_jwt, same
from sisock.errors import TooManyLogins
from sisock.router.gate import Gate, Login
from sisock.throttle import DELAY
from sisock.users import User

log = Logger()

MAX_AUTHID = 255
REFUSED = "these credentials are not accepted"

_SIGNATURES = {
    "wampcra": re.compile(r"[A-Za-z0-9+/=]{1,128}"),
    "scram": re.compile(r"[A-Za-z0-9+/]{43}="),
    "cryptosign": re.compile(r"[0-9a-fA-F]{192}"),
    "ticket": re.compile(r"[\x21-\x7e]{1,8192}"),
}
_NONCE = re.compile(r"[A-Za-z0-9+/=_-]{8,128}")


def watch_over(gate: Gate, realm: str) -> None:
    """Puts a guard before each of Crossbar's ways in. To be called in the router's process before it listens."""
    from crossbar.router import auth

    for method in _SIGNATURES:
        if not hasattr(auth.AUTHMETHOD_MAP[method], "guards"):
            auth.AUTHMETHOD_MAP[method] = guarded(auth.AUTHMETHOD_MAP[method], method, gate, realm)


def guarded(base: Any, method: str, gate: Gate, site: str) -> Any:
    """Crossbar's class of a way in, with our guard before it."""

    class Guarded(base):
        guards = method

        def __init__(self, session: int, transport: Any, *rest: Any) -> None:
            super().__init__(session, transport, *rest)
            self.number = session
            self.address = address_of(transport.peer)
            self.door = "local" if str(transport.peer).startswith("unix") else "ws"
            self.principal: dict[str, Any] = {}
            self.asked = False
            self._authrole: str | None = None

        def hello(self, realm: str, details: Any) -> Any:
            if self.asked:
                return Deny(message="one way in at a time")
            name = details.authid
            if name is not None and (not isinstance(name, str) or len(name) > MAX_AUTHID):
                return self.refuse("", "a name that is none")
            self._authid = name
            if realm != site:
                return self.refuse(name or "", "another realm")
            if not _fit(method, name, details.authextra):
                return self.refuse(name or "", "a greeting that is not understood")
            # A token says by itself who comes with it.
            if method != "ticket" and gate.throttle.turns_away(self.address, name or ""):
                return self.turn_away()
            self.asked = True
            return super().hello(realm, details)

        def _assign_principal(self, principal: Any) -> Any:
            self.principal = principal if isinstance(principal, dict) else {}
            return super()._assign_principal(principal)

        def _compute_challenge(self, *asked: Any) -> Any:
            # The role is written into the question of WAMP-CRA, where it would tell a node's user from nobody.
            role, self._authrole = self._authrole, "consumer"
            try:
                return super()._compute_challenge(*asked)
            finally:
                self._authrole = role

        def authenticate(self, signature: Any) -> Any:
            if not self.asked:
                return Deny(message=REFUSED)
            self.asked = False
            if not isinstance(signature, str) or not _SIGNATURES[method].fullmatch(signature):
                return self.refuse(self._authid or "", "a proof that is not understood")
            if method == "ticket" and gate.throttle.turns_away(self.address, self._authid or ""):
                claimed = gate.tokens.bearers(signature) if looks_like_jwt(signature) else []
                if gate.throttle.turns_away(self.address, *claimed):
                    return self.turn_away()
            checked: Deferred[Any] = maybeDeferred(self.check, signature)
            checked.addCallbacks(self.decide, self.broken)
            return checked

        def check(self, signature: str) -> Any:
            if method == "wampcra":
                # The comparison of its own is not in constant time, and it logs the signature that would have been right.
                return self._accept() if same(signature, str(self._signature)) else Deny()
            return super().authenticate(signature)

        def decide(self, result: Any) -> Any:
            user = self.principal.get("user")
            if not isinstance(result, Accept) or not isinstance(user, User):
                return self.refuse(self._authid or "", self.principal.get("why") or _why(method, result))
            gate.throttle.succeeded(self.address, user.authid)
            gate.logins[self.number] = Login(user, method, self.address)
            gate.audit.note(
                "login", user=user.authid, role=user.role, method=method, address=self.address, door=self.door,
                session=self.number,
            )  # fmt: skip
            return result

        def broken(self, failure: Any) -> Any:
            log.failure("a login could not be checked", failure)
            return self.refuse(self._authid or "", "an error inside")

        def refuse(self, name: str, why: str) -> Any:
            """The refusal of a failed login: now, or after a while for whoever fails often."""
            self.note(name, why)
            if not gate.throttle.failed(self.address, name):
                return Deny(message=REFUSED)
            return held_back(gate, self.address, lambda: Deny(message=REFUSED))

        def turn_away(self) -> Any:
            """The refusal of a login whose secret nobody looks at."""
            self.note(self._authid or "", "too many")
            return Deny(TooManyLogins.uri, str(TooManyLogins()))

        def note(self, name: str, why: str) -> None:
            user = audit.named(name, gate.users.get(name))
            gate.audit.note("refused", user=user, method=method, address=self.address, door=self.door, why=why)

    return Guarded


def _why(method: str, result: Any) -> str:
    # What is said of a token is our own text, and holds nothing of it.
    return str(result.message) if method == "ticket" and getattr(result, "message", None) else "a wrong secret"


def held_back(gate: Gate, address: str, answer: Callable[[], Any]) -> Deferred[Any]:
    """An answer that is given after a while."""
    from twisted.internet import reactor

    gate.throttle.hold(address)

    def give() -> Any:
        gate.throttle.let_go(address)
        return answer()

    held: Deferred[Any] = deferLater(reactor, DELAY, give)
    return held


def address_of(peer: str) -> str:
    """The address in what Autobahn calls a peer: `tcp4:192.0.2.7:51234`; "" for a local socket."""
    family, _, rest = str(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]") if family.startswith("tcp") else ""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return ""


def _fit(method: str, name: Any, extra: Any) -> bool:
    """Whether Crossbar's own code is not put out by what came with HELLO."""
    if method == "ticket":
        return True
    if not name:
        return False
    if method == "wampcra":
        return True
    if not isinstance(extra, dict):
        return False
    if method == "scram":
        nonce = extra.get("nonce")
        return name.isascii() and name.isprintable() and isinstance(nonce, str) and bool(_NONCE.fullmatch(nonce))
    return extra.get("trustroot") is None and extra.get("channel_binding") is None
