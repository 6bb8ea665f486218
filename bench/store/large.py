"""What only shows with a hundred million rows."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.store.measuring import OURS, T0, fill, series, side_by_side
from sisock.store import Store

PAGED = """
import sys
from pathlib import Path
from sisock.store import Store
with Store.open(sys.argv[1]) as store:
    history = store.reader("bench")
    rows = sum(len(block) for block, _ in history.pages("t", ["x"]))
# What getrusage says is inherited from the parent.
status = Path("/proc/self/status").read_text()
print(rows, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def large(table, folder, rows=100_000_000):
    """Overviews that cost what their pixels cost; memory that does not grow with what is read."""
    path = folder / "large.db"
    with Store.open(path) as store:
        history = store.node("bench")
        begin = time.perf_counter()
        value = 0.0
        for at in range(0, rows, 1_000_000):
            t, v = series(1_000_000, at // 1_000_000, T0 + at * 100_000)
            fill(history, "t", t, v + value)
            value += float(v[-1])
        print(f"{rows // 10**6} million rows kept in {time.perf_counter() - begin:.0f} s, {path.stat().st_size >> 20} MB")

        def whole():
            return history.overview("t", ["x"], T0 - 10**6, int(t[-1]) + 1, 1000)

        def million():
            return history.overview("t", ["x"], T0 + 10**9, T0 + 10**9 + 100_000 * 10**6, 1000)

        medians = side_by_side({OURS: whole, "1 million": million}, 15)
    table.time(f"overview of {rows // 10**6} million rows to 1000 points", medians, {"1 million": 0.5})
    said = subprocess.run([sys.executable, "-c", PAGED, str(path)], capture_output=True, text=True, check=True)
    read, memory = said.stdout.split()
    assert int(read) == rows
    table.add(f"memory while reading {rows // 10**6} million rows in pages", "MB", float(memory), at_most=200)
