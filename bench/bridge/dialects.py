"""The same panel in each dialect, what peers call it, and the numbers of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from bench.bridge.stage import POINTS, path
from bench.follow.archive import NAME
from bench.store.peers import InfluxDB, VictoriaMetrics


@dataclass(frozen=True)
class Dialect:
    """How a panel is asked for: of a grid its path and its body, and the times and values of an answer.

    `over` and `influx` are what VictoriaMetrics and InfluxDB call it; without `over` it is the least and the greatest of each
    two steps. `at_most` are milliseconds.
    """

    request: Callable
    values: Callable
    over: str | None = None
    influx: str = "mean"
    at_most: float = 10


def _posted(grid, **more):
    target = {"refId": "A", "target": f"{NAME}::x", **more}
    span = {name: datetime.fromtimestamp(t, UTC).isoformat() for name, t in (("from", grid.start), ("to", grid.end))}
    return "/query", json.dumps({"range": span, "maxDataPoints": POINTS, "targets": [target]})


def _prom(query):
    def request(grid):
        text = query.format(step=grid.step)
        where = "/prom/api/v1/query_range"
        return path(where, query=text, start=grid.start, end=grid.end, step=grid.step), None

    return request


def _data(grid):
    where = f"/api/nodes/{NAME}/data"
    return path(where, field="x", start=grid.start, end=grid.end, max_points=POINTS, format="json"), None


def _prom_values(body):
    (one,) = json.loads(body)["data"]["result"]
    return np.array(one["values"], float).T


def _simple_values(body):
    return np.array(json.loads(body)[0]["datapoints"], float).T[::-1] / [[1000], [1]]


def _frame_values(body):
    times, values = (column["values"] for column in json.loads(body)[0]["fields"])
    return np.array([np.array(times) / 1000, values])


def _data_values(body):
    return np.array(json.loads(body)["timelines"][0]["rows"], float).T


DIALECTS = {
    "SimpleJson /query": Dialect(lambda grid: _posted(grid, type="timeserie"), _simple_values),
    "JSON data source /query": Dialect(_posted, _frame_values),
    "data API, json": Dialect(_data, _data_values),
    **{
        f"PromQL {name}_over_time": Dialect(
            _prom(f"{name}_over_time(x[{{step}}s])"), _prom_values, f"{name}_over_time({{t}}[{{step}}s])", influx
        )
        for name, influx in (("min", "min"), ("max", "max"), ("avg", "mean"))
    },
    "PromQL plain selector, exact": Dialect(_prom("x"), _prom_values, "{t}", "last", 60),
}


def victoria(peer, dialect, grid):
    """The same of VictoriaMetrics, which is not to remember its answer."""
    step, query = grid.step, dialect.over
    if query is None:
        step, query = 2 * grid.step, 'aggr_over_time(("min_over_time", "max_over_time"), {t}[{step}s])'
    text = query.format(t="t", step=step)
    return lambda: peer.ask("/api/v1/query_range", query=text, start=grid.start, end=grid.end, step=f"{step}s", nocache=1)


def influx(peer, dialect, grid):
    """The same of InfluxDB: one value of each stretch as long as the step."""
    span = f"time > {grid.start - grid.step}s AND time <= {grid.end}s"
    text = f"SELECT {dialect.influx}(v) FROM t WHERE {span} GROUP BY time({grid.step}s)"
    return lambda: peer.ask("/query", headers={"Accept": "application/json"}, db=peer.database, epoch="ms", q=text)


BESIDE = {VictoriaMetrics.name: (victoria, 1), InfluxDB.name: (influx, 20)}


def check(dialect, body, stage):
    """That an answer is what the rows say."""
    grid = stage.grid
    t, found = dialect.values(body)
    ends = np.searchsorted(stage.t, (grid.start + np.arange(POINTS) * grid.step) * 10**6, side="right")
    begins = np.searchsorted(stage.t, (grid.start + (np.arange(POINTS) - 1) * grid.step) * 10**6, side="right")
    windows = np.stack([begins, ends], axis=1).reshape(-1)
    if dialect.over is None:
        inside = stage.v[ends[0] : ends[-1]]
        assert len(found) <= POINTS
        assert found.min() == inside.min()
        assert found.max() == inside.max()
    elif dialect.influx == "last":
        assert np.array_equal(found, stage.v[ends - 1])
    elif dialect.influx == "mean":
        sums = np.add.reduceat(stage.v, windows)[::2]
        assert np.allclose(found, sums / (ends - begins), rtol=1e-9)
    else:
        pick = np.minimum if dialect.influx == "min" else np.maximum
        assert np.array_equal(found, pick.reduceat(stage.v, windows)[::2])
    assert np.all(np.diff(t) >= 0)
