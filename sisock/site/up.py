"""`sisock up`: brings a whole site up, says when it is ready, and takes it down again."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from autobahn.twisted.util import sleep
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sisock.certificates import Certificates
from sisock.consumer import Consumer
from sisock.errors import SetupError, SisockError, TimedOut
from sisock.home import Home, Run, is_loopback
from sisock.router.config import Listeners, render
from sisock.session import Access
from sisock.settings import Settings
from sisock.site import ports
from sisock.site.supervisor import PartLogs, Supervisor
from sisock.uris import BASE_URI, REALM
from sisock.users import BRIDGE, CONSUMER, PAGE, SERVER, Role, User, check_user_name, write_private

log = Logger()

LISTENERS = ("ws", "ocs", "bridge")
READY_WITHIN = 60.0
# A node that takes longer, or is broken, does not keep the others from being used.
NODES_WITHIN = 20.0
BROKEN_AFTER = 3
# Seconds between two looks at where nodes listen for HTTP.
LOOK_EVERY = 1.0

# Addresses that are nobody's name.
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
_REALM = re.compile(r"[A-Za-z][A-Za-z0-9_@.-]{2,254}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` was asked for."""

    settings: Settings
    host: str = "127.0.0.1"
    port: int | None = None
    bridge_port: int | None = None
    ocs_port: int | None = None
    ocs: bool = False
    auto_ports: bool = False
    nodes: tuple[str, ...] = ("weather", "sensors", "hub")
    tables: dict[str, str] = field(default_factory=dict, repr=False)
    bridge: bool = True
    bridge_at: str | None = None
    tls: bool = False
    realm: str = REALM
    insecure: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        """Where the site's state is."""
        return self.settings.home

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach the site."""
        return is_loopback(self.host)

    def check(self) -> None:
        """Refuses to listen beyond this machine without TLS where nobody asked for it."""
        if not _REALM.fullmatch(self.realm):
            raise SetupError(f"{self.realm!r} is no realm: it takes three letters, digits or _-@. at least, a letter first.")
        for name in self.insecure:
            if name not in LISTENERS:
                raise SetupError(f"--insecure {name}: there is no such listener. There are {', '.join(LISTENERS)}.")
        if self.bridge_tls and not self.tls:
            raise SetupError(
                f"the bridge on {self.bridge_host} needs TLS, since tokens and data would cross the network in the clear. "
                "Add --tls, or --insecure bridge if the network is trusted."
            )
        if self.loopback:
            return
        if not self.tls and "ws" not in self.insecure:
            raise SetupError(
                f"listening on {self.host} needs TLS, since secrets and data would cross the network in the clear. "
                "Add --tls, or --insecure ws if the network is trusted."
            )
        if self.ocs and "ocs" not in self.insecure:
            raise SetupError(f"the plain transport on {self.host} admits anybody without TLS. Add --insecure ocs to have it.")

    def with_ports(self) -> Plan:
        """The plan with every port chosen and found free."""

        def chosen(given: int | None, default: int, host: str, what: str, option: str) -> int:
            port = given or (ports.free(host) if self.auto_ports else default)
            ports.check(host, port, what, option)
            return port

        settings = self.settings
        return replace(
            self,
            port=chosen(self.port, settings.port, self.host, "the router", "--port"),
            ocs_port=chosen(self.ocs_port, settings.ocs_port, self.host, "the plain transport", "--ocs-port")
            if self.ocs
            else None,
            bridge_port=chosen(self.bridge_port, settings.bridge_port, self.bridge_host, "the bridge", "--bridge-port")
            if self.bridge
            else None,
        )

    @property
    def bridge_host(self) -> str:
        """Where the bridge listens: on this machine, unless it is told otherwise."""
        return self.bridge_at or (self.host if "bridge" in self.insecure else "127.0.0.1")

    @property
    def bridge_tls(self) -> bool:
        """Whether the bridge speaks https: wherever others can reach it."""
        return self.bridge and not is_loopback(self.bridge_host) and "bridge" not in self.insecure

    @property
    def shown_host(self) -> str:
        """The host by which a program on this machine reaches the router."""
        if self.host in ("127.0.0.1", "::1") or self.host in _ANY:
            return "localhost" if self.host != "::1" else "[::1]"
        return bracketed(self.host)


def bracketed(host: str) -> str:
    """A host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


class Router:
    """The site's router: its home prepared, and the command that runs it."""

    def __init__(self, plan: Plan) -> None:
        home, settings = plan.home, plan.settings
        home.make()
        home.rules.check()
        users = home.users
        if settings.user and settings.secret:
            check_user_name(settings.user)
            # Whom the site does not know gets the lesser rights.
            role: Role = "server" if settings.user == SERVER else "consumer"
            known = users.get(settings.user) or User(settings.user, role)
            users.add(replace(known, secret=settings.secret), keep=False)
        self.server = users.ensure(SERVER, "server")
        self.consumer = users.ensure(CONSUMER, "consumer")
        users.ensure(BRIDGE, "consumer")
        # The page's token is new at each start; a link with an old one lets nobody in.
        self._page_user = users.add(User(PAGE, "consumer", secrets.token_urlsafe(18)), keep=False)
        self.certificates = Certificates(home.path)
        names = [plan.shown_host]
        certificate = key = None
        if plan.tls:
            # Everywhere on this machine is no name, so that one under which others may know it has to do.
            wanted = [socket.gethostname() if plan.host in _ANY else plan.host]
            certificate, key = self.certificates.ensure("router", wanted)
            if plan.bridge_tls:
                at = plan.bridge_host
                self.certificates.ensure("bridge", [socket.gethostname() if at in _ANY else at])
            names += [bracketed(name) for name in self.certificates.names("router")]
        self.listeners = Listeners(
            plan.host,
            plan.port or settings.port,
            home.socket,
            plan.realm,
            plan.ocs_port,
            certificate,
            key,
            tuple(dict.fromkeys(names)),
        )
        page = Path(__file__).parent.parent / "page"
        built = page / "built"
        # A checkout without Node has no built page; a short one says where everything is.
        page = built if (built / "index.html").is_file() else page
        (home.crossbar / "config.json").write_text(render(self.listeners, home.path, page))
        home.socket.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The address of the WebSocket, for programs on this machine."""
        host = self.listeners.names[0]
        return f"{'wss' if self.listeners.certificate else 'ws'}://{host}:{self.listeners.port}/ws"

    @property
    def page(self) -> str:
        """The address of the web page."""
        return self.url.replace("ws", "http", 1).removesuffix("ws")

    @property
    def page_with_token(self) -> str:
        """The address that opens the page as its user; the page takes the token out of it at once."""
        user, realm = self._page_user, self.listeners.realm
        token = f"{quote(user.authid, safe='')}:{quote(user.secret, safe='')}"
        return f"{self.page}#token={token}" + (f"&realm={quote(realm, safe='')}" if realm != REALM else "")

    @staticmethod
    def command(home: Home) -> list[str]:
        """The command that runs the router in a home."""
        # At level info Crossbar logs HTTP headers at each join, secrets included.
        return [str(Path(sys.executable).with_name("crossbar")), "start", "--cbdir", str(home.crossbar), "--loglevel", "warn"]


class Site:
    """A running site."""

    def __init__(self, plan: Plan) -> None:
        plan.check()
        self.plan = plan.with_ports()
        self.home = plan.home
        self.router = Router(self.plan)
        self._users = self.home.users
        self._link = self.home.path / "page.html"
        # What run.json was written for; None while it could not be.
        self._told: object = None
        self._trouble: str | None = None
        self._looking = LoopingCall(self._look)
        self.supervisor = Supervisor(PartLogs(self.home.logs), self._part_started)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAMP_", "CROSSBAR_"))}
        environment.update(SISOCK_HOME=str(self.home.path), PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1")
        program = [sys.executable, "-m", "sisock"]
        self.supervisor.add_part("router", Router.command(self.home), environment)
        for node in self.plan.nodes:
            self.supervisor.add_part(node, [*program, "run", node], environment)
        for name, source in self.plan.tables.items():
            # An address may hold a password, which stands in no list of processes.
            said, hidden = ([], {"SISOCK_SERVE_URL": source}) if "://" in source else ([source], {})
            self.supervisor.add_part(name, [*program, "serve", *said], {**environment, **hidden})
        if self.plan.bridge:
            where = ["--host", self.plan.bridge_host, "--port", str(self.plan.bridge_port)]
            where += ["--tls"] if self.plan.bridge_tls else [] if is_loopback(self.plan.bridge_host) else ["--insecure"]
            self.supervisor.add_part("bridge", [*program, "bridge", *where], environment)

    def write_link(self) -> Path:
        """A file that takes a browser to the page as its user; it is its owner's alone, and gone when the site ends."""
        address = escape(self.router.page_with_token)
        write_private(
            self._link,
            f'<!doctype html><meta charset="utf-8"><title>sisock</title><meta http-equiv="refresh" content="0; url={address}">'
            f'<a href="{address}">The page of this site</a>\n',
        )
        return self._link

    def warnings(self) -> list[str]:
        """What should be seen to before long, a sentence each: certificates near their end."""
        return [
            f"the certificate {seen.path} ends in {max(0, seen.left.days)} days: {seen.remedy}"
            for seen in (self.router.certificates.all() if self.plan.tls else ())
            if seen.ends_soon
        ]

    def run_file(self) -> Run:
        """What run.json tells of the site now."""
        router, pids = self.router, self.supervisor.pids()
        # A secret may have been given anew meanwhile; one that was taken away lets nobody in.
        consumer, server = (self._users.get(user.authid) or user for user in (router.consumer, router.server))
        return Run(
            ws=router.url,
            realm=self.plan.realm,
            base_uri=BASE_URI,
            page=router.page,
            bridge=_bridge_address(self.plan) if self.plan.bridge else None,
            local=f"unix://{self.home.socket}",
            certificate=str(self.home.certificate) if self.plan.tls else None,
            consumer={"authid": consumer.authid, "secret": consumer.secret},
            server={"authid": server.authid, "secret": server.secret},
            http=self._faces(pids),
            pids=pids,
            ended=self.supervisor.ended,
        )

    def _faces(self, pids: Mapping[str, int]) -> dict[str, str]:
        told = self.home.faces()
        return {part: told[pid] for part, pid in pids.items() if pid in told}

    def _part_started(self) -> None:
        """Writes run.json; what cannot be written now is tried again at the next look."""
        self._told = None
        self._look()

    def _look(self) -> None:
        """Writes run.json anew where a node's process listens now, as it does some time after its start, or users changed."""
        try:
            seen = self._faces(self.supervisor.pids()), self._users.stamp
            if seen != self._told:
                self.home.write_run(self.run_file())
                self._told, self._trouble = seen, None
        except (OSError, SisockError) as error:
            if str(error) != self._trouble:
                log.warn("run.json cannot be written, and is tried again: {error}", error=error)
            self._trouble = str(error)

    def start(self) -> None:
        """Starts all parts."""
        self.supervisor.startService()
        self._looking.start(LOOK_EVERY).addErrback(lambda failure: log.failure("run.json is kept no longer", failure))

    async def stop(self) -> None:
        """Ends all parts."""
        if self._looking.running:
            self._looking.stop()
        await self.supervisor.stop()
        self._link.unlink(missing_ok=True)
        self.home.forget_run()

    async def wait_until_ready(self) -> list[str]:
        """Waits until the hub lists every node and the bridge answers, and answers the nodes that did not come up.

        TimedOut says that the router or the bridge did not, and where to look.
        """
        missing = ["router"]
        consumer = Consumer(
            Access(f"unix://{self.home.socket}", self.router.consumer.authid, self.router.consumer.secret, self.plan.realm)
        )
        consumer.connect()
        try:
            began = time.monotonic()
            while (waited := time.monotonic() - began) < READY_WITHIN:
                missing = await self._still_missing(consumer)
                nodes_only = not {"router", "bridge"}.intersection(missing)
                if not missing:
                    self._look()
                if not missing or (nodes_only and (waited > NODES_WITHIN or all(map(self._is_broken, missing)))):
                    return missing
                await sleep(0.1)
        finally:
            await consumer.stop()
        logs = ", ".join(str(self.home.logs / f"{part}.log") for part in missing)
        raise TimedOut(f"{', '.join(missing)} did not come up within {READY_WITHIN:g} s. See {logs}")

    def _is_broken(self, part: str) -> bool:
        """Whether a part has ended so often that nobody waits for it."""
        return part in self.supervisor.ended and self.supervisor.ended[part]["times"] >= BROKEN_AFTER

    async def _still_missing(self, consumer: Consumer) -> list[str]:
        try:
            listed = {node["name"] for node in await consumer.nodes()}
        except SisockError:
            return ["router"]
        missing = [node for node in (*self.plan.nodes, *self.plan.tables) if self.plan.names.get(node, node) not in listed]
        if self.plan.bridge and not await _bridge_answers(self.plan):
            missing.append("bridge")
        return missing


def has_desktop() -> bool:
    """Whether somebody sits before a screen that a browser can open on."""
    graphical = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return graphical and sys.stdout.isatty()


def _bridge_address(plan: Plan) -> str:
    here = is_loopback(plan.bridge_host) or plan.bridge_host in _ANY
    host = "localhost" if here else bracketed(plan.bridge_host)
    return f"{'https' if plan.bridge_tls else 'http'}://{host}:{plan.bridge_port}"


async def _bridge_answers(plan: Plan) -> bool:
    from twisted.internet import reactor
    from twisted.internet.ssl import Certificate
    from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, readBody

    host = "127.0.0.1" if plan.bridge_host in _ANY else bracketed(plan.bridge_host)
    scheme, policy = "http", BrowserLikePolicyForHTTPS()
    if plan.bridge_tls:
        pinned = Certificate.loadPEM(plan.home.certificate.read_bytes())
        scheme, policy = "https", BrowserLikePolicyForHTTPS(trustRoot=pinned)
    agent = Agent(reactor, policy, connectTimeout=2, pool=HTTPConnectionPool(reactor, persistent=False))
    try:
        response = await agent.request(b"GET", f"{scheme}://{host}:{plan.bridge_port}/healthz".encode())
        await readBody(response)
    except Exception:  # noqa: BLE001
        # Whatever kept it from answering, it is asked again.
        return False
    return bool(response.code == 200)
