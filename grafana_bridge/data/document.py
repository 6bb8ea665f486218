"""What the data API says of itself, at `/openapi.json` for programs and at `/api` for people."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from sisock.downsample import METHODS
from sisock.grafana_bridge.data.asked import MAX_FIELDS, MAX_POINTS
from sisock.grafana_bridge.data.forms import FORMS, TYPES
from sisock.openapi import HEALTHZ, answer, document

_TEXT = {"type": "string"}
_SOME_TEXT = {**_TEXT, "minLength": 1}
_LABEL = {"type": ["string", "null"]}
_NUMBER = {"type": ["number", "null"]}
_CELL = {"type": ["number", "string", "boolean", "null"]}
_TIME = "UNIX seconds, a date such as 2017-07-14T12:30 (UTC), or -10m for ten minutes ago"


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_TOLD = {"units": _LABEL, "description": _LABEL, "type": {**_TEXT, "enum": ["number", "string", "bool"]}}
_TIMELINE = _object(interval=_NUMBER, field=_list(_TEXT))
_ROWS = _object(
    timeline=_TEXT,
    fields={"type": "object", "additionalProperties": _object(**_TOLD)},
    columns=_list(_TEXT),
    rows=_list(_list(_CELL)),
)
_SCHEMAS: dict[str, Any] = {
    "Node": _object(name=_TEXT, description=_TEXT),
    "Fields": _object(
        fields={"type": "object", "additionalProperties": _object(**_TOLD, timeline=_TEXT)},
        timelines={"type": "object", "additionalProperties": _TIMELINE},
    ),
    "Rows": _object(node=_TEXT, timelines=_list(_ROWS), answered={"type": "object"}),
    "Ticket": _object(ticket=_TEXT, expires_in={"type": "number"}),
}


def _parameter(name: str, text: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema, **more}


_NODE = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The name of a node",
    "schema": _SOME_TEXT,
    "example": "sensors",
}
_FIELDS = _parameter(
    "field",
    "A field; again for each other one",
    {"type": "array", "items": {**_SOME_TEXT, "maxLength": 255}, "minItems": 1, "maxItems": MAX_FIELDS},
    required=True,
    style="form",
    explode=True,
    example=["cpu_load"],
)
_START = _parameter("start", f"Rows from here on: {_TIME}", _TEXT)
_END = _parameter("end", f"Rows before this: {_TIME}", _TEXT)
_FEWER = (
    _parameter(
        "max_points",
        "At most about so many rows of each timeline: the extremes of each pixel",
        {"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
    ),
    _parameter("min_stride", "Rows at least so far apart, such as 30s", _TEXT),
    _parameter("method", "How they are made fewer", {**_TEXT, "enum": list(METHODS)}),
)
_FORM = _parameter("format", "The form; else what Accept names", {**_TEXT, "enum": list(FORMS)})


def _get(summary: str, answered: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": [*parameters], "responses": {"200": answered}}}


_FORMS = {
    "description": "The rows, streamed as they are read",
    "content": {TYPES[form].partition(";")[0]: {"schema": _ref("Rows") if form == "json" else {}} for form in FORMS},
}
_EVENTS = {"description": "Events `rows`, `gap` and `error`", "content": {"text/event-stream": {}}}

DOCUMENT = document(
    "sisock",
    "Nodes, their fields and their rows: history at any resolution, and live.",
    {
        "/api": _get("This document, for people", {"description": "A page", "content": {"text/html": {}}}),
        "/api/nodes": _get("The nodes that are there", answer("The nodes, oldest first", _list(_ref("Node")))),
        "/api/nodes/{name}/fields": _get(
            "What a node offers", answer("Its fields and timelines", _ref("Fields")), _NODE, _START, _END
        ),
        "/api/nodes/{name}/data": _get("Rows of a node", _FORMS, _NODE, _FIELDS, _START, _END, *_FEWER, _FORM),
        "/api/nodes/{name}/live": _get(
            "Rows as they come, as server-sent events",
            _EVENTS,
            _NODE,
            _FIELDS,
            _parameter("start", f"What is there from here on comes first: {_TIME}", _TEXT),
            _parameter("ticket", "A ticket, for an EventSource, which sends no header", _TEXT),
            _parameter("last_event_id", "The id of the last event seen, to go on behind it", _TEXT),
        ),
        "/api/tickets": {
            "post": {
                "summary": "A ticket that lets in once, for an address",
                "responses": {"200": answer("The ticket, and for how many seconds", _ref("Ticket"))},
            }
        },
        "/healthz": HEALTHZ,
    },
    _SCHEMAS,
)

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "code{background:#eef1f4;padding:.1rem .3rem;border-radius:3px}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #d7dce1}h2{margin-top:2.5rem}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}a{color:#58a6ff}code{background:#21262d}"
    "td,th{border-color:#30363d}}"
)


@cache
def page() -> bytes:
    """The document as a page for people, which loads nothing from elsewhere."""
    parts = [
        f"<h1>sisock: the data API</h1><p>{escape(DOCUMENT['info']['description'])}</p>",
        '<p>For programs: <a href="/openapi.json"><code>/openapi.json</code></a> (OpenAPI 3.1). Whoever needs a token sends',
        " <code>Authorization: Bearer USER:SECRET</code>, or Basic. Whatever goes wrong is answered as",
        ' <code>{"error": {"code", "message"}}</code>, with a status of 400 or more.</p>',
    ]
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>")
            parameters = operation.get("parameters")
            if parameters:
                rows = "".join(map(_row, parameters))
                parts.append(f"<table><tr><th>Parameter</th><th>What</th><th>Values</th></tr>{rows}</table>")
            answers = "".join(
                _answer(status, told) for status, told in sorted(operation["responses"].items()) if status != "default"
            )
            parts.append(f"<table><tr><th>Status</th><th>What</th><th>Form</th></tr>{answers}</table>")
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>sisock</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>".encode()


def _row(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    values = ", ".join(schema.get("enum", [])) or schema["type"]
    needed = " (needed)" if parameter.get("required") else ""
    name = f"<code>{escape(parameter['name'])}</code>{needed}"
    return f"<tr><td>{name}</td><td>{escape(parameter['description'])}</td><td>{escape(values)}</td></tr>"


def _answer(status: str, told: dict[str, Any]) -> str:
    form = ", ".join(told.get("content", {}))
    return f"<tr><td>{status}</td><td>{escape(told['description'])}</td><td>{escape(form)}</td></tr>"
