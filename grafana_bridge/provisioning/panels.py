"""Panels: the few kinds that the dashboards are made of, and their JSON as Grafana 10 to 13 read it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sisock.grafana_bridge.units import grafana_unit

Kind = Literal["timeseries", "bars", "band", "stat", "gauge", "table", "map"]
JSON = dict[str, Any]

# The variable that says which data source is asked; its first value is the one that is provisioned.
SOURCE: JSON = {"type": "prometheus", "uid": "${source}"}
# What Grafana calls each kind.
TYPES: Mapping[Kind, str] = {
    "timeseries": "timeseries",
    "bars": "timeseries",
    "band": "timeseries",
    "stat": "stat",
    "gauge": "gauge",
    "table": "table",
    "map": "xychart",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A query in PromQL. `legend` names its series; of a table it names the column, whose `units` are a field's label."""

    expr: str
    legend: str = ""
    units: str | None = None
    every: str = ""
    """The least step, where samples are rarer than pixels."""


def a_minute(expr: str) -> str:
    """What a query counts in each pixel of time, as so many a minute."""
    return f"{expr} * 60000 / $__interval_ms"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard. `units` is a field's label; `steps` are the values from which it is yellow, and red."""

    title: str
    description: str
    queries: tuple[Query, ...]
    units: str | None = None
    kind: Kind = "timeseries"
    width: int = 12
    height: int = 8
    least: float | None = None
    most: float | None = None
    decimals: int | None = None
    steps: tuple[float, ...] = ()
    hidden: tuple[str, ...] = ("Time",)
    """Columns of a table that nobody needs."""

    def to_json(self, number: int, x: int, y: int) -> JSON:
        """The panel as a part of a dashboard, at a place of its grid."""
        made = {
            "id": number,
            "type": TYPES[self.kind],
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": [self._target(query, "ABCDEFGH"[place]) for place, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": _OPTIONS[self.kind],
        }
        transformations = self._transformations()
        return made | {"transformations": transformations} if transformations else made

    def _target(self, query: Query, ref: str) -> JSON:
        # What is of the whole time shown has one value, at its end.
        now = self.kind == "table" or "$__range" in query.expr
        target: JSON = {
            "refId": ref,
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "format": "table" if self.kind == "table" else "time_series",
            "instant": now,
            "range": not now,
            "legendFormat": "" if self.kind == "table" else query.legend,
        }
        return target | {"interval": query.every} if query.every else target

    def _defaults(self) -> JSON:
        defaults: JSON = {"custom": _CUSTOM[self.kind]} if self.kind in _CUSTOM else {}
        told = {"unit": grafana_unit(self.units), "min": self.least, "max": self.most, "decimals": self.decimals}
        defaults |= {name: value for name, value in told.items() if value is not None}
        if self.steps or self.kind in ("stat", "gauge"):
            colors = [("green", None), *zip(("yellow", "red"), self.steps, strict=False)]
            steps = [{"color": color, "value": value} for color, value in colors]
            defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
        return defaults

    def _overrides(self) -> list[JSON]:
        if self.kind == "band":
            # Between the extremes of each pixel.
            edge = [("custom.lineWidth", 0), ("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})]
            return [
                _override("maximum", [*edge, ("custom.fillBelowTo", "minimum"), ("custom.fillOpacity", 20)]),
                _override("minimum", edge),
            ]
        if self.kind == "table":
            return [_override(query.legend, [("unit", grafana_unit(query.units))]) for query in self.queries if query.units]
        return []

    def _transformations(self) -> list[JSON]:
        if self.kind == "map":
            return [{"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}}]
        if self.kind != "table":
            return []
        single = len(self.queries) == 1
        names = {"Value" if single else f"Value #{'ABCDEFGH'[n]}": query.legend for n, query in enumerate(self.queries)}
        hidden = dict.fromkeys(self.hidden, True)
        organize = {"excludeByName": hidden, "indexByName": {}, "renameByName": {"__name__": "metric", **names}}
        return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _override(name: str, properties: list[tuple[str, Any]]) -> JSON:
    told = [{"id": one, "value": value} for one, value in properties]
    return {"matcher": {"id": "byName", "options": name}, "properties": told}


_LINE: JSON = {"drawStyle": "line", "fillOpacity": 0, "lineInterpolation": "linear", "lineWidth": 1, "showPoints": "never"}
_CUSTOM: Mapping[Kind, JSON] = {
    "timeseries": {**_LINE, "showPoints": "auto"},
    "band": _LINE,
    "bars": {"drawStyle": "bars", "fillOpacity": 60, "lineWidth": 0, "stacking": {"group": "A", "mode": "normal"}},
}
_SERIES: JSON = {
    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_REDUCED: JSON = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: Mapping[Kind, JSON] = {
    "timeseries": _SERIES,
    "bars": _SERIES,
    "band": _SERIES,
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _REDUCED,
        "textMode": "auto",
    },
    "gauge": {
        "orientation": "auto",
        "reduceOptions": _REDUCED,
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
    },
    "table": {"cellHeight": "sm", "showHeader": True},
    # As Grafana 10 has it; later ones bring it into their own form, since it names no version.
    "map": {
        "dims": {"exclude": [], "frame": 0},
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "series": [],
        "seriesMapping": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    },
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: the values that a query finds. `several` may be chosen, all of them at first."""

    name: str
    label: str
    query: str
    several: bool = False
    first: str | None = None
    """What is chosen at first, where it is there; else it is what comes first."""

    def to_json(self) -> JSON:
        """The variable as a part of a dashboard."""
        made: JSON = {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": SOURCE,
            "definition": self.query,
            "query": {"query": self.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "regex": "",
            # At each change of the time, so that what is new is found.
            "refresh": 2,
            "sort": 5,
            "hide": 0,
            "skipUrlSync": False,
            "multi": self.several,
            "includeAll": self.several,
            "options": [],
            "current": {} if self.first is None else {"selected": True, "text": self.first, "value": self.first},
        }
        # One matcher for all, however many there are.
        return made | {"allValue": ".+", "current": _ALL} if self.several else made


_ALL: JSON = {"selected": True, "text": ["All"], "value": ["$__all"]}


@dataclass(frozen=True, slots=True)
class Mark:
    """Lines across the plots of a dashboard, where a query gives anything."""

    name: str
    expr: str
    text: str
    color: str = "orange"

    def to_json(self) -> JSON:
        """The annotations as a part of a dashboard."""
        return {
            "name": self.name,
            "datasource": SOURCE,
            "enable": True,
            "hide": False,
            "iconColor": self.color,
            "expr": self.expr,
            "step": "",
            "titleFormat": self.name,
            "textFormat": self.text,
            "useValueForTime": False,
        }


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: rows of panels that share a time, and what may be chosen for all of them."""

    name: str
    title: str
    description: str
    rows: tuple[tuple[Panel, ...], ...]
    variables: tuple[Variable, ...] = ()
    marks: tuple[Mark, ...] = ()
    start: str = "now-1h"
    end: str = "now"
    refresh: str = "10s"
    links: tuple[tuple[str, str], ...] = field(default=())
    """Titles and addresses."""

    @property
    def uid(self) -> str:
        """By what Grafana knows it."""
        return f"sisock-{self.name}"

    def panels(self) -> list[JSON]:
        """Its panels, in their places."""
        made: list[JSON] = []
        y = 0
        for row in self.rows:
            x = 0
            for panel in row:
                made.append(panel.to_json(len(made) + 1, x, y))
                x += panel.width
            y += max(panel.height for panel in row)
        return made

    def to_json(self) -> JSON:
        """The dashboard in Grafana's classic model, of the version that Grafana 10.0 writes; later ones read it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["sisock"],
            "schemaVersion": 38,
            "editable": True,
            "graphTooltip": 1,
            "time": {"from": self.start, "to": self.end},
            "timezone": "",
            "refresh": self.refresh,
            "links": [_link(title, url) for title, url in self.links] + [_OTHERS],
            "annotations": {"list": [_BUILT_IN, *(mark.to_json() for mark in self.marks)]},
            "templating": {"list": [_CHOICE, *(variable.to_json() for variable in self.variables)]},
            "panels": self.panels(),
        }


_BUILT_IN: JSON = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
_CHOICE: JSON = {
    "name": "source",
    "label": "Source",
    "type": "datasource",
    "query": "prometheus",
    "current": {"selected": True, "text": "sisock", "value": "sisock"},
    "regex": "",
    "refresh": 1,
    "hide": 0,
    "skipUrlSync": False,
    "multi": False,
    "includeAll": False,
    "options": [],
}


def _link(title: str, url: str) -> JSON:
    shown = {"title": title, "type": "link", "url": url, "icon": "external link", "tooltip": "", "tags": []}
    return shown | {"asDropdown": False, "includeVars": False, "keepTime": False, "targetBlank": False}


_OTHERS: JSON = {
    **_link("sisock", ""),
    "type": "dashboards",
    "tags": ["sisock"],
    "asDropdown": True,
}
