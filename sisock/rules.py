"""The rules of a site: who may see, read, follow and serve which nodes, and whose tokens are believed.

They stand in `<home>/access.toml`, which its operator writes:

    blocked = ["jwt:lab:mallory"]            # whoever is named here gets in no more

    [[rule]]
    who = ["simonsobs", "group:lab:astronomers"]
    nodes = ["apex_archive", "dome.*"]
    verbs = ["see", "read", "follow"]

    [[issuer]]                               # whose JSON Web Tokens are believed
    name = "lab"
    issuer = "https://login.example.org/"
    audience = "sisock"
    jwks = "https://login.example.org/keys"  # or a file

    [face.bridge]                            # for a face that speaks HTTP
    without_token = ["127.0.0.0/8", "::1"]
    hosts = ["dashboards.example.org"]
    origins = ["https://dashboards.example.org"]

Without a `[[rule]]` every consumer may see, read and follow every node. With one, what no rule grants is refused.
"""

from __future__ import annotations

import logging
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

from sisock.errors import SetupError
from sisock.users import ANYBODY, BRIDGE, ROLES, SETTLES, TOKEN_PREFIX, User

log = logging.getLogger(__name__)

Verb = Literal["see", "read", "follow", "serve", "send"]
VERBS: tuple[Verb, ...] = ("see", "read", "follow", "serve", "send")
# Who may read or follow a node may see it.
_GRANTED_BY: dict[str, frozenset[str]] = {
    "see": frozenset({"see", "read", "follow"}),
    "read": frozenset({"read"}),
    "follow": frozenset({"follow"}),
    "serve": frozenset({"serve"}),
    "send": frozenset({"send"}),
}

ALGORITHMS = ("RS256", "ES256", "EdDSA")

Network = IPv4Network | IPv6Network
LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True)
class Rule:
    """Grants `verbs` on `nodes` to `who`: names, or patterns in which `*` stands for anything.

    `who` are users, `group:GROUP` or `role:ROLE`. `*` is whoever has logged in; `public`, who comes without a token, is
    meant by that name alone.
    """

    who: tuple[str, ...]
    nodes: tuple[str, ...]
    verbs: frozenset[str]

    def grants(self, user: User, verb: str, node: str) -> bool:
        """Whether this rule lets the user do that with a node."""
        return not self.verbs.isdisjoint(_GRANTED_BY[verb]) and bool(self._nodes.fullmatch(node)) and self._means(user)

    def _means(self, user: User) -> bool:
        if user.authid == ANYBODY.authid:
            return ANYBODY.authid in self.who
        marks = (f"role:{user.role}", *(f"group:{group}" for group in user.groups))
        return bool(self._names.fullmatch(user.authid)) or any(self._marks.fullmatch(mark) for mark in marks)

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return _any_of(name for name in self.who if not name.startswith(_MARKS))

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        # Apart, or a pattern of names that begin with r would mean each role, too.
        return _any_of(name for name in self.who if name.startswith(_MARKS))

    @cached_property
    def _nodes(self) -> re.Pattern[str]:
        return _any_of(self.nodes)


_MARKS = ("role:", "group:")


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """What fits one of the patterns wholly; of none it is nothing."""
    told = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    return re.compile("|".join(told) or "(?!)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Issuer:
    """One whose tokens are believed: `jwks` are its public keys, a file or an https address."""

    name: str
    issuer: str
    audience: str
    jwks: str
    algorithms: tuple[str, ...] = ALGORITHMS
    user: str = "sub"
    groups: str = "groups"
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """What is laid down for a face that speaks HTTP; None where the face's own default counts."""

    without_token: tuple[Network, ...] | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What an access.toml says; `rules` is None where it has none."""

    rules: tuple[Rule, ...] | None = None
    issuers: tuple[Issuer, ...] = ()
    faces: Mapping[str, Face] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()

    def allow(self, user: User, verb: Verb, node: str) -> bool:
        """Whether a user may do that with a node of that name, whether there is one or not.

        Sending to a node that takes messages is for the old trusted role and for programs that are nodes themselves; all
        others need a rule that grants it.
        """
        if user.authid in self.blocked:
            return False
        if verb == "serve":
            return user.may_serve(node) or (user.role == "node" and self._granted(user, verb, node))
        if verb == "send":
            trusted = user.role == "server" or (user.role == "node" and self.rules is None)
            return trusted or self._granted(user, verb, node)
        if user.role == "server" or (user.role == "consumer" and user.authid == BRIDGE):
            return True
        return user.role == "consumer" and (self.rules is None or self._granted(user, verb, node))

    def believes(self, authid: str) -> bool:
        """Whether a token's bearer may be here still: not blocked, and the issuer is named."""
        issuer = authid.removeprefix(TOKEN_PREFIX).partition(":")[0]
        return authid not in self.blocked and any(one.name == issuer for one in self.issuers)

    def _granted(self, user: User, verb: Verb, node: str) -> bool:
        return any(rule.grants(user, verb, node) for rule in self.rules or ())


Stamp = tuple[int, int, int]
# The stamp of no file.
_AWAY: Stamp = (0, 0, 0)

# What counts where there is no file, and where the file has been broken from the start.
OPEN = Rules()
CLOSED = Rules(rules=())


class RulesFile:
    """An access.toml that is read again when it changes. An edit that breaks it leaves the rules from before.

    A change counts once it has stood for a moment: editors empty a file, or take it away, before they write it, and for
    that moment it would grant everything to everybody.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.problem: str | None = None
        self._clock = clock
        # Of the file that the rules were read from; None while one could not be read, so that it is tried again.
        self._stamp: Stamp | None = None
        self._rules: Rules | None = None
        self._coming: tuple[Stamp, float] | None = None
        self._is_quiet = False

    def current(self) -> Rules:
        """The rules as the file has them now. While it is broken from the start, nothing is granted."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        except FileNotFoundError:
            stamp = _AWAY
        except OSError as error:
            self._stamp = None
            self._broken(str(error))
            return self._rules or CLOSED
        if self._rules is None or (stamp != self._stamp and self._has_settled(stamp)):
            self._read(stamp)
        elif stamp == self._stamp:
            self._coming = None
        return self._rules or CLOSED

    def _has_settled(self, stamp: Stamp) -> bool:
        # Whoever is asked seldom does not go by old rules until it is asked again.
        if stamp != _AWAY and time.time() - stamp[0] / 1e9 >= SETTLES:
            return True
        if self._coming is None or self._coming[0] != stamp:
            self._coming = stamp, self._clock()
        return self._clock() - self._coming[1] >= SETTLES

    def _read(self, stamp: Stamp) -> None:
        self._stamp, self._coming = stamp, None
        try:
            text = None if stamp == _AWAY else self.path.read_text()
            if text is not None and not text.strip():
                raise SetupError("it is empty. Take it away if everybody shall see everything.")
            self._rules = OPEN if text is None else parse(text)
            self.problem = None
        except (OSError, SetupError, UnicodeDecodeError) as error:
            if isinstance(error, OSError):
                # It says nothing of the text: a process out of files reads it a moment later.
                self._stamp = None
            if self._rules is None:
                self._rules = CLOSED
            self._broken(str(error))

    @property
    def stamp(self) -> object:
        """Something that differs whenever the file has changed."""
        self.current()
        return self._stamp

    def check(self) -> Rules:
        """The rules as the file has them now; SetupError if it is broken, which whoever asks says, and the log does not."""
        self._is_quiet = True
        try:
            rules = self.current()
        finally:
            self._is_quiet = False
        if self.problem is not None:
            raise SetupError(self.problem)
        return rules

    def _broken(self, why: str) -> None:
        problem = f"{self.path}: {why}"
        if problem != self.problem and not self._is_quiet:
            log.error("%s The rules from before count until it is mended.", problem)
        self.problem = problem


def parse(text: str) -> Rules:
    """Reads an access.toml; SetupError says what is wrong where."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"it is no TOML: {error}.") from error
    _only(told, "the file", "rule", "issuer", "face", "blocked")
    rules = tuple(_rule(entry, f"rule {number}") for number, entry in enumerate(_tables(told, "rule"), 1))
    issuers = tuple(_issuer(entry, f"issuer {number}") for number, entry in enumerate(_tables(told, "issuer"), 1))
    names = [issuer.name for issuer in issuers]
    if len(set(names)) < len(names):
        raise SetupError("two issuers have the same name.")
    faces = told.get("face", {})
    if not isinstance(faces, dict):
        raise SetupError("face is a table: write [face.bridge].")
    return Rules(
        rules if "rule" in told else None,
        issuers,
        {name: _face(entry, f"face.{name}") for name, entry in faces.items()},
        frozenset(_texts(told, "the file", "blocked", ())),
    )


def _rule(entry: Mapping[str, Any], where: str) -> Rule:
    _only(entry, where, "who", "nodes", "verbs")
    who, nodes, verbs = (_texts(entry, where, key) for key in ("who", "nodes", "verbs"))
    for verb in verbs:
        if verb not in VERBS:
            raise SetupError(f"{where}: there is no verb {verb!r}; there are {', '.join(VERBS)}.")
    for name in who:
        if name.startswith("role:") and name.removeprefix("role:") not in ROLES:
            raise SetupError(f"{where}: there is no role {name!r}; there are {', '.join(ROLES)}.")
    return Rule(tuple(who), tuple(nodes), frozenset(verbs))


def _issuer(entry: Mapping[str, Any], where: str) -> Issuer:
    _only(entry, where, "name", "issuer", "audience", "jwks", "algorithms", "user", "groups", "ca")
    name, issuer, audience, jwks = (_text(entry, where, key) for key in ("name", "issuer", "audience", "jwks"))
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise SetupError(f"{where}: its name takes letters, digits and _.- only.")
    algorithms = _texts(entry, where, "algorithms", ALGORITHMS)
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            raise SetupError(f"{where}: {algorithm!r} is not among the algorithms that are safe: {', '.join(ALGORITHMS)}.")
    scheme, mark, rest = jwks.partition("://")
    local = rest.partition("/")[0].rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
    if mark and scheme != "https" and not (scheme == "http" and local):
        raise SetupError(f"{where}: jwks is a file or an https address.")
    ca = _text(entry, where, "ca", None)
    user, groups = _text(entry, where, "user", "sub"), _text(entry, where, "groups", "groups")
    return Issuer(name, issuer, audience, jwks, tuple(algorithms), user, groups, ca or None)


def _face(entry: Any, where: str) -> Face:
    if not isinstance(entry, dict):
        raise SetupError(f"{where} is a table: write [{where}].")
    _only(entry, where, "without_token", "hosts", "origins")
    networks = None
    if "without_token" in entry:
        try:
            networks = tuple(ip_network(text) for text in _texts(entry, where, "without_token", ()))
        except ValueError as error:
            raise SetupError(f"{where}: {error}. Write networks such as 192.0.2.0/24.") from None
    return Face(networks, tuple(_texts(entry, where, "hosts", ())), tuple(_texts(entry, where, "origins", ())))


def _only(entry: Mapping[str, Any], where: str, *known: str) -> None:
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise SetupError(f"{where}: {unknown[0]!r} is not known; there are {', '.join(known)}.")


def _tables(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = told.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise SetupError(f"{name} is a list of tables: write [[{name}]].")
    return found


def _text(entry: Mapping[str, Any], where: str, key: str, default: str | None = "") -> str:
    value = entry.get(key, default)
    if default is None and value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise SetupError(f"{where}: {key} is a text.")
    return value


def _texts(entry: Mapping[str, Any], where: str, key: str, default: Iterable[str] | None = None) -> list[str]:
    value = entry.get(key, default)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(text, str) and text for text in listed):
        raise SetupError(f"{where}: {key} is a list of texts.")
    if not listed and default is None:
        raise SetupError(f"{where}: {key} is empty.")
    return list(listed)


def covers(networks: Iterable[Network], address: str) -> bool:
    """Whether an address (a text, perhaps an IPv4 one written as IPv6) lies in one of the networks."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return any(found.version == network.version and found in network for network in networks)
