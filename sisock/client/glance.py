"""A glance at a node: how fresh its data are, the last values, and how they went of late. For notebooks to show.

It never takes long and never fails: what did not come in time is left out, and `problem` says why.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from sisock.asking import EARLIEST_ON_WIRE, Question
from sisock.errors import SisockError
from sisock.fields import Catalogue
from sisock.times import MICROS, to_seconds

if TYPE_CHECKING:
    from sisock.client.core import Client

# Seconds that a glance may take.
WITHIN = 2.0
# Points of a line, and how many intervals of a timeline it spans.
POINTS, SPANS = 60, 300
# Lines that are drawn of one node, and nodes that are looked at.
MOST_FIELDS, MOST_NODES = 40, 40


@dataclass
class Glance:
    """What was seen of a node; times in UNIX seconds."""

    newest: dict[str, float] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[float]] = field(default_factory=dict)
    problem: str | None = None


@dataclass
class Seen:
    """A node of a hub, and how it is."""

    name: str
    description: str
    fields: int | None = None
    newest: float | None = None
    problem: str | None = None


async def glance_at(client: Client, node: str, catalogue: Catalogue, into: Glance, *, lines: bool = True) -> None:
    """Looks at a node, and notes what it sees as soon as it does."""
    fields = list(catalogue.fields)[:MOST_FIELDS]
    if not fields:
        return
    try:
        tails = await client.read(node, Question(fields, EARLIEST_ON_WIRE, max_points=1, method="last"))
        for timeline, tail in tails.items():
            if not len(tail.block):
                continue
            into.newest[timeline] = to_seconds(int(tail.block.t[-1]))
            into.last.update({name: column.take(slice(-1, None)).to_list()[0] for name, column in tail.block.columns.items()})
        for timeline, newest in into.newest.items() if lines else ():
            await _line(client, node, catalogue, timeline, newest, fields, into)
    except SisockError as error:
        into.problem = str(error)


async def _line(
    client: Client, node: str, catalogue: Catalogue, timeline: str, newest: float, fields: list[str], into: Glance
) -> None:
    of = catalogue.fields
    names = [name for name in fields if of[name].timeline == timeline and of[name].type != "string"]
    if not names:
        return
    interval = catalogue.timeline(timeline).interval
    start = newest - SPANS * interval if interval else 0.0
    first = max(EARLIEST_ON_WIRE, round(start * MICROS))
    answers = await client.read(node, Question(names, first, round(newest * MICROS) + 1, max_points=POINTS))
    if timeline in answers:
        block = answers[timeline].block
        numbers = {name: column.numbers().tolist() for name, column in block.columns.items() if column.type != "string"}
        into.lines.update(numbers)
        for name, column in block.columns.items():
            if into.last.get(name) is None and not column.is_null:
                # The last row of the timeline does not name it.
                into.last[name] = column.take(column.mask()).to_list()[-1]


async def look_around(client: Client, into: list[Seen]) -> None:
    """Looks at all nodes of a hub at once."""
    into.extend(Seen(node["name"], node["description"]) for node in await client.listed())

    async def look(seen: Seen) -> None:
        try:
            catalogue = await client.get_fields(seen.name)
        except SisockError as error:
            seen.problem = str(error)
            return
        seen.fields = len(catalogue.fields)
        glance = Glance()
        await glance_at(client, seen.name, catalogue, glance, lines=False)
        seen.newest, seen.problem = max(glance.newest.values(), default=None), glance.problem

    await gatherResults([_deferred(look(seen)) for seen in into[:MOST_NODES]], consumeErrors=True)


def _deferred(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    return Deferred.fromCoroutine(work)
