"""What the sensor hub's HTTP API says of itself, at `/openapi.json`."""

from __future__ import annotations

from typing import Any

from sisock.openapi import HEALTHZ, METRICS, REFUSED, answer, document

_NUMBER = {"type": "number"}
_STAMP = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", "description": "In UTC"}
_TEXT = {"type": "string"}
# Days that every month has; the others are taken, too.
_WHEN = r"^(19[789][1-9]|2\d\d\d)-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d$"
_SENSOR = {
    "name": "sensor",
    "in": "path",
    "required": True,
    "description": "The sensor's name, percent-encoded",
    "example": "temperature",
    "schema": {"type": "string", "minLength": 1},
}


def _reading(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


_SCHEMAS: dict[str, Any] = {
    "Reading": _reading(
        sensor={**_TEXT, "pattern": "^[^\u0000-\u001f\u007f-\u009f]{1,255}$"},
        value=_NUMBER,
        timestamp={**_TEXT, "pattern": _WHEN, "description": "UTC, unless it names a zone", "example": "2024-12-01 12:00:00"},
    ),
    "Current": _reading(sensor=_TEXT, timestamp=_STAMP, value=_NUMBER),
    "Raw": _reading(
        id={"type": "integer"}, sensor=_TEXT, timestamp={**_TEXT, "description": "As HTTP writes dates"}, value=_NUMBER
    ),
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# The readings, and then the number 200: JSON Schema's way to say so is not understood by all who read OpenAPI.
_ALL = {
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "items": {"oneOf": [{"type": "array", "items": _ref("Raw")}, {"const": 200}]},
}


def _get(summary: str, *told: Any, parameters: Any = ()) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": [*parameters], "responses": {"200": answer(summary, *told)}}}


DOCUMENT = document(
    "sensorhub",
    "Readings of sensors, and their newest values. They come on a Redis channel or stream, or here.",
    {
        "/healthcheck": _get("Whether the API works", _TEXT, "text/plain"),
        "/add_rawdata": {
            "post": {
                "summary": "Adds a reading; answered when it is durable",
                "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Reading")}}},
                "responses": {"201": answer("It is kept", _TEXT, "text/plain")},
            }
        },
        "/get_current_value/{sensor}": _get("The newest reading of a sensor by time", _ref("Current"), parameters=[_SENSOR]),
        "/sensordata/{sensor}": _get("All raw readings of a sensor, and the number 200", _ALL, parameters=[_SENSOR]),
        "/healthz": HEALTHZ,
        "/metrics": METRICS,
        "/refused": REFUSED,
    },
    _SCHEMAS,
)
