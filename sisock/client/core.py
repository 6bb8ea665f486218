"""The one client under all faces: a consumer that waits for lost connections, and knows what its answers mean.

Its coroutines run in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self, TypeVar

from autobahn.twisted.util import sleep

from sisock import uris
from sisock.asking import Answered, Question
from sisock.blocks import Block
from sisock.client.data import Data, Rows, whole
from sisock.client.gathering import Gathered, copied
from sisock.client.when import seconds_of_duration, span
from sisock.consumer import Consumer
from sisock.downsample import METHODS
from sisock.errors import InvalidArgument, NotConnected, PositionLost, SisockError, UnknownField, UnknownNode, shown
from sisock.fields import Catalogue
from sisock.session import Access, Session

T = TypeVar("T")

# Seconds that nodes take to be there again behind a router that came back.
RETURN = 10.0
RETRY = 0.2
# A history that is made anew while it is read is read anew so often.
ANEW = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """What `get` was asked for, checked."""

    fields: tuple[str, ...] | None
    start: int
    end: int
    max_points: int | None = None
    min_stride: float | None = None
    method: str | None = None

    @classmethod
    def of(cls, fields: Any, start: Any, end: Any, max_points: Any = None, min_stride: Any = None, method: Any = None) -> Wish:
        """The wish as a program wrote it; InvalidArgument says what does not fit."""
        first, last = span(start, end)
        if max_points is not None and (isinstance(max_points, bool) or not hasattr(max_points, "__index__") or max_points < 1):
            raise InvalidArgument(f"max_points is a whole number, 1 or more; not {shown(max_points)}")
        if method is not None and method not in METHODS:
            raise InvalidArgument(f"method is one of {', '.join(METHODS)}; not {shown(method)}")
        if method is not None and max_points is None:
            raise InvalidArgument("method says how max_points are chosen; give max_points, too")
        stride = None if min_stride is None else seconds_of_duration(min_stride, "min_stride")
        return cls(
            None if fields is None else names_of(fields),
            first,
            last,
            None if max_points is None else int(max_points),
            stride,
            method,
        )


def names_of(fields: Any) -> tuple[str, ...]:
    """Names of fields, of one or of several; InvalidArgument for what is none."""
    if isinstance(fields, str):
        return (fields,)
    try:
        names = tuple(dict.fromkeys(fields))
    except TypeError:
        raise InvalidArgument(f"fields is a list of names, or one name; not {shown(fields)}") from None
    for name in names:
        if not isinstance(name, str):
            raise InvalidArgument(f"fields holds {shown(name)}; names are text")
    if not names:
        raise InvalidArgument("fields is empty; name at least one, or none at all for all of them")
    return names


class Progress:
    """How much of an answer has come: written in the reactor's thread, read in others."""

    def __init__(self) -> None:
        self.rows = self.total = 0


class Client(Consumer):
    """A consumer that asks again where a connection was lost on the way."""

    def __init__(self, access: Access, timeout: float) -> None:
        super().__init__(access, timeout)
        self.access = access
        self.closed = False
        self._sessions = 0
        self._returned = 0.0

    @classmethod
    async def opened(cls, access: Access, silence: float, patience: float) -> Self:
        """A client that is connected; as Consumer.start."""
        client = cls(access, silence)
        try:
            return await client.start(patience)
        except BaseException:
            # Whoever does not want to wait any longer leaves nothing behind.
            if not client.closed:
                await client.stop()
            raise

    async def joined(self, session: Session) -> None:
        """Notes that the connection is there again."""
        self._sessions += 1
        self._returned = _now()
        await super().joined(session)

    async def patiently(self, ask: Callable[[], Awaitable[T]], lost: Exception | None = None) -> T:
        """Asks, and asks again where the connection was lost on the way, for as long as one call may take."""
        until = _now() + self.call_timeout
        while True:
            try:
                return await ask()
            except NotConnected as error:
                if self.closed:
                    raise NotConnected("this hub was closed; connect again") from error
                if self._refused is not None:
                    raise
                if _now() > until:
                    raise self._still_lost(error) from error
                lost = error
            except UnknownNode:
                # Behind a router that came back, nodes are there again a moment later than we are.
                back = self._sessions > 1 and _now() < self._returned + RETURN
                if not (lost or back) or _now() > until:
                    raise
            await sleep(RETRY)

    def _still_lost(self, error: NotConnected) -> NotConnected:
        if self.connected:
            return error
        return NotConnected(
            f"the router at {self.access.url} has not answered for {self.call_timeout:g} s, and is tried again all the time. "
            "`sisock up` starts one."
        )

    async def stop(self) -> None:
        """Leaves for good."""
        self.closed = True
        await super().stop()

    async def listed(self) -> list[dict[str, str]]:
        """The nodes that are there."""
        return await self.patiently(self.nodes)

    async def described(self, name: str) -> str:
        """The description of a node; UnknownNode, with those of a like name, if it is not there."""
        uris.check_node_name(name)

        async def ask() -> str:
            nodes = {node["name"]: node["description"] for node in await self.nodes()}
            if name not in nodes:
                raise UnknownNode(f"there is no node {name!r}. {_like(name, nodes, 'no nodes are there')}")
            return nodes[name]

        return await self.patiently(ask)

    async def catalogue(self, node: str) -> Catalogue:
        """All that a node offers."""
        return await self.patiently(lambda: self.get_fields(node))

    async def chosen(self, node: str, fields: Sequence[str] | None) -> Catalogue:
        """What a node offers of these fields, of all if none are named; UnknownField, with those of a like name."""
        offered = await self.catalogue(node)
        for name in fields or ():
            if name not in offered.fields:
                raise UnknownField(f"{node} has no field {name!r}. {_like(name, offered.fields, 'it has no fields yet')}")
        return offered if fields is None else offered.only(fields)

    async def followable(self, node: str, fields: Sequence[str] | None) -> tuple[str, ...]:
        """The names of these fields, of all if none are named; UnknownField also if there are none."""
        names = tuple((await self.chosen(node, fields)).fields)
        if not names:
            raise UnknownField(f"{node} has no fields yet")
        return names

    async def get(self, node: str, wish: Wish, progress: Progress | None = None) -> Data:
        """The rows that were wished for, at once where they are made fewer, and by pages where they are not."""
        chosen = await self.chosen(node, wish.fields)
        question = Question(tuple(chosen.fields), wish.start, wish.end, wish.max_points, wish.min_stride, wish.method)
        if not question.fields:
            return Data(node, {}, {})
        if question.max_points is not None or question.min_stride:
            answers: Mapping[str, Answered] = await self.patiently(lambda: self.read(node, question))
            return _data(node, chosen, answers, {name: copied(answer.blocks) for name, answer in answers.items()})
        for left in reversed(range(ANEW)):
            gathered: dict[str, Gathered] = {}
            try:
                answers = await self._read_whole(node, question, gathered, progress or Progress())
            except PositionLost:
                if not left:
                    raise
            else:
                return _data(node, chosen, answers, {name: rows.block() for name, rows in gathered.items()})
        raise AssertionError("the last try raised or answered")

    async def _read_whole(
        self, node: str, question: Question, gathered: dict[str, Gathered], progress: Progress
    ) -> Mapping[str, Answered]:
        def begin(tails: Mapping[str, Answered]) -> None:
            # It may have been begun before, on a connection that was lost.
            gathered.clear()
            progress.rows, progress.total = 0, sum(tail.rows for tail in tails.values())
            gathered.update({name: Gathered(tail.rows) for name, tail in tails.items()})

        def take(timeline: str, block: Block) -> None:
            gathered.setdefault(timeline, Gathered()).add(block)
            progress.rows += len(block)

        async def again(error: SisockError) -> None:
            await self.patiently(lambda: self.get_fields(node), error)

        async def ask() -> Mapping[str, Answered]:
            return await self.read_all(node, question, take, begin, again)

        return await self.patiently(ask)


def _data(node: str, chosen: Catalogue, answers: Mapping[str, Answered], blocks: Mapping[str, Block]) -> Data:
    timelines = {}
    nothing = Block.of([], {})
    for timeline in dict.fromkeys(spec.timeline for spec in chosen.fields.values()):
        fields = {name: spec for name, spec in chosen.fields.items() if spec.timeline == timeline}
        answer = answers.get(timeline) or Answered(timeline)
        rows = whole(blocks.get(timeline, nothing), fields)
        timelines[timeline] = Rows(node, timeline, fields, rows, answer.finalized_until, answer.position)
    return Data(node, chosen.fields, timelines)


def _like(name: str, names: Mapping[str, Any], otherwise: str) -> str:
    if not names:
        return otherwise[0].upper() + otherwise[1:] + "."
    like = get_close_matches(name, names, 3) or list(names)[:8]
    more = " ..." if len(like) == 8 and len(names) > 8 else ""
    return f"There {'is' if len(like) == 1 else 'are'} {', '.join(like)}{more}."


def _now() -> float:
    from twisted.internet import reactor

    return float(reactor.seconds())
