"""The JSON data source's dialect beside /query: metrics and their payloads, variables, ad hoc filters. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

from sisock.downsample import METHODS
from sisock.errors import InvalidArgument, shown
from sisock.fields import Catalogue
from sisock.grafana_bridge.filters import KEYS
from sisock.grafana_bridge.queries import FORMATS, MAX_NAMES, SEPARATOR, as_object, matching, spelled_out, written

Catalogues = Mapping[str, Catalogue]

_METHODS = {
    "minmax": "minimum and maximum of each pixel",
    "lttb": "what keeps the shape (LTTB)",
    "mean": "mean",
    "last": "last value",
}
_NOTES = {"#nodes": "Nodes that came and went", "#gaps": "Gaps of a node", "#corrections": "Corrections of a node"}


def metrics(body: Any, offered: Catalogues) -> list[dict[str, Any]]:
    """What `POST /metrics` answers: each node, whose payload takes fields, and then each field by itself."""
    given = as_object("the body", {} if body is None else body).get("metric")
    if given is not None and not isinstance(given, str):
        raise InvalidArgument(f"metric is text, not {shown(given)}")
    nodes = (_metric(node, f"{node} (choose fields)", _field_payload(offered[node])) for node in offered)
    fields = (_metric(written(name), name, []) for name in names(offered))
    return list(islice(chain(nodes, fields), MAX_NAMES))


def _metric(value: str, label: str, first: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "label": label,
        "value": value,
        "payloads": [
            *first,
            {"name": "method", "label": "Made fewer by", "type": "select", "placeholder": "minmax", "options": _methods()},
            {
                "name": "format",
                "label": "Format",
                "type": "select",
                "placeholder": "frame",
                "options": [{"label": one, "value": one} for one in FORMATS],
            },
        ],
    }


def _field_payload(catalogue: Catalogue) -> list[dict[str, Any]]:
    # Options are left out, so that they are asked for when the list is opened: there may be thousands.
    shown = f"of {len(catalogue.fields)}"
    return [{"name": "field", "label": "Fields", "type": "multi-select", "placeholder": shown, "width": 40}]


def _methods() -> list[dict[str, str]]:
    return [{"label": _METHODS.get(method, method), "value": method} for method in METHODS]


def payload_options(body: Any, offered: Catalogues) -> list[dict[str, str]]:
    """What `POST /metric-payload-options` answers: the values that one part of a payload may take."""
    asked = as_object("the body", body)
    match asked.get("name"):
        case "method":
            return _methods()
        case "format":
            return [{"label": one, "value": one} for one in FORMATS]
        case "field":
            metric = asked.get("metric")
            if not isinstance(metric, str):
                raise InvalidArgument(f"metric is the name of a node, not {shown(metric)}")
            nodes = [one.partition(SEPARATOR)[0] for one in spelled_out(metric)]
            fields = dict.fromkeys(field for node in nodes if node in offered for field in offered[node].fields)
            return [{"label": name, "value": written(name)} for name in islice(fields, MAX_NAMES)]
        case name:
            raise InvalidArgument(f"name is field, method or format, not {shown(name)}")


def variable(body: Any, offered: Catalogues) -> list[dict[str, str]]:
    """What `POST /variable` answers: `nodes`, `fields` (of a `node`), `units` or `notes`, else names that contain the text."""
    payload = as_object("the body", body).get("payload")
    if isinstance(payload, str):
        payload = {"target": payload}
    asked = as_object("payload", {} if payload is None else payload)
    target, node = asked.get("target", ""), asked.get("node")
    if not isinstance(target, str) or not (node is None or isinstance(node, str)):
        raise InvalidArgument("payload is text, or an object of texts: target and node")
    chosen = offered if node is None else {name: offered[name] for name in spelled_out(node) if name in offered}
    match target:
        case "nodes":
            return _options(chosen)
        case "fields":
            return _options(dict.fromkeys(field for one in chosen.values() for field in one.fields))
        case "units":
            return _options(_units(chosen))
        case "notes":
            return [{"__text": text, "__value": value} for value, text in _NOTES.items()]
    return _options(name for text in spelled_out(target) for name in matching(names(chosen), text))


def tag_keys() -> list[dict[str, str]]:
    """What targets can be filtered by."""
    return [{"type": "string", "text": key} for key in KEYS]


def tag_values(body: Any, offered: Catalogues) -> list[dict[str, str]]:
    """The values that there are of one of these."""
    match as_object("the body", body).get("key"):
        case "node":
            found: Iterable[str] = offered
        case "field":
            found = dict.fromkeys(field for one in offered.values() for field in one.fields)
        case "units":
            found = _units(offered)
        case "type":
            found = sorted({spec.type for one in offered.values() for spec in one.fields.values()})
        case key:
            raise InvalidArgument(f"a filter's key is one of {', '.join(KEYS)}, not {shown(key)}")
    return [{"text": text} for text in islice(found, MAX_NAMES)]


def names(offered: Catalogues) -> Iterable[str]:
    """All that can be a target: node::field, in the hub's order."""
    return (f"{node}{SEPARATOR}{field}" for node, catalogue in offered.items() for field in catalogue.fields)


def _units(offered: Catalogues) -> list[str]:
    return sorted({spec.units for one in offered.values() for spec in one.fields.values() if spec.units})


def _options(found: Iterable[str]) -> list[dict[str, str]]:
    return [{"__text": text, "__value": text} for text in islice(found, MAX_NAMES)]
