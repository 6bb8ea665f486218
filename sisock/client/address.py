"""Where a hub is and as whom to join it, from what a program says and what the environment names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from sisock.credentials import Method, looks_like_jwt
from sisock.errors import InvalidArgument, NotAuthorized
from sisock.home import Home
from sisock.session import Access
from sisock.settings import Settings
from sisock.uris import REALM

_WEB = {"http": "ws", "https": "wss"}


def access_of(
    address: str | None = None,
    token: str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
) -> Access:
    """How to join: at `address`, or the site that runs in the home, or the router that the environment names.

    `address` is a router's (ws://, wss://) or that of its page, which may hold the token. `token` is USER:SECRET, or a JSON Web
    Token. Without, it is the home's own, or what WAMP_USER, WAMP_SECRET and WAMP_SECRET_FILE name. `certificate` is the file
    of the one to pin.
    """
    for name, value in {"address": address, "token": token}.items():
        if not isinstance(value, str | None):
            raise InvalidArgument(f"{name} is text, not a {type(value).__name__}")
    settings = Settings.read(home=None if home is None else Home(Path(home).expanduser().absolute()))
    pinned = None if certificate is None else Path(certificate).expanduser()
    if address is None:
        found = settings.consumer(web=True)
        said = token
    else:
        url, realm, told = _read(address)
        said = token if token is not None else told
        if said is None and not settings.names_somebody:
            raise NotAuthorized(
                f"say as whom to join {url}: connect(address, token='USER:SECRET'). The address of the page that `sisock up` "
                "prints holds one."
            )
        found = Access(url, settings.user or "", settings.secret or "", realm, None, settings.method, settings.secret_file)
    if said is not None:
        found = _as(found, said, settings.method)
    return replace(found, certificate=pinned or found.certificate or settings.pinned)


def _as(access: Access, token: str, method: Method) -> Access:
    """The access of whoever has that token."""
    if looks_like_jwt(token):
        return replace(access, authid="", secret=token, method="ticket", secret_file=None)
    authid, secret = _parted(token)
    # The environment may say that it is a ticket; it holds no private key.
    return replace(
        access, authid=authid, secret=secret, method="wampcra" if method == "cryptosign" else method, secret_file=None
    )


def _read(address: str) -> tuple[str, str, str | None]:
    """URL, realm and token of an address; the page's stands beside the router's `/ws`."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"{_public(address)!r} is no address: {error}") from None
    if parts.scheme not in ("ws", "wss", *_WEB) or not host:
        raise InvalidArgument(f"{_public(address)!r} is no address of a hub: it begins with ws://, wss://, http:// or https://")
    if parts.scheme not in _WEB:
        return parts._replace(fragment="").geturl(), REALM, None
    # A + is no blank there.
    said = parse_qs(parts.fragment.replace("+", "%2B"))
    shown = f"[{host}]" if ":" in host else host
    url = f"{_WEB[parts.scheme]}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}/ws"
    return url, said.get("realm", [REALM])[0], next(iter(_raw_token(parts.fragment)), None)


def _raw_token(fragment: str) -> list[str]:
    """The token as it stands: each of its two halves is percent-encoded, so that the first colon parts them."""
    return [piece.removeprefix("token=") for piece in fragment.split("&") if piece.startswith("token=")]


def _parted(token: str) -> tuple[str, str]:
    authid, colon, secret = token.partition(":")
    if not (authid and colon and secret):
        raise InvalidArgument("a token is USER:SECRET, as the address of the page has it behind #token=")
    return unquote(authid), unquote(secret)


def _public(address: str) -> str:
    """An address without its token."""
    return address.partition("#")[0]
