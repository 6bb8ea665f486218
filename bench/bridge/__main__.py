"""Measures the bridge, HTTP to HTTP, beside InfluxDB and VictoriaMetrics: `python -m bench.bridge [--rows N] [--json FILE]`.

Router, node, bridge and peers are processes of their own with the same rows, and are asked in turns over one connection
each: a panel in each dialect, twenty panels at once, and all rows by the data API.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from bench.bridge import panels, streams
from bench.bridge.stage import stage
from bench.store.measuring import Table

WORKS = {"one": panels.one, "twenty": panels.twenty, "streams": streams.whole, "slow": streams.slow}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="bridge", help=f"the measurements whose name holds this: bridge, {', '.join(WORKS)}")
    parser.add_argument("--folder", type=Path, help="where the databases are made")
    chosen, _ = parser.parse_known_args()
    works = [work for name, work in WORKS.items() if chosen.only in ("bridge", name)]
    if not works:
        return
    table = Table()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        with stage(Path(name), chosen.rows) as made:
            for work in works:
                work(table, made)
    seconds = time.monotonic() - begin
    print(f"\n{seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        table.write(chosen.json, **about, seconds=round(seconds), load=os.getloadavg()[0])


if __name__ == "__main__":
    main()
