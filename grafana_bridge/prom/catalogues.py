"""Catalogues: which series there are. What a node told is remembered for some seconds, longer where it does not answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sisock.errors import NotConnected, SisockError, TimedOut
from sisock.fields import Catalogue
from sisock.grafana_bridge.prom.names import Source, sources
from sisock.grafana_bridge.reader import NoSession

log = Logger()

# Seconds for which what a node or the hub said is taken as it was; then it is asked again.
FRESH = 5.0
# Seconds after which the hub is asked for a node that it did not list.
AGAIN = 1.0
# Seconds that a query waits for a node that does not answer; what it said before is taken then, if there is any.
PATIENCE = 2.0


class Offers(Protocol):
    """What is needed of a consumer to know the series."""

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there."""

    async def get_fields(self, node: str, start: float = 1.0, end: float | None = None) -> Catalogue:
        """What a node offers."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a node offers, as series and as it told it."""

    node: str
    description: str
    catalogue: Catalogue
    sources: tuple[Source, ...]


@dataclass
class _Known:
    told: float = -math.inf
    value: Any = None
    asking: bool = False
    began: float = -math.inf
    error: SisockError | None = None
    waiting: list[Deferred[None]] = field(default_factory=list)


class Catalogues:
    """Asks the hub and the nodes for what there is. `clock` is the reactor unless a test passes another."""

    def __init__(self, consumer: Offers, clock: IReactorTime | None = None) -> None:
        self._consumer = consumer
        self._clock_given = clock
        self._hub = _Known()
        self._nodes: dict[str, _Known] = {}

    async def offered(self, nodes: Iterable[str] | None = None) -> tuple[list[Offered], dict[str, SisockError]]:
        """What these nodes offer, or all of them, and what is wrong with each that did not answer."""
        listed = await self._listed()
        wanted = list(listed) if nodes is None else [name for name in nodes if name in listed]
        for gone in self._nodes.keys() - listed.keys():
            del self._nodes[gone]
        if nodes is not None and len(wanted) < len(set(nodes)):
            # It may have come since the hub was asked.
            listed = await self._listed(anew=True)
            wanted = [name for name in nodes if name in listed]
        outcomes = await DeferredList([Deferred.fromCoroutine(self._offer(name)) for name in wanted], consumeErrors=True)
        found: list[Offered] = []
        failed: dict[str, SisockError] = {}
        for name, (success, result) in zip(wanted, outcomes, strict=True):
            known = self._nodes.get(name)
            if not success:
                if result.check(CancelledError):
                    raise CancelledError
                if result.check(SisockError):
                    failed[name] = result.value
                else:
                    log.failure("the fields of {node} could not be asked for", result, node=name)
                    failed[name] = SisockError("an error inside the bridge; its log has the traceback")
            elif known is not None and known.value is not None:
                made = known.value
                found.append(Offered(name, listed[name], made[0], made[1]))
        return found, failed

    async def _listed(self, *, anew: bool = False) -> dict[str, str]:
        if anew and self._seconds() - self._hub.told >= AGAIN:
            self._hub.told = -math.inf

        async def ask() -> dict[str, str]:
            return {node["name"]: node.get("description") or "" for node in await self._consumer.nodes()}

        try:
            listed: dict[str, str] = await self._ask(self._hub, ask)
        except NotConnected:
            raise NoSession from None
        return listed

    async def _offer(self, node: str) -> Any:
        async def ask() -> tuple[Catalogue, tuple[Source, ...]]:
            catalogue = await self._consumer.get_fields(node, 1.0, None)
            return catalogue, tuple(sources(node, catalogue))

        return await self._ask(self._nodes.setdefault(node, _Known()), ask)

    async def _ask(self, known: _Known, ask: Any) -> Any:
        """What is known; asked anew if it is old, once for all who want it, and not for longer than there is patience."""
        if self._seconds() - known.told < FRESH:
            return known.value
        # Patience is for the question, not for each who waits: where it is over, nobody else waits.
        if not known.asking or self._seconds() - known.began < PATIENCE:
            await self._answer(known, ask)
        if known.value is None:
            raise known.error or TimedOut(f"there was no answer within {PATIENCE:g} s. It may be busy or stopped.")
        return known.value

    async def _answer(self, known: _Known, ask: Any) -> None:
        """Waits for the answer while there is patience; asks if nobody does."""
        waiting: Deferred[None] = Deferred()
        known.waiting.append(waiting)
        if not known.asking:
            known.asking, known.began = True, self._seconds()
            Deferred.fromCoroutine(self._refresh(known, ask))
        waiting.addTimeout(PATIENCE, self._clock, lambda *_: None)
        try:
            await waiting
        finally:
            if waiting in known.waiting:
                known.waiting.remove(waiting)

    async def _refresh(self, known: _Known, ask: Any) -> None:
        try:
            known.value, known.error = await ask(), None
            known.told = self._seconds()
        except SisockError as error:
            known.error = error
        except Exception as error:  # noqa: BLE001
            log.failure("what there is could not be asked for")
            known.error = SisockError(f"an error inside the bridge: {type(error).__name__}")
        finally:
            known.asking = False
            if known.error is not None and isinstance(known.error, NotConnected):
                known.value = None
            waiting, known.waiting = known.waiting, []
            for one in waiting:
                one.callback(None)

    @property
    def _clock(self) -> IReactorTime:
        if self._clock_given is None:
            from twisted.internet import reactor

            self._clock_given = IReactorTime(reactor)
        return self._clock_given

    def _seconds(self) -> float:
        return float(self._clock.seconds())
