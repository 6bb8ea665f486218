"""Reading: ten million rows in one series."""

from __future__ import annotations

from contextlib import ExitStack

import duckdb
import numpy as np

from bench.store.measuring import OURS, fill, insert_rows, millisecond, rows_in_sqlite, side_by_side
from bench.store.peers import PEERS, VictoriaMetrics
from sisock.store import Store

MILLION = 1_000_000
POINTS = 1000


def reads(table, folder, t, v):
    """Rows, overviews and single rows."""
    with ExitStack() as held:
        store = held.enter_context(Store.open(folder / "one.db"))
        fill(store.node("bench"), "t", t, v)
        few = min(len(t), MILLION)
        connection = rows_in_sqlite(folder / "rows.db")
        held.callback(connection.close)
        insert_rows(connection, 0, t[:few], v[:few])
        duck = duckdb.connect(str(folder / "duck.db"))
        held.callback(duck.close)
        duck.execute("CREATE TABLE rows AS SELECT * FROM (SELECT unnest($1) AS t, unnest($2) AS v) ORDER BY t", [t, v])
        peers = {}
        for peer in PEERS:
            if peer.installed():
                # Only VictoriaMetrics is asked for an overview of all rows.
                rows = len(t) if peer is VictoriaMetrics else few
                peers[peer.name] = held.enter_context(peer(folder))
                for at in range(0, rows, 10_000):
                    peers[peer.name].write(peer.text("t", t[at : min(rows, at + 10_000)], v[at : min(rows, at + 10_000)]))
                peers[peer.name].settle()
        _rows(table, store.node("bench"), connection, duck, peers, t[:few], v[:few])
        _overviews(table, folder, store.node("bench"), duck, peers, t)
        _last_before(table, store.node("bench"), t)


def _rows(table, history, connection, duck, peers, t, v):
    start, end = int(t[0]), int(t[-1]) + 1

    def ours():
        return history.read("t", ["x"], start, end)[0]

    def rows():
        return np.array(
            connection.execute("SELECT t, v FROM rows WHERE series = 0 AND t >= ? AND t < ?", (start, end)).fetchall()
        )

    def columns():
        return duck.execute("SELECT t, v FROM rows WHERE t >= ? AND t < ? ORDER BY t", (start, end)).fetchnumpy()

    block = ours()
    assert np.array_equal(block.t, t)
    assert np.array_equal(block.columns["x"].values, v)
    assert rows().shape == (len(t), 2)
    assert len(columns()["t"]) == len(t)
    works = {OURS: ours, "rows in SQLite": rows, "DuckDB": columns}
    for name, peer in peers.items():
        # VictoriaMetrics keeps milliseconds and 15 digits or so.
        assert np.allclose(peer.read("t", start, end)[1], v)
        works[f"{name}, CSV"] = lambda peer=peer: peer.read("t", start, end)
    goals = {"rows in SQLite": 20, "VictoriaMetrics, CSV": 8, "InfluxDB, CSV": 30}
    table.time(f"{len(t) // 10**6} million rows of one field to NumPy, SQLite", side_by_side(works, 7), goals)


def _overviews(table, folder, history, duck, peers, t):
    start, end = int(t[0]), int(t[-1]) + 1

    def ours():
        return history.overview("t", ["x"], start, end, POINTS)

    def by_duck():
        width = end - start
        return duck.execute(
            f"SELECT ((t - {start}) * {POINTS // 2}) // {width} AS b, min(v), max(v), arg_min(t, v), arg_max(t, v) "
            "FROM rows GROUP BY b"
        ).fetchnumpy()

    works = {OURS: ours, "DuckDB": by_duck}
    if VictoriaMetrics.name in peers:
        peer = peers[VictoriaMetrics.name]
        works[peer.name] = lambda: peer.overview("t", start, end, POINTS // 2)
        shown = ours().fields["x"].columns["x"].values
        least, most = works[peer.name]()
        assert np.allclose([least[:, 1].min(), most[:, 1].max()], [shown.min(), shown.max()])
    medians = side_by_side(works, 11)
    work = f"overview of {len(t) // 10**6} million rows to {POINTS} points"
    table.time(work, medians, {VictoriaMetrics.name: 50})

    def first():
        # The store has no memory of what it read yet; what the file system has is the same for all.
        with Store.open(folder / "one.db") as store:
            cold = store.reader("bench")
            cold.span("t")
            return millisecond(lambda: cold.overview("t", ["x"], start, end, POINTS))

    medians[OURS] = sorted(first() for _ in range(5))[2]
    table.time("  the first one after a start", medians, {VictoriaMetrics.name: None})


def _last_before(table, history, t):
    asked = np.sort(np.random.default_rng(1).integers(t[0], t[-1], 1000))

    def decoded():
        for block, _ in history.pages("t", ["x"]):
            np.searchsorted(block.t, asked)

    works = {OURS: lambda: history.last_before("t", ["x"], asked), "decoding all their chunks": decoded}
    table.time("the last row at or before each of 1000 times", side_by_side(works, 5), {"decoding all their chunks": 5})
