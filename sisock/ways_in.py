"""Ways in, the client's side: what each method sends with HELLO and answers to the router's challenge.

Autobahn has the methods; here they get their secret, from the access or from its file.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from autobahn.wamp import auth

from sisock.credentials import Method
from sisock.errors import SetupError

# Longer than any secret, ticket or key.
MAX_SECRET = 20_000


class WayIn(Protocol):
    """How one joins: what Autobahn calls an authenticator."""

    @property
    def authextra(self) -> dict[str, Any]:
        """What goes with HELLO."""

    def on_challenge(self, session: Any, challenge: Any) -> Any:
        """The answer to a challenge."""

    def on_welcome(self, session: Any, authextra: Any) -> str | None:
        """None if the router may be believed, else why not."""


def way_in(method: Method, authid: str, secret: str, secret_file: Path | None = None) -> WayIn:
    """The way in with that secret, or with the one that stands in the file now; SetupError if it cannot be had."""
    text = _read(secret_file) if secret_file is not None else secret
    if not text:
        raise SetupError(f"{authid!r} has no secret to join with by {method}.")
    makers: dict[str, Callable[[], Any]] = {
        "wampcra": lambda: auth.AuthWampCra(authid=authid, secret=text),
        "scram": lambda: _Scram(authid=authid, password=text),
        "ticket": lambda: auth.AuthTicket(authid=authid, ticket=text),
        "cryptosign": lambda: auth.AuthCryptoSign(authid=authid, privkey=_private_key(text)),
    }
    if method not in makers:
        raise SetupError(f"there is no way in called {method!r}; there are {', '.join(makers)}.")
    try:
        made: WayIn = makers[method]()
    except (ImportError, RuntimeError, NameError) as error:
        raise SetupError(f"{method} needs more than is installed: pip install 'sisock[access]'. ({error})") from error
    except (ValueError, TypeError) as error:
        raise SetupError(f"the key of {authid!r} is not understood; `sisock user add` wrote it as 64 digits.") from error
    return made


class _Scram(auth.AuthScram):
    """Autobahn's SCRAM, with an answer that JSON can carry, and a refusal of a router that proves nothing."""

    def on_challenge(self, session: Any, challenge: Any) -> str:
        proof = super().on_challenge(session, challenge)
        return proof.decode("ascii") if isinstance(proof, bytes) else str(proof)

    def on_welcome(self, session: Any, authextra: Any) -> str | None:
        try:
            refusal: str | None = super().on_welcome(session, authextra or {})
        except (KeyError, TypeError, binascii.Error):
            return "the router did not prove that it knows this user"
        return refusal


def _private_key(text: str) -> str:
    if len(text) != 64:
        raise ValueError("a private key is 64 hexadecimal digits")
    base64.b16decode(text, casefold=True)
    return text


def _read(path: Path) -> str:
    try:
        with path.open() as file:
            text = file.read(MAX_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"the secret in {path} cannot be read: {error}") from error
    if len(text) > MAX_SECRET:
        raise SetupError(f"{path} is too long for a secret.")
    return text.strip()
