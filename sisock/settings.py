"""Settings from the environment, read here and nowhere else.

| name | what it sets | default |
|---|---|---|
| SISOCK_HOME | the site's folder | ~/.sisock |
| CROSSBAR_HOST | the router's host, for programs that join it | the site in the home |
| CROSSBAR_TLS_PORT | the router's port, for `up` and for programs that join it | 8080 |
| CROSSBAR_OCS_PORT | the port of the plain transport, where `up --ocs` opens it | 8001 |
| WAMP_USER, WAMP_SECRET | as whom to join; `up` admits this user with this secret | the site's own users |
| WAMP_SECRET_FILE | a file with the secret, the ticket or the private key, read at each join | WAMP_SECRET |
| WAMP_AUTHMETHOD | the way in: wampcra, scram, ticket (a JSON Web Token is one) or cryptosign | wampcra |
| WAMP_REALM | the realm of the router at CROSSBAR_HOST | sisock |
| SISOCK_CERTIFICATE | the certificate, or the authority, to pin for the router at CROSSBAR_HOST | the one in the home |
| PORT | the bridge's port | 5000 |
| SISOCK_STORE | the store: a file, or the address of a PostgreSQL database | history.db in the home |
| SISOCK_TRACE | 1 prints every call and event of a program with its time | off |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sisock.credentials import METHODS, Method
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
    secret: str | None = field(default=None, repr=False)
    trace: bool = False
    store_address: str | None = None
    secret_file: Path | None = None
    method: Method = "wampcra"
    pinned: Path | None = None
    realm: str = REALM

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
            _path(environ.get("WAMP_SECRET_FILE")),
            _method(environ.get("WAMP_AUTHMETHOD") or "wampcra"),
            _path(environ.get("SISOCK_CERTIFICATE")),
            environ.get("WAMP_REALM") or REALM,
        )

    @property
    def names_somebody(self) -> bool:
        """Whether the environment says as whom to join."""
        return bool(self.secret or self.secret_file) and bool(self.user or self.method == "ticket")

    @property
    def is_half_named(self) -> bool:
        """Whether the environment says as whom to join, and not with what, or the other way round."""
        return bool(self.user or self.secret or self.secret_file) and not self.names_somebody

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
        if self.names_somebody:
            return self._named(url, run.realm, pinned)
        user = self.home.users.get(authid)
        if user is None:
            raise NotAuthorized(f"there is no user {authid!r} in {self.home.users.path} any more; `sisock up` makes it anew.")
        return Access(url, user.authid, user.secret, run.realm, pinned)

    def as_far_as_seen(self) -> str:
        """Words for a list of nodes that may be shorter than the site's; none where whoever asks sees all of them."""
        if self.crossbar_host is None and self.home.rules.current().rules is None:
            return ""
        return f" that {self.consumer().authid} may see; the site's access.toml says who sees which"

    def node(self, name: str) -> Access:
        """How a node of that name joins: as a user of its own in the home's site, or as WAMP_USER elsewhere."""
        self._check_user()
        if self.crossbar_host:
            return self._remote()
        run = self.home.run()
        realm = run.realm if run else REALM
        if self.names_somebody:
            return self._named(f"unix://{self.home.socket}", realm)
        user = self.home.users.ensure(f"node:{name}", "node", name)
        if not user.may_serve(name):
            raise SetupError(
                f"the user {user.authid!r} in {self.home.users.path} has the role {user.role} "
                "and may not serve a node of that name. Edit the file."
            )
        return Access(f"unix://{self.home.socket}", user.authid, user.secret, realm)

    def _check_user(self) -> None:
        if self.is_half_named:
            raise SetupError("only one of WAMP_USER and WAMP_SECRET is set in the environment; set both, or none.")

    def _named(self, url: str, realm: str, certificate: Path | None = None) -> Access:
        return Access(url, self.user or "", self.secret or "", realm, certificate, self.method, self.secret_file)

    def _remote(self) -> Access:
        if not self.names_somebody:
            raise SetupError("CROSSBAR_HOST names a router elsewhere; WAMP_USER and WAMP_SECRET must say as whom to join it.")
        if not _HOST.fullmatch(str(self.crossbar_host)):
            raise SetupError(f"CROSSBAR_HOST={self.crossbar_host} in the environment is no host's name or address.")
        host = f"[{self.crossbar_host}]" if ":" in str(self.crossbar_host) else self.crossbar_host
        pinned = self.pinned or (self.home.certificate if self.home.certificate.exists() else None)
        return self._named(f"wss://{host}:{self.port}/ws", self.realm, pinned)


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _method(text: str) -> Method:
    for method in METHODS:
        if text == method:
            return method
    raise SetupError(f"WAMP_AUTHMETHOD={text} in the environment is no way in; there are {', '.join(METHODS)}")


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or len(text) > 5 or not 0 < int(text) < 65536:
        raise SetupError(f"{name}={text} in the environment is no port number")
    return int(text)
