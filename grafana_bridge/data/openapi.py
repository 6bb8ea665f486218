"""The data API's own description, in OpenAPI 3.1, and a page that shows it without loading anything from elsewhere."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from sisock.downsample import METHODS
from sisock.grafana_bridge.data.asked import MAX_FIELDS, MAX_POINTS
from sisock.grafana_bridge.data.forms import FORMS, TYPES

_TEXT = {"type": "string", "minLength": 1}
_TIME = "UNIX seconds, a date such as 2017-07-14T12:30 (UTC), or -10m for ten minutes ago"
_ERRORS = {
    "400": "An argument is of the wrong type or range; the message names it",
    "401": "No token came, or one that is not believed",
    "403": "This user may not do that",
    "404": "There is no such node or field",
    "503": "The site is not connected, or too much is asked at once: try again",
}


def _parameter(name: str, text: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema, **more}


def _node() -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "description": "The name of a node", "schema": _TEXT}


def _fields() -> dict[str, Any]:
    schema = {"type": "array", "items": {**_TEXT, "maxLength": 255}, "minItems": 1, "maxItems": MAX_FIELDS}
    return _parameter("field", "A field; again for each other one", schema, required=True, style="form", explode=True)


def _operation(
    summary: str, name: str, answer: dict[str, Any], *parameters: dict[str, Any], fails: str = "400 401 403 404 503"
) -> Any:
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    more = {status: {"description": _ERRORS[status], **error} for status in fails.split()}
    failed = {"description": "The node failed, or something else did", **error}
    return {
        "summary": summary,
        "operationId": name,
        "parameters": list(parameters),
        "responses": {"200": answer, **more, "500": failed, "502": failed, "504": failed, "413": failed, "429": failed},
    }


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


@cache
def specification() -> dict[str, Any]:
    """The description."""
    start = _parameter("start", f"Rows from here on: {_TIME}", _TEXT)
    end = _parameter("end", f"Rows before this: {_TIME}", _TEXT)
    rows = {
        "description": "The rows, streamed as they are read",
        "content": {
            TYPES[form].partition(";")[0]: {"schema": {"$ref": "#/components/schemas/Rows"} if form == "json" else {}}
            for form in FORMS
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sisock",
            "version": "1",
            "description": "Nodes, their fields and their rows: history at any resolution, and live.",
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": {
            "/api/nodes": {
                "get": _operation(
                    "The nodes that are there",
                    "nodes",
                    _json("The nodes, oldest first", {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}),
                    fails="400 401 503",
                )
            },
            "/api/nodes/{name}/fields": {
                "get": _operation(
                    "What a node offers",
                    "fields",
                    _json("Its fields and timelines", {"$ref": "#/components/schemas/Fields"}),
                    _node(),
                    start,
                    end,
                )
            },
            "/api/nodes/{name}/data": {
                "get": _operation(
                    "Rows of a node",
                    "data",
                    rows,
                    _node(),
                    _fields(),
                    start,
                    end,
                    _parameter(
                        "max_points",
                        "At most about so many rows of each timeline: the extremes of each pixel",
                        {"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
                    ),
                    _parameter("min_stride", "Rows at least so far apart, such as 30s", _TEXT),
                    _parameter("method", "How they are made fewer", {"type": "string", "enum": list(METHODS)}),
                    _parameter("format", "The form; else what Accept names", {"type": "string", "enum": list(FORMS)}),
                )
            },
            "/api/nodes/{name}/live": {
                "get": _operation(
                    "Rows as they come, as server-sent events",
                    "live",
                    {"description": "Events `rows`, `gap` and `error`", "content": {"text/event-stream": {}}},
                    _node(),
                    _fields(),
                    _parameter("start", f"What is there from here on comes first: {_TIME}", _TEXT),
                    _parameter("ticket", "A ticket, for an EventSource, which sends no header", _TEXT),
                    _parameter("last_event_id", "The id of the last event seen, to go on behind it", _TEXT),
                )
            },
            "/api/tickets": {
                "post": _operation(
                    "A ticket that lets in once, for an address",
                    "tickets",
                    _json(
                        "The ticket, and for how many seconds",
                        {
                            "type": "object",
                            "required": ["ticket", "expires_in"],
                            "properties": {"ticket": {"type": "string"}, "expires_in": {"type": "number"}},
                        },
                    ),
                    fails="401 403 503",
                )
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "USER:SECRET, or a JSON Web Token"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "schemas": _schemas(),
        },
    }


def _schemas() -> dict[str, Any]:
    text, label = {"type": "string"}, {"type": ["string", "null"]}
    number = {"type": ["number", "null"]}
    cell = {"type": ["number", "string", "boolean", "null"]}
    kind = {"type": "string", "enum": ["number", "string", "bool"]}
    told = {"units": label, "description": label, "type": kind}

    def thing(required: str, properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "required": required.split(), "properties": properties}

    field = thing("description timeline type units", {**told, "timeline": text})
    line = thing("interval field", {"interval": number, "field": {"type": "array", "items": text}})
    return {
        "Error": thing("error", {"error": thing("code message", {"code": text, "message": text})}),
        "Node": thing("name description", {"name": text, "description": text}),
        "Fields": thing(
            "fields timelines",
            {
                "fields": {"type": "object", "additionalProperties": field},
                "timelines": {"type": "object", "additionalProperties": line},
            },
        ),
        "Rows": thing(
            "node timelines answered",
            {
                "node": text,
                "timelines": {
                    "type": "array",
                    "items": thing(
                        "timeline fields columns rows",
                        {
                            "timeline": text,
                            "fields": {"type": "object", "additionalProperties": thing("units description type", told)},
                            "columns": {"type": "array", "items": text},
                            "rows": {"type": "array", "items": {"type": "array", "items": cell}},
                        },
                    ),
                },
                "answered": {"type": "object"},
            },
        ),
    }


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "code{background:#eef1f4;padding:.1rem .3rem;border-radius:3px}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #d7dce1}h2{margin-top:2.5rem}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}code{background:#21262d}td,th{border-color:#30363d}}"
)


@cache
def page() -> bytes:
    """The description as a page for people."""
    spec = specification()
    parts = [f"<h1>{escape(spec['info']['title'])}: the data API</h1><p>{escape(spec['info']['description'])}</p>"]
    parts.append('<p>For programs: <a href="/api/openapi.json"><code>/api/openapi.json</code></a> (OpenAPI 3.1). Who needs a')
    parts.append("token sends <code>Authorization: Bearer USER:SECRET</code>, or Basic.</p>")
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>")
            if operation["parameters"]:
                rows = "".join(map(_row, operation["parameters"]))
                parts.append(f"<table><tr><th>Parameter</th><th>What</th><th>Values</th></tr>{rows}</table>")
            rows = "".join(_answer(*one) for one in sorted(operation["responses"].items()))
            parts.append(f"<table><tr><th>Status</th><th>What</th><th>Form</th></tr>{rows}</table>")
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>sisock</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>".encode()


def _row(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    values = ", ".join(schema.get("enum", [])) or schema["type"]
    needed = " (needed)" if parameter.get("required") else ""
    name = f"<code>{escape(parameter['name'])}</code>{needed}"
    return f"<tr><td>{name}</td><td>{escape(parameter['description'])}</td><td>{escape(values)}</td></tr>"


def _answer(status: str, answer: dict[str, Any]) -> str:
    form = ", ".join(answer.get("content", {}))
    return f"<tr><td>{status}</td><td>{escape(answer['description'])}</td><td>{escape(form)}</td></tr>"
