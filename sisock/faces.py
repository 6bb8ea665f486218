"""Faces: the port at which a node speaks HTTP as the system did that it takes the place of.

    face = Face("sensorhub", 5005)
    face.listen(app)                      # where the environment says, behind its door
    face.address                          # http://localhost:5005

`SISOCK_<NAME>_HOST` and `SISOCK_<NAME>_PORT` say where. Beyond this machine it serves https with a certificate of the site's
own authority (`SISOCK_<NAME>_TLS=1`), or in the clear where `SISOCK_<NAME>_INSECURE=1` says that the network is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock.certificates import Certificates
from sisock.doors import LOOPBACK, Door, Open, see_off
from sisock.errors import PortTaken, SetupError
from sisock.home import Home, is_loopback
from sisock.http import MAX_BODY, listen

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

log = Logger()

# Seconds between two looks whether those who have a connection open may be here still.
WATCH_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Where:
    """Where a face listens, and how."""

    host: str
    port: int
    tls: bool = False
    insecure: bool = False

    @classmethod
    def of(cls, name: str, port: int, environ: Mapping[str, str] = os.environ, host: str | None = None) -> Self:
        """What the environment says of the face `name`; SetupError for what cannot be. `host` is where it listens else."""
        prefix = f"SISOCK_{name.upper()}_"
        text = environ.get(f"{prefix}PORT", str(port))
        if not text.isdecimal() or int(text) > 65535:
            raise SetupError(f"{prefix}PORT={text} in the environment is no port number")
        at = environ.get(f"{prefix}HOST") or host or "127.0.0.1"
        tls, insecure = (environ.get(prefix + word, "0") not in ("", "0") for word in ("TLS", "INSECURE"))
        if not is_loopback(at) and not tls and not insecure:
            raise SetupError(
                f"{name} on {at} would send tokens and data in the clear. Set {prefix}TLS=1 for a certificate of the site's "
                f"own authority, or {prefix}INSECURE=1 if the network is trusted."
            )
        return cls(at, int(text), tls, insecure)


class Face:
    """The port of one face. Who may come, access.toml says under `[face.<name>]`; on this machine alone, everybody."""

    def __init__(self, name: str, port: int, *, host: str | None = None, home: Home | None = None) -> None:
        self.name = name
        self.where = Where.of(name, port, host=host)
        self._home = home or Home.default()
        here = is_loopback(self.where.host)
        self.door = Door.of(self._home, name, default=LOOPBACK if here else ())
        self._listening: IListeningPort | None = None
        self._looking: LoopingCall | None = None

    @property
    def address(self) -> str:
        """Where it listens, for programs on this machine."""
        port: Any = self._listening
        return f"{'https' if self.where.tls else 'http'}://localhost:{port.getHost().port}"

    def listen(self, app: Any, *, door: Any = None, max_body: int = MAX_BODY) -> None:
        """Serves an application from now on; PortTaken, or SetupError for another hindrance.

        `door` is asked in place of the face's own; `max_body` is in bytes.
        """
        tls = None
        if self.where.tls:
            certificates = Certificates(self._home.path)
            certificates.ensure_authority()
            names = () if self.where.host in ("0.0.0.0", "::") else (self.where.host,)  # noqa: S104
            tls = certificates.ensure(self.name, names)
        host, port = self.where.host, self.where.port
        try:
            self._listening = listen(app, host, port, door=door or self.door, tls=tls, max_body=max_body)
        except PortTaken as taken:
            option = f"SISOCK_{self.name.upper()}_PORT"
            raise PortTaken(f"another program listens on {host}:{port}. Stop it, or set {option} to another port.") from taken
        self._home.tell_face(self.name, self.address)
        trusted = [str(network) for network in self.door.open_to if not network.is_loopback]
        if trusted:
            log.warn(
                "{name}: whoever is in {networks} comes in without a token, as access.toml says under [face.{name}]",
                name=self.name,
                networks=", ".join(trusted),
            )

    def watch(self, connections: Callable[[], Iterable[Open]]) -> None:
        """Closes, from now on, those of the connections whose caller may be here no more: revoked, expired or blocked."""
        looking = self._looking = LoopingCall(lambda: see_off(connections()))
        looking.start(WATCH_EVERY, now=False).addErrback(lambda failure: log.failure("nobody is seen off any more", failure))

    def close(self) -> Deferred[Any]:
        """Listens no more."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        self.door.close()
