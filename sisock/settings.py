"""Settings from the environment, read here and nowhere else.

| name | what it sets | default |
|---|---|---|
| SISOCK_HOME | the site's folder | ~/.sisock |
| CROSSBAR_HOST | the router's host, for programs that join it | the site in the home |
| CROSSBAR_TLS_PORT | the router's port, for `up` and for programs that join it | 8080 |
| CROSSBAR_OCS_PORT | the port of the plain transport, where `up --ocs` opens it | 8001 |
| WAMP_USER, WAMP_SECRET | as whom to join; `up` admits this user with this secret | the site's own users |
| PORT | the bridge's port | 5000 |
| SISOCK_STORE | the store: a file, or the address of a PostgreSQL database | history.db in the home |
| SISOCK_TRACE | 1 prints every call and event of a program with its time | off |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sisock.errors import NotAuthorized, NotConnected, SetupError
from sisock.home import Home
from sisock.session import Access
from sisock.uris import REALM
from sisock.users import CONSUMER

PORT = 8080
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
OCS_PORT = 8001
BRIDGE_PORT = 5000


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment names."""

    home: Home
    crossbar_host: str | None = None
    port: int = PORT
    ocs_port: int = OCS_PORT
    bridge_port: int = BRIDGE_PORT
    user: str | None = None
    secret: str | None = None
    trace: bool = False
    store_address: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, home: Home | None = None) -> Settings:
        """The settings that the environment names; SetupError for a port that is none."""
        return cls(
            home or Home.default(environ),
            environ.get("CROSSBAR_HOST") or None,
            _port(environ, "CROSSBAR_TLS_PORT", PORT),
            _port(environ, "CROSSBAR_OCS_PORT", OCS_PORT),
            _port(environ, "PORT", BRIDGE_PORT),
            environ.get("WAMP_USER") or None,
            environ.get("WAMP_SECRET") or None,
            environ.get("SISOCK_TRACE", "0") not in ("", "0"),
            environ.get("SISOCK_STORE") or None,
        )

    @property
    def store(self) -> str:
        """Where nodes keep their history: a path, or `postgresql://...`."""
        return self.store_address or str(self.home.path / "history.db")

    def consumer(self, authid: str = CONSUMER, *, web: bool = False) -> Access:
        """How to join as a consumer: the site in the home, or the router that CROSSBAR_HOST names.

        With `web` it is the WebSocket in any case, whose pings end a connection that is dead: all who follow use it.
        """
        self._check_user()
        if self.crossbar_host:
            return self._remote()
        run = self.home.run()
        if run is None:
            raise NotConnected(
                f"no site runs in {self.home.path}. Start one with `sisock up`, or name its folder with SISOCK_HOME or --home."
            )
        url = run.ws if web else run.local
        pinned = Path(run.certificate) if run.certificate and url.startswith("wss:") else None
        if self.user and self.secret:
            return Access(url, self.user, self.secret, run.realm, pinned)
        user = self.home.users.get(authid)
        if user is None:
            raise NotAuthorized(f"there is no user {authid!r} in {self.home.users.path} any more; `sisock up` makes it anew.")
        return Access(url, user.authid, user.secret, run.realm, pinned)

    def node(self, name: str) -> Access:
        """How a node of that name joins: as a user of its own in the home's site, or as WAMP_USER elsewhere."""
        self._check_user()
        if self.crossbar_host:
            return self._remote()
        run = self.home.run()
        realm = run.realm if run else REALM
        if self.user and self.secret:
            return Access(f"unix://{self.home.socket}", self.user, self.secret, realm)
        user = self.home.users.ensure(f"node:{name}", "node", name)
        if not user.may_serve(name):
            raise SetupError(
                f"the user {user.authid!r} in {self.home.users.path} has the role {user.role} "
                "and may not serve a node of that name. Edit the file."
            )
        return Access(f"unix://{self.home.socket}", user.authid, user.secret, realm)

    def _check_user(self) -> None:
        if bool(self.user) != bool(self.secret):
            raise SetupError("only one of WAMP_USER and WAMP_SECRET is set in the environment; set both, or none.")

    def _remote(self) -> Access:
        if not (self.user and self.secret):
            raise SetupError("CROSSBAR_HOST names a router elsewhere; WAMP_USER and WAMP_SECRET must say as whom to join it.")
        if not _HOST.fullmatch(str(self.crossbar_host)):
            raise SetupError(f"CROSSBAR_HOST={self.crossbar_host} in the environment is no host's name or address.")
        host = f"[{self.crossbar_host}]" if ":" in str(self.crossbar_host) else self.crossbar_host
        pinned = self.home.certificate
        return Access(f"wss://{host}:{self.port}/ws", self.user, self.secret, certificate=pinned if pinned.exists() else None)


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise SetupError(f"{name}={text} in the environment is no port number")
    return int(text)
