"""OpenAPI: what a face that speaks HTTP says of itself at `/openapi.json`.

    DOCUMENT = document("telemetry", "Where robots are.", {"/api/robots": {"get": {...}}, "/healthz": HEALTHZ})
    offer(app, DOCUMENT)
    assert not differences(app, DOCUMENT)        # the face's test: what is written is what is there

A document is written by hand, beside the routes. Whatever goes wrong is answered in one shape, `ERROR`, by every operation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sisock.http import reply_encoded, to_json

if TYPE_CHECKING:
    from klein import Klein

PATH = "/openapi.json"

ERROR: dict[str, Any] = {
    "description": "What went wrong, and what to do",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}


def answer(description: str, schema: Mapping[str, Any], media: str = "application/json") -> dict[str, Any]:
    """A response of that JSON schema."""
    return {"description": description, "content": {media: {"schema": dict(schema)}}}


_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
HEALTHZ: dict[str, Any] = {
    "get": {
        "summary": "Whether all is well; nobody needs a token to ask",
        "responses": {"200": answer("All is well", _STATUS), "503": answer("It waits for something, as it says", _STATUS)},
    }
}
REFUSED: dict[str, Any] = {
    "get": {
        "summary": "What came and was not taken, and why: the newest of it",
        "responses": {"200": answer("What was refused", {"type": "object"})},
    }
}
METRICS: dict[str, Any] = {
    "get": {
        "summary": "Counters and gauges, as Prometheus reads them",
        "responses": {"200": answer("Metrics", {"type": "string"}, "text/plain")},
    }
}


def document(
    name: str, description: str, paths: Mapping[str, Mapping[str, Any]], schemas: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The OpenAPI document of a face: each operation may also be answered with an error, and may need a token.

    `paths` are OpenAPI's path items, `schemas` what they refer to under `#/components/schemas/`.
    """
    items = {
        path: {method: _operation(told) if isinstance(told, dict) else told for method, told in item.items()}
        for path, item in paths.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "description": description, "version": version("sisock")},
        "paths": items,
        "security": [{}, {"bearer": []}, {"basic": []}],
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA, **(schemas or {})},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "USER:SECRET, or a JSON Web Token"},
                "basic": {"type": "http", "scheme": "basic", "description": "A user of the site and the secret"},
            },
        },
    }


def _operation(told: Mapping[str, Any]) -> dict[str, Any]:
    return {**told, "responses": {**told.get("responses", {}), "default": ERROR}}


def offer(app: Klein, told: Mapping[str, Any]) -> None:
    """Adds `GET /openapi.json` to a face."""
    body = to_json(told)

    def openapi(request: Any) -> bytes:
        return reply_encoded(request, body)

    app.route(PATH, methods=["GET"])(openapi)


def differences(app: Klein, told: Mapping[str, Any]) -> set[str]:
    """The routes that only the application or only the document has, as `GET /api/robots/{}`; none if they agree."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule != PATH]
    there = {
        f"{method} {re.sub('<[^>]*>', '{}', rule.rule)}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    written = {
        f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}"
        for path, item in told["paths"].items()
        for method in item
        if method != "parameters"
    }
    return there ^ written
