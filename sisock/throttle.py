"""Slowing down whoever guesses: what failed logins cost those who go on, and never those who have the secret.

A right secret gets in at any time. A wrong one is answered at once while failures are rare; once an address or a user has
had many, the refusals come late, and of each address only a few at a time are waited with. What comes from it beyond those
is turned away unchecked: not from this machine, though, for which everybody behind a proxy stands, and not whoever has got
in from there before.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from typing import TypeVar

from sisock.rules import LOOPBACK, covers

K = TypeVar("K")
T = TypeVar("T")

# So many failures in a row are everybody's right; then a bucket fills at this rate a second.
BURST, RATE = 10.0, 0.5
# How long a refusal is held back, in seconds, and how many are at once: of one address, and in all.
DELAY, HELD, HELD_IN_ALL = 1.0, 8, 256
# Addresses that are remembered, and users who got in from there; the ones that were heard of last.
REMEMBERED = 10_000
# What all names share that are tried. Two that have one in common get their refusals late together, and nothing worse.
NAMES = 1 << 14
# For how long whoever got in from an address is known there, in seconds.
KNOWN_FOR = 30 * 86_400.0
NEWS = 3600.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Throttle:
    """Counts failed logins by address and by user, in bounded memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Bucket] = OrderedDict()
        self._guessed: dict[int, _Bucket] = {}
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._held: dict[str, int] = {}
        self._held_in_all = 0

    def turns_away(self, address: str, *names: str) -> bool:
        """Whether a login by one of these names is refused without a look at its secret."""
        place = network_of(address)
        if self._held.get(place, 0) < HELD or _is_here(address):
            return False
        seen = [self._known.get((place, name)) for name in names]
        return all(at is None or self._clock() - at > KNOWN_FOR for at in seen)

    def failed(self, address: str, user: str) -> bool:
        """Notes a failure by that name; answers whether its refusal is held back, which `hold` and `let_go` are told of.

        Whether there is such a user counts for nothing, or the delay would tell it.
        """
        place, number = network_of(address), self._number(user)
        _remember(self._failures, place, self._failures.get(place) or _Bucket(BURST, self._clock()))
        self._guessed.setdefault(number, _Bucket(BURST, self._clock()))
        emptied = [not self._take(bucket) for bucket in (self._failures[place], self._guessed[number])]
        # Where too many are waited with already, nobody else is: neither memory nor sockets grow.
        return any(emptied) and self._held_in_all < HELD_IN_ALL and self._held.get(network_of(address), 0) < HELD

    def succeeded(self, address: str, user: str) -> bool:
        """Notes that the user got in from this address; answers whether that is news: not within the last hour."""
        key, now = (network_of(address), user), self._clock()
        seen = self._known.get(key)
        if seen is None or now - seen > NEWS:
            _remember(self._known, key, now)
            return True
        self._known.move_to_end(key)
        return False

    def hold(self, address: str) -> None:
        """A refusal to this address begins to be held back."""
        place = network_of(address)
        self._held[place] = self._held.get(place, 0) + 1
        self._held_in_all += 1

    def let_go(self, address: str) -> None:
        """It has been answered."""
        place = network_of(address)
        self._held_in_all -= 1
        self._held[place] -= 1
        if not self._held[place]:
            del self._held[place]

    def _number(self, user: str) -> int:
        # By a key, or somebody could choose names that share another user's.
        digest = blake2b(user.encode("utf-8", "surrogatepass"), key=self._key, digest_size=4).digest()
        return int.from_bytes(digest) % NAMES

    def _take(self, bucket: _Bucket) -> bool:
        now = self._clock()
        bucket.tokens = min(BURST, bucket.tokens + max(0.0, now - bucket.at) * RATE)
        bucket.at = now
        there = bucket.tokens >= 1
        bucket.tokens -= 1 if there else 0
        return there


def _remember(kept: OrderedDict[K, T], key: K, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)


@lru_cache(maxsize=1024)
def _is_here(address: str) -> bool:
    return not address or covers(LOOPBACK, address)


# In a flood the same few addresses are asked about thousands of times a second.
@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one machine has of IPv6; "" is a local socket."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return str(found) if found.version == 4 else str(ip_network((int(found) >> 64 << 64, 64)))
