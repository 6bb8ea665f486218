"""The dashboard of the weather archive."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable

# The sample of weather that a site brings along, in milliseconds: July 2017.
_SAMPLE = "from=1499990400000&to=1501200000000"


def _band(title: str, description: str, selector: str, units: str | None, every: str, **more: float) -> Panel:
    """A quantity as its mean, with the extremes of each pixel about it: the nodes' overviews answer all three."""
    queries = tuple(
        Query(f"{what}_over_time({selector}[$__interval])", legend, every=every)
        for what, legend in (("avg", "mean"), ("min", "minimum"), ("max", "maximum"))
    )
    return Panel(title, description, queries, units, "band", least=more.get("least"))


def _stat(title: str, description: str, expr: str, units: str | None = None, **more: float) -> Panel:
    width = int(more.get("width", 4))
    return Panel(title, description, (Query(expr, "{{node}}"),), units, "stat", width, 4)


WEATHER = Board(
    "weather",
    "Weather",
    "The archive that the node `weather` serves. Its sample is of July 2017.",
    rows=(
        (
            _stat("Temperature", "The last one of the time shown.", 'apex_temperature{node="$node"}', "C", width=5),
            _stat("Humidity", "The last one of the time shown.", 'apex_humidity{node="$node"}', "%", width=5),
            _stat("Pressure", "The last one of the time shown.", 'apex_pressure{node="$node"}', "mBar", width=5),
            _stat("Wind", "The last one of the time shown.", 'apex_windspeed{node="$node"}', "km/h", width=5),
            _stat("Water vapour", "The last one of the time shown.", 'apex_radiometer{node="$node"}', "mm"),
        ),
        (
            _band("Temperature", "Air temperature, hourly.", 'apex_temperature{node="$node"}', "C", "1h"),
            _band("Humidity", "Relative humidity, hourly.", 'apex_humidity{node="$node"}', "%", "1h", least=0),
        ),
        (
            _band("Pressure", "Air pressure, hourly.", 'apex_pressure{node="$node"}', "mBar", "1h"),
            _band("Wind", "Wind speed, each minute.", 'apex_windspeed{node="$node"}', "km/h", "1m", least=0),
        ),
        (
            Panel(
                "Precipitable water vapour",
                "What the radiometer sees, each minute, and the mean of a day about it.",
                (
                    Query('avg_over_time(apex_radiometer{node="$node"}[$__interval])', "each minute", every="1m"),
                    Query('avg_over_time(apex_radiometer{node="$node"}[1d])', "mean of a day", every="10m"),
                ),
                "mm",
                width=24,
                least=0,
            ),
        ),
    ),
    variables=(Variable("node", "Archive", "label_values(apex_temperature, node)"),),
    start="2017-07-14T00:00:00.000Z",
    end="2017-07-28T00:00:00.000Z",
    refresh="",
    links=(
        ("The sample", f"/d/sisock-weather?{_SAMPLE}"),
        ("The last week", "/d/sisock-weather?from=now-7d&to=now"),
    ),
)
