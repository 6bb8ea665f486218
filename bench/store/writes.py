"""Writing: durable appends, single rows, bytes a row, late rows."""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import ExitStack

import numpy as np

from bench.store.measuring import OURS, fill, fsync_probe, insert_rows, rows_in_sqlite, series, side_by_side
from bench.store.peers import PEERS, InfluxDB, VictoriaMetrics
from sisock.blocks import Block, Column
from sisock.store import Store
from sisock.store.lines import load, metas
from sisock.store.mending import _replace

SERIES = 50
EACH = 200_000
COMMIT = 10_000
# Of slow baselines fewer series are written.
FEWER = {"rows in SQLite": 10, VictoriaMetrics.name: SERIES, InfluxDB.name: 5}


def appends(table, folder, rounds=3):
    """10,000 rows a commit, series by series, one commit after the other; then a read across series."""
    data = [series(EACH, seed) for seed in range(5)]
    parts = [(number, at) for at in range(0, EACH, COMMIT) for number in range(SERIES)]
    rates = {name: [] for name in (OURS, *FEWER)}

    def part(number, at):
        t, v = data[number % 5]
        return t[at : at + COMMIT], v[at : at + COMMIT]

    def write(name, keep):
        """Million rows a second."""
        chosen = [one for one in parts if one[0] < FEWER.get(name, SERIES)]
        begin = time.perf_counter()
        for number, at in chosen:
            keep(number, at)
        rates[name].append(len(chosen) * COMMIT / (time.perf_counter() - begin) / 1e6)

    with ExitStack() as held:
        peers, texts = [], {}
        for peer in PEERS:
            if peer.installed():
                peers.append(held.enter_context(peer(folder)))
                texts[peer.name] = {
                    (number, at): peer.text(f"s{number}", *part(number, at))
                    for number, at in parts
                    if number < FEWER[peer.name]
                }
        for turn in range(rounds):
            connection = rows_in_sqlite(folder / f"appended-rows{turn}.db")
            write("rows in SQLite", lambda number, at, to=connection: insert_rows(to, number, *part(number, at)))
            for peer in peers:
                # Each time as new series, by a letter that stands before the name.
                peer.begin(turn)
                write(peer.name, lambda number, at, peer=peer: peer.write(texts[peer.name][number, at]))
            store = Store.open(folder / f"appended{turn}.db")

            history = store.node("bench")

            def keep(number, at, history=history):
                t, v = part(number, at)
                history.append(f"s{number}", Block(t, {"x": Column(v)})).result()

            write(OURS, keep)
            if turn < rounds - 1:
                connection.close()
                store.close()
        held.callback(connection.close)
        held.callback(store.close)
        medians = {name: statistics.median(rate) if rate else None for name, rate in rates.items()}
        table.add(
            f"durable appends, {COMMIT} rows a commit, {SERIES} series, sealing included",
            "M rows/s",
            medians.pop(OURS),
            {f"{name}, its text prebuilt" if name in texts else name: rate for name, rate in medians.items()},
            {"rows in SQLite": 4, "VictoriaMetrics, its text prebuilt": 1.2, "InfluxDB, its text prebuilt": 5},
            more_is_better=True,
            fsync_ms=fsync_probe(folder),
        )
        _across(table, store.reader("bench"), connection, data)


def _across(table, history, connection, data):
    """A million rows out of five of the series."""
    ranges = [(f"s{number}", number, int(data[number][0][0]), int(data[number][0][-1]) + 1) for number in range(5)]

    def ours():
        return [history.read(name, ["x"], start, end)[0] for name, _, start, end in ranges]

    def rows():
        query = "SELECT t, v FROM rows WHERE series = ? AND t >= ? AND t < ?"
        return [np.array(connection.execute(query, (number, start, end)).fetchall()) for _, number, start, end in ranges]

    assert sum(map(len, ours())) == sum(map(len, rows())) == 5 * EACH
    medians = side_by_side({OURS: ours, "rows in SQLite": rows}, 5)
    table.time(f"1 million rows of 5 of {SERIES} series to NumPy, SQLite", medians, {"rows in SQLite": 20})


def single_rows(table, folder, rounds=30, each=100):
    """One row a commit, each waited for; and not waited for, so that commits are shared."""
    connection = rows_in_sqlite(folder / "single-rows.db")
    value = Column(np.array([1.0]))
    count = iter(range(10**9))
    with Store.open(folder / "single.db") as store:
        history = store.node("bench")
        # Both write into a log that has come to its length: a file that grows costs more than its fsync.
        t, v = series(3_000_000)
        insert_rows(connection, 1, t[:700_000], v[:700_000])
        fill(history, "w", t, v)

        def base():
            for _ in range(each):
                connection.execute("INSERT INTO rows VALUES (0, ?, ?)", (next(count), 1.0))

        def ours():
            for _ in range(each):
                history.append("t", Block(np.array([next(count)]), {"x": value})).result()

        def together():
            for future in [history.append("u", Block(np.array([next(count)]), {"x": value})) for _ in range(each)]:
                future.result()

        probe = fsync_probe(folder)
        medians = side_by_side({OURS: ours, "shared": together, "SQLite's own commits": base}, rounds)
    connection.close()
    ours, shared, own = (each / medians[name] * 1e3 for name in (OURS, "shared", "SQLite's own commits"))
    more = {"more_is_better": True, "fsync_ms": probe}
    table.add(
        "durable appends of 1 row a commit, each waited for",
        *("a second", ours, {"SQLite's own commits": own}, {"SQLite's own commits": 0.8}),
        **more,
    )
    table.add("  not waited for, so that they share commits", "a second", shared, {"SQLite's own commits": own}, **more)


def size(table, folder, t, v):
    """Bytes of the whole file a row."""
    with Store.open(folder / "size.db") as store:
        fill(store.node("bench"), "t", t, v, COMMIT)
    with sqlite3.connect(folder / "size.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    bytes_a_row = (folder / "size.db").stat().st_size / len(t)
    table.add("bytes a row after sealing, SQLite", "bytes", bytes_a_row, {"time and double as they are": 16.0}, at_most=8)


def late_rows(table, folder, fields=100):
    """Single rows that come late, against rewriting the chunk that they fall into."""
    with Store.open(folder / "late.db") as store:
        history = store.node("bench")
        t, _ = series(40_000)
        random = np.random.default_rng(0)
        columns = {f"f{one}": Column(random.normal(size=len(t))) for one in range(fields)}
        history.append("t", Block(t, columns)).result()
        value = Column(np.array([1.0]))
        at = iter(random.permutation(len(t)))

        def late():
            for _ in range(10):
                history.append("t", Block(np.array([t[next(at)] + 1]), dict.fromkeys(columns, value)), correct=True).result()

        def rewrite():
            with store.database.writing() as tx:
                line = load(tx, history.node, history.name, "t")
                (chunk,) = metas(tx, line, int(t[100]), int(t[101]))
                rows = store.shelf.read_chunks(tx, line, line.kinds, [chunk])
                _replace(tx, store.shelf, line, [chunk], rows, chunk.seq_low, chunk.seq, 0)

        medians = side_by_side({OURS: late, "rewriting the chunk": rewrite}, 7)
        medians[OURS] /= 10
        goals = {"rewriting the chunk": 10}
        table.time(f"a late row into a timeline of {fields} fields", medians, goals, fsync_ms=fsync_probe(folder))
