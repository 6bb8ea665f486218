"""Where a hub is and as whom to join it, from what a program says and what the environment names."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

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

    `address` is a router's (ws://, wss://) or that of its page, which may hold the token. `token` is USER:SECRET. Without,
    it is the home's own, or WAMP_USER and WAMP_SECRET. `certificate` is the file of the one to pin.
    """
    for name, value in {"address": address, "token": token}.items():
        if not isinstance(value, str | None):
            raise InvalidArgument(f"{name} is text, not a {type(value).__name__}")
    settings = Settings.read(home=None if home is None else Home(Path(home).expanduser().absolute()))
    pinned = None if certificate is None else Path(certificate).expanduser()
    if address is None:
        found = settings.consumer(web=True)
        url, realm, user = found.url, found.realm, (found.authid, found.secret)
        pinned = pinned or found.certificate
        if token is not None:
            user = _parted(token)
    else:
        url, realm, told = _read(address)
        if token is not None or told is not None:
            user = _parted(str(token or told))
        elif settings.user and settings.secret:
            user = (settings.user, settings.secret)
        else:
            raise NotAuthorized(
                f"say as whom to join {url}: connect(address, token='USER:SECRET'). The address of the page that `sisock up` "
                "prints holds one."
            )
    return Access(url, user[0], user[1], realm, pinned)


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
