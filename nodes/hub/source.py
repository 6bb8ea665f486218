"""What the processes of a site need, and what passes its router, as one row a reading."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil

# What a process that ends in this moment raises.
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)

# Figures that grow with each message, and the fields that tell how fast.
RATES = {"calls": "calls", "errors": "errors", "publications": "publications", "events": "events"}


class Processes:
    """The processes of a site, of which `pids` tells the parts; with each part go those that it has started."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], clock: Callable[[], float] = time.monotonic) -> None:
        self._pids, self._clock = pids, clock
        self._spent: dict[str, tuple[tuple[int, ...], float, float]] = {}

    def read(self) -> dict[str, float | None]:
        """Memory (bytes) and share of a processor (%, since the reading before) of each part."""
        row: dict[str, float | None] = {}
        spent: dict[str, tuple[tuple[int, ...], float, float]] = {}
        for part, pid in self._pids().items():
            memory = seconds = 0.0
            members: list[int] = []
            for process in _family(pid):
                try:
                    with process.oneshot():
                        memory += process.memory_info().rss
                        times = process.cpu_times()
                        seconds += times.user + times.system
                        members.append(process.pid)
                except GONE:
                    continue
            if not members:
                continue
            name = normalised(part)
            now, who = self._clock(), tuple(sorted(members))
            before = self._spent.get(name)
            row[f"memory.{name}"] = memory
            row[f"cpu.{name}"] = None
            if before is not None and before[0] == who and now > before[1]:
                row[f"cpu.{name}"] = max(0.0, 100 * (seconds - before[2]) / (now - before[1]))
            spent[name] = who, now, seconds
        self._spent = spent
        return row


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
    except GONE:
        return


def normalised(part: str) -> str:
    """A part's name as a part of a field's."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", part).strip("_")[:80] or "part"


class Traffic:
    """What passes the router, by its counters: how much a second, since the reading before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: tuple[float, Mapping[str, Any]] | None = None

    def row(self, figures: Mapping[str, Any]) -> dict[str, float | None]:
        """The row of these figures. Rates are null in the first one, and after a restart of the router."""
        now, last = self._clock(), self._before
        self._before = now, figures
        row: dict[str, float | None] = {"nodes": float(figures["nodes"]), "sessions": float(figures["sessions"])}
        fresh = last is None or last[1]["life"] != figures["life"] or now <= last[0]
        for name, figure in RATES.items():
            row[name] = None if fresh or last is None else (figures[figure] - last[1][figure]) / (now - last[0])
        answers = 0 if fresh or last is None else figures["answers"] - last[1]["answers"]
        row["latency"] = None if fresh or last is None or not answers else (figures["seconds"] - last[1]["seconds"]) / answers
        row["latency_max"] = float(figures["slowest"]) if answers else None
        return row

    def forget(self) -> None:
        """Notes that nothing was read for a while, so that the next rates begin anew."""
        self._before = None
