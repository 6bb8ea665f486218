"""Alert rules as an example: a node that is gone, rows that stay away, a value beyond a bound, and the hub itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

# The data source that the rules ask: alerts know no variables.
SOURCE = "sisock"


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert: it fires when `expr` is above `bound` for so long, for each of its series by itself."""

    name: str
    title: str
    expr: str
    bound: float
    summary: str
    lasting: str = "2m"
    silence: Literal["OK", "Alerting"] = "OK"
    """What it means that there is nothing to compare: where `expr` tells of trouble alone, that all is well."""
    labels: dict[str, str] = field(default_factory=lambda: {"severity": "warning"})

    @property
    def uid(self) -> str:
        """By what Grafana knows it."""
        return f"sisock-{self.name}"


RULES = (
    Rule(
        "node-gone",
        "A node is gone",
        'max_over_time(nodes{node="hub"}[1h]) - nodes{node="hub"}',
        0,
        "There are fewer nodes than within the last hour. `sisock ls` lists those that are there.",
        silence="Alerting",
    ),
    Rule(
        "stale",
        "Nothing new from sensors",
        'time() - timestamp(load_1{node="sensors"})',
        60,
        "The newest row of the node sensors is older than a minute, or the node is gone. It comes each 2.5 seconds.",
        silence="Alerting",
    ),
    Rule(
        "disk",
        "A disk is nearly full",
        "max_over_time(disk_percent[5m])",
        90,
        "More than 90 % of the root file system is in use. The label node says of which machine.",
        lasting="5m",
    ),
    Rule(
        "temperature",
        "It is too warm",
        'max_over_time({quantity="temperature", chip!=""}[2m])',
        85,
        "A sensor of a machine measures more than 85 degrees Celsius. The labels chip and feature say which.",
    ),
    Rule(
        "errors",
        "The hub answers errors",
        'avg_over_time(errors{node="hub"}[5m])',
        1,
        "More than one error a second was answered for five minutes. `sisock doctor` says what is wrong.",
        lasting="5m",
    ),
    Rule(
        "slow",
        "Answers are slow",
        'avg_over_time(latency{node="hub"}[5m])',
        2,
        "From a call to its answer it takes more than two seconds, in the mean of five minutes.",
        lasting="5m",
    ),
    Rule(
        "memory",
        "A process needs much memory",
        '{node="hub", quantity="memory"}',
        1.5e9,
        "A process of the site needs more than 1.5 GB. The label part says which.",
        lasting="10m",
    ),
)


def alerting() -> str:
    """The rules as a file that Grafana provisions: each asks at one time, and compares by an expression."""
    head = (
        "# Alert rules as an example: change names and bounds, and take away what you do not need: docs/how-to/grafana.md.\n"
        "# In this file a $ that is meant is written $$.\n"
        "apiVersion: 1\n"
        "groups:\n"
        "  - orgId: 1\n"
        "    name: sisock\n"
        "    folder: sisock\n"
        "    interval: 1m\n"
        "    rules:\n"
    )
    return head + "".join(_written(rule) for rule in RULES)


def _written(rule: Rule) -> str:
    evaluator = {"type": "gt", "params": [rule.bound]}
    condition = {"type": "query", "evaluator": evaluator, "operator": {"type": "and"}, "query": {"params": ["A"]},
                 "reducer": {"type": "last", "params": []}}  # fmt: skip
    return (
        f"      - uid: {rule.uid}\n"
        f"        title: {json.dumps(rule.title)}\n"
        f"        condition: B\n"
        f"        for: {rule.lasting}\n"
        f"        noDataState: {rule.silence}\n"
        f"        execErrState: Error\n"
        f"        annotations:\n"
        f"          summary: {json.dumps(rule.summary)}\n"
        f"        labels: {json.dumps(rule.labels)}\n"
        f"        data:\n"
        f"          - refId: A\n"
        f"            datasourceUid: {SOURCE}\n"
        f"            relativeTimeRange: {{from: 600, to: 0}}\n"
        f"            model:\n"
        f"              refId: A\n"
        f"              expr: {json.dumps(rule.expr)}\n"
        f"              instant: true\n"
        f"              range: false\n"
        f"              intervalMs: 1000\n"
        f"              maxDataPoints: 43200\n"
        f"          - refId: B\n"
        f"            datasourceUid: __expr__\n"
        f"            relativeTimeRange: {{from: 0, to: 0}}\n"
        f"            model:\n"
        f"              refId: B\n"
        f"              type: threshold\n"
        f"              datasource: {{type: __expr__, uid: __expr__}}\n"
        f"              expression: A\n"
        f"              conditions: [{json.dumps(condition)}]\n"
    )
