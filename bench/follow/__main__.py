"""Measures reading and following beside baselines in the same run: `python -m bench.follow [--json FILE] [--only WORD]`.

Router, node, consumers and baselines are processes of their own, and take turns; each figure is a median. Mosquitto
takes part where `make bench-peers` has brought it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from bench.follow.fanout import fanout
from bench.follow.live import live
from bench.follow.million import million
from bench.follow.pages import pages
from bench.follow.parts import Part
from bench.follow.site import site
from bench.follow.stalled import stalled
from bench.store.measuring import Table, fsync_probe


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help="the measurements whose name holds this")
    parser.add_argument("--long", action="store_true", help="a follower sleeps for a minute, not for 10 s")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of what is read by pages")
    parser.add_argument("--folder", type=Path, help="where the databases are made, on the disk that is to be measured")
    # What only the other benchmark knows is passed over: make bench gives both the same.
    chosen, _ = parser.parse_known_args()
    table = Table()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        probe = fsync_probe(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {probe:.3f} ms\n")
        work = {
            "reading": lambda part, here: _reading(table, part, here, chosen.rows),
            "live": lambda part, here: live(table, part, here, rounds=3),
            "fanout": lambda part, here: fanout(table, part, here, rounds=3),
            "stalled": lambda part, here: stalled(table, part, here, 60.0 if chosen.long else 10.0),
        }
        for what, measure in work.items():
            if not chosen.only or chosen.only in what:
                # Each has a router of its own, whose memory nothing has grown yet.
                with tempfile.TemporaryDirectory(dir=folder) as part, site(Path(part)) as here:
                    measure(Path(part), here)
    seconds = time.monotonic() - begin
    print(f"\n{seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        table.write(chosen.json, **about, fsync_ms=probe, seconds=round(seconds), load=os.getloadavg()[0])


def _reading(table, folder, here, rows):
    server, store = here.access(here.server, here.local), str(folder / "history.db")
    node = here.node("bench_archive")
    with (
        Part(
            "bench.follow.archive:ArchivePart",
            store=store,
            rows=rows,
            node=node,
            server=server,
            ws=here.ws,
        ) as archive,
        Part("bench.follow.archive:FlightPart", store=store) as flight,
    ):
        settings = {
            "reader": here.access(here.reader, here.ws),
            "local": here.local,
            "server": server,
            "ws": here.ws,
            "flight_port": flight.started,
        }
        # First of all, while the router's memory is as small as it ever is.
        pages(table, here, settings, archive.started, rows)
        with Part("bench.follow.reading:Reading", **settings) as reading:
            million(table, reading, archive.started, rounds=9)


if __name__ == "__main__":
    main()
