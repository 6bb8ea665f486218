"""The names of the old package, so that a node written for it runs unmodified.

`DataNodeServer` is the old base class: a WAMP session that the author starts with Autobahn's ApplicationRunner. New
nodes subclass `sisock.DataNode` instead.
"""

from __future__ import annotations

from typing import Any

from autobahn.twisted.wamp import ApplicationRunner
from autobahn.wamp import auth
from twisted.internet import threads
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from sisock import trace
from sisock.answering import Answers
from sisock.errors import NotAuthorized, SisockError, Superseded
from sisock.naming import Applicant, Identity, take_name
from sisock.requests import DataRequest
from sisock.session import AskingSession
from sisock.settings import Settings
from sisock.times import resolve
from sisock.uris import BASE_URI, uri

_settings = Settings.read()
_run = _settings.home.run()

if _settings.trace:
    trace.enable()

SISOCK_HOST: str = _settings.crossbar_host or "localhost"
SISOCK_PORT: int = _settings.port
OCS_PORT: int = _settings.ocs_port
REALM: str = _run.realm if _run else "sisock"
WAMP_URI: str = _run.ws if _run and not _settings.crossbar_host else f"wss://{SISOCK_HOST}:{SISOCK_PORT}/ws"
WAMP_USER: str = _settings.user or "server"
WAMP_SECRET: str = _settings.secret or (_run.server["secret"] if _run else "")

# The old convention knows no open end; this is far enough, and still a time that calendars hold.
_FAR = 32_503_680_000.0
_EARLY = 1e-6

sisock_to_unix_time = resolve


class DataNodeServer(AskingSession):
    """A data node of the old kind.

    A subclass sets `name` and `description` and overrides `get_fields` and `get_data`, or their blocking twins, which
    run in a thread with times in UNIX seconds.
    """

    name: Any = None
    description: Any = None
    log = Logger()
    _identity: Identity | None = None

    def onConnect(self) -> None:  # noqa: N802
        """Joins with WAMP-CRA as WAMP_USER."""
        self.join(self.config.realm, ["wampcra"], WAMP_USER)

    def onChallenge(self, challenge: Any) -> str:  # noqa: N802
        """Signs the router's challenge with WAMP_SECRET."""
        if challenge.method != "wampcra":
            raise NotAuthorized(f"the router asks for {challenge.method}, not WAMP-CRA")
        signature: bytes = auth.compute_wcs(WAMP_SECRET.encode(), challenge.extra["challenge"].encode())
        return signature.decode("ascii")

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Takes the node's name, then calls `after_onJoin`. What goes wrong ends the session, and so the program."""
        try:
            answers = Answers(self, maybeDeferred, ends=_finite)
            self._identity = Identity(*_settings.home.identity(str(self.name)))
            applicant = Applicant(self.name, self.description or "", self._identity, answers.get_fields, answers.get_data)
            if await take_name(self, applicant):
                await maybeDeferred(self.after_onJoin, details)
        except SisockError as error:
            self.log.error("{name}: {error}", name=self.name, error=error)
            if isinstance(error, Superseded):
                self._end_for_good(error)
            self._give_up()
        except Exception:  # noqa: BLE001
            self.log.failure("{name}: joining failed", name=self.name)
            self._give_up()

    def _give_up(self) -> None:
        if self.is_attached():
            self.leave()

    def _end_for_good(self, error: Superseded) -> None:
        """Has the runner raise this at its end, so that whoever supervises the program knows not to start it again."""
        if isinstance(self.config.extra, dict):
            self.config.extra["error"] = error

    def onLeave(self, details: Any) -> None:  # noqa: N802
        """Closes the connection; the program ends for good where a newer start of it has taken over."""
        identity = self._identity
        if identity is not None and details.reason == Superseded.uri and _settings.home.starts(str(self.name)) > identity.start:
            self._end_for_good(Superseded(f"{self.name}: a newer start of this node serves its name; this one leaves"))
        super().onLeave(details)

    def onDisconnect(self) -> None:  # noqa: N802
        """Ends the program with its connection, unless its runner was told to reconnect: Autobahn leaves that to sessions."""
        from twisted.internet import reactor

        self.fail_pending()
        super().onDisconnect()
        runner = self.config.runner
        if isinstance(runner, ApplicationRunner) and runner._client_service is None and reactor.running:
            reactor.stop()

    def after_onJoin(self, details: Any) -> Any:  # noqa: N802
        """Called when the node is on the air; plain, or answering a Deferred."""

    def get_fields(self, start: float, end: float | None) -> Any:
        """Answers what `get_fields_blocking` does, from a thread."""
        return self._in_thread(self.get_fields_blocking, start, end)

    def get_data(self, field: Any, start: float, end: float | None, min_stride: float | None = None) -> Any:
        """Answers what `get_data_blocking` does, from a thread."""
        return self._in_thread(self.get_data_blocking, field, start, end, min_stride)

    def get_fields_blocking(self, start: float, end: float) -> Any:
        """Answers [fields, timelines]; times are UNIX seconds."""
        raise TypeError(f"{type(self).__name__} overrides neither get_fields nor get_fields_blocking")

    def get_data_blocking(self, field: Any, start: float, end: float, min_stride: float | None = None) -> Any:
        """Answers {"data", "timeline"} or False; times are UNIX seconds."""
        raise TypeError(f"{type(self).__name__} overrides neither get_data nor get_data_blocking")

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        return threads.deferToThread(function, *args)


data_node_server = DataNodeServer


def _finite(request: DataRequest) -> tuple[float, float | None]:
    """The range as the old convention can say it: above 0, so that it is not counted from now, and with an end."""
    return max(request.span.start, _EARLY), min(max(request.span.end, _EARLY), _FAR)


__all__ = [
    "BASE_URI",
    "OCS_PORT",
    "REALM",
    "SISOCK_HOST",
    "SISOCK_PORT",
    "WAMP_SECRET",
    "WAMP_URI",
    "WAMP_USER",
    "DataNodeServer",
    "data_node_server",
    "sisock_to_unix_time",
    "uri",
]
