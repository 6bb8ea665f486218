"""The dashboard of the sensor hub's readings."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable, a_minute

_SENSOR = 'node="$node", sensor=~"$sensor"'

READINGS = Board(
    "readings",
    "Readings",
    "What sensors report to the node `sensorhub`, each a timeline of its own.",
    rows=(
        (
            Panel(
                "Sensors",
                "Sensors that reported in the time shown.",
                (Query(f"count(count_over_time({{{_SENSOR}}}[$__range]))", "sensors"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "Readings a minute",
                "Of all sensors that were chosen.",
                (Query(f"sum(count_over_time({{{_SENSOR}}}[1m])) or vector(0)", "readings"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "Silent for five minutes",
                "Sensors that reported in the time shown, but not in its last five minutes.",
                (
                    Query(
                        f"count(count_over_time({{{_SENSOR}}}[$__range])"
                        f" unless count_over_time({{{_SENSOR}}}[5m])) or vector(0)",
                        "sensors",
                    ),
                ),
                None,
                "stat",
                12,
                4,
                steps=(1,),
            ),
        ),
        (
            Panel(
                "Readings",
                "The mean of each pixel. Choose sensors of one kind, since their units may differ.",
                (Query(f"avg_over_time({{{_SENSOR}}}[$__interval])", "{{sensor}}", every="1s"),),
                width=24,
                height=10,
            ),
        ),
        (
            Panel(
                "Sensors",
                "Of each sensor its last reading, and what there was in the time shown.",
                tuple(
                    Query(f"max by (sensor) ({what}_over_time({{{_SENSOR}}}[$__range]))", legend)
                    for what, legend in (
                        ("last", "last"),
                        ("min", "least"),
                        ("avg", "mean"),
                        ("max", "most"),
                        ("count", "readings"),
                    )
                ),
                kind="table",
                height=10,
            ),
            Panel(
                "How often they report",
                "Readings a minute.",
                (Query(a_minute(f"count_over_time({{{_SENSOR}}}[$__interval])"), "{{sensor}}", every="15s"),),
                None,
                "bars",
                height=10,
                least=0,
            ),
        ),
    ),
    variables=(
        Variable("node", "Hub", 'label_values({sensor!=""}, node)'),
        Variable("sensor", "Sensors", 'label_values({node="$node", sensor!=""}, sensor)', several=True),
    ),
)
