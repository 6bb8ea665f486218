"""Live: 100 followers of a node of 1000 samples a second in 100 blocks, beside a bare publish of the same bytes.

Ten of them are sisock's followers and are measured; the others are bare sockets, since a hundred followers would take
more of this machine than is measured. The bare publish goes from the same node to as many bare subscribers.
"""

from __future__ import annotations

import numpy as np

from bench.follow.parts import Cost, Part

FOLLOWERS, CROWD = 10, 90
ROWS, BLOCKS = 10, 100
# What a node makes of them by default: an event each 20 ms.
EVENTS = 50


def live(table, folder, here, rounds, seconds=4.0):
    """The router's share of a core, and the delays."""
    reader = here.access(here.reader, here.ws)
    shares, ours, appended, bare = [], [], [], []
    with (
        Part("bench.follow.streams:LivePart", store=str(folder / "live.db"), node=here.node("bench_live")) as node,
        Part("bench.follow.streams:FollowersPart", reader=reader, ws=here.ws, followers=FOLLOWERS, bare=FOLLOWERS) as followers,
        Part("bench.follow.streams:CrowdPart", reader=reader, ws=here.ws, many=CROWD) as crowd,
    ):
        for turn in range(rounds + 1):
            followers.ask("taken")
            cost = Cost(here.worker)
            ran = node.ask("run", seconds=seconds, rows=ROWS, blocks=BLOCKS)
            share = cost.share
            followers.ask("caught_up", rows=ran["rows"], within=30)
            sent = dict(map(tuple, ran["sent"]))
            arrived = followers.ask("taken")["arrived"]
            node.ask("bare", seconds=seconds, rows=ROWS * BLOCKS // EVENTS, blocks=EVENTS)
            heard = followers.ask("taken")["heard"]
            if turn:
                # The first turn warms all of them. What came by `since` was no event.
                shares.append(share)
                ours.append(_percentiles([at - sent[seq] for seq, at, _ in arrived if seq in sent]))
                appended.append(_percentiles([delay for *_, delay in arrived]))
                bare.append(_percentiles(heard))
        assert crowd.ask("all_there")
    share = float(np.median(shares)) * 100
    words = f"{FOLLOWERS + CROWD} followers of {ROWS * BLOCKS} samples/s: the router's share of a core"
    table.add(words, "%", share, at_most=20)
    for number, name in enumerate(("p50", "p99")):
        event, append, other = (float(np.median([one[number] for one in each])) for each in (ours, appended, bare))
        goal = {"a bare publish": 0.5} if number == 0 else {}
        table.add(f"  from the event to a follower, {name}", "ms", event, {"a bare publish": other}, goal)
        table.add(f"  from append (and its commit) to a follower, {name}", "ms", append, {"a bare publish": other})


def _percentiles(delays):
    return [float(one) * 1e3 for one in np.percentile(delays, [50, 99])]
