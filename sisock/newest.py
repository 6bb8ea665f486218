"""The newest value of each field of a node: one cheap call, and a few more for fields that have none in the newest row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sisock.asking import Question
from sisock.consumer import Consumer
from sisock.fields import Field

# Points of the overviews in which the last value of a field is looked for, and how many of them at most.
POINTS = 1000
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Newest:
    """A field's newest value and its time in microseconds; None where the field has none."""

    field: str
    spec: Field
    t: int | None = None
    value: Any = None


async def newest(consumer: Consumer, node: str, names: Sequence[str], offered: Mapping[str, Field]) -> list[Newest]:
    """The newest value of each of these fields."""
    answers = await consumer.read(node, Question(names, 1, max_points=1, method="last"))
    found: dict[str, Newest] = {}
    for answer in answers.values():
        for name, column in answer.block.columns.items():
            value = column.to_list()[-1] if len(column) else None
            if column.mask()[-1:].any():
                found[name] = Newest(name, offered[name], int(answer.block.t[-1]), value)
    for name in names:
        if name not in found:
            found[name] = await _look(consumer, node, name, offered[name])
    return [found[name] for name in names]


async def _look(consumer: Consumer, node: str, name: str, spec: Field) -> Newest:
    """Overviews of ever shorter ends of the history: the last point of one is at or before the last value."""
    start, seen = 1, Newest(name, spec)
    for _ in range(ROUNDS):
        answers = await consumer.read(node, Question([name], start, max_points=POINTS))
        answer = next(iter(answers.values()), None)
        if answer is None or not len(answer.block) or name not in answer.block.columns:
            break
        t, value = int(answer.block.t[-1]), answer.block.columns[name].to_list()[-1]
        whole = answer.rows <= len(answer.block) or t == start
        seen, start = Newest(name, spec, t, value), t
        if whole:
            break
    return seen
