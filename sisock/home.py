"""A site's home: the folder of its state, secrets and logs, and run.json, which tells other programs where it runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from ipaddress import ip_address
from pathlib import Path
from stat import S_ISDIR
from typing import Any, TypedDict
from urllib.parse import quote, unquote
from uuid import uuid4

from sisock.errors import SetupError
from sisock.rules import RulesFile
from sisock.users import Users, write_private

# A Unix socket's address holds 108 bytes on Linux and 104 elsewhere.
MAX_SOCKET_PATH = 100
MAX_FILE_NAME = 200


class Ended(TypedDict):
    """How often a part of a site has ended and was started again, and how and when (UNIX seconds) it was the last time."""

    times: int
    how: str
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """What run.json tells: where a running site listens and who may join it."""

    ws: str
    realm: str
    base_uri: str
    page: str
    bridge: str | None
    local: str
    certificate: str | None
    consumer: Mapping[str, str] = field(repr=False)
    server: Mapping[str, str] = field(repr=False)
    http: Mapping[str, str] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, Ended] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a site: `$SISOCK_HOME`, or `~/.sisock`."""

    path: Path

    @classmethod
    def default(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """The home that the environment names."""
        return cls(Path(environ.get("SISOCK_HOME") or Path.home() / ".sisock").expanduser().absolute())

    @property
    def crossbar(self) -> Path:
        """Crossbar's folder: its configuration, keys, secrets and pid file."""
        return self.path / ".crossbar"

    @property
    def certificate(self) -> Path:
        """The certificate that clients pin."""
        return self.crossbar / "server_cert.pem"

    @property
    def logs(self) -> Path:
        """One log a part."""
        return self.path / "logs"

    @property
    def users(self) -> Users:
        """Who may join."""
        return Users(self.crossbar / "users.json")

    @property
    def rules(self) -> RulesFile:
        """Who may do what with which nodes, and whose tokens are believed."""
        return RulesFile(self.path / "access.toml")

    def audit(self, door: str) -> Path:
        """The audit of one process that lets people in."""
        return self.logs / f"audit-{door}.log"

    @property
    def socket(self) -> Path:
        """The router's raw socket for local programs; beside the home's own folder where its path would be too long."""
        inside = self.crossbar / "router.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sisock-{os.getuid()}" / f"{digest}.sock"

    def make(self) -> None:
        """Makes the folders, for their owner alone."""
        for folder in (self.path, self.crossbar, self.logs, self.path / "nodes", self.socket.parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise SetupError(
                    f"the home {self.path} cannot be made: {error.strerror}. Choose another with --home."
                ) from error
        if self.socket.parent != self.crossbar:
            # Where anybody may write, somebody else may have been first.
            found = self.socket.parent.lstat()
            if not S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise SetupError(
                    f"{self.socket.parent} is not a folder of this user alone. Choose a home with a shorter path with --home."
                )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the home for one site; SetupError names the process that has it."""
        self.make()
        with (self.path / "up.pid").open("a+") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise SetupError(
                    f"a site already runs in {self.path} (process {file.read().strip()}). Stop it, or choose another --home."
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def identity(self, node: str) -> tuple[str, int]:
        """Instance (a UUID) of a node in this home and the number of this start of it, counted up at each call."""
        self.make()
        path = self.path / "nodes" / f"{_file_name(node)}.json"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            flock(file, LOCK_EX)
            try:
                known = json.loads(file.read())
                instance, start = str(known["instance"]), int(known["start"]) + 1
            except (ValueError, KeyError, TypeError):
                instance, start = str(uuid4()), 1
            # Over what stood there: on a full disk a file that is emptied first may stay empty.
            file.seek(0)
            file.write(json.dumps({"instance": instance, "start": start}))
            file.truncate()
        return instance, start

    def starts(self, node: str) -> int:
        """How often a node of this home was started by now."""
        try:
            return int(json.loads((self.path / "nodes" / f"{_file_name(node)}.json").read_text())["start"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def outbox(self, node: str) -> Path:
        """The folder in which a node's rows wait for a database that is away."""
        return self.path / "nodes" / f"{_file_name(node)}.outbox"

    def outboxes(self) -> dict[str, Path]:
        """The folders of all outboxes, by their nodes' names as files have them."""
        found = (self.path / "nodes").glob("*.outbox")
        return {unquote(path.name.removesuffix(".outbox")): path for path in sorted(found)}

    def health(self, node: str) -> Path:
        """The file in which a node's process tells how its sampling goes."""
        return self.path / "nodes" / f"{_file_name(node)}.health.json"

    def tell_face(self, node: str, address: str) -> None:
        """Notes where a node's process listens for HTTP, so that others find it; run.json shows it."""
        self.make()
        told = {"address": address, "pid": os.getpid()}
        write_private(self.path / "nodes" / f"{_file_name(node)}.face.json", json.dumps(told))

    def face(self, node: str, pid: int | None = None) -> str | None:
        """Where a node listens for HTTP, or the process `pid` of it does; None if it does not (yet)."""
        try:
            told = json.loads((self.path / "nodes" / f"{_file_name(node)}.face.json").read_text())
            return str(told["address"]) if pid in (None, told["pid"]) else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def faces(self) -> dict[int, str]:
        """Where processes listen for HTTP, by their ids; those of processes that have ended are among them."""
        found: dict[int, str] = {}
        for path in sorted((self.path / "nodes").glob("*.face.json")):
            try:
                told = json.loads(path.read_text())
                found[int(told["pid"])] = str(told["address"])
            except (OSError, ValueError, LookupError, TypeError):
                # Being written, or of another release: the next look finds it.
                continue
        return found

    def write_run(self, run: Run) -> None:
        """Writes run.json, for its owner alone."""
        write_private(self.path / "run.json", json.dumps(asdict(run), indent=2) + "\n")

    def forget_run(self) -> None:
        """Takes run.json away when the site ends."""
        (self.path / "run.json").unlink(missing_ok=True)

    def run(self) -> Run | None:
        """What run.json tells; None if no site runs here."""
        try:
            told: dict[str, Any] = json.loads((self.path / "run.json").read_text())
            return Run(**told)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise SetupError(f"{self.path / 'run.json'} cannot be read: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _file_name(node: str) -> str:
    """A node's name as the name of a file, which holds 255 bytes at most."""
    quoted = quote(node, safe="")
    return quoted if len(quoted) <= MAX_FILE_NAME else f"{quoted[:100]}~{hashlib.sha256(node.encode()).hexdigest()}"
