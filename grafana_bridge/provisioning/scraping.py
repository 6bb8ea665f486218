"""For those who run a Prometheus: how it scrapes the bridge, and alert rules of what it then has. Pure functions."""

from __future__ import annotations

import json

# Name, expression, for how long, and what to do.
_RULES = (
    ("SisockBridgeAway", "up{job=\"sisock\"} == 0", "2m", "The bridge does not answer. `sisock doctor` says what is wrong."),
    ("SisockBridgeAlone", "sisock_bridge_connected == 0", "2m", "The bridge has no session with the router."),
    (
        "SisockRequestsFail",
        "rate(sisock_bridge_requests_failed_total[5m]) > 0.1 * rate(sisock_bridge_requests_total[5m])",
        "5m",
        "More than a tenth of the requests fail. The bridge's log says why.",
    ),
    (
        "SisockRequestsWait",
        "sisock_bridge_requests_inside > 50",
        "5m",
        "Many requests wait for their turn: a node is slow, or dashboards ask too often.",
    ),
    (
        "SisockNodeGone",
        "max_over_time(sisock_bridge_hub{field=\"nodes\"}[1h]) - sisock_bridge_hub{field=\"nodes\"} > 0",
        "2m",
        "There are fewer nodes than within the last hour. `sisock ls` lists those that are there.",
    ),
    (
        "SisockMemory",
        "sisock_bridge_hub{field=~\"memory[.].+\"} > 1.5e9",
        "10m",
        "A process of the site needs more than 1.5 GB. The label field says which.",
    ),
)  # fmt: skip


def scraping() -> dict[str, str]:
    """A Prometheus' configuration and its rules, by their names."""
    return {"prometheus.yml": _SCRAPE, "rules.yml": _rules()}


_SCRAPE = """\
# How a Prometheus scrapes the bridge: its own figures, and the newest of the hub's.
# To plot or alert in Grafana you need none of this: Grafana asks the bridge itself.
rule_files: [rules.yml]
scrape_configs:
  - job_name: sisock
    scrape_interval: 15s
    static_configs:
      - targets: ["localhost:5000"]
    # Where the bridge is https and asks who comes:
    # scheme: https
    # tls_config: {ca_file: /etc/prometheus/sisock-ca.pem}
    # basic_auth: {username: prometheus, password_file: /etc/prometheus/sisock-secret}
"""


def _rules() -> str:
    lines = [
        "# Alert rules for a Prometheus that scrapes the bridge as prometheus.yml says.",
        "groups:",
        "  - name: sisock",
        "    rules:",
    ]
    for name, expr, lasting, what in _RULES:
        lines += [
            f"      - alert: {name}",
            f"        expr: {json.dumps(expr)}",
            f"        for: {lasting}",
            "        labels: {severity: warning}",
            f"        annotations: {{summary: {json.dumps(what)}}}",
        ]
    return "\n".join(lines) + "\n"
