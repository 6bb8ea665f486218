"""What the measurements have in common: rows, medians, baselines that take turns with the store, the table."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import time

import numpy as np

from sisock.blocks import Block, Column

T0 = 1_500_000_000_000_000
OURS = "ours"
# What takes fewer milliseconds is measured several times in a row.
QUICK = 100


def series(rows, seed=0, start=T0):
    """A random walk of full doubles at 10 Hz with 1 to 2 ms of jitter."""
    random = np.random.default_rng(seed)
    t = start + np.arange(rows) * 100_000 + random.integers(-1500, 1500, rows)
    return t, np.cumsum(random.normal(size=rows))


def millisecond(work):
    """How long it takes, in milliseconds."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def side_by_side(works, rounds):
    """Medians in milliseconds of works that take turns, so that what else the machine does meets all of them alike.

    What is quick is done five times in its turn: once would measure what the one before it left in the caches.
    """
    taken = {name: [] for name in works}
    quick = {name: millisecond(work) < QUICK for name, work in works.items()}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(statistics.median(millisecond(work) for _ in range(5 if quick[name] else 1)))
    return {name: statistics.median(times) for name, times in taken.items()}


def fsync_probe(folder, times=101):
    """Median of milliseconds that an fsync takes after 4 kB were written over, as a database's log is."""
    with (folder / "probe").open("w+b") as file:
        file.write(bytes(times * 4096))
        file.flush()
        os.fsync(file.fileno())

        def once():
            file.write(b"\1" * 4096)
            file.flush()
            os.fsync(file.fileno())

        file.seek(0)
        return statistics.median(millisecond(once) for _ in range(times))


def rows_in_sqlite(path):
    """The baseline: one row a sample. Its log is as long as the store's before it is written back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=4096")
    connection.execute("CREATE TABLE rows (series INTEGER, t INTEGER, v REAL, PRIMARY KEY (series, t)) WITHOUT ROWID")
    return connection


def insert_rows(connection, number, t, v):
    """Rows in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", zip([number] * len(t), t.tolist(), v.tolist(), strict=True))
    connection.execute("COMMIT")


def fill(history, timeline, t, v, step=200_000):
    """Appends in blocks of `step` rows."""
    futures = [
        history.append(timeline, Block(t[at : at + step], {"x": Column(v[at : at + step])})) for at in range(0, len(t), step)
    ]
    for future in futures:
        future.result()


class Table:
    """Prints each figure with its baselines as it comes, and keeps them for the JSON."""

    def __init__(self):
        self.figures = []

    def add(
        self, work, unit, ours, baselines=None, goals=None, *, more_is_better=False, at_most=None, at_least=None, fsync_ms=None
    ):
        """A figure; of each baseline its own, None where it is not installed, and how many times better ours is to be."""
        goals = goals or {}
        entry = {"work": work, "unit": unit, "ours": ours, "fsync_ms": fsync_ms, "at_most": at_most, "baselines": []}
        limit = ""
        if at_most is not None:
            entry["reached"] = ours <= at_most
            limit = f"   at most {at_most:g}: {_said(ours <= at_most)}"
        if at_least is not None:
            entry |= {"at_least": at_least, "reached": ours >= at_least}
            limit = f"   at least {at_least:g}: {_said(ours >= at_least)}"
        self.figures.append(entry)
        probe = "" if fsync_ms is None else f"   fsync {fsync_ms:.3f} ms"
        print(f"{work:<72} {ours:10.4g} {unit}{limit}{probe}", flush=True)
        for name, base in (baselines or {}).items():
            goal = goals.get(name)
            ratio = None if base is None else (ours / base if more_is_better else base / ours)
            reached = None if ratio is None or goal is None else ratio >= goal
            entry["baselines"].append({"name": name, "value": base, "ratio": ratio, "goal": goal, "reached": reached})
            if ratio is None:
                print(f"    against {name:<60} not installed: make bench-peers")
            else:
                asked = "" if goal is None else f"   goal {goal:g}x: {_said(reached)}"
                print(f"    against {name:<60} {base:10.4g} {unit:<9} {ratio:8.2f}x{asked}")

    def time(self, work, medians, goals=None, **more):
        """A figure of `side_by_side`; a baseline of the goals that did not run was not installed."""
        baselines = {name: value for name, value in medians.items() if name != OURS}
        for name in goals or {}:
            baselines.setdefault(name, None)
        self.add(work, "ms", medians[OURS], baselines, goals, **more)

    def write(self, path, **about):
        """All figures as JSON."""
        path.write_text(json.dumps({**about, "figures": self.figures}, indent=1) + "\n")


def _said(reached):
    return "reached" if reached else "MISSED"
