"""The fan-out: a message is encoded once and goes to all who subscribe to its site, none of whom can hold up the others.

A subscriber who asks for what was is given what the history holds, and joins live exactly where that ends: every
message has a stamp of its own, stamps only grow, and the newest messages are kept here for who joins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

log = Logger()

# The newest messages, and bytes of them, that are kept for those who join.
RECENT = 4096
RECENT_BYTES = 8 << 20
# Deliveries after which others get their turn.
TURN = 2000

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message on its way: its stamp in microseconds, stage and site, its topic, and the frame that holds it."""

    stamp: int
    key: Key
    topic: str
    frame: bytes


class Taker(Protocol):
    """One who subscribes."""

    key: Key
    topics: frozenset[str] | None

    def give(self, frames: bytes, count: int) -> None:
        """Sends frames, or keeps them for a moment; never waits."""


@dataclass
class Counts:
    """What went out, and who was cut off."""

    messages: int = 0
    deliveries: int = 0
    slow: int = 0
    refused: int = 0


@dataclass
class FanOut:
    """All subscribers of one process. It belongs to the reactor's thread.

    `last` is the stamp of the newest message that was handed to the subscribers.
    """

    last: int = 0
    counts: Counts = field(default_factory=Counts)
    _sites: dict[Key, dict[Taker, None]] = field(default_factory=dict)
    _recent: deque[Sent] = field(default_factory=deque)
    _bytes: int = 0
    _floor: int = 0

    def begin(self, last: int) -> None:
        """Takes up where the history ends."""
        self.last = self._floor = last

    @property
    def subscribers(self) -> int:
        """How many have joined."""
        return sum(len(takers) for takers in self._sites.values())

    @property
    def sites(self) -> int:
        """To how many sites somebody subscribes."""
        return len(self._sites)

    def join(self, taker: Taker) -> None:
        """Gives a subscriber what comes from now on."""
        self._sites.setdefault(taker.key, {})[taker] = None

    def join_after(self, taker: Taker, stamp: int) -> bool:
        """Gives a subscriber what came after that stamp and what comes; False, and nothing, if that is not known here."""
        if stamp < self._floor:
            return False
        missed = [one for one in self._recent if one.stamp > stamp and _wants(taker, one)]
        if missed:
            taker.give(b"".join(one.frame for one in missed), len(missed))
        self.join(taker)
        return True

    def leave(self, taker: Taker) -> None:
        """Gives a subscriber no more."""
        takers = self._sites.get(taker.key, {})
        takers.pop(taker, None)
        if not takers:
            self._sites.pop(taker.key, None)

    async def send(self, messages: Sequence[Sent]) -> None:
        """Hands messages, in the order of their stamps, to all who want them. Wait for one call before the next."""
        if not messages:
            return
        by_key: dict[Key, list[Sent]] = {}
        for one in messages:
            by_key.setdefault(one.key, []).append(one)
        # Those who join while this goes on get these messages when they join, and not here.
        audience = [(key, group, tuple(self._sites.get(key, ()))) for key, group in by_key.items()]
        self._keep(messages)
        self.counts.messages += len(messages)
        given = 0
        for key, group, takers in audience:
            frames = _Frames(group)
            for taker in takers:
                if taker.key != key:
                    continue
                joined, count = frames.of(taker.topics)
                if not count:
                    continue
                try:
                    taker.give(joined, count)
                except Exception:  # noqa: BLE001  one who cannot be told must not keep it from the others
                    log.failure("a subscriber of {site} could not be told", site=key[1])
                    continue
                self.counts.deliveries += count
                given += 1
                if given >= TURN:
                    given = 0
                    await _turn()

    def _keep(self, messages: Iterable[Sent]) -> None:
        for one in messages:
            self._recent.append(one)
            self._bytes += len(one.frame)
            self.last = one.stamp
        while len(self._recent) > RECENT or self._bytes > RECENT_BYTES:
            gone = self._recent.popleft()
            self._bytes -= len(gone.frame)
            self._floor = gone.stamp


class _Frames:
    """Messages of one site, joined once for all who want the same of them."""

    def __init__(self, group: Sequence[Sent]) -> None:
        self._group = group
        self._joined: dict[frozenset[str] | None, tuple[bytes, int]] = {}

    def of(self, topics: frozenset[str] | None) -> tuple[bytes, int]:
        found = self._joined.get(topics)
        if found is None:
            wanted = [one.frame for one in self._group if topics is None or one.topic in topics]
            found = self._joined[topics] = b"".join(wanted), len(wanted)
        return found


def _wants(taker: Taker, one: Sent) -> bool:
    return one.key == taker.key and (taker.topics is None or one.topic in taker.topics)


def _turn() -> Deferred[None]:
    from twisted.internet import reactor

    turn: Deferred[None] = deferLater(reactor, 0, lambda: None)
    return turn


# Reads frames of a site and its topics in (after, until], in microseconds, some at a time; to be called in a thread.
Replay = Callable[[Key, Collection[str] | None, int, int], Iterator[tuple[bytes, int]]]


def next_of(frames: Iterator[Any]) -> Any:
    """The next of an iterator, or None."""
    return next(frames, None)
