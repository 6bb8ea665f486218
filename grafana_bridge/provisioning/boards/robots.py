"""The dashboard of robots."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable, a_minute

_ROBOTS = 'node="$node", robot=~"$robot"'
_ONE = 'node="$node", robot="$one"'

ROBOTS = Board(
    "robots",
    "Robots",
    "Where robots are, and how far they have come: the node `telemetry`.",
    rows=(
        (
            Panel(
                "Robots",
                "Robots that reported within the last five minutes.",
                (Query(f'count({{{_ROBOTS}, quantity="odometer"}})', "robots"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "On their way",
                "Robots that move by more than 5 cm a second.",
                (Query(f'count({{{_ROBOTS}, quantity="speed"}} > 0.05) or vector(0)', "robots"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "Fastest",
                "The highest speed at present.",
                (Query(f'max({{{_ROBOTS}, quantity="speed"}})', "speed"),),
                "m/s",
                "stat",
                6,
                4,
                decimals=2,
            ),
            Panel(
                "Travelled",
                "By all of them together, since ever.",
                (Query(f'sum({{{_ROBOTS}, quantity="odometer"}})', "way"),),
                "m",
                "stat",
                6,
                4,
            ),
        ),
        (
            Panel(
                "Where $one went",
                "Its way in the time shown, as seen from above.",
                (
                    Query(f'{{{_ONE}, quantity="x"}}', "x"),
                    Query(f'{{{_ONE}, quantity="y"}}', "y"),
                ),
                "m",
                "map",
                height=12,
            ),
            Panel(
                "Speed",
                "The highest of each pixel: the way since the event before, by the time since.",
                (Query(f'max_over_time({{{_ROBOTS}, quantity="speed"}}[$__interval])', "{{robot}}", every="5s"),),
                "m/s",
                height=12,
                least=0,
            ),
        ),
        (
            Panel(
                "Odometers",
                "All that each robot has travelled.",
                (Query(f'{{{_ROBOTS}, quantity="odometer"}}', "{{robot}}"),),
                "m",
            ),
            Panel(
                "Robots",
                "The last that was heard of each in the time shown, and its way in that time.",
                (
                    Query(f'max by (robot) (last_over_time({{{_ROBOTS}, quantity="x"}}[$__range]))', "x", "m"),
                    Query(f'max by (robot) (last_over_time({{{_ROBOTS}, quantity="y"}}[$__range]))', "y", "m"),
                    Query(f'max by (robot) (last_over_time({{{_ROBOTS}, quantity="odometer"}}[$__range]))', "odometer", "m"),
                    Query(
                        f'max by (robot) (max_over_time({{{_ROBOTS}, quantity="odometer"}}[$__range])'
                        f' - min_over_time({{{_ROBOTS}, quantity="odometer"}}[$__range]))',
                        "way",
                        "m",
                    ),
                ),
                kind="table",
            ),
        ),
        (
            Panel(
                "Where $one is",
                "To the east (x) and to the north (y).",
                (
                    Query(f'{{{_ONE}, quantity="x"}}', "x"),
                    Query(f'{{{_ONE}, quantity="y"}}', "y"),
                ),
                "m",
            ),
            Panel(
                "Events",
                "What the robots report, a minute.",
                (Query(a_minute(f'count_over_time({{{_ROBOTS}, quantity="x"}}[$__interval])'), "{{robot}}", every="15s"),),
                None,
                "bars",
                least=0,
            ),
        ),
    ),
    variables=(
        Variable("node", "Node", 'label_values({robot!="", quantity="odometer"}, node)'),
        Variable("robot", "Robots", 'label_values({node="$node", quantity="odometer"}, robot)', several=True),
        Variable("one", "On the map", 'label_values({node="$node", quantity="odometer"}, robot)'),
    ),
    start="now-15m",
    refresh="5s",
)
