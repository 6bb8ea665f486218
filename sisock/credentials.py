"""Credentials: how a secret is kept and checked. What the file of users needs not know, it does not hold.

| way in | what the file holds |
|---|---|
| wampcra | the secret itself, since WAMP-CRA computes with it on both sides |
| scram | two keys derived with Argon2id, of which nobody gets back to the secret |
| ticket | the ticket's SHA-256: tickets are long and random, so a slow hash would gain nothing |
| cryptosign | the public key |
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sisock.errors import SetupError

Method = Literal["wampcra", "scram", "ticket", "cryptosign"]
METHODS: tuple[Method, ...] = ("wampcra", "scram", "ticket", "cryptosign")

# Argon2id as OWASP recommends it: passes, and KiB of memory, which whoever logs in pays and the router does not.
ITERATIONS = 2
MEMORY = 19_456
KDF = "argon2id-13"

_TICKET = "sha256:"


def new_secret() -> str:
    """A secret that nobody guesses: 256 random bits; it does not begin with a -, as an option on a command line does."""
    while (secret := secrets.token_urlsafe(32)).startswith("-"):
        pass
    return secret


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def looks_like_jwt(text: str) -> bool:
    """Whether a text has the form of a JSON Web Token: it can be no ticket of ours, and no `user:secret`."""
    return text.count(".") == 2 and text.startswith("ey") and ":" not in text


def ticket_digest(ticket: str) -> str:
    """A ticket as the file of users holds it."""
    return _TICKET + hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()


def is_ticket_digest(text: object) -> bool:
    """Whether a text can be what `ticket_digest` answers."""
    return isinstance(text, str) and text.startswith(_TICKET) and _is_hex(text.removeprefix(_TICKET), 32)


def is_public_key(text: object) -> bool:
    """Whether a text is an Ed25519 public key in hexadecimal digits."""
    return _is_hex(text, 32)


def _is_hex(text: object, size: int) -> bool:
    try:
        return isinstance(text, str) and len(text) == 2 * size and len(bytes.fromhex(text)) == size
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Scram:
    """What SCRAM checks a proof with (RFC 5802, with WAMP's Argon2id): salt and keys in hexadecimal digits."""

    salt: str
    stored_key: str
    server_key: str
    iterations: int = ITERATIONS
    memory: int = MEMORY
    kdf: str = KDF

    @classmethod
    def of(cls, secret: str, salt: bytes | None = None) -> Scram:
        """The keys of a secret; takes some 30 ms, so not in the reactor's thread."""
        try:
            from argon2.low_level import Type, hash_secret_raw
        except ImportError as error:
            raise SetupError("SCRAM needs Argon2: pip install 'sisock[site]' brings it.") from error
        salt = secrets.token_bytes(16) if salt is None else salt
        raw = hash_secret_raw(
            secret.encode(),
            salt,
            time_cost=ITERATIONS,
            memory_cost=MEMORY,
            parallelism=1,
            hash_len=32,
            type=Type.ID,
        )
        # WAMP's clients compute with the base64 text that Argon2's library prints, without its padding.
        salted = base64.b64encode(raw).rstrip(b"=")
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        return cls(salt.hex(), hashlib.sha256(client_key).hexdigest(), hmac.digest(salted, b"Server Key", "sha256").hex())

    @classmethod
    def decoy(cls, authid: str, key: bytes) -> Scram:
        """What is asked of a user who is not there: always the same for a name, and nobody has the secret of it."""
        salt = hmac.digest(key, authid.encode("utf-8", "surrogatepass"), "sha256")[:16]
        return cls(salt.hex(), secrets.token_hex(32), secrets.token_hex(32))

    def to_json(self) -> dict[str, Any]:
        """The form in the file of users."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Any) -> Scram:
        """Reads that form; ValueError or TypeError for anything else."""
        found = cls(**entry)
        whole = all(_is_hex(key, 32) for key in (found.stored_key, found.server_key)) and _is_hex(found.salt, 16)
        if not whole or found.kdf != KDF or not _is_count(found.iterations) or not _is_count(found.memory):
            raise ValueError("scram is not what `sisock user add` wrote")
        return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 24
