"""The dashboard of moving shapes."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable

_SHAPES = 'node="$node", environment="$environment", device="$device", type="$type"'


def _centre(axis: str, one: bool = False) -> str:
    """The middle of an object's points, in each pixel of time: of `$one`, or of each that was chosen."""
    points = f'{_SHAPES}, object_name{"=" if one else "=~"}"{"$one" if one else "$object"}", field=~".+[.]{axis}[0-9]+"'
    return f"avg{'' if one else ' by (object_name)'} (avg_over_time({{{points}}}[$__interval]))"


_FRAMES = f'count_over_time({{{_SHAPES}, object_name=~"$object", field=~".+[.]x0"}}'
_OBJECTS = 'label_values({node="$node", environment="$environment", device="$device", type="$type"}, object_name)'

GEOMS = Board(
    "geoms",
    "Moving shapes",
    "Where people and things are in a camera's picture: the node `geom`. Choose the time at which the sample was taken.",
    rows=(
        (
            Panel(
                "Where $one went",
                "Its middle, in the camera's picture. Pixels count downwards from its upper edge, so that y is drawn below 0.",
                (
                    Query(_centre("x", one=True), "x", every="1s"),
                    Query(f"-1 * {_centre('y', one=True)}", "y", every="1s"),
                ),
                "px",
                "map",
                height=12,
            ),
            Panel(
                "Objects in the picture",
                "Objects that the camera sees, in each pixel of time.",
                (Query(f"count(count by (object_name) ({_FRAMES}[$__interval]) > 0))", "objects", every="1s"),),
                None,
                height=12,
                least=0,
            ),
        ),
        (
            Panel(
                "From left to right",
                "The middle of each object, as the mean of each pixel of time.",
                (Query(_centre("x"), "{{object_name}}", every="1s"),),
                "px",
            ),
            Panel(
                "From top to bottom",
                "The middle of each object, as the mean of each pixel of time.",
                (Query(_centre("y"), "{{object_name}}", every="1s"),),
                "px",
            ),
        ),
        (
            Panel(
                "Objects",
                "How many frames of the time shown have each of them.",
                (Query(f"max by (object_name, object_type) ({_FRAMES}[$__range]))", "frames"),),
                kind="table",
                width=24,
            ),
        ),
    ),
    variables=(
        Variable("node", "Node", 'label_values({environment!="", device!=""}, node)'),
        Variable("environment", "Room", 'label_values({node="$node", device!=""}, environment)'),
        Variable("device", "Camera", 'label_values({node="$node", environment="$environment"}, device)'),
        Variable(
            "type", "Shape", 'label_values({node="$node", environment="$environment", device="$device"}, type)', first="Point2D"
        ),
        Variable("object", "Objects", _OBJECTS, several=True),
        Variable("one", "On the map", _OBJECTS),
    ),
    start="now-24h",
    refresh="",
)
