"""The gate: what the router's components know together of users, rules and of who has logged in."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sisock import authorization
from sisock.audit import Audit
from sisock.home import Home
from sisock.rules import Rules, Verb
from sisock.throttle import Throttle
from sisock.tokens import Tokens
from sisock.users import TOKEN_PREFIX, User


@dataclass(frozen=True, slots=True)
class Login:
    """Who got in as which session, how and from where. `at` is when, on the clock that counts how long that is ago."""

    user: User
    method: str
    address: str
    at: float = field(default_factory=time.monotonic)


class Gate:
    """Users, rules, tokens, the throttle and the audit of one router."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        site = Home(home)
        self.users = site.users
        self.rules_file = site.rules
        self.tokens = Tokens(home, lambda: self.rules.issuers)
        self.throttle = Throttle()
        self.audit = Audit(site.audit("router"))
        # What questions to those who are not there are made from.
        self.decoy_key = secrets.token_bytes(32)
        self.logins: dict[int, Login] = {}
        self.on_rules: list[Callable[[Rules, Rules], None]] = []
        self._clock = clock

    @property
    def rules(self) -> Rules:
        """The rules as they are now."""
        return self.rules_file.current()

    def expired(self, user: User) -> bool:
        """Whether a user's time is over."""
        return user.expires is not None and user.expires <= self._clock()

    def known(self, authid: str) -> User | None:
        """The user of that name who may log in now."""
        user = self.users.get(authid)
        if user is None or self.expired(user) or authid in self.rules.blocked:
            return None
        return user

    def who(self, session: int, authid: str | None, role: str) -> User | None:
        """Whose session that is; None if they may be here no more: revoked, expired, blocked, with another secret or role."""
        login = self.logins.get(session)
        if authid is not None and authid.startswith(TOKEN_PREFIX):
            user = login.user if login is not None and login.user.authid == authid else None
            if user is not None and (self.expired(user) or not self.rules.believes(authid)):
                user = None
        else:
            user = self.known(authid or "")
            # Nobody is here who has not come through the door.
            if user is not None and (login is None or login.user.fingerprint != user.fingerprint):
                user = None
        return user if user is not None and user.role == role else None

    def may(self, session: int, authid: str | None, role: str, action: str, uri: str, options: Mapping[str, Any]) -> bool:
        """Whether a session may do that now."""
        user = None if role == "anonymous" else self.who(session, authid, role)
        return authorization.may(role, user, action, uri, options, self.rules)

    def hides(self, session: int, authid: str | None, role: str, uri: str) -> bool:
        """Whether a call is answered as if there were no such node."""
        return role == "consumer" and authorization.hides(self.who(session, authid, role), uri, self.rules)

    def allow(self, session: int, authid: str | None, role: str, verb: Verb, node: str) -> bool:
        """Whether a session may see, read, follow or serve a node."""
        user = self.who(session, authid, role)
        return user is not None and self.rules.allow(user, verb, node)


_gates: dict[Path, Gate] = {}


def gate_of(home: str | Path) -> Gate:
    """The gate of a home, the same for all components of a process."""
    path = Path(home)
    if path not in _gates:
        _gates[path] = Gate(path)
    return _gates[path]
