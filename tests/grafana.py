"""What Grafana does with a dashboard before it asks a Prometheus: variables are filled, macros written out, steps chosen.

As its Prometheus data source does it, from Grafana 10 to 13: `label_values` asks for a label's values, chosen values stand
in a query escaped for a regular expression where several may be chosen, and a step is a nice length of at least a pixel.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime
from pathlib import Path

import yaml

# Pixels that a panel of the whole width has.
WIDTH = 1600
SCRAPE = 5.0
_NICE = [
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1200,
    1800,
    3600,
]
_NICE += [7200, 10800, 21600, 43200, 86400, 604800]
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Failed(Exception):
    """The data source answered an error, as a panel shows it."""


class Source:
    """The Prometheus data source, at an address; with headers, and an authority to trust, where it was told any."""

    def __init__(self, url, headers=None, authority=None):
        self.url = url.rstrip("/")
        self.headers = headers or {}
        self.trust = ssl.create_default_context(cadata=authority) if authority else None

    @classmethod
    def provisioned(cls, path):
        """The source that a file of a provisioning folder tells of."""
        (told,) = yaml.safe_load(Path(path).read_text())["datasources"]
        assert (told["type"], told["access"], told["jsonData"]["httpMethod"]) == ("prometheus", "proxy", "POST")
        secrets = {name: written_out(value) for name, value in told.get("secureJsonData", {}).items()}
        headers = {}
        if told.get("basicAuth"):
            pair = f"{written_out(told['basicAuthUser'])}:{secrets['basicAuthPassword']}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        authority = secrets["tlsCACert"] if told["jsonData"].get("tlsAuthWithCACert") else None
        return cls(written_out(told["url"]), headers, authority)

    def check(self):
        """Save & test."""
        assert self.ask("/query", {"query": "1+1", "time": 4}, post=True) == {"resultType": "scalar", "result": [4, "2"]}
        assert self.ask("/status/buildinfo")["version"].startswith("3.")

    def ask(self, path, form=None, post=False):
        text = urllib.parse.urlencode(form or {}, doseq=True)
        address = f"{self.url}/api/v1{path}" + ("" if post or not text else f"?{text}")
        request = urllib.request.Request(address, text.encode() if post else None, self.headers)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.trust) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in (400, 422, 503):
                raise Failed(f"client error: {error.code}") from None
            body = json.load(error)
        if body["status"] != "success":
            raise Failed(f"{body['errorType']}: {body['error']}")
        assert not body.get("warnings"), body["warnings"]
        return body["data"]

    def instant(self, expr, at):
        return self.ask("/query", {"query": expr, "time": f"{at:.3f}"}, post=True)["result"]

    def range(self, expr, start, end, step):
        # Both ends on multiples of the step.
        start, end = start // step * step, end // step * step
        return self.ask("/query_range", {"query": expr, "start": start, "end": end, "step": step}, post=True)["result"]


class Shown:
    """A dashboard that somebody opened, with the first value of each choice, or all."""

    def __init__(self, board, source, now=None):
        self.board, self.source = board, source
        self.now = time.time() if now is None else now
        self.start, self.end = (moment(board["time"][side], self.now) for side in ("from", "to"))
        self.chosen = {}
        for variable in board["templating"]["list"]:
            self._choose(variable)

    def _choose(self, variable):
        name, several = variable["name"], variable["multi"] or variable["includeAll"]
        if variable["type"] == "datasource":
            self.chosen[name] = (variable["current"]["value"], False)
            return
        assert variable["type"] == "query"
        found = self.label_values(variable["query"]["query"])
        assert found, f"{self.board['uid']}: there is nothing to choose for {name}"
        first = variable["current"].get("value")
        value = variable["allValue"] if first == ["$__all"] else first if first in found else found[0]
        self.chosen[name] = (value, several and value != variable.get("allValue"))

    def label_values(self, query):
        match = re.fullmatch(r"label_values\((?:(.*),\s*)?([a-zA-Z_]\w*)\)", query)
        assert match, query
        selector, label = match[1], match[2]
        more = {"start": self.start, "end": self.end, "limit": 40_000}
        if selector is None:
            return self.source.ask(f"/label/{label}/values", more)
        match = {"match[]": self.filled(selector), **more}
        found = self.source.ask(f"/label/{label}/values", match)
        # As it asks those that know no match[] there.
        series = self.source.ask("/series", match)
        assert sorted({one[label] for one in series if label in one}) == sorted(found)
        return found

    def filled(self, text, step=None):
        """A text of a panel with its variables and macros."""
        macros = {"__range": f"{max(1, round(self.end - self.start))}s", "__range_s": str(round(self.end - self.start))}
        if step is not None:
            macros |= {
                "__interval": length(step),
                "__interval_ms": str(round(step * 1000)),
                "__rate_interval": length(max(step + SCRAPE, 4 * SCRAPE)),
            }

        def put(found):
            name = found[1] or found[2]
            if name in macros:
                return macros[name]
            assert name in self.chosen, f"{self.board['uid']} knows no ${name}: {text}"
            value, several = self.chosen[name]
            return for_expression(value) if several else value

        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", put, text)

    def answers(self, panel):
        """What each query of a panel gives."""
        for target in panel["targets"]:
            if target["instant"]:
                yield target, self.source.instant(self.filled(target["expr"], 60.0), self.end)
            else:
                pixels = WIDTH * panel["gridPos"]["w"] // 24
                step = max(nice((self.end - self.start) / pixels), SCRAPE, seconds(target.get("interval", "1ms")))
                yield target, self.source.range(self.filled(target["expr"], step), self.start, self.end, step)


def written_out(text):
    """A text of a provisioning file, in which $__file{...} is what a file holds and $$ is $."""
    parts = [re.sub(r"\$__file\{([^}]+)\}", lambda file: Path(file[1]).read_text().strip(), part) for part in text.split("$$")]
    assert not any("$" in part for part in parts), text
    return "$".join(parts)


def for_expression(value):
    r"""A value for a regular expression inside a PromQL string: a backslash before what is special is written twice."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


def moment(text, now):
    relative = re.fullmatch(r"now(?:-(\d+)(m|h|d))?", text)
    if relative:
        return now - (int(relative[1]) * _UNITS[relative[2]] if relative[1] else 0)
    return datetime.fromisoformat(text).timestamp()


def seconds(text):
    found = re.fullmatch(r"(\d+)(ms|[smhdw])", text)
    return int(found[1]) * _UNITS[found[2]]


def nice(step):
    return next((one for one in _NICE if one >= step), _NICE[-1])


def length(step):
    return f"{round(step * 1000)}ms" if step % 1 else f"{round(step)}s"
