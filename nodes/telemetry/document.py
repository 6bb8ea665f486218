"""What the telemetry's HTTP API says of itself, at `/openapi.json`."""

from __future__ import annotations

from typing import Any

from sisock.nodes.telemetry.source import MAX_TIMESTAMP
from sisock.openapi import HEALTHZ, METRICS, REFUSED, answer, document

_DESCRIPTION = (
    "Where robots are, and how far they have come. Robots report over the WebSocket /upstream: a text frame "
    "`x,y,timestamp,robot` is an event, answered OK once it is stored and ERR where it is not understood."
)
_TIME = {"type": "string", "format": "date-time"}
_METRES = {"type": "number"}
_MILLISECONDS = {"type": "integer", "minimum": 0, "maximum": MAX_TIMESTAMP}
_SCHEMAS: dict[str, Any] = {
    "Robot": {
        "type": "object",
        "required": ["name", "odometer", "last_x", "last_y", "created_time", "updated_time", "removed_time"],
        "properties": {
            "name": {"type": "string"},
            "odometer": {**_METRES, "description": "All that it has travelled, in metres"},
            "last_x": _METRES,
            "last_y": _METRES,
            "created_time": {**_TIME, "description": "Its first event"},
            "updated_time": {"type": ["string", "null"], "format": "date-time", "description": "Its last; null after one"},
            "removed_time": {"const": 0},
        },
        "additionalProperties": False,
    },
    "Event": {
        "type": "object",
        "required": ["robot", "x", "y", "timestamp"],
        "properties": {"robot": {"type": "string"}, "x": _METRES, "y": _METRES, "timestamp": _MILLISECONDS},
        "additionalProperties": False,
    },
    "Odometer": {
        "type": "object",
        "required": ["odometer", "robot"],
        "properties": {"odometer": _METRES, "robot": {"type": "string"}},
        "additionalProperties": False,
    },
}
_NAME = {
    "name": "robot",
    "in": "path",
    "required": True,
    "description": "The robot's name, percent-encoded: a / in it is %2F",
    "example": "rover",
    "schema": {"type": "string", "minLength": 1},
}
_WINDOW = [
    {"name": name, "in": "query", "description": f"The {end} event in milliseconds, included", "schema": _MILLISECONDS}
    for name, end in (("start_time", "first"), ("end_time", "last"))
]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _get(summary: str, schema: dict[str, Any], parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": parameters, "responses": {"200": answer(summary, schema)}}}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


DOCUMENT = document(
    "telemetry",
    _DESCRIPTION,
    {
        "/api/robots": _get("All robots that have reported", _list("Robot"), []),
        "/api/robots/{robot}": _get("One robot", _ref("Robot"), [_NAME]),
        "/api/robots/{robot}/events": _get("Its events, by time", _list("Event"), [_NAME, *_WINDOW]),
        "/api/robots/{robot}/odometer": _get("The way it has come", _ref("Odometer"), [_NAME, *_WINDOW]),
        "/healthz": HEALTHZ,
        "/metrics": METRICS,
        "/refused": REFUSED,
    },
    _SCHEMAS,
)
