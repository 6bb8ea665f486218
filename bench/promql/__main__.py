"""Measures PromQL, HTTP to HTTP, beside InfluxDB and VictoriaMetrics: `python -m bench.promql [--rows N] [--json FILE]`.

Router, node, bridge and peers are processes of their own with the same rows, and are asked in turns over one connection
each. A dashboard that is drawn again asks for the same steps; the first time, when nothing is remembered, stands apart.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import sys
import tempfile
import time
import urllib.parse
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.follow.parts import Part
from bench.follow.site import access, site
from bench.store.measuring import OURS, Table, millisecond, series, side_by_side
from bench.store.peers import PEERS, InfluxDB, VictoriaMetrics

STEPS = 1000
LINES = 20_000
ROUNDS = 7


class BridgePart:
    """The bridge, as `sisock bridge` starts it, on a free port."""

    def __init__(self, reader):
        from sisock.grafana_bridge import Bridge

        self._bridge = Bridge(access(reader), "127.0.0.1", 0)

    async def start(self):
        (await self._bridge.start()).addErrback(lambda failure: failure.printTraceback())
        return self._bridge.listening.getHost().port

    async def stop(self):
        await self._bridge.stop()


class Bridge:
    """One connection to the bridge."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def ask(self, path, **query):
        self.connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:500]!r}")
        return body

    def range(self, query, grid, shift=0.0):
        start, end, step = grid
        return self.ask("/prom/api/v1/query_range", query=query, start=start + shift, end=end + shift, step=step)


def values(body):
    """The values of the one series of an answer."""
    (one,) = json.loads(body)["data"]["result"]
    return np.array([value for _, value in one["values"]], float)


def influx(peer, function, grid):
    """What InfluxDB calls the same: one value of each stretch as long as the step."""
    start, end, step = grid
    text = f"SELECT {function}(v) FROM t WHERE time > {round(start - step)}s AND time <= {round(end)}s GROUP BY time({step}s)"
    return lambda: peer.ask("/query", headers={"Accept": "application/json"}, db=peer.database, epoch="ms", q=text)


def victoria(peer, query, grid):
    """The same query of VictoriaMetrics, which is not to remember its answer."""
    start, end, step = grid
    return lambda: peer.ask("/api/v1/query_range", query=query, start=start, end=end, step=f"{step}s", nocache=1)


def measure(table, folder, rows):
    """All queries, in the same run."""
    t, v = series(rows)
    step = max(1, int((t[-1] - t[0]) / 1e6) // STEPS)
    start = int(t[0] / 1e6) + step
    grid = (start, start + step * (STEPS - 1), step)
    with ExitStack() as held:
        here = held.enter_context(site(folder))
        server = here.access(here.server, here.local)
        settings = {"store": str(folder / "history.db"), "rows": rows, "node": here.node("bench_archive"), "server": server}
        held.enter_context(Part("bench.follow.archive:ArchivePart", ws=here.ws, **settings))
        part = held.enter_context(Part("bench.promql.__main__:BridgePart", reader=here.access(here.reader, here.local)))
        bridge = Bridge(part.started)
        peers = {}
        for peer in PEERS:
            if peer.installed():
                peers[peer.name] = held.enter_context(peer(folder))
                for at in range(0, rows, LINES):
                    peers[peer.name].write(peer.text("t", t[at : at + LINES], v[at : at + LINES]))
                peers[peer.name].settle()
        _wait(bridge)
        queries = {
            "a plain selector, exact": ("x", "t", "last", {"at_most": 60}, {VictoriaMetrics.name: 1}),
            **{
                f"{name}_over_time": (f"{name}_over_time(x[{step}s])", f"{name}_over_time(t[{step}s])", influxes, *_GOALS)
                for name, influxes in (("min", "min"), ("max", "max"), ("avg", "mean"))
            },
        }
        for work, (query, theirs, function, limit, goals) in queries.items():
            first = millisecond(lambda query=query: bridge.range(query, grid))
            works = {OURS: lambda query=query: bridge.range(query, grid)}
            if VictoriaMetrics.name in peers:
                works[VictoriaMetrics.name] = victoria(peers[VictoriaMetrics.name], theirs, grid)
                # Its windows are closed where ours are open, and it keeps milliseconds.
                assert np.allclose(values(works[VictoriaMetrics.name]()), values(works[OURS]()), rtol=1e-3, atol=10.0)
            if InfluxDB.name in peers:
                works[InfluxDB.name] = influx(peers[InfluxDB.name], function, grid)
            table.time(f"{work}: {rows // 10**6} million rows, {STEPS} steps", side_by_side(works, ROUNDS), goals, **limit)
            table.add("  the first time", "ms", first)


_GOALS = ({"at_most": 10}, {InfluxDB.name: 20, VictoriaMetrics.name: 1})


def _wait(bridge):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if b"bench_archive" in bridge.ask("/prom/api/v1/label/node/values"):
                return
        except RuntimeError:
            time.sleep(0.1)
    raise RuntimeError("the bridge does not see the node")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help="nothing is measured unless promql holds this")
    parser.add_argument("--folder", type=Path, help="where the databases are made")
    chosen, _ = parser.parse_known_args()
    if chosen.only and chosen.only not in "promql":
        return
    table = Table()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        measure(table, Path(name), chosen.rows)
    seconds = time.monotonic() - begin
    print(f"\n{seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        table.write(chosen.json, **about, seconds=round(seconds), load=os.getloadavg()[0])


if __name__ == "__main__":
    main()
