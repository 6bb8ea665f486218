"""What the streams' HTTP API says of itself, at `/openapi.json`."""

from __future__ import annotations

from typing import Any

from sisock.nodes.streams.message import MAX_ID
from sisock.nodes.streams.producers.http import MAX_MESSAGES
from sisock.openapi import HEALTHZ, METRICS, REFUSED, answer, document

_DESCRIPTION = (
    "What producers send to the subscribers of a site. Subscribers open the WebSocket `/{stage}?site=SITE`, with "
    '`&topic=a,b` and `&since=-10m` where they want that, and get text messages `{"site", "topic", "data"}`. Queue clients '
    "find GetQueueUrl, SendMessage and SendMessageBatch of SQS at `/`."
)
# The names of a site and a topic are those of a timeline together, of 255 characters, percent-encoded.
_NAME = {"type": "string", "pattern": "^[^\u0000-\u001f\u007f-\u009f]{1,36}$"}
_SCHEMAS: dict[str, Any] = {
    "Message": {
        "type": "object",
        "required": ["site", "topic", "data"],
        "properties": {
            "site": {**_NAME, "example": "dome"},
            "topic": {**_NAME, "example": "weather"},
            "data": {"description": "Passed on as it is written", "example": {"temperature_C": 8.5}},
            "id": {
                "type": ["string", "null"],
                "pattern": f"^[^\u0000-\u001f\u007f-\u009f]{{1,{MAX_ID}}}$",
                "description": "With it the message is kept and sent once, however often it comes",
            },
        },
    },
    "Stored": {"type": "object", "required": ["stored"], "properties": {"stored": {"type": "integer"}}},
}
_MESSAGE = {"$ref": "#/components/schemas/Message"}
_STAGE = {
    "name": "stage",
    "in": "path",
    "required": True,
    "description": "One of the stages that are served",
    "example": "prod",
    "schema": {"type": "string", "minLength": 1},
}


def _query(name: str, description: str, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": {"type": "string"}}


DOCUMENT = document(
    "streams",
    _DESCRIPTION,
    {
        "/{stage}": {
            "get": {
                "summary": "The subscribers' WebSocket",
                "parameters": [
                    _STAGE,
                    _query("site", "What one subscribes to", True),
                    _query("topic", "Only these topics, with commas between"),
                    _query("since", "What was kept since then first: UNIX seconds, -10m, 2026-07-14T12:30"),
                ],
                "responses": {"101": {"description": "It is open"}},
            },
            "post": {
                "summary": "Sends a message, or a list of them, all or none; answered when it is durable and handed on",
                "parameters": [_STAGE],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"oneOf": [_MESSAGE, {"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES}]}
                        }
                    },
                },
                "responses": {"201": answer("How many there were", {"$ref": "#/components/schemas/Stored"})},
            },
        },
        "/healthz": HEALTHZ,
        "/metrics": METRICS,
        "/refused": REFUSED,
    },
    _SCHEMAS,
)
