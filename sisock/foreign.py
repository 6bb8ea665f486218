"""Answers of nodes that override get_fields and get_data: checked, brought to the wire's form, downsampled for them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sisock.blocks import Block, Column, micros_of
from sisock.errors import InvalidArgument, NodeFailed, shown
from sisock.fields import Catalogue
from sisock.requests import MAX_TEXT, MAX_VALUES, DataRequest, Reading, Rows, answer, reduced, text_size
from sisock.times import MICROS, is_seconds


def takes_max_points(get_data: Any) -> bool:
    """Whether an override downsamples by itself."""
    parameters = inspect.signature(get_data).parameters
    return "max_points" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def catalogue(result: Any) -> Catalogue:
    """The catalogue that get_fields returned, as such or as [fields, timelines]; NodeFailed says what is wrong with it."""
    if isinstance(result, Catalogue):
        return result
    try:
        return Catalogue.from_wire(result)
    except InvalidArgument as error:
        raise NodeFailed(str(error)) from error


def finished(result: Any, request: DataRequest, offered: Catalogue | None) -> dict[str, Any] | bool:
    """The answer of what get_data returned; with what the node offers, at the resolution that was asked for."""
    answered = checked(result, request)
    if offered is not None:
        answered = downsampled(answered, request, offered)
    if isinstance(answered, bool):
        return answered
    values = [*answered["data"].values(), *(line["t"] for line in answered["timeline"].values())]
    too_long = sum(len(column) for column in values) > MAX_VALUES or sum(map(text_size, answered["data"].values())) > MAX_TEXT
    return False if too_long else answered


def checked(result: Any, request: DataRequest) -> dict[str, Any] | bool:
    """What get_data returned in the wire's form; NodeFailed says what is wrong with it, False is passed on.

    NumPy arrays become lists, NaN becomes null, a field that was asked for and is missing becomes [].
    """
    if result is False:
        return False
    if (
        not isinstance(result, Mapping)
        or not isinstance(result.get("data"), Mapping)
        or not isinstance(result.get("timeline"), Mapping)
    ):
        raise NodeFailed(f"get_data returned {type(result).__name__}, not {{'data': ..., 'timeline': ...}} or False")
    try:
        columns = {_name(name): Column.of(values, str(name)) for name, values in result["data"].items()}
        times = {_name(name): micros_of(line["t"]) for name, line in result["timeline"].items()}
        final = {str(name): _final(line.get("finalized_until")) for name, line in result["timeline"].items()}
        more = {_name(key): value for key, value in result.items() if key not in ("data", "timeline")}
        json.dumps(more, allow_nan=False)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise NodeFailed(f"get_data returned what is no data: {type(error).__name__}: {error}") from error
    lengths = {len(t) for t in times.values()}
    for name, column in columns.items():
        if len(column) and len(column) not in lengths:
            raise NodeFailed(f"get_data returned {len(column)} values of {name}, as long as no timeline is")
    return {
        **more,
        "data": {name: [] for name in request.fields} | {name: column.to_list() for name, column in columns.items()},
        "timeline": {name: {"t": (t / MICROS).tolist(), "finalized_until": final[name]} for name, t in times.items()},
    }


def _name(name: Any) -> str:
    """A name as text that the wire can carry."""
    text = str(name)
    text.encode()
    return text


def _final(value: Any) -> float | None:
    if value is None:
        return None
    if not is_seconds(value):
        raise InvalidArgument(f"finalized_until is a number of UNIX seconds or None, not {shown(value)}")
    return float(value)


def downsampled(result: dict[str, Any] | bool, request: DataRequest, offered: Catalogue) -> dict[str, Any] | bool:
    """The answer of a node that reduces nothing itself, at the resolution that was asked for."""
    if isinstance(result, bool):
        return result
    return answer(request, offered, _readings(result, request, offered))


def rows(result: Any, request: DataRequest, offered: Catalogue) -> list[Rows]:
    """What get_data returned as blocks, at the resolution that was asked for."""
    answered = checked(result, request)
    if isinstance(answered, bool):
        return []
    # Arrow has NaN and integers of 64 bits, which lists have not.
    answered["data"] |= {str(name): Column.of(values) for name, values in result["data"].items()}
    found = []
    for name, reading in _readings(answered, request, offered).items():
        block, before = reduced(request, reading.block.columns, reading)
        fields = {field: offered.fields[field] for field in block.columns}
        about = replace(reading, block=block, rows=before if request.reduces else None)
        found.append(Rows(name, fields, iter([block]), about))
    return found


def _readings(result: dict[str, Any], request: DataRequest, offered: Catalogue) -> dict[str, Reading]:
    readings: dict[str, Reading] = {}
    for name, line in result["timeline"].items():
        on_it = [field for field in request.fields if field in offered.fields and offered.fields[field].timeline == name]
        try:
            block = Block.of(line["t"], {field: result["data"][field] for field in on_it if len(result["data"][field])})
        except InvalidArgument as error:
            raise NodeFailed(f"get_data returned what does not fit the timeline {name!r} of get_fields: {error}") from error
        readings[name] = Reading(block, line["finalized_until"])
    return readings
