"""Notes: what Grafana draws over a plot as annotations. What may be asked for, and how it is found.

roof::sky            each value that a field takes, where it differs from the one before
#nodes [NODE]        nodes that came and went
#gaps NODE [LONGER]  where timelines have holes, longer than twice the usual spacing or than `30s`
#corrections NODE    where rows were replaced after they had been told
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from twisted.internet.threads import deferToThread

from sisock import gaps
from sisock.asking import Question
from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument, UnknownField, UnknownNode
from sisock.fields import Catalogue
from sisock.grafana_bridge.queries import NOTE, SEPARATOR, spelled_out
from sisock.times import MICROS, parse_duration, to_micros
from sisock.uris import check_node_name

# Notes that one query answers, the newest; more would cover the plot.
MAX_NOTES = 1000
# The node that keeps the hub's record, and the fields of it: who, what, and of a correction from when to when (seconds).
HUB = "hub"
RECORD = ("event.node", "event", "event.start", "event.end")

_HELP = "write node::field, #nodes, #gaps NODE, #gaps NODE 30s or #corrections NODE"


@dataclass(frozen=True, slots=True)
class Note:
    """One annotation; times in microseconds, and `end` after `start` for a range."""

    start: int
    title: str
    text: str = ""
    tags: tuple[str, ...] = ()
    end: int | None = None

    @property
    def start_ms(self) -> float:
        """When it begins, as Grafana counts."""
        return _ms(self.start)

    @property
    def end_ms(self) -> float | None:
        """When it ends; None for a moment."""
        return None if self.end is None else _ms(self.end)


def _ms(micros: int) -> float:
    return micros // 1000 if micros % 1000 == 0 else micros / 1000


async def find(consumer: Any, query: str, start: float, end: float) -> list[Note]:
    """The notes of a query in [start, end), UNIX seconds, by time."""
    span = to_micros(start), to_micros(end)
    words = query.split()
    if query.startswith(NOTE):
        match words:
            case ["#nodes"]:
                return await _record(consumer, "nodes", None, span)
            case ["#nodes", node]:
                return await _record(consumer, "nodes", node, span)
            case ["#gaps", node]:
                return await _gaps(consumer, node, None, span)
            case ["#gaps", node, longer]:
                return await _gaps(consumer, node, parse_duration(longer), span)
            case ["#corrections", node]:
                return await _record(consumer, "corrections", node, span)
        raise InvalidArgument(f"{query!r:.80} is no query of annotations: {_HELP}")
    found: list[Note] = []
    for name in spelled_out(query):
        node, separator, field = name.partition(SEPARATOR)
        if not separator:
            raise InvalidArgument(f"{name!r:.80} is no query of annotations: {_HELP}")
        found += await _values(consumer, check_node_name(node), field, span)
    return sorted(found, key=lambda note: note.start)[-MAX_NOTES:]


async def _values(consumer: Any, node: str, field: str, span: tuple[int, int]) -> list[Note]:
    answers = await consumer.read(node, Question((field,), *span))
    block = next((answer.block for answer in answers.values() if field in answer.block.columns), None)
    if block is None:
        catalogue: Catalogue = await consumer.get_fields(node, 1.0, None)
        if field not in catalogue.fields:
            raise UnknownField(f"{node} has no field {field!r:.80}. `sisock fields {node}` lists them.")
        return []
    column = block.columns[field]

    def newest() -> list[Note]:
        found = deque(changes(block.t.tolist(), column.to_list()), MAX_NOTES)
        return [Note(t, _shown(value), tags=(node, field)) for t, value in found]

    # A field of numbers changes with each of its rows.
    noted: list[Note] = await deferToThread(newest)
    return noted


def changes(times: Sequence[int], values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The values that differ from the one before, and when."""
    last = None
    for t, value in zip(times, values, strict=True):
        if value is not None and value != last:
            last = value
            yield t, value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value:g}"


async def _record(consumer: Any, what: str, node: str | None, span: tuple[int, int]) -> list[Note]:
    """The notes of a kind that the hub keeps a record of: nodes that came and went, or corrections."""
    if node is not None:
        consumer.check(check_node_name(node), reading=False)
    try:
        answers = await consumer.read(HUB, Question(RECORD, *span))
    except UnknownNode:
        raise UnknownNode(
            f"this is told by the node {HUB!r}, which does not run or which you may not see. `sisock run {HUB}` starts it."
        ) from None
    found: list[Note] = []
    for answer in answers.values():
        columns = [_column(answer.block, name) for name in RECORD]
        for t, name, event, start, end in zip(answer.block.t.tolist(), *columns, strict=True):
            # Whoever may not see a node hears nothing of it here, either.
            if name is None or (event == "corrected") is not (what == "corrections") or not consumer.sees(name):
                continue
            if node is not None and name != node:
                continue
            ends = None if end is None else to_micros(end)
            found.append(Note(t if start is None else to_micros(start), f"{name} {event}", tags=(what, name), end=ends))
    return found[-MAX_NOTES:]


def _column(block: Block, name: str) -> list[Any]:
    return block.columns.get(name, Column.null(len(block), np.dtype(object))).to_list()


async def _gaps(consumer: Any, node: str, longer: float | None, span: tuple[int, int]) -> list[Note]:
    if longer is not None and longer <= 0:
        raise InvalidArgument("a gap is longer than 0 s")
    found: list[Note] = []
    for line in await gaps.find(consumer, check_node_name(node), longer, *span):
        tags = ("gap", node, line.timeline)
        text = f"{node}, timeline {line.timeline}"
        found += [Note(a, f"no rows for {(b - a) / MICROS:g} s", text, tags, b) for a, b in line.holes]
    return sorted(found, key=lambda note: note.start)[-MAX_NOTES:]
