"""A million points from a node through the router into NumPy, beside the old way, one frame, and Arrow Flight."""

from __future__ import annotations

import statistics

MILLION = 1_000_000


def million(table, part, where, rounds):
    """Times of all ways, which take turns."""
    start, end = where["first"], where["million"]
    # 250,000 values an answer: t and value of 125,000 rows.
    times = [*where["eighths"], end]
    ways = {
        "ours": lambda: part.ask("read_all", over="ws", start=start, end=end),
        "ours, one call": lambda: part.ask("read", over="ws", start=start, end=end),
        "ours, Unix socket": lambda: part.ask("read_all", over="unix", start=start, end=end),
        "lists over a JSON WebSocket": lambda: part.ask("lists", times=times),
        "one 16 MB frame": lambda: part.ask("whole", start=start, end=end),
        "Arrow Flight": lambda: part.ask("flight", start=start, end=end),
    }
    taken = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            if name.startswith("lists") and turn > 1:
                continue
            said = way()
            assert said["rows"] == MILLION, (name, said)
            # The first turn warms all of them.
            if turn:
                taken[name].append(said)
    sums = {round(said[0]["sum"], 3) for said in taken.values()}
    assert len(sums) == 1, sums
    medians = {name: statistics.median(one["ms"] for one in said) for name, said in taken.items()}
    first = {name: statistics.median(one["first"] for one in said) for name, said in taken.items()}
    goals = {"lists over a JSON WebSocket": 100, "one 16 MB frame": 3, "Arrow Flight": 0.25}
    baselines = {name: medians[name] for name in medians if not name.startswith("ours")}
    table.add("1 million points into NumPy, over a WebSocket", "ms", medians["ours"], baselines, goals)
    table.add("  in one call", "ms", medians["ours, one call"], baselines, dict.fromkeys(baselines))
    table.add("  over the Unix socket", "ms", medians["ours, Unix socket"], baselines, dict.fromkeys(baselines))
    table.add("  its first batch", "ms", first["ours"], {"Arrow Flight": first["Arrow Flight"]}, at_most=15)
