"""Full speed: one event of 100 samples to 100 subscribers, through our router and through Mosquitto.

The subscribers are bare sockets of one process that count bytes; beside each rate stands how much of the time that
process worked, so that one sees whether it was what limited. The time of the broker's own processor, which does not
depend on what else the machine does, is told as deliveries a second of it.
"""

from __future__ import annotations

import statistics

import cbor2
import numpy as np

from bench.follow import mosquitto
from bench.follow.parts import Cost
from bench.follow.wires import Flood, Mqtt, Wamp
from sisock.blocks import Block, Column
from sisock.live import LiveBlock
from sisock.positions import Position
from sisock.uris import live

SUBSCRIBERS = 100
ROWS = 100
NODE = "bench_flood"


def event():
    """A block of live rows, as a node publishes it."""
    t = 1_700_000_000_000_000 + np.arange(ROWS) * 1000
    block = Block(t, {"x": Column(np.random.default_rng(0).normal(size=ROWS))})
    return LiveBlock("t", Position("0" * 32, 12345), 12344, block, 1_700_000_000.0).to_wire()


def fanout(table, folder, here, rounds, seconds=3.0):
    """Rates of the four ways, which take turns."""
    wire = event()
    octets = cbor2.dumps(wire)

    def ours(url):
        def join(user):
            return Wamp(url, here.realm, user.authid, user.secret)

        return Flood(join(here.server), [join(here.reader) for _ in range(SUBSCRIBERS)], live(NODE, "t"), wire)

    def theirs(url):
        def join(number):
            return Mqtt(url, f"bench{number}")

        return Flood(join("publisher"), [join(number) for number in range(SUBSCRIBERS)], "bench/t", octets)

    raw = f"raw+{here.local}"
    ways = {"ours, WebSocket": (ours, here.ws, here.worker), "ours, raw sockets": (ours, raw, here.worker)}
    if mosquitto.installed():
        with mosquitto.Mosquitto(folder) as broker:
            ways["Mosquitto, WebSocket"] = theirs, broker.ws, broker.pid
            ways["Mosquitto, MQTT over TCP"] = theirs, broker.tcp, broker.pid
            ways["Mosquitto, MQTT over a Unix socket"] = theirs, broker.unix, broker.pid
            said = _turns(ways, rounds, seconds)
    else:
        said = _turns(ways, rounds, seconds)
    for what, unit in (("rate", "/s"), ("efficiency", "/s cpu")):
        value = {name: statistics.median(one[what] for one in turns) for name, turns in said.items()}
        words = "deliveries a second" if what == "rate" else "  for each second of the broker's processor"
        for kind, peers in (
            ("WebSocket", {"Mosquitto, WebSocket": 0.9}),
            ("raw sockets", {"Mosquitto, MQTT over TCP": 1.5, "Mosquitto, MQTT over a Unix socket": None}),
        ):
            goals = peers if what == "rate" else dict.fromkeys(peers)
            table.add(
                f"{words}, {SUBSCRIBERS} subscribers over {kind}",
                unit,
                value[f"ours, {kind}"],
                {peer: value.get(peer) for peer in peers},
                goals,
                more_is_better=True,
            )
    busy = {name: statistics.median(one["busy"] for one in turns) for name, turns in said.items()}
    broker = {name: statistics.median(one["share"] for one in turns) for name, turns in said.items()}
    for name in said:
        print(f"    {name}: the broker took {broker[name]:.0%} of a core, publisher and subscribers {busy[name]:.0%}")


def _turns(ways, rounds, seconds):
    said = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (start, url, pid) in ways.items():
            flood = start(url)
            cost = Cost(pid)
            ran = flood.run(seconds)
            spent, ran["share"] = cost.seconds, cost.share
            flood.close()
            ran["efficiency"] = ran["rate"] * ran["share"] ** -1 if spent else 0.0
            said[name].append(ran)
    return said
