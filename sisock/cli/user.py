"""The command `user`: who may join, and by which ways in."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table
from sisock.credentials import METHODS, Method, Scram, is_public_key, new_secret, ticket_digest
from sisock.errors import InvalidArgument, SetupError
from sisock.times import parse_duration
from sisock.users import ROLES, Role, User, check_user_name

MAX_SECRET = 4096

_Decorator = Callable[[Any], Any]

_SECRET_FILE = "A file with the secret or the ticket, - for standard input: one that a client has compiled in."  # noqa: S105
_KEY_FILE = "Where the private key is written; without it, and without --key, the key is printed."
_method_option: _Decorator = click.option("--method", type=click.Choice(METHODS), help="The way in.  [default: wampcra]")
_secret_file_option: _Decorator = click.option(
    "--secret-file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), metavar="FILE", help=_SECRET_FILE
)
_key_option: _Decorator = click.option(
    "--key", metavar="KEY", help="A public key to admit, 64 hexadecimal digits or a file with them."
)
_key_file_option: _Decorator = click.option(
    "--key-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=_KEY_FILE
)
_expires_option: _Decorator = click.option("--expires", metavar="TIME", help="How long it counts: 12h, 30d, 1y.  [for ever]")


@click.group()
def user() -> None:
    """Say who may join the site: add, list, revoke and rotate users.

    What changes counts at once, without a restart. The file is <home>/.crossbar/users.json.
    """


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), help="What it is for.  [default: consumer, or node where --nodes is given]")
@click.option("--nodes", metavar="NAMES", help="The nodes that a user of the role node may serve, with commas between them.")
@_method_option
@_secret_file_option
@_key_option
@_key_file_option
@_expires_option
@home_option
@json_option
def add(name: str, role: Role | None, nodes: str | None, expires: str | None, as_json: bool, **how: Any) -> None:
    """Add a user, or another way in to one who is there; prints the secret, which is shown this once.

    Ways in: wampcra (a secret; old clients know this one), scram (a secret that the site does not keep), ticket (a token,
    also for HTTP), cryptosign (a key of which the site has the public half).
    """
    check_user_name(name)
    served = tuple(dict.fromkeys(part for part in (nodes or "").split(",") if part))
    end = _end(expires) if expires else None
    told: dict[str, str] = {}

    def to(there: User | None) -> User:
        made, said = _with_way_in(*_wanted(name, there, role, served, end, how), **how)
        told.update({"user": name, "role": made.role, **said})
        return made

    settings().home.users.update(name, to)
    _tell(told, as_json)


def _wanted(
    name: str, there: User | None, role: Role | None, served: tuple[str, ...], end: float | None, how: dict[str, Any]
) -> tuple[User, Method]:
    """The user that is to get a way in, and which."""
    if there is not None and ((role or there.role) != there.role or (served or there.nodes) != there.nodes):
        raise InvalidArgument(f"{name!r} is there with the role {there.role}. Revoke it first, or add a way in without a role.")
    made = there or User(name, role or ("node" if served else "consumer"), nodes=served)
    if made.nodes and made.role != "node":
        raise InvalidArgument(f"a user of the role {made.role} serves no named nodes; leave --nodes away.")
    method: Method = how.get("method") or ("cryptosign" if how.get("key") or how.get("key_file") else "wampcra")
    if method in made.methods and method != "cryptosign":
        raise InvalidArgument(f"{name!r} gets in by {method} already. `sisock user rotate {name}` makes a new secret.")
    return replace(made, expires=end or made.expires), method


@user.command(name="list")
@home_option
@json_option
def list_users(as_json: bool) -> None:
    """List the users: their roles, ways in and ends, never their secrets."""
    found = settings().home.users.all().values()
    if as_json:
        listed = [
            {"user": u.authid, "role": u.role, "methods": u.methods, "nodes": u.nodes, "expires": u.expires} for u in found
        ]
        click.echo(json.dumps(listed))
        return
    rows = [(u.authid, u.role, ", ".join(u.methods), ", ".join(u.nodes), _when(u.expires)) for u in found]
    print_table(("user", "role", "ways in", "nodes", "expires"), rows)


@user.command()
@click.argument("names", nargs=-1, required=True)
@home_option
def revoke(names: tuple[str, ...]) -> None:
    """Take users away: they get in no more, and what they have open ends at once."""
    users = settings().home.users
    unknown = [name for name in names if users.get(name) is None]
    gone = [name for name in names if users.remove(name)]
    if gone:
        click.echo(f"{', '.join(gone)}: taken away, with all that was open")
    if unknown:
        raise InvalidArgument(
            f"there is no user {', '.join(map(repr, unknown))}. Whom another issuer vouches for is named in `blocked` in "
            "access.toml."
        )


@user.command()
@click.argument("name")
@_method_option
@_secret_file_option
@_key_option
@_key_file_option
@_expires_option
@home_option
@json_option
def rotate(name: str, expires: str | None, as_json: bool, **how: Any) -> None:
    """Give a user a new secret, ticket or key in place of the old one, and end what was opened with that."""
    end = _end(expires) if expires else None
    told: dict[str, str] = {}

    def to(there: User | None) -> User:
        if there is None:
            raise InvalidArgument(f"there is no user {name!r}. `sisock user list` lists those that are there.")
        method = how["method"] or ("cryptosign" if how["key"] or how["key_file"] else None)
        if method is None and len(there.methods) > 1:
            raise InvalidArgument(f"{name!r} gets in by {', '.join(there.methods)}: say which with --method.")
        method = method or there.methods[0]
        if method not in there.methods:
            raise InvalidArgument(f"{name!r} does not get in by {method}. `sisock user add {name} --method {method}` lets it.")
        bare = replace(there, keys=() if method == "cryptosign" else there.keys, expires=end or there.expires)
        made, said = _with_way_in(bare, method, **how)
        told.update({"user": name, "role": made.role, **said})
        return made

    settings().home.users.update(name, to)
    _tell(told, as_json)


def _with_way_in(
    made: User, way: Method, secret_file: Path | None, key: str | None, key_file: Path | None, **_: Any
) -> tuple[User, dict[str, str]]:
    """The user with that way in, and what its owner is told of it."""
    by: dict[str, str] = {"method": way}
    if way == "cryptosign":
        if secret_file:
            raise InvalidArgument("cryptosign takes a public key with --key, not a secret.")
        public, told = (_public_key(key), {}) if key else _new_key(key_file)
        return replace(made, keys=tuple(dict.fromkeys((*made.keys, public)))), {**by, "key": public, **told}
    if key or key_file:
        raise InvalidArgument(f"{way} takes a secret, not a key.")
    secret = _read_secret(secret_file) if secret_file else new_secret()
    # What somebody else has chosen need not be printed again.
    told = by if secret_file else {**by, "ticket" if way == "ticket" else "secret": secret}
    if way == "wampcra":
        return replace(made, secret=secret), told
    if way == "scram":
        return replace(made, scram=Scram.of(secret)), told
    return replace(made, ticket=ticket_digest(secret)), told


def _new_key(file: Path | None) -> tuple[str, dict[str, str]]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    text = private.private_bytes_raw().hex()
    if file is None:
        told = {"private_key": text}
    else:
        _write_new(file, text + "\n")
        told = {"key_file": str(file)}
    return private.public_key().public_bytes_raw().hex(), told


def _write_new(file: Path, text: str) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}. Choose another --key-file.") from error
    with os.fdopen(handle, "w") as out:
        out.write(text)


def _public_key(text: str) -> str:
    if not is_public_key(text):
        with suppress(OSError, UnicodeDecodeError):
            text = Path(text).read_text().strip()
    if not is_public_key(text):
        raise InvalidArgument("--key takes the 64 hexadecimal digits of an Ed25519 public key, or a file with them.")
    return text.lower()


def _read_secret(file: Path) -> str:
    try:
        text = sys.stdin.read(MAX_SECRET + 1) if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}") from error
    secret = text.rstrip("\r\n")
    if not 1 <= len(secret) <= MAX_SECRET or "\n" in secret:
        raise InvalidArgument(f"{file} holds no secret: one line of up to {MAX_SECRET} characters.")
    return secret


def _end(text: str) -> float:
    return time.time() + parse_duration(text)


def _when(expires: float | None) -> str:
    if expires is None:
        return ""
    stamp = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(expires))
    return f"{stamp} (over)" if expires <= time.time() else stamp


def _tell(told: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told))
        return
    shown = [f"{name.replace('_', ' ')}: {value}" for name, value in told.items() if name not in ("user", "role", "method")]
    click.echo("\n".join([f"{told['user']} ({told['role']}) gets in by {told['method']}", *shown]))
