"""Series: one field's rows as every dialect needs them, taken from a node's answer, and their JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from sisock.asking import Answered, Question
from sisock.blocks import EXACT, Column
from sisock.errors import SisockError, UnknownField
from sisock.fields import Catalogue, Field
from sisock.times import Micros, to_micros

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a node's get_data: these fields in [start, end), UNIX seconds, at this resolution."""

    node: str
    fields: tuple[str, ...]
    start: float
    end: float
    min_stride: float | None = None
    max_points: int | None = None
    method: str | None = None

    def question(self) -> Question:
        """The call's arguments."""
        span = to_micros(self.start), to_micros(self.end)
        return Question(self.fields, *span, max_points=self.max_points, min_stride=self.min_stride, method=self.method)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The rows of one field: `t` in microseconds, a column beside it, and what the field is."""

    t: Micros
    column: Column
    spec: Field

    def __len__(self) -> int:
        return len(self.t)


Result = Series | SisockError


def lacks_catalogue(ask: Ask, answers: Mapping[str, Answered]) -> bool:
    """Whether the answer alone does not tell what a field is, or whether there is such a field."""
    held = {name for answer in answers.values() for name in answer.fields}
    return not held.issuperset(ask.fields)


def results(ask: Ask, answers: Mapping[str, Answered], catalogue: Catalogue | None = None) -> dict[str, Result]:
    """Each field's series or what is wrong with it alone; the catalogue is needed where `lacks_catalogue` says so."""
    offered = catalogue or Catalogue()
    blocks = {timeline: answer.block for timeline, answer in answers.items()}
    found: dict[str, Result] = {}
    for name in ask.fields:
        at = next((timeline for timeline, answer in answers.items() if name in answer.fields), None)
        if at is not None and name in blocks[at].columns:
            spec = answers[at].fields[name]
            # Arrow's schema says nothing of a field's timeline.
            found[name] = Series(blocks[at].t, blocks[at].columns[name], Field(spec.description, spec.units, spec.type, at))
        elif name in offered.fields:
            found[name] = Series(np.empty(0, np.int64), Column(np.empty(0)), offered.fields[name])
        elif at is not None:
            found[name] = Series(np.empty(0, np.int64), Column(np.empty(0)), answers[at].fields[name])
        else:
            found[name] = UnknownField(f"{ask.node} has no field {name!r:.80}. `sisock fields {ask.node}` lists them.")
    return found


def millis_json(t: Micros) -> bytes:
    """A JSON array of UNIX milliseconds, integers where they are whole."""
    whole = t % 1000 == 0
    if whole.all():
        return orjson.dumps(np.ascontiguousarray(t // 1000), option=_NUMPY)
    return orjson.dumps([int(ms) if is_whole else ms for ms, is_whole in zip((t / 1000).tolist(), whole.tolist(), strict=True)])


def column_json(column: Column) -> bytes:
    """A JSON array of values: null where there is none, for NaN and infinities, and for integers beyond 2^53."""
    values, kind = column.values, column.values.dtype.kind
    if kind == "f":
        return orjson.dumps(np.ascontiguousarray(values if column.valid is None else column.numbers()), option=_NUMPY)
    plain = column.valid is None and (kind == "b" or (kind == "i" and _exact(column)))
    return orjson.dumps(np.ascontiguousarray(values), option=_NUMPY) if plain else orjson.dumps(column.to_list())


def _exact(column: Column) -> bool:
    return not len(column) or bool(column.values.min() >= -EXACT and column.values.max() <= EXACT)


def cells(column: Column) -> list[bytes]:
    """The JSON of each value, as in `column_json`."""
    if column.values.dtype.kind == "O":
        return [orjson.dumps(value) for value in column.to_list()]
    return _split(column_json(column))


def millis(t: Micros) -> list[bytes]:
    """The JSON of each time, as in `millis_json`."""
    return _split(millis_json(t))


def _split(array: bytes) -> list[bytes]:
    return array[1:-1].split(b",") if len(array) > 2 else []


def rows_json(*columns: list[bytes]) -> bytes:
    """A JSON array of rows, of the JSON of their cells."""
    if not columns or not columns[0]:
        return b"[]"
    return b"[[" + b"],[".join(map(b",".join, zip(*columns, strict=True))) + b"]]"
