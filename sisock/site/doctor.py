"""The doctor: looks at a site from all sides and says what is wrong and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sisock.certificates import Certificates
from sisock.errors import SisockError
from sisock.home import Run
from sisock.settings import BRIDGE_PORT, OCS_PORT, PORT, Settings
from sisock.site import ports
from sisock.store.leases import lives
from sisock.times import iso
from sisock.users import PUBLIC, TOKEN_PREFIX, User

Level = Literal["ok", "note", "warning", "error"]

LITTLE_DISK = 1_000_000_000
NO_DISK = 50_000_000
# A clock may be so far ahead of files and rows without being wrong, in seconds.
CLOCK_SLACK = 60.0
# A part that ended so lately (seconds) is told of, and one that ended more often than this is broken.
RESTLESS_FOR = 300.0
TOO_OFTEN = 3
# Seconds that a database has to answer.
LOOKS_FOR = 3

# Releases that do not work together (measured).
CROSSBAR = "26.10.1"
AUTOBAHN = "26.10.2"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and what to do about it."""

    level: Level
    about: str
    what: str
    remedy: str | None = None


def look(settings: Settings) -> list[Finding]:
    """What can be seen without talking to the router: home, secrets, versions, disk, clock, environment, certificate, ports."""
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _home,
        _users,
        _expired,
        _rules,
        _versions,
        _disk,
        _store,
        _clock,
        _environment,
        _certificate,
        _parts,
        _ports,
    )
    return [finding for one in looks for finding in one(settings)]


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.path.exists():
        yield Finding("note", "home", f"{home.path} is not there yet", "`sisock up` makes it")
        return
    mode = home.path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Finding("warning", "home", f"{home.path} is open to other users (mode {mode:o})", f"chmod 700 {home.path}")
    elif not os.access(home.path, os.W_OK):
        yield Finding("error", "home", f"{home.path} cannot be written", "choose another with --home, or change its owner")
    else:
        yield Finding("ok", "home", str(home.path))


def _users(settings: Settings) -> Iterator[Finding]:
    path = settings.home.users.path
    if not path.exists():
        return
    try:
        settings.home.users.get("server")
    except SisockError as error:
        yield Finding("error", "credentials", str(error), "mend the file, or delete it: a start makes a new one")
        return
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Finding("error", "credentials", f"{path} holds secrets and other users may read it", f"chmod 600 {path}")
    else:
        yield Finding("ok", "credentials", f"{path} is for its owner alone")


def _versions(_: Settings) -> Iterator[Finding]:
    yield Finding("ok", "versions", f"sisock {version('sisock')} on Python {platform.python_version()}")
    for package, tried in (("autobahn", AUTOBAHN), ("crossbar", CROSSBAR)):
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding("note", "versions", f"{package} is not installed", "pip install 'sisock[site]' brings the router")
            continue
        if found == tried:
            yield Finding("ok", "versions", f"{package} {found}")
        else:
            yield Finding("warning", "versions", f"{package} {found}; {tried} is the one that was tested", "make setup")


def _disk(settings: Settings) -> Iterator[Finding]:
    store = None if "://" in settings.store else Path(settings.store).expanduser().absolute().parent
    for wanted in dict.fromkeys(filter(None, (settings.home.path, store))):
        place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        level: Level = "error" if free < NO_DISK else "warning" if free < LITTLE_DISK else "ok"
        yield Finding(level, "disk", f"{free / 1e9:.1f} GB are free in {place}", None if level == "ok" else "make room there")


def _store(settings: Settings) -> Iterator[Finding]:
    """Whether the database of the nodes' histories is there, and what waits for it on this machine's disk."""
    from sisock.store.boxes import contents
    from sisock.store.database import Database

    try:
        database = Database(settings.store, pool=1, patience=LOOKS_FOR)
    except SisockError as error:
        yield Finding("error", "store", str(error), "set SISOCK_STORE to a file, or to postgresql://user@host/database")
        return
    if database.path is None or database.path.exists():
        try:
            with database.reading() as tx:
                tx.one("SELECT 1")
        except SisockError as error:
            remedy = "bring it back; until then nodes keep their rows on this machine's disk, and hand them over by themselves"
            yield Finding("error", "store", str(error), remedy if database.path is None else "sisock store check")
        else:
            yield Finding("ok", "store", f"{database.shown} answers")
    database.close()
    for node, folder in settings.home.outboxes().items():
        try:
            held = contents(folder)
        except (OSError, sqlite3.Error) as error:
            yield Finding("error", "store", f"{folder} cannot be read: {error}", "keep it: rows of the node wait there")
            continue
        if held.waiting:
            since = "" if held.since is None else f" since {iso(held.since)}"
            what = f"{node}: {held.waiting} blocks wait on this machine's disk for the database{since}"
            yield Finding("warning", "store", what, "the node hands them over when the database is back and it has its name")
        if held.refused:
            what = f"{node}: {held.refused} blocks were refused by the database and stand in {folder}"
            yield Finding("warning", "store", what, "their table `refused` has the reasons")


def _clock(settings: Settings) -> Iterator[Finding]:
    path = settings.home.users.path
    newest = path.stat().st_mtime if path.exists() else 0.0
    if newest > time.time() + CLOCK_SLACK:
        yield Finding("error", "clock", f"this machine's clock is behind {path}", "set the clock (timedatectl set-ntp true)")
    else:
        yield Finding("ok", "clock", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def _environment(settings: Settings) -> Iterator[Finding]:
    changed = {
        "CROSSBAR_HOST": settings.crossbar_host
        and f"programs join the router at {settings.crossbar_host}, not the one in the home",
        "CROSSBAR_TLS_PORT": settings.port != PORT and f"the router's port is {settings.port}, not {PORT}",
        "CROSSBAR_OCS_PORT": settings.ocs_port != OCS_PORT
        and f"the plain transport's port is {settings.ocs_port}, not {OCS_PORT}",
        "PORT": settings.bridge_port != BRIDGE_PORT and f"the bridge's port is {settings.bridge_port}, not {BRIDGE_PORT}",
        "WAMP_USER": settings.user and f"programs join as {settings.user}",
        "SISOCK_STORE": settings.store_address
        and f"nodes keep their history there and not in {settings.home.path / 'history.db'}",
        "SISOCK_TRACE": settings.trace and "every call and event is printed",
    }
    for name, what in changed.items():
        if what:
            yield Finding("note", "environment", f"{name} is set: {what}", f"unset {name} if that is not meant")
    if settings.is_half_named:
        yield Finding("warning", "environment", "only one of WAMP_USER and WAMP_SECRET is set", "set both, or none")


def _certificate(settings: Settings) -> Iterator[Finding]:
    certificates = Certificates(settings.home.path)
    for key in certificates.secrets():
        if key.stat().st_mode & 0o077:
            yield Finding("error", "certificate", f"{key} is a secret and other users may read it", f"chmod 600 {key}")
    run = run_of(settings)
    served = {"router": run.ws, "bridge": run.bridge} if run is not None and run.certificate else {}
    for listener, address in served.items():
        shown, _ = certificates.files(listener)
        told = _shown_by(address) if address is not None and shown.exists() else None
        if told is not None and told != shown.read_bytes().strip():
            what = f"the {listener} shows another certificate than {shown}"
            yield Finding("error", "certificate", what, "restart `sisock up --tls`, so that it shows the one in the home")
    found = certificates.all()
    while True:
        try:
            seen = next(found)
        except StopIteration:
            return
        except SisockError as error:
            yield Finding("error", "certificate", str(error), "delete it; `sisock tls init` makes a new one")
            return
        days = seen.left.days
        if days < 0:
            yield Finding("error", "certificate", f"{seen.path} has expired", seen.remedy)
        elif seen.ends_soon:
            yield Finding("warning", "certificate", f"{seen.path} expires in {days} days", seen.remedy)
        else:
            yield Finding("ok", "certificate", f"{seen.path} holds for {days} more days")


def _rules(settings: Settings) -> Iterator[Finding]:
    file = settings.home.rules
    try:
        rules = file.check()
    except SisockError as error:
        remedy = "mend it: a site that runs goes on with the rules from before, one that starts refuses to"
        yield Finding("error", "rules", str(error), remedy)
        return
    if rules.rules is None:
        yield Finding("ok", "rules", "there are none: every consumer may see, read and follow every node")
    else:
        yield Finding("ok", "rules", f"{len(rules.rules)} in {file.path}")
    users = _known(settings)
    for number, rule in enumerate(rules.rules or (), 1):
        for name in rule.who:
            plain = "*" not in name and not name.startswith(("group:", "role:", TOKEN_PREFIX))
            if plain and name != PUBLIC and name not in users:
                yield Finding(
                    "warning", "rules", f"rule {number} names {name!r}, and there is no such user", "sisock user list"
                )
        for name in rule.nodes:
            # Each node of a site has a user that may serve it, whether it runs now or not.
            if "*" not in name and not any(name in user.nodes for user in users.values()):
                what = f"rule {number} grants the node {name!r}, and nothing of that name was ever here"
                yield Finding("note", "rules", what, "look whether it is misspelt; `sisock user list` names the nodes")
    for face, laid_down in rules.faces.items():
        for network in laid_down.without_token or ():
            if network.prefixlen == 0:
                what = f"face.{face} lets everybody in without a token ({network})"
                yield Finding("warning", "rules", what, "name the networks that are meant")
    for issuer in rules.issuers:
        if "://" not in issuer.jwks and not (settings.home.path / issuer.jwks).is_file():
            yield Finding("error", "rules", f"issuer {issuer.name}: there is no file {issuer.jwks}", "put its keys there")


def _known(settings: Settings) -> dict[str, User]:
    try:
        return settings.home.users.all()
    except SisockError:
        return {}


def _expired(settings: Settings) -> Iterator[Finding]:
    over = [user.authid for user in _known(settings).values() if user.expires is not None and user.expires <= time.time()]
    if over:
        remedy = "`sisock user rotate NAME --expires 30d`, or `sisock user revoke NAME`"
        yield Finding("note", "credentials", f"the time of these users is over: {', '.join(over)}", remedy)


def _shown_by(address: str) -> bytes | None:
    """The certificate that a router shows, as PEM; None if it does not listen."""
    url = urlsplit(address)
    try:
        return ssl.get_server_certificate((url.hostname or "localhost", url.port or 443), timeout=2).strip().encode()
    except OSError:
        return None


def _parts(settings: Settings) -> Iterator[Finding]:
    run = run_of(settings)
    if run is None:
        yield Finding("note", "site", f"no site runs in {settings.home.path}", "`sisock up` starts one")
        return
    restless = {part: ended for part, ended in run.ended.items() if time.time() - ended["at"] < RESTLESS_FOR}
    for part, ended in restless.items():
        what = (
            f"{part} is started again and again: it ended {ended['times']} times, the last time "
            f"{time.time() - ended['at']:.0f} s ago with {ended['how']}"
            if ended["times"] > 1
            else f"{part} ended {time.time() - ended['at']:.0f} s ago with {ended['how']}, and was started again"
        )
        level: Level = "error" if ended["times"] > TOO_OFTEN else "warning"
        yield Finding(level, "site", what, f"{settings.home.logs / part}.log says why")
    dead = [part for part, pid in run.pids.items() if not lives(pid) and part not in restless]
    if dead:
        what = f"run.json names processes that are gone: {', '.join(dead)}"
        yield Finding("error", "site", what, f"start `sisock up` again; the logs are in {settings.home.logs}")
    elif steady := [part for part in run.pids if part not in restless]:
        yield Finding("ok", "site", f"{', '.join(steady)} run")


def _ports(settings: Settings) -> Iterator[Finding]:
    run = run_of(settings)
    if run is None:
        for what, port, option in (
            ("the router", settings.port, "--port"),
            ("the bridge", settings.bridge_port, "--bridge-port"),
        ):
            try:
                ports.check("127.0.0.1", port, what, option)
            except SisockError as error:
                yield Finding("warning", "port", str(error), "sisock up --ports auto")
            else:
                yield Finding("ok", "port", f"{port} is free for {what}")
        return
    for what, address in (("the router", run.ws), ("the bridge", run.bridge)):
        if address is None:
            continue
        url = urlsplit(address)
        try:
            socket.create_connection((url.hostname or "localhost", url.port or 80), timeout=2).close()
        except OSError as error:
            yield Finding(
                "error", "port", f"{what} does not listen at {address}: {error.strerror}", f"see {settings.home.logs}"
            )
        else:
            yield Finding("ok", "port", f"{what} listens at {address}")


def run_of(settings: Settings) -> Run | None:
    """Where the site in the home runs; None where none does, or nobody can tell."""
    try:
        return settings.home.run()
    except SisockError:
        return None
