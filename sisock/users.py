"""The users of a site: who may join, by which ways in, in which role, and which nodes they may serve.

They stand in one JSON file that only its owner reads, `<home>/.crossbar/users.json`:

    {"simonsobs": {"role": "consumer", "secret": "..."},
     "roof":      {"role": "node", "secret": "...", "nodes": ["roof"]},
     "anna":      {"role": "consumer", "ticket": "sha256:...", "expires": 1800000000.0}}

`sisock user` writes it. It is read again when it changes: an edit counts at once, without a restart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Literal

from sisock.credentials import Method, Scram, is_public_key, is_ticket_digest, new_secret
from sisock.errors import InvalidArgument, SetupError, shown

log = logging.getLogger(__name__)

Role = Literal["node", "consumer", "server"]
ROLES: tuple[Role, ...] = ("node", "consumer", "server")

# The names that the old system's clients carry, and what each is for.
SERVER = "server"
CONSUMER = "simonsobs"
# The site's own bridge: it asks the rules for each of those who ask it, so that none are laid upon itself.
BRIDGE = "bridge"
# Who comes without a token, where a face lets anybody in. Nobody can log in by that name.
PUBLIC = "public"
# The page of a local start, whose token is new at each.
PAGE = "page"
# What the names of those begin with whose token another issuer vouches for.
TOKEN_PREFIX = "jwt:"  # noqa: S105

_RESERVED = frozenset({PUBLIC, "hub"})
_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f]{1,255}")


@dataclass(frozen=True, slots=True)
class User:
    """One who may join. `nodes` are the names that a user of the role `node` may serve.

    `secret` is WAMP-CRA's, `ticket` a ticket's digest, `keys` are public keys; `expires` (UNIX seconds) ends them all.
    `groups` are what an issuer's token says that its bearer belongs to.
    """

    authid: str
    role: Role
    secret: str = field(default="", repr=False)
    nodes: tuple[str, ...] = ()
    ticket: str | None = field(default=None, repr=False)
    scram: Scram | None = field(default=None, repr=False)
    keys: tuple[str, ...] = ()
    expires: float | None = None
    groups: frozenset[str] = frozenset()

    def may_serve(self, node: str) -> bool:
        """Whether this user may register and announce a node of that name."""
        return self.role == "server" or (self.role == "node" and node in self.nodes)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The ways in that are open to this user."""
        ways: dict[Method, Any] = {
            "wampcra": self.secret,
            "scram": self.scram,
            "ticket": self.ticket,
            "cryptosign": self.keys,
        }
        return tuple(method for method, way in ways.items() if way)

    @property
    def fingerprint(self) -> str:
        """A text that changes with the role and with any of the credentials, and tells nothing of them."""
        parts = [self.role, self.secret, self.ticket, self.scram and self.scram.to_json(), self.keys]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The form in the file."""
        known = {
            "role": self.role,
            "secret": self.secret,
            "nodes": list(self.nodes),
            "ticket": self.ticket,
            "scram": self.scram and self.scram.to_json(),
            "keys": list(self.keys),
            "expires": self.expires,
        }
        return {name: value for name, value in known.items() if value not in (None, "", [])}


# Who comes without a token.
ANYBODY = User(PUBLIC, "consumer")


def check_user_name(name: str) -> str:
    """The name itself, or InvalidArgument that says what a user may be called."""
    if not _NAME.fullmatch(name) or name in (*_RESERVED, PAGE) or name.startswith((TOKEN_PREFIX, "group:", "role:")):
        raise InvalidArgument(
            f"{shown(name)} cannot be a user's name: it takes 1 to 255 characters without blanks, is not {PUBLIC}, {PAGE} or "
            f"hub, and does not begin with {TOKEN_PREFIX} group: or role:"
        )
    return name


# For how long a file of access has to be changed, or away, before that counts, in seconds: editors empty one, or take it away,
# before they write it.
SETTLES = 0.1

_Stamp = tuple[int, int, int]
_AWAY: _Stamp = (0, 0, 0)


class Users:
    """The users in a file."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        # None until a file was read that is as it should be.
        self._stamp: _Stamp | None = None
        self._users: dict[str, User] = {}
        self._missing_since: float | None = None

    def get(self, authid: str | None) -> User | None:
        """The user of that name as the file has it now; None if there is none."""
        return self._current().get(authid or "")

    @property
    def stamp(self) -> object:
        """Something that differs whenever the file has changed."""
        self._current()
        return self._stamp

    def all(self) -> dict[str, User]:
        """All users as the file has them now, by their names."""
        return dict(self._current())

    def add(self, user: User, *, keep: bool = True) -> User:
        """Adds a user and answers the one the file then holds: with `keep`, one that is there keeps its secret."""
        return self.update(user.authid, lambda there: there if there is not None and keep else user) or user

    def remove(self, authid: str) -> bool:
        """Takes a user away; False if there is none of that name."""
        found: list[User | None] = []
        self.update(authid, found.append)
        return found != [None]

    def update(self, authid: str, to: Callable[[User | None], User | None]) -> User | None:
        """Puts in a user's place what `to` makes of it, while nobody else writes; None is no user."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                # Several nodes may add themselves at the same moment.
                flock(lock, LOCK_EX)
                users = dict(self._current())
                there = users.get(authid)
                changed = to(there)
                if changed is None:
                    users.pop(authid, None)
                else:
                    users[authid] = changed
                if changed is not there:
                    self._write(users)
        except OSError as error:
            raise SetupError(f"{self.path} cannot be written: {error.strerror}. Choose another home with --home.") from error
        return changed

    def ensure(self, authid: str, role: Role, *nodes: str) -> User:
        """The user of that name, made with a new secret if it is not there."""
        return self.add(User(authid, role, new_secret(), nodes))

    def _current(self) -> Mapping[str, User]:
        try:
            status = self.path.stat()
            self._missing_since = None
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._users = self._read()
                self._stamp = stamp
        except FileNotFoundError:
            if self._is_away():
                self._stamp, self._users = self._stamp and _AWAY, {}
        except OSError as error:
            raise SetupError(f"{self.path} cannot be read: {error.strerror}. Mend it, or delete it for a new one.") from error
        return self._users

    def _is_away(self) -> bool:
        """Whether the file has been missing for so long that nobody is in the middle of writing it."""
        if self._missing_since is None:
            self._missing_since = self._clock()
        return self._clock() - self._missing_since >= SETTLES

    def _read(self) -> dict[str, User]:
        """What the file holds now. An edit that broke it changes nothing while one that was good before is known."""
        try:
            return _parse(self.path, self.path.read_bytes())
        except SetupError as error:
            if self._stamp is None:
                raise
            log.error("%s The users from before count until then.", error)
            return self._users

    def _write(self, users: Mapping[str, User]) -> None:
        listed = {user.authid: user.to_json() for user in users.values()}
        write_private(self.path, json.dumps(listed, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner reads, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            # Without it a machine that loses power may keep the new name and not the text.
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _parse(path: Path, text: bytes) -> dict[str, User]:
    try:
        return {authid: _user(authid, entry) for authid, entry in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise SetupError(f"{path} is not as it should be: {error}. Mend it, or delete it for a new one.") from error


def _user(authid: str, entry: Mapping[str, Any]) -> User:
    if authid in _RESERVED or authid.startswith(TOKEN_PREFIX):
        raise ValueError(f"nobody can have the name {authid!r}")
    role, secret, nodes = entry.get("role"), entry.get("secret", ""), entry.get("nodes", [])
    ticket, keys, expires = entry.get("ticket"), entry.get("keys", []), entry.get("expires")
    if role not in ROLES:
        raise ValueError(f"{authid} has the role {role!r}; there are {', '.join(ROLES)}")
    if not isinstance(secret, str) or (secret and not secret.strip()):
        raise ValueError(f"{authid}: secret is no text")
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise ValueError(f"{authid}: nodes is a list of names")
    if ticket is not None and not is_ticket_digest(ticket):
        raise ValueError(f"{authid}: ticket is not what `sisock user add` wrote")
    if not isinstance(keys, list) or not all(is_public_key(key) for key in keys):
        raise ValueError(f"{authid}: keys is a list of public keys, 64 hexadecimal digits each")
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, (int, float))):
        raise ValueError(f"{authid}: expires is a number of seconds since 1970")
    scram = Scram.from_json(entry["scram"]) if "scram" in entry else None
    user = User(authid, role, secret, tuple(nodes), ticket, scram, tuple(key.lower() for key in keys), expires)
    if not user.methods:
        raise ValueError(f"{authid} has no secret, ticket, scram or keys")
    return user
