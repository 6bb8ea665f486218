"""What stands in the golden files.

- `splice.json`: runs of the splice: what it is told, and the actions and the state that must come of it.
- `live.json`: events as they are on the wire, and the blocks that they hold.
- `arrow.json`: the messages of Arrow streams, and the blocks that they hold.
- `topics.json`: timelines and the topics of their live blocks.

Bytes are {"base64": text}. Times are microseconds inside blocks and actions, as they are in Python; NaN and infinities are
{"number": text}, integers beyond 2^53 are {"integer": text}.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np

from sisock import arrow, uris
from sisock import splice as splicing
from sisock.blocks import Block, Column
from sisock.fields import Field
from sisock.live import LISTED_ROWS, LiveBlock
from sisock.positions import Position
from sisock.splice import AskSince, AskTail, Deliver, Gap, ReadPages, Splice, Unread
from tests.unit.test_splice import FOLLOWED, Following

FOLDER = Path(__file__).parent
SECOND = 1_000_000
T = 1_700_000_000 * SECOND
# The bounds of the splice are lowered in these runs, so that they are reached.
BOUNDS = {"MAX_HELD": 3, "MAX_HELD_VALUES": 40}
STEPS = 120
TIMELINES = ["t", "hour", "obs.LAT ü~/", "a-b_c", "!'()*", "%41", "\u65e5\U0001f600"]


def files() -> dict[str, Any]:
    """The files by their names."""
    topics = {timeline: uris.live("roof.air", timeline) for timeline in TIMELINES}
    splices = {"bounds": BOUNDS, "runs": runs()}
    return {"splice.json": splices, "live.json": live(), "arrow.json": streams(), "topics.json": topics}


def text(content: Any, depth: int = 4) -> str:
    """A file as it is written: what lies deeper than that stands on one line."""
    return laid_out(content, depth, "") + "\n"


def laid_out(content: Any, depth: int, before: str) -> str:
    if not depth or not content or not isinstance(content, (list, dict)):
        return json.dumps(content, ensure_ascii=False, allow_nan=False)
    inside = before + " "
    if isinstance(content, dict):
        rows = [f"{json.dumps(name, ensure_ascii=False)}: {laid_out(one, depth - 1, inside)}" for name, one in content.items()]
        return "{\n" + ",\n".join(inside + row for row in rows) + f"\n{before}}}"
    return "[\n" + ",\n".join(inside + laid_out(one, depth - 1, inside) for one in content) + f"\n{before}]"


# Values


def value(one: Any) -> Any:
    """A value as JSON tells it."""
    if isinstance(one, bytes):
        return {"base64": b64encode(one).decode()}
    if isinstance(one, float) and not math.isfinite(one):
        return {"number": str(one)}
    if isinstance(one, int) and not isinstance(one, bool) and abs(one) > 2**53:
        return {"integer": str(one)}
    if isinstance(one, dict):
        return {str(name): value(inner) for name, inner in one.items()}
    if isinstance(one, (list, tuple)):
        return [value(inner) for inner in one]
    return one


def block(rows: Block) -> dict[str, Any]:
    """A block: its times and its values, null where there is none."""
    columns = {
        name: [value(one) if there else None for one, there in zip(column.values.tolist(), column.mask().tolist(), strict=True)]
        for name, column in rows.columns.items()
    }
    return {"t": rows.t.tolist(), "columns": columns}


def position(one: Position | None) -> dict[str, Any] | None:
    return None if one is None else one.to_wire()


def unread(one: Unread | None) -> dict[str, Any] | None:
    return None if one is None else {"start": one.start, "end": one.end, "anew": one.anew}


# The splice


def action(one: Any) -> dict[str, Any]:
    """An action of the splice."""
    match one:
        case AskTail(start):
            return {"do": "ask_tail", "start": start}
        case ReadPages(start, end):
            return {"do": "read_pages", "start": start, "end": end}
        case AskSince(since, start, end):
            return {"do": "ask_since", "since": position(since), "start": start, "end": None if end >= 2**62 else end}
        case Deliver():
            told = {"block": block(one.block), "revises": value(one.revises), "position": position(one.position)}
            rest = {"finalized_until": one.finalized_until, "since": position(one.since), "unread": unread(one.unread)}
            return {"do": "deliver", **told, **rest}
        case Gap(start, end, reason):
            return {"do": "gap", "start": start, "end": end, "reason": reason}
    raise AssertionError(one)


class Recorded:
    """A splice that notes what it is told and what it answers."""

    def __init__(self, splice: Splice, steps: list[dict[str, Any]]) -> None:
        self._splice, self._steps = splice, steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._splice, name)
        if not callable(found):
            return found

        def told(*args: Any) -> Any:
            actions = found(*args)
            self._steps.append({"tell": name, "args": [argument(one) for one in args], "actions": [*map(action, actions)]})
            self._steps[-1]["state"] = self._splice.state.value
            self._steps[-1]["position"] = position(self._splice.position)
            return actions

        return told


def argument(one: Any) -> Any:
    match one:
        case LiveBlock():
            told = {"timeline": one.timeline, "position": position(one.position), "after": one.after, "block": block(one.block)}
            return told | {"revises": value(one.revises), "finalized_until": one.finalized_until}
        case Position():
            return position(one)
        case Block():
            return block(one)
    return value(one)


def runs() -> list[dict[str, Any]]:
    """Runs of the splice against the model of its test, by chance that is always the same."""
    with mock.patch.multiple(splicing, **BOUNDS):
        return [one for seed in range(8) for one in run(seed)]


def run(seed: int) -> list[dict[str, Any]]:
    """What a node, a network and a reader do in a while; a run begins whenever the reader does."""
    chance = Random(seed)
    made: list[dict[str, Any]] = []

    class Noted(Following):
        def drive(self, splice: Splice) -> None:
            one = {"fields": list(FOLLOWED), "start": splice.start, "position": position(splice.position)}
            before = self.unread if splice.position is not None else None
            made.append(one | {"newest": splice.newest, "unread": unread(before), "steps": []})
            super().drive(Recorded(splice, made[-1]["steps"]))  # type: ignore[arg-type]

    machine = Noted()
    machine.begin(start=chance.randrange(4), held=[row(chance) for _ in range(chance.randrange(10))])
    machine.connect()
    for _ in range(STEPS):
        step(machine, chance)
    machine.all_is_calm()
    return [one for one in made if one["steps"]]


def row(chance: Random) -> dict[str, Any]:
    return {name: chance.choice([None, 1.0, 2.0, 3.5]) for name in ("a", "b", "other") if chance.random() < 0.6}


def step(machine: Following, chance: Random) -> None:
    """One of the things that can happen, with what is likely made likely."""
    node = machine.node
    match chance.choices(range(15), [9, 8, 6, 5, 2, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1])[0]:
        case 0:
            if machine.work is not None:
                machine.go_on(steps=chance.randrange(1, 4))
        case 1:
            machine.commit_behind(step=chance.randrange(1, 3), row=row(chance), more=[row(chance)])
        case 2:
            machine.publish(together=chance.random() < 0.7)
        case 3:
            if machine.wire:
                machine.next_events_come(count=chance.randrange(1, 4))
        case 4:
            if machine.wire:
                machine.wire.pop(0)
        case 5:
            machine.commit_anywhere(block={chance.randrange(max(1, node.newest)): row(chance)})
        case 6:
            machine.repeat()
        case 7:
            machine.delete(start=chance.randrange(30), length=chance.randrange(1, 20))
        case 8:
            machine.commit_much(many=chance.randrange(9, 16))
        case 9:
            machine.correct_much()
        case 10:
            if machine.connected:
                machine.lose_the_connection()
            else:
                machine.connect()
        case 11:
            if machine.connected and machine.splice.state.value != "paused":
                machine.pause()
            machine.resume()
        case 12:
            machine.history_is_another_one(kept=chance.randrange(30))
        case 13:
            if machine.copy:
                machine.restart_the_reader()
                machine.connect()
        case 14:
            if len(node.rows) > 1 and machine.splice.state.value != "reading":
                machine.drop(many=chance.randrange(1, 9))


# Live events


def live() -> list[dict[str, Any]]:
    """Events with lists and with bytes, and what they hold."""
    few, many = Block.of([1.5e9, 1.5e9 + 0.25], FEW), Block(T + np.arange(40, dtype=np.int64) * 1000, MANY)
    strange = Block.of([1.0], {"nan": [math.nan], "infinite": [-math.inf], "big": [2**60], "x": [1.0]})
    made = [
        LiveBlock("t", Position("e", 1), 0, few, 12.5),
        LiveBlock("t", Position("e", 4), 1, few, None, (int(few.t[0]), int(few.t[-1]) + 1)),
        LiveBlock("an hour/é.", Position("e", 4), 4, Block.of([], {}), 1.5e9),
        LiveBlock("t", Position("e", 5), 4, strange),
        LiveBlock("t", Position("e", 45), 5, many, 1.5e9 - 1),
    ]
    assert len(many) > LISTED_ROWS
    told = [{"wire": value(one.to_wire()), **argument(one)} for one in made]
    return [*told, *({"wire": value(one), "refused": True} for one in NO_EVENTS)]


FEW = {"x": [1.5, None], "i": [1, -2], "s": ["ä", None], "b": [True, False]}
MANY = {
    "x": Column(np.arange(40) / 8, np.arange(40) % 3 > 0),
    "i": Column(np.arange(40, dtype=np.int64) - 20),
    "b": Column(np.arange(40) % 2 > 0),
    "s": Column(np.array([f"row {i}" for i in range(40)], object)),
}
_HEAD = {"timeline": "t", "epoch": "e", "seq": 1, "after": 0}
NO_EVENTS = [
    None,
    {"data": {}},
    _HEAD | {"t": [2, 1], "data": {}},
    _HEAD | {"t": b"1234567", "data": {}},
    _HEAD | {"t": [1], "data": {"x": [1, 2]}},
    _HEAD | {"t": [1], "data": {"x": {"type": "f4", "values": b""}}},
    _HEAD | {"t": [1], "data": {"x": {"type": "f8", "values": b"1"}}},
    _HEAD | {"t": [1], "data": {"x": {"type": "b1", "values": b"1", "valid": b"11"}}},
    _HEAD | {"t": [], "data": {}, "revises": [1]},
    _HEAD | {"t": [], "data": {}, "finalized_until": "x"},
    _HEAD | {"seq": -1, "t": [], "data": {}},
    _HEAD | {"after": "0", "t": [], "data": {}},
]


# Arrow


def streams() -> list[dict[str, Any]]:
    """Streams of Arrow, message by message as progressive results bring them."""
    fields = {"x": Field("Air temperature, 2 m", "°C"), "i": Field(), "b": Field(type="bool"), "s": Field(type="string")}
    strange = {"x": Column(np.array([math.nan, math.inf])), "i": Column(np.array([2**60, -1]))}
    holes = {name: Column.null(2, dtype) for name, dtype in {"x": float, "i": int, "b": bool, "s": object}.items()}
    return [
        stream(
            "t",
            [Block(T + np.arange(40, dtype=np.int64), MANY), Block(T + 10**6 + np.arange(40, dtype=np.int64), MANY)],
            fields,
        ),
        stream("strange", [Block(np.array([T, T + 1]), strange)], {}),
        stream("nothing but nulls", [Block(np.array([T, T + 1]), holes)], fields),
    ]


def stream(timeline: str, blocks: list[Block], fields: dict[str, Field]) -> dict[str, Any]:
    layout = arrow.schema(timeline, blocks[0].columns, fields)
    messages = [arrow.message(layout), *(arrow.message(arrow.batch(one, layout)) for one in blocks)]
    described = {
        name: {"units": field.units, "description": field.description}
        for name, field in fields.items()
        if name in blocks[0].columns
    }
    return {
        "timeline": timeline,
        "messages": [{"timeline": timeline, "arrow": value(octets)} for octets in messages],
        "blocks": [block(one) for one in blocks],
        "fields": described,
    }
