"""The dashboard of any node, one's own among them."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable

ANY = Board(
    "any",
    "Any node",
    "Whatever a node measures, your own among them: choose the node, then what of it.",
    rows=(
        (
            Panel(
                "$metric of $node",
                "The mean, and the extremes of each pixel about it.",
                tuple(
                    Query(f'{what}_over_time({{node="$node", __name__="$metric"}}[$__interval])', legend)
                    for what, legend in (("avg", "mean"), ("min", "minimum"), ("max", "maximum"))
                ),
                kind="band",
                width=24,
                height=12,
            ),
        ),
        (
            Panel(
                "All of $node",
                "The newest value of each metric, whenever it was.",
                (Query('last_over_time({node="$node"}[20y])', "last"),),
                kind="table",
                hidden=("Time", "node"),
                width=24,
                height=12,
            ),
        ),
    ),
    variables=(
        Variable("node", "Node", "label_values(node)", first="sensors"),
        Variable("metric", "Metric", 'label_values({node="$node"}, __name__)'),
    ),
)
