"""What the router asks, and what looks after it.

The authenticator says who a user is, the authorizer what a session may do, and the warden ends those whose time is over.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

from autobahn.wamp.exception import ApplicationError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock import uris
from sisock.credentials import Scram, looks_like_jwt, same, ticket_digest
from sisock.errors import NotAuthenticated, NotAuthorized, SisockError
from sisock.router.admission import REFUSED, watch_over
from sisock.router.framing import frame_once
from sisock.router.gate import gate_of
from sisock.router.inside import Inside, Joined
from sisock.router.loitering import watch_the_doorstep
from sisock.session import QuietSession
from sisock.users import User


class Authenticator(QuietSession):
    """The router component that knows the users' secrets, and what other issuers' tokens are worth."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.gate = gate_of(Path(config.extra["home"]))
        watch_over(self.gate, config.realm)
        frame_once()
        watch_the_doorstep()

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Offers the procedure that the router asks at each join."""
        await self.register(self.authenticate, uris.AUTHENTICATE)

    async def authenticate(self, realm: str, authid: str | None, details: dict[str, Any]) -> dict[str, Any]:
        """The user, its role, and what the router checks the answer to its question with.

        Who is not there is asked the same as everybody, with a secret that nobody has.
        """
        method = str(details.get("authmethod"))
        if method == "ticket":
            user = await self._bearer(authid, str(details.get("ticket")))
            return {"realm": realm, "authid": user.authid, "role": user.role, "user": user}
        found = self.gate.known(authid or "")
        user_or_none = found if found is not None and method in found.methods else None
        asked = self._question(method, authid or "", user_or_none, details.get("authextra") or {})
        if user_or_none is not None:
            return {"realm": realm, "role": user_or_none.role, "user": user_or_none, **asked}
        why = "no such user" if found is None else f"not by {method}"
        return {"realm": realm, "role": "consumer", "why": why, **asked}

    def _question(self, method: str, authid: str, user: User | None, extra: dict[str, Any]) -> dict[str, Any]:
        if method == "wampcra":
            return {"secret": user.secret if user else secrets.token_urlsafe(32)}
        if method == "scram":
            scram = (user and user.scram) or Scram.decoy(authid, self.gate.decoy_key)
            return {
                "kdf": scram.kdf,
                "iterations": scram.iterations,
                "memory": scram.memory,
                "salt": scram.salt,
                "stored-key": scram.stored_key,
                "server-key": scram.server_key,
            }
        if method == "cryptosign":
            offered = str(extra.get("pubkey")).lower()
            keys = user.keys if user else ()
            # One of several keys is named by the client; without a name the only one is meant.
            key = offered if offered in keys else keys[0] if len(keys) == 1 and "pubkey" not in extra else None
            return {"pubkey": key or secrets.token_hex(32)}
        raise ApplicationError(ApplicationError.NO_SUCH_PRINCIPAL, REFUSED)

    async def _bearer(self, authid: str | None, ticket: str) -> User:
        """Whose ticket or token that is."""
        if looks_like_jwt(ticket):
            try:
                user = await self.gate.tokens.user(ticket)
            except NotAuthenticated as error:
                raise ApplicationError(ApplicationError.NO_SUCH_PRINCIPAL, str(error)) from None
            if self.gate.rules.believes(user.authid):
                return user
        known = self.gate.known(authid or "")
        digest = known.ticket if known and known.ticket else ticket_digest(secrets.token_urlsafe())
        if same(ticket_digest(ticket), digest) and known is not None:
            return known
        raise ApplicationError(ApplicationError.NO_SUCH_PRINCIPAL, REFUSED)


class Authorizer(QuietSession):
    """The router component that is asked before each call, registration, publication and subscription."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.gate = gate_of(Path(config.extra["home"]))

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Offers the procedure that the router asks."""
        Inside(self).guard(self._hides, self._may_register)
        await self.register(self.authorize, uris.AUTHORIZE)

    def _hides(self, joined: Joined, uri: str) -> bool:
        hidden = self.gate.hides(joined.id, joined.authid, joined.role, uri)
        if hidden:
            self._denied(joined.id, joined.authid, joined.role, "call", uri)
        return hidden

    def _may_register(self, joined: Joined, msg: Any) -> bool:
        may = self.gate.may(joined.id, joined.authid, joined.role, "register", msg.procedure, msg.marshal_options())
        if not may:
            self._denied(joined.id, joined.authid, joined.role, "register", msg.procedure)
        return may

    def _denied(self, session: int, authid: str | None, role: str, action: str, uri: str) -> None:
        self.gate.audit.note("denied", user=authid, role=role, action=action, uri=uri, session=session)

    def authorize(
        self, session: dict[str, Any], uri: str, action: str, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Yes or no, and that the session is disclosed. Never cached: the router's cache has no user in its key."""
        role, authid = session["authrole"], session["authid"]
        allowed = self.gate.may(session["session"], authid, role, action, uri, options or {})
        if not allowed:
            self._denied(session["session"], authid, role, action, uri)
        return {"allow": allowed, "disclose": True, "cache": False}


class Warden(QuietSession):
    """The router component that sees users, rules and tokens change or expire, and ends what may be no longer."""

    log = Logger()

    # Seconds between two looks. Calls and publications are refused at once; this is how long an event may still come.
    EVERY = 0.2
    # A login that nothing came of is forgotten after so many seconds.
    FORGET = 60.0

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.gate = gate_of(Path(config.extra["home"]))
        self._users: object = None
        self._rules = self.gate.rules
        self._rules_stamp: object = self.gate.rules_file.stamp
        self._problem: str | None = None
        self._ending: set[int] = set()

    def onJoin(self, details: Any) -> None:  # noqa: N802
        """Begins to look."""
        self.inside = Inside(self)
        self._users = self.gate.users.stamp
        looking = LoopingCall(self._look)
        looking.start(self.EVERY, now=False).addErrback(lambda failure: self.log.failure("the warden stopped", failure))

    def _look(self) -> None:
        try:
            self._look_once()
        except SisockError as error:
            # A file that cannot be read now: what was known counts until it can.
            self.log.error("{error}", error=error)

    def _look_once(self) -> None:
        gate = self.gate
        gate.audit.settle()
        users, stamp, rules = gate.users.stamp, gate.rules_file.stamp, gate.rules
        changed = users != self._users
        if changed:
            gate.audit.note("users")
        if (stamp, gate.rules_file.problem) != (self._rules_stamp, self._problem):
            gate.audit.note("rules", why=gate.rules_file.problem)
            if gate.rules_file.problem is not None:
                self.log.error("{problem} The rules from before count until it is mended.", problem=gate.rules_file.problem)
        self._users, self._rules_stamp, self._problem = users, stamp, gate.rules_file.problem
        before, self._rules = self._rules, rules
        if rules != before:
            for tell in gate.on_rules:
                tell(before, rules)
        self._forget()
        if changed or rules != before or self._somebody_expired():
            self._review()

    def _somebody_expired(self) -> bool:
        gate, users = self.gate, self.gate.users.all()
        for joined in self.inside.sessions():
            login = gate.logins.get(joined.id)
            user = users.get(joined.authid or "", login.user if login else None)
            if user is not None and gate.expired(user) and joined.id not in self._ending:
                return True
        return False

    def _review(self) -> None:
        """Ends each session that could not do any more what it does."""
        for joined in self.inside.sessions():
            if joined.id in self._ending:
                continue
            user = self.gate.who(joined.id, joined.authid, joined.role)
            if user is None:
                self._end(joined, "its user was taken away, blocked or changed, or its time is over")
                continue
            held = [("subscribe", *one) for one in self.inside.subscribed(joined.id)]
            held += [("register", *one) for one in self.inside.registered(joined.id)]
            for action, uri, match in held:
                if not self.gate.may(joined.id, joined.authid, joined.role, action, uri, {"match": match}):
                    self._end(joined, f"it may not {action} {uri} any more")
                    break

    def _end(self, joined: Joined, why: str) -> None:
        self._ending.add(joined.id)
        self.gate.audit.note("killed", user=joined.authid, session=joined.id, why=why)
        ended = self.inside.end(joined.id, NotAuthorized.uri, why)
        ended.addErrback(lambda failure: self.log.failure("a session could not be ended", failure))
        ended.addBoth(lambda _: self._ending.discard(joined.id))

    def _forget(self) -> None:
        there = {joined.id for joined in self.inside.sessions()}
        long_ago = time.monotonic() - self.FORGET
        for number in [one for one, login in self.gate.logins.items() if one not in there and login.at < long_ago]:
            del self.gate.logins[number]
