"""Data frames, as Grafana's JSON data source hands them on: columns with their units, labels and notices. Pure functions.

A frame has no `length`: with one, Grafana takes it for one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from sisock.errors import SisockError
from sisock.grafana_bridge.notes import Note
from sisock.grafana_bridge.queries import Target
from sisock.grafana_bridge.series import Result, Series, column_json, millis_json
from sisock.grafana_bridge.simplejson import COLUMN_TYPES
from sisock.grafana_bridge.units import grafana_unit
from sisock.http import error_shape


def frame(target: Target, result: Result) -> dict[str, Any]:
    """The frame of a target's series, or of what is wrong with it."""
    if isinstance(result, SisockError):
        return {**_head(target), "fields": [], **failed(result)}
    return {
        **_head(target),
        "fields": [
            {"name": "Time", "type": "time", "config": {}, "values": orjson.Fragment(millis_json(result.t))},
            _values(target, result),
        ],
    }


def _head(target: Target) -> dict[str, Any]:
    return {"name": target.name, "refId": target.ref_id}


def failed(error: SisockError) -> dict[str, Any]:
    """What says to a panel, and to a program, that its target failed."""
    return {"meta": {"notices": [{"severity": "error", "text": str(error)}]}, **error_shape(error.uri, str(error))}


def _values(target: Target, series: Series) -> dict[str, Any]:
    spec = series.spec
    config = {"displayNameFromDS": target.name, "unit": grafana_unit(spec.units), "description": spec.description}
    return {
        "name": target.field,
        "type": COLUMN_TYPES[spec.type],
        "labels": {"node": target.node},
        "config": {name: value for name, value in config.items() if value is not None},
        "values": orjson.Fragment(column_json(series.column)),
    }


def notes_frame(target: Target, notes: Sequence[Note] | SisockError) -> dict[str, Any]:
    """Annotations as a frame: Grafana knows its columns by their names."""
    if isinstance(notes, SisockError):
        return {**_head(target), "fields": [], **failed(notes)}
    columns: list[tuple[str, str, list[Any]]] = [
        ("time", "time", [note.start_ms for note in notes]),
        ("timeEnd", "time", [note.end_ms for note in notes]),
        ("title", "string", [note.title for note in notes]),
        ("text", "string", [note.text for note in notes]),
        ("tags", "other", [list(note.tags) for note in notes]),
    ]
    return {
        **_head(target),
        "fields": [{"name": name, "type": kind, "config": {}, "values": values} for name, kind, values in columns],
    }
