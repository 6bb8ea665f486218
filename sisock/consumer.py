"""A consumer: asks the hub which nodes there are, and the nodes for their fields and data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

from autobahn.twisted.util import sleep
from twisted.internet.defer import Deferred

from sisock import uris
from sisock.asking import Answered, Call, Question, Take, ask_arrow, ask_halves, is_old, thinned
from sisock.errors import (
    NotConnected,
    PositionLost,
    SisockError,
    TimedOut,
    TooMuch,
    UnknownNode,
    WrongCertificate,
)
from sisock.fields import Catalogue
from sisock.following import Follower, Resume
from sisock.paging import Stretch, read_pages
from sisock.session import CALL_TIMEOUT, Access, Connection, Session

# Seconds that a router or a node which went away is waited for.
PATIENCE = 30.0


class Consumer:
    """The Twisted face of a consumer. Its methods are coroutines and raise sisock's errors; each call has a timeout."""

    def __init__(self, access: Access, call_timeout: float = CALL_TIMEOUT) -> None:
        self.call_timeout = call_timeout
        self._connection = Connection(access, self)
        self._waiting: list[Deferred[None]] = []
        self._followers: set[Follower] = set()
        # Nodes that know no more than contract A, and what they offer.
        self._old: dict[str, Catalogue] = {}
        self._refused: Exception | None = None
        self._on_refused: Callable[[Exception], None] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a session with the router."""
        session = self._connection.session
        return session is not None and session.is_attached()

    async def start(self, patience: float = 10.0) -> Self:
        """Connects. Raises NotAuthorized, WrongCertificate, or NotConnected after `patience` seconds without a router."""
        from twisted.internet import reactor

        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._connection.ended.addErrback(self._ended)
        # Who waits is told at once; a connection that lasts tries again.
        self._connection.on_wrong_certificate = self._fail
        self._connection.start()
        try:
            await waiting.addTimeout(patience, reactor, lambda *_: _raise(TimedOut()))
        except WrongCertificate:
            await self.stop()
            raise
        except TimedOut:
            await self.stop()
            if self._connection.trouble is not None:
                raise self._connection.trouble from None
            raise NotConnected(
                f"no router answers at {self._connection.access.url} within {patience:g} s. `sisock up` starts one."
            ) from None
        return self

    def connect(self, on_refused: Callable[[Exception], None] | None = None) -> None:
        """Connects whenever a router is there, without waiting for it; `on_refused` hears if it lets nobody in."""
        self._on_refused = on_refused
        self._connection.ended.addErrback(self._ended)
        self._connection.start()

    async def stop(self) -> None:
        """Leaves; those who follow come to their end."""
        for follower in tuple(self._followers):
            follower.stop()
        await self._connection.stop()

    async def joined(self, session: Session) -> None:
        """Wakes those who wait for the session, and tells those who follow."""
        for follower in tuple(self._followers):
            follower.joined(session)
        # Whoever is woken may follow at once.
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def left(self) -> None:
        """Tells those who follow; the connection joins again."""
        # A node that comes back may be another program.
        self._old.clear()
        for follower in tuple(self._followers):
            follower.left()

    def _ended(self, failure: Any) -> None:
        self._refused = failure.value
        if self._on_refused is not None:
            self._on_refused(failure.value)
        self._fail(failure.value)
        for follower in tuple(self._followers):
            follower.fail(failure.value)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.errback(error)

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there, oldest first, each {"name", "description"}."""
        return list(await self._ask(uris.GET_DATA_NODE))

    async def get_fields(self, node: str, start: float = 1.0, end: float | None = None) -> Catalogue:
        """What a node offers in [start, end); times in the wire's convention."""
        uris.check_node_name(node)
        # The old convention has no open end; 0 is now.
        return Catalogue.from_wire(await self._ask_node(node, uris.get_fields(node), start, 0.0 if end is None else end))

    async def get_data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float | None,
        *,
        min_stride: float | None = None,
        max_points: int | None = None,
        method: str | None = None,
        step: float | None = None,
        width: float | None = None,
    ) -> dict[str, Any]:
        """Data of a node's fields in [start, end), in contract A7's form; TooMuch if one answer cannot hold them."""
        uris.check_node_name(node)
        # Nodes of the old kind know these arguments only by the contract's names, so what is not used is not sent.
        given = {"min_stride": min_stride, "max_points": max_points, "method": method, "step": step, "width": width}
        extra = {name: value for name, value in given.items() if value is not None}
        result = await self._ask_node(node, uris.get_data(node), list(fields), start, end, **extra)
        if result is False:
            raise TooMuch(f"{node} has more in that time than one answer may hold. Ask for a shorter time, or with max_points.")
        return dict(result)

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict[str, Answered]:
        """One call of a node's get_data, read as blocks: {timeline: Answered}. Blocks go to `take` as they come, if given.

        A node that knows no more than contract A is asked in lists, in halves of the time where it has too much.
        """
        call = self.caller(node)
        offered = self._old.get(node)
        if offered is None:
            try:
                return await ask_arrow(call, question, take)
            except SisockError as error:
                if not is_old(error):
                    raise
        if offered is None or any(name not in offered.fields for name in question.fields):
            # It may have begun to offer one.
            offered = self._old[node] = await self.get_fields(node)
        answers = thinned(await ask_halves(call, question, offered), question)
        for timeline, answer in answers.items() if take else ():
            for block in answer.blocks:
                take(timeline, block)  # type: ignore[misc]
        return answers

    async def read_all(
        self,
        node: str,
        question: Question,
        take: Take,
        begin: Callable[[Mapping[str, Answered]], None] = lambda _: None,
        again: Callable[[SisockError], Awaitable[None]] | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, Answered]:
        """All rows of a long range, by pages: each goes to `take` as it comes; the answers hold what is said of them.

        What came after the first call is not in it, so that all pages are of the same position; PositionLost if the history
        is another one meanwhile. `begin` is told first about how many rows there are. After a lost connection, and where the
        node is gone, it waits for `again` (as `back` does) and goes on behind what came; without, NotConnected or UnknownNode.
        `room` is waited for before each page.
        """
        # Neither waits for the other.
        catalogue = Deferred.fromCoroutine(self.get_fields(node))
        try:
            tails = await self.read(node, replace(question, max_points=1, method="last"))
        except BaseException:
            catalogue.addErrback(lambda _: None)
            catalogue.cancel()
            raise
        offered = (await catalogue).fields
        answers: dict[str, Answered] = {}
        begin(tails)
        for timeline, tail in tails.items():
            if tail.position is None:
                # It keeps no positions, so nothing is gained by pages.
                return await self.read(node, question, take)
            fields = {name: offered[name] for name in question.fields if name in offered and offered[name].timeline == timeline}
            answers[timeline] = replace(tail, blocks=[], fields=fields)
            if tail.last is not None:
                end = min(question.end, tail.last + 1)
                first = question.start if tail.first is None else tail.first
                stretch = Stretch(timeline, tuple(fields), question.start, end, tail.rows, first)
                same = partial(_check_epoch, tail.position.epoch)
                await read_pages(self.caller(node), stretch, partial(take, timeline), same, room, again)
        return answers

    async def back(self, node: str, error: SisockError, patience: float = PATIENCE) -> None:
        """Waits until a node that was lost answers again; raises why it was lost after so many seconds."""
        from twisted.internet import reactor

        end = reactor.seconds() + patience
        while reactor.seconds() < end:
            await sleep(0.1)
            # The router is there before its nodes are.
            if self.connected:
                with suppress(NotConnected, UnknownNode, TimedOut):
                    await self.get_fields(node)
                    return
        raise error

    def follow(
        self, node: str, fields: Sequence[str], start: float = 0.0, resume: Mapping[str, Resume] | None = None
    ) -> Follower:
        """Follows fields of a node from `start` on (0 is now, -600 ten minutes ago): `async for` gives what comes.

        `resume` goes on behind what was followed before, a position and the newest time of each timeline.
        """
        follower = Follower(self, node, fields, start, resume)
        self._followers.add(follower)
        if self._refused is not None:
            follower.fail(self._refused)
        elif self._connection.session is not None and self._connection.session.is_attached():
            follower.joined(self._connection.session)
        return follower

    def forget(self, follower: Follower) -> None:
        """Tells a follower nothing more."""
        self._followers.discard(follower)

    def caller(self, node: str) -> Call:
        """What calls get_data of a node."""
        uris.check_node_name(node)
        return partial(self._ask_node, node, uris.get_data(node))

    async def _ask_node(self, node: str, procedure: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self._ask(procedure, *args, **kwargs)
        except UnknownNode as error:
            raise no_such_node(node) from error

    async def _ask(self, procedure: str, *args: Any, **kwargs: Any) -> Any:
        if self._refused is not None:
            raise self._refused
        session = self._connection.session
        if session is None:
            raise NotConnected("No WAMP session")
        return await session.ask(procedure, *args, timeout=self.call_timeout, **kwargs)


def _check_epoch(epoch: str, page: Answered) -> None:
    if page.position is not None and page.position.epoch != epoch:
        raise PositionLost(f"{page.timeline}: its history is another one than was begun to be read")


def no_such_node(node: str) -> UnknownNode:
    """The error for a node that is not there, or that one may not see."""
    return UnknownNode(f"there is no node {node!r}. `sisock ls` lists those that are there.")


def _raise(error: Exception) -> None:
    raise error
