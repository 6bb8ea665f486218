"""The dashboard of the hub's own health."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Mark, Panel, Query, Variable

_HUB = '{node="$node"}'

HUB = Board(
    "hub",
    "The hub",
    "What passes the hub, who comes and goes, and what the site's processes need: the node `hub`, each 5 seconds.",
    rows=(
        (
            Panel("Nodes", "Nodes that are there.", (Query(f"nodes{_HUB}", "nodes"),), None, "stat", 4, 4),
            Panel(
                "Sessions",
                "Sessions of nodes, consumers and bridges.",
                (Query(f"sessions{_HUB}", "sessions"),),
                None,
                "stat",
                4,
                4,
            ),
            Panel("Calls", "That came.", (Query(f"calls{_HUB}", "calls"),), "1/s", "stat", 4, 4, decimals=1),
            Panel(
                "Errors",
                "That were answered.",
                (Query(f"avg_over_time(errors{_HUB}[1m])", "errors"),),
                "1/s",
                "stat",
                4,
                4,
                decimals=2,
                steps=(0.1, 1),
            ),
            Panel(
                "Latency",
                "From a call to its answer, mean of a minute.",
                (Query(f"avg_over_time(latency{_HUB}[1m])", "latency"),),
                "s",
                "stat",
                4,
                4,
                steps=(0.2, 1),
            ),
            Panel(
                "Memory",
                "Of all processes of the site.",
                (Query('sum({node="$node", quantity="memory"})', "memory"),),
                "B",
                "stat",
                4,
                4,
            ),
        ),
        (
            Panel(
                "What passes",
                "Calls, what is published, and events: one for each reader.",
                tuple(
                    Query(f"avg_over_time({metric}{_HUB}[$__rate_interval])", metric)
                    for metric in ("calls", "publications", "events")
                ),
                "1/s",
                least=0,
            ),
            Panel(
                "Latency",
                "From a call to its answer: the mean, and the slowest.",
                (
                    Query(f"avg_over_time(latency{_HUB}[$__rate_interval])", "mean"),
                    Query(f"max_over_time(latency_max{_HUB}[$__rate_interval])", "slowest"),
                ),
                "s",
                least=0,
            ),
        ),
        (
            Panel(
                "Memory",
                "Of each process of the site, with those that it started.",
                (Query('avg_over_time({node="$node", quantity="memory"}[$__interval])', "{{part}}", every="5s"),),
                "B",
                least=0,
            ),
            Panel(
                "Processor",
                "Of each process of the site; 100 % is one core.",
                (Query('avg_over_time({node="$node", quantity="cpu"}[$__rate_interval])', "{{part}}"),),
                "%",
                least=0,
            ),
        ),
        (
            Panel(
                "Nodes and sessions",
                "How many are there.",
                (Query(f"nodes{_HUB}", "nodes"), Query(f"sessions{_HUB}", "sessions")),
                least=0,
            ),
            Panel(
                "Errors",
                "That were answered.",
                (Query(f"max_over_time(errors{_HUB}[$__rate_interval])", "errors"),),
                "1/s",
                least=0,
            ),
        ),
    ),
    variables=(Variable("node", "Hub", "label_values(publications, node)"),),
    marks=(Mark("Nodes came or went", 'changes(nodes{node="$node"}[$__interval]) > 0', "There are more or fewer nodes."),),
)
