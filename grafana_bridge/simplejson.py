"""The shapes that Grafana's SimpleJson data source reads: time series, tables and their errors. Pure functions."""

from __future__ import annotations

from typing import Any

import orjson

from sisock.errors import SisockError
from sisock.fields import FieldType
from sisock.grafana_bridge.queries import Target
from sisock.grafana_bridge.series import Result, Series, cells, millis, rows_json
from sisock.http import error_shape

COLUMN_TYPES: dict[FieldType, str] = {"number": "number", "string": "string", "bool": "boolean"}


def shape(target: Target, result: Result) -> dict[str, Any]:
    """A target's part of the answer; the rows in it are JSON already."""
    if isinstance(result, SisockError):
        return _error(target, result)
    shaped = _table(target, result) if target.kind == "table" else _timeserie(target, result)
    return shaped | {"refId": target.ref_id} if target.is_framed else shaped


def _timeserie(target: Target, series: Series) -> dict[str, Any]:
    return {"target": target.name, "datapoints": orjson.Fragment(rows_json(cells(series.column), millis(series.t)))}


def _table(target: Target, series: Series) -> dict[str, Any]:
    return {
        "type": "table",
        "columns": [{"text": "Time", "type": "time"}, {"text": target.field, "type": COLUMN_TYPES[series.spec.type]}],
        "rows": orjson.Fragment(rows_json(millis(series.t), cells(series.column))),
    }


def _error(target: Target, error: SisockError) -> dict[str, Any]:
    empty: dict[str, Any] = {"type": "table", "columns": [], "rows": []} if target.kind == "table" else {"datapoints": []}
    answer = {"target": target.name, **empty, **error_shape(error.uri, str(error))}
    return answer if target.ref_id is None else answer | {"refId": target.ref_id}
