"""Panels: one by itself, in each dialect beside the peers, and twenty at once."""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil

from bench.bridge.dialects import BESIDE, DIALECTS, check
from bench.bridge.stage import Bridge
from bench.follow.parts import Cost
from bench.store.measuring import OURS, millisecond, side_by_side

ROUNDS = 7
PANELS = 20
# Seconds for which panels are asked for again and again.
LASTS = 4.0


def one(table, stage):
    """One panel: of a node that has just begun and remembers nothing, and again, as a dashboard does."""
    about = f"{stage.rows / 1e6:g} million rows"
    for name, dialect in DIALECTS.items():
        stage.begin_again()
        ask = partial(Bridge(stage.port).ask, *dialect.request(stage.grid))
        cold = millisecond(ask)
        check(dialect, ask(), stage)
        works, goals = {OURS: ask}, {}
        for peer, (query, goal) in BESIDE.items():
            # The exact selector is held to one peer alone.
            if dialect.influx != "last" or peer == "VictoriaMetrics":
                goals[peer] = goal
            if peer in stage.peers:
                works[peer] = query(stage.peers[peer], dialect, stage.grid)
        table.time(f"{name}: {about}", side_by_side(works, ROUNDS), goals, at_most=dialect.at_most)
        table.add("  the first time, of a node that has just begun", "ms", cold)
        table.add("  the range is a twentieth of a step later each time", "ms", _moved(stage, dialect))


def _moved(stage, dialect):
    """A dashboard that goes on."""
    bridge, grid = Bridge(stage.port), stage.grid
    requests = [dialect.request(grid.moved(grid.step // 20 * at)) for at in range(1, 10)]
    return statistics.median(millisecond(partial(bridge.ask, *request)) for request in requests)


def twenty(table, stage):
    """Twenty panels at once, over a connection each, none of which asks what another does: queries a second."""
    bridges = [Bridge(stage.port) for _ in range(PANELS)]
    names = list(DIALECTS)
    mixes = {"all dialects": names, **{name: [name] for name in names}}
    with ThreadPoolExecutor(PANELS) as pool:
        for what, mix in mixes.items():
            panels = [DIALECTS[mix[at % len(mix)]].request(stage.grid.moved(at)) for at in range(PANELS)]

            def round_of(panels=panels):
                return list(pool.map(lambda pair: len(pair[0].ask(*pair[1])), zip(bridges, panels, strict=True)))

            round_of()
            costs = {name: Cost(process) for name, process in {**stage.processes, "client": os.getpid()}.items()}
            machine = psutil.cpu_times()
            taken, until = [], time.monotonic() + LASTS
            while time.monotonic() < until:
                taken.append(millisecond(round_of))
            rate = PANELS / statistics.median(taken) * 1e3
            table.add(f"{PANELS} panels at once, {what}", "/s", rate, at_least=200)
            asked = PANELS * len(taken)
            for name, cost in costs.items():
                table.add(f"  the processor's time of one, {name}", "ms", cost.seconds / asked * 1e3)
            table.add("  of the cores others had", "%", _others(machine, sum(cost.seconds for cost in costs.values())))


def _others(before, ours):
    """What share of the machine was neither idle nor ours since then, in percent."""
    spent = [now - then for then, now in zip(before, psutil.cpu_times(), strict=True)]
    by_name = dict(zip(before._fields, spent, strict=True))
    # What guests take is in what users take already.
    every = sum(spent) - by_name.get("guest", 0) - by_name.get("guest_nice", 0)
    return max(0.0, every - by_name["idle"] - by_name.get("iowait", 0) - ours) / every * 100
