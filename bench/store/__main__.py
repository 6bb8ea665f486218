"""Measures the store beside baselines in the same run: `python -m bench.store [--rows N] [--json FILE] [--only WORD]`.

Each figure is a median and stands beside its baselines', which take turns with it; the ratios are what counts, since
machines differ. The time of an fsync stands beside what is durable. InfluxDB and VictoriaMetrics take part where
`make bench-peers` has brought them.
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

from bench.store.large import large
from bench.store.measuring import Table, fsync_probe, series
from bench.store.postgres import postgres
from bench.store.reads import reads
from bench.store.writes import appends, late_rows, single_rows, size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--large", type=int, default=100_000_000, help="rows of what is measured with many of them; 0 leaves it out"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where the databases are made, on the disk that is to be measured")
    parser.add_argument("--only", help="the measurements whose name holds this")
    chosen = parser.parse_args()
    table = Table()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        probe = fsync_probe(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {probe:.3f} ms\n")
        t, v = series(chosen.rows)
        work = {
            "reads": lambda part: reads(table, part, t, v),
            "appends": lambda part: appends(table, part),
            "single": lambda part: single_rows(table, part),
            "size": lambda part: size(table, part, t, v),
            "late": lambda part: late_rows(table, part),
            "postgres": lambda part: postgres(table, part, t, v),
            "large": lambda part: large(table, part, chosen.large) if chosen.large else None,
        }
        for what, measure in work.items():
            if not chosen.only or chosen.only in what:
                with tempfile.TemporaryDirectory(dir=folder) as part:
                    measure(Path(part))
    seconds = time.monotonic() - begin
    print(f"\n{seconds:.0f} s")
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        table.write(chosen.json, **about, fsync_ms=probe, seconds=round(seconds), memory_mb=memory)


if __name__ == "__main__":
    main()
