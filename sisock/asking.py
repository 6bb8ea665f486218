"""Asking a node for data: one call of get_data, whose answer is read as blocks whatever form it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sisock.blocks import Block, concat
from sisock.errors import InvalidArgument, NodeFailed, SisockError, TooMuch
from sisock.fields import Catalogue, Field
from sisock.positions import Position
from sisock.times import LATEST, MICROS, now, to_micros, to_seconds

# Times of the wire are above 0; what is at or below it counts from now.
EARLIEST_ON_WIRE = 1

# Values of an answer that comes in one message: half a megabyte.
SMALL = 64_000
SMALL_TEXTS = 16_000

# Calls get_data of the node: its arguments, and what takes messages as they come.
Call = Callable[..., Any]
# Takes a block of a timeline as soon as it came.
Take = Callable[[str, Block], None]


@dataclass
class Answered:
    """What an answer holds of one timeline. Times in microseconds, `finalized_until` in seconds.

    `rows` are how many there were before they were made fewer, about where they began is `first`, and `last` is the time of
    the last of them, which may have no value of the fields that were asked for.
    """

    timeline: str
    blocks: list[Block] = field(default_factory=list)
    fields: Mapping[str, Field] = field(default_factory=dict)
    finalized_until: float | None = None
    position: Position | None = None
    revises: tuple[tuple[int, int], ...] = ()
    rows: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def block(self) -> Block:
        """All its rows."""
        return concat(self.blocks)

    @property
    def begin(self) -> int | None:
        """About where the rows begin; None where that is not said."""
        # Of a single row nothing is said but itself.
        return self.last if self.first is None and self.rows == 1 else self.first


@dataclass(frozen=True, slots=True)
class Question:
    """One call of get_data: fields in [start, end), in microseconds, with what makes them fewer.

    With a `step` it is one value of each window of `width` (or else the step), as `sisock.windows` says.
    """

    fields: Sequence[str]
    start: int
    end: int = LATEST
    max_points: int | None = None
    min_stride: float | None = None
    method: str | None = None
    since: Mapping[str, Position] | None = None
    step: int | None = None
    width: int | None = None

    @property
    def is_small(self) -> bool:
        """Whether its answer surely fits one message, so that it need not come in several."""
        if self.step is not None and self.end < LATEST:
            return (self.end - self.start) // self.step * (1 + len(self.fields)) < SMALL
        if self.max_points is None or self.since is not None:
            return False
        # Each field may have rows of its own, and texts may be long.
        return self.max_points * len(self.fields) * (1 + len(self.fields)) < SMALL_TEXTS

    def args(self, *, open_end: bool = True) -> list[Any]:
        """The arguments that contract A knows; there, an open end is 0, now."""
        end = (None if open_end else 0.0) if self.end >= LATEST else to_seconds(self.end)
        return [list(self.fields), to_seconds(max(self.start, EARLIEST_ON_WIRE)), end]

    def extra(self) -> dict[str, Any]:
        """The arguments that came after it."""
        since = None if self.since is None else {name: one.to_wire() for name, one in self.since.items()}
        more = {"max_points": self.max_points, "min_stride": self.min_stride, "method": self.method, "since": since}
        more |= {"step": _seconds(self.step), "width": _seconds(self.width)}
        return {name: value for name, value in more.items() if value is not None}


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else to_seconds(micros)


async def ask_arrow(call: Call, question: Question, take: Take | None = None) -> dict[str, Answered]:
    """Asks a node that speaks Arrow. Blocks go to `take` as they come, or else into the answer.

    TooMuch after one call's worth of rows: what went to `take` before is whole and in order.
    """
    # PyArrow takes a while to load; not all who ask get here.
    from sisock.arrow import Reader

    readers: dict[str, Reader] = {}
    answers: dict[str, Answered] = {}
    broken: list[Exception] = []

    def feed(timeline: str, octets: bytes) -> None:
        reader = readers.setdefault(timeline, Reader())
        for block in reader.feed(octets):
            if take is not None:
                take(timeline, block)
            else:
                answers.setdefault(timeline, Answered(timeline)).blocks.append(block)

    def progress(message: Any) -> None:
        try:
            feed(str(message["timeline"]), message["arrow"])
        except (TypeError, LookupError, InvalidArgument) as error:
            broken.append(error)

    # Each message has its price.
    way: dict[str, Any] = {} if question.is_small else {"on_progress": progress}
    result = await call(*question.args(), encoding="arrow", **way, **question.extra())
    try:
        if broken:
            raise broken[0]
        for timeline, octets in (result.get("arrow") or {}).items():
            feed(timeline, octets)
        for timeline, line in result["timeline"].items():
            answers.setdefault(timeline, Answered(timeline)).finalized_until = line.get("finalized_until")
        _note_rest(answers, result)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise NodeFailed(f"the node's answer is not what get_data answers in Arrow: {error}") from error
    for timeline, reader in readers.items():
        answers[timeline].fields = reader.fields
    return answers


async def ask_lists(call: Call, question: Question, catalogue: Catalogue) -> dict[str, Answered]:
    """Asks a node that knows no more than contract A; TooMuch where it answers False."""
    result = await call(*question.args(open_end=False), question.min_stride)
    if result is False:
        raise TooMuch("the node has more in that time than one answer may hold. Ask for a shorter time.")
    answers: dict[str, Answered] = {}
    try:
        for timeline, line in result["timeline"].items():
            names = [name for name in question.fields if _is_on(catalogue, name, timeline) and len(result["data"][name])]
            block = Block.of(line["t"], {name: result["data"][name] for name in names})
            fields = {name: catalogue.fields[name] for name in names}
            answers[timeline] = Answered(timeline, [block], fields, line.get("finalized_until"), rows=len(block))
    except (TypeError, LookupError, AttributeError, InvalidArgument) as error:
        raise NodeFailed(f"the node's answer is not what get_data answers: {error}") from error
    return answers


async def ask_halves(call: Call, question: Question, catalogue: Catalogue) -> dict[str, Answered]:
    """As ask_lists; a range of which a node has too much is asked in halves, down to a second."""
    end = min(question.end, to_micros(now()) + 1)
    try:
        return await ask_lists(call, question, catalogue)
    except TooMuch:
        if end - question.start < MICROS:
            raise
    middle = (question.start + end) // 2
    halves = [
        await ask_halves(call, half, catalogue) for half in (replace(question, end=middle), replace(question, start=middle))
    ]
    joined: dict[str, Answered] = {}
    for timeline in {**halves[0], **halves[1]}:
        parts = [half[timeline] for half in halves if timeline in half]
        blocks = [block for part in parts for block in part.blocks]
        rows = sum(part.rows for part in parts)
        joined[timeline] = replace(parts[-1], blocks=blocks, fields=dict(parts[0].fields) | dict(parts[-1].fields), rows=rows)
    return joined


def _is_on(catalogue: Catalogue, name: str, timeline: str) -> bool:
    return name in catalogue.fields and catalogue.fields[name].timeline == timeline


def _note_rest(answers: dict[str, Answered], result: Mapping[str, Any]) -> None:
    for timeline, position in (result.get("position") or {}).items():
        answers.setdefault(timeline, Answered(timeline)).position = Position.from_wire(position)
    for timeline, ranges in (result.get("revises") or {}).items():
        revises = tuple((to_micros(start), to_micros(end)) for start, end in ranges)
        answers.setdefault(timeline, Answered(timeline)).revises = revises
    for timeline, answer in answers.items():
        done = (result.get("downsampled") or {}).get(timeline) or {}
        answer.rows = int(done.get("from", sum(map(len, answer.blocks))))
        answer.first = to_micros(done["first"]) if "first" in done else None
        ends = [int(block.t[-1]) for block in answer.blocks if len(block)][-1:]
        answer.last = to_micros(done["last"]) if "last" in done else next(iter(ends), None)


def is_old(error: SisockError) -> bool:
    """Whether an error means that the node knows no argument that came after contract A."""
    unknown = type(error) is SisockError or isinstance(error, InvalidArgument)
    return unknown and any(part in str(error) for part in ("unexpected keyword", "positional argument", "encoding"))


def thinned(answers: Mapping[str, Answered], question: Question) -> dict[str, Answered]:
    """The answers of a node that makes nothing fewer, at the resolution that was asked for."""
    from sisock.downsample import Method, thin
    from sisock.windows import WindowMethod, Windows, windowed

    if question.step is not None:
        grid: WindowMethod = question.method or "mean"  # type: ignore[assignment]
        reduced = {}
        for timeline, one in answers.items():
            end = question.end if question.end < LATEST or one.last is None else one.last + 1
            windows = Windows(question.start, end, question.step, question.width or question.step)
            reduced[timeline] = replace(one, blocks=[windowed(one.block, windows, grid)])
        return reduced
    if question.max_points is None:
        return dict(answers)
    method: Method = question.method or "minmax"  # type: ignore[assignment]
    reduced = {}
    for timeline, one in answers.items():
        block = thin(one.block, question.max_points, method)
        reduced[timeline] = Answered(timeline, [block], one.fields, one.finalized_until, rows=one.rows)
    return reduced
