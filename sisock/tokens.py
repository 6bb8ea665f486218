"""Tokens of other issuers: JSON Web Tokens (RFC 7519), checked with the keys that the issuer publishes (JWKS, RFC 7517).

Keys are read off the reactor's thread, kept, and read again when they grow old or a token names one that is not known; not
more often than twice a minute, so that tokens which name keys at random cost the issuer nothing.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from sisock.errors import NotAuthenticated
from sisock.rules import Issuer
from sisock.users import TOKEN_PREFIX, User

log = Logger()

MAX_TOKEN = 8192
MAX_KEYS_BYTES = 1_000_000
MAX_KEYS = 100
MAX_GROUPS = 100
RSA_BITS = 2048
# In seconds: when keys are read again, at the soonest, and how long old ones count while the issuer does not answer.
FRESH, AGAIN, STALE = 600.0, 30.0, 86_400.0
FETCH_TIMEOUT = 5.0
# How far an issuer's clock may be ahead of ours. A token that has expired gets no such grace.
SKEW = 30.0

_KINDS = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


class KeySet:
    """The public keys of one issuer."""

    def __init__(self, issuer: Issuer, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self._home = home
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._read_at = self._tried_at = float("-inf")
        self._stamp: Any = None
        self._reading: list[Deferred[None]] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """The key of that name, for that algorithm; NotAuthenticated if the issuer has none."""
        now = self._clock()
        found = self._known(kid, algorithm)
        if (found is None or now - self._read_at > FRESH) and now - self._tried_at > self._patience:
            await self._read_again()
            found = self._known(kid, algorithm)
        if found is None or self._clock() - self._read_at > STALE:
            raise NotAuthenticated(f"{self.issuer.name} publishes no such key for {algorithm}, or does not answer")
        return found

    @property
    def _patience(self) -> float:
        # To look whether a file has changed costs nothing.
        return AGAIN if "://" in self.issuer.jwks else 0.5

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fit = [key for key in self._keys if key.key_type == _KINDS[algorithm] and key.algorithm_name == algorithm]
        if kid is not None:
            fit = [key for key in fit if key.key_id == kid]
        # Without a name the key must be plain.
        return fit[0] if len(fit) == 1 else None

    async def _read_again(self) -> None:
        if self._reading is not None:
            shared: Deferred[None] = Deferred()
            self._reading.append(shared)
            return await shared
        self._reading = []
        self._tried_at = self._clock()
        try:
            keys = await deferToThread(self._load)
        except (OSError, ValueError) as error:
            log.error("the keys of {issuer} cannot be read: {error}", issuer=self.issuer.name, error=error)
        else:
            self._read_at = self._clock()
            self._keys = self._keys if keys is None else keys
        finally:
            waiting, self._reading = self._reading or [], None
            for deferred in waiting:
                deferred.callback(None)
        return None

    def _load(self) -> list[jwt.PyJWK] | None:
        """The keys as they are published now; None if the file has not changed."""
        where = self.issuer.jwks
        if "://" in where:
            return list(usable(_fetch(where, self.issuer.ca and str(self._home / self.issuer.ca))))
        path = self._home / where
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return None
        with path.open("rb") as file:
            keys = list(usable(file.read(MAX_KEYS_BYTES + 1)))
        self._stamp = stamp
        return keys


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        # Whoever can redirect us could name another issuer's keys.
        return None


def _fetch(address: str, ca: str | None) -> bytes:
    context = ssl.create_default_context(cafile=ca) if address.startswith("https:") else None
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(address, timeout=FETCH_TIMEOUT) as answer:
        body: bytes = answer.read(MAX_KEYS_BYTES + 1)
    return body


def usable(text: bytes) -> Iterator[jwt.PyJWK]:
    """The keys of a JWKS that check signatures; secrets, short keys and keys for other things are left out."""
    if len(text) > MAX_KEYS_BYTES:
        raise ValueError(f"they are longer than {MAX_KEYS_BYTES} bytes")
    told = json.loads(text)
    listed = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"they are no JWKS of up to {MAX_KEYS} keys")
    for entry in listed:
        if not isinstance(entry, dict) or entry.get("kty") not in _KINDS.values() or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            log.warn("a key {kid!r} is left out: {error}", kid=str(entry.get("kid"))[:80], error=error)
            continue
        if key.key_type == "RSA" and key.key.key_size < RSA_BITS:
            log.warn("a key {kid!r} is left out: it is shorter than {bits} bits", kid=str(key.key_id)[:80], bits=RSA_BITS)
            continue
        yield key


class Tokens:
    """Checks tokens of the issuers that the rules name."""

    def __init__(self, home: Path, issuers: Callable[[], tuple[Issuer, ...]]) -> None:
        self._home = home
        self._issuers = issuers
        self._sets: dict[Issuer, KeySet] = {}

    async def user(self, token: str, now: Callable[[], float] = time.time) -> User:
        """The user that a token stands for, a consumer with its groups and an end; NotAuthenticated says why not."""
        if len(token) > MAX_TOKEN:
            raise NotAuthenticated(f"the token is longer than {MAX_TOKEN} bytes")
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise NotAuthenticated(f"the token is not understood: {error}") from None
        algorithm = header.get("alg")
        issuers = [one for one in self._issuers() if one.issuer == claimed and algorithm in one.algorithms]
        if not issuers:
            raise NotAuthenticated("nobody whose tokens are believed has issued this one with a safe algorithm")
        self._forget_old()
        refusal = NotAuthenticated()
        for issuer in issuers:
            # One issuer may stand there twice, for two audiences.
            try:
                key = await self._set(issuer).find(header.get("kid"), str(algorithm))
                return _user(issuer, _claims(token, key, issuer), now())
            except NotAuthenticated as error:
                refusal = error
        raise refusal

    def bearers(self, token: str) -> list[str]:
        """The names that a token claims for its bearer, unchecked: whom a flood of others' tokens shall not keep out."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False}) if len(token) <= MAX_TOKEN else {}
        except (jwt.PyJWTError, ValueError, RecursionError):
            return []
        return [_authid(one, claims.get(one.user)) for one in self._issuers() if one.issuer == claims.get("iss")]

    def _set(self, issuer: Issuer) -> KeySet:
        if issuer not in self._sets:
            self._sets[issuer] = KeySet(issuer, self._home)
        return self._sets[issuer]

    def _forget_old(self) -> None:
        known = set(self._issuers())
        for issuer in [one for one in self._sets if one not in known]:
            del self._sets[issuer]


def _claims(token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(issuer.algorithms),
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=SKEW,
            options={"require": ["exp", "iss", "aud", issuer.user]},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise NotAuthenticated(f"the token is refused: {error}") from None
    return claims


def _authid(issuer: Issuer, name: object) -> str:
    return f"{TOKEN_PREFIX}{issuer.name}:{name}"


def _user(issuer: Issuer, claims: dict[str, Any], now: float) -> User:
    expires, name, groups = float(claims["exp"]), claims.get(issuer.user), claims.get(issuer.groups, [])
    if expires <= now:
        raise NotAuthenticated("the token has expired")
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable() or " " in name:
        raise NotAuthenticated(f"the token's {issuer.user} is no name")
    listed = [groups] if isinstance(groups, str) else groups
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS or not all(isinstance(group, str) for group in listed):
        raise NotAuthenticated(f"the token's {issuer.groups} are no list of up to {MAX_GROUPS} names")
    return User(
        _authid(issuer, name),
        "consumer",
        expires=expires,
        groups=frozenset(f"{issuer.name}:{group}" for group in listed),
    )
