"""The users of a site: who may join, with what secret, in which role, and which nodes they may serve.

They stand in one JSON file that only its owner reads, `<home>/.crossbar/users.json`:

    {"simonsobs": {"role": "consumer", "secret": "..."},
     "roof":      {"role": "node", "secret": "...", "nodes": ["roof"]}}

The file is read again when it changes, so an edit counts for the next join without a restart.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Literal

from sisock.errors import SetupError

log = logging.getLogger(__name__)

Role = Literal["node", "consumer", "server"]
ROLES: tuple[Role, ...] = ("node", "consumer", "server")

# The names that the old system's clients carry, and what each is for.
SERVER = "server"
CONSUMER = "simonsobs"


@dataclass(frozen=True, slots=True)
class User:
    """One who may join. `nodes` are the names that a user of the role `node` may serve."""

    authid: str
    role: Role
    secret: str
    nodes: tuple[str, ...] = ()

    def may_serve(self, node: str) -> bool:
        """Whether this user may register and announce a node of that name."""
        return self.role == "server" or (self.role == "node" and node in self.nodes)


class Users:
    """The users in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def get(self, authid: str | None) -> User | None:
        """The user of that name as the file has it now; None if there is none."""
        return self._current().get(authid or "")

    def add(self, user: User, *, keep: bool = True) -> User:
        """Adds a user and answers the one the file then holds: with `keep`, one that is there keeps its secret."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                # Several nodes may add themselves at the same moment.
                flock(lock, LOCK_EX)
                users = dict(self._current())
                there = users.get(user.authid)
                if there is not None and keep:
                    return there
                users[user.authid] = user
                self._write(users)
        except OSError as error:
            raise SetupError(f"{self.path} cannot be written: {error.strerror}. Choose another home with --home.") from error
        return user

    def ensure(self, authid: str, role: Role, *nodes: str) -> User:
        """The user of that name, made with a new secret if it is not there."""
        return self.add(User(authid, role, secrets.token_urlsafe(32), nodes))

    def _current(self) -> Mapping[str, User]:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._users = self._read()
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._users = None, {}
        except OSError as error:
            raise SetupError(f"{self.path} cannot be read: {error.strerror}. Mend it, or delete it for a new one.") from error
        return self._users

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
        listed = {
            user.authid: {"role": user.role, "secret": user.secret} | ({"nodes": list(user.nodes)} if user.nodes else {})
            for user in users.values()
        }
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
    role, secret, nodes = entry.get("role"), entry.get("secret"), entry.get("nodes", [])
    if role not in ROLES:
        raise ValueError(f"{authid} has the role {role!r}; there are {', '.join(ROLES)}")
    if not isinstance(secret, str) or not secret:
        raise ValueError(f"{authid} has no secret")
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise ValueError(f"{authid}: nodes is a list of names")
    return User(authid, role, secret, tuple(nodes))
