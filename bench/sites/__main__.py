"""Measures site streams beside Crossbar's own fan-out in the same run: `python -m bench.sites [--json FILE]`.

Node, router and subscribers are processes of their own and take turns; each figure is a median. Producers POST, and each
message is committed to the disk before it goes out; Crossbar's are published over a WebSocket and are kept nowhere.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.follow.parts import Cost, Part
from bench.follow.site import site
from bench.follow.wires import Crowd, Flood
from bench.sites.subscribers import SITE, JsonWamp, Producer, Subscriber, joined, message
from bench.store.measuring import Table, fsync_probe

TOPIC = f"org.simonsobservatory.consumer.bench.data.{SITE}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--only", help="the measurements whose name holds this: idle, fanout, outlet, latency")
    parser.add_argument("--idle", type=int, default=5000)
    chosen = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe = fsync_probe(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {probe:.3f} ms\n")
        with site(folder) as here:
            started = {"store": str(folder / "h.db"), "node": here.node("streams")}
            work = {
                "idle": lambda node: _idle(table, node, chosen.idle),
                "fanout": lambda node: _fanout(table, node, here, chosen.subscribers),
                "outlet": lambda node: _outlet(table, node, here, chosen.subscribers),
                "latency": lambda node: _latency(table, node, chosen.subscribers),
            }
            for what, measure in work.items():
                if not chosen.only or chosen.only in what:
                    # Each has a process of its own, whose memory nothing has grown yet.
                    with Part("bench.sites.node:StreamsPart", **started) as node:
                        measure(node)
    if chosen.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0]}
        table.write(chosen.json, **about, fsync_ms=probe, load=os.getloadavg()[0])


def _fanout(table, node, here, count, rounds=3, seconds=4.0):
    event, address = message(), node.started

    def ours():
        return Flood(Producer(address), [Subscriber(address) for _ in range(count)], SITE, event)

    def crossbar():
        def join(user):
            return JsonWamp(here.ws, here.realm, user.authid, user.secret)

        # An event's number has 16 digits, or now and then fewer.
        return Flood(join(here.server), joined(lambda: join(here.server), count, TOPIC), TOPIC, event, varies=1)

    said = {"ours": [], "Crossbar": []}
    for _ in range(rounds):
        for name, start, pid in (("ours", ours, node.pid), ("Crossbar", crossbar, here.worker)):
            flood, cost = start(), Cost(pid)
            ran = flood.run(seconds)
            share = cost.share
            flood.close()
            said[name].append({**ran, "share": share, "efficiency": ran["rate"] / share})
    for what, unit in (("rate", "/s"), ("efficiency", "/s cpu")):
        value = {name: statistics.median(one[what] for one in turns) for name, turns in said.items()}
        words = "deliveries a second" if what == "rate" else "  for each second of the server's processor"
        table.add(f"{words}, {count} subscribers, 200 bytes", unit, value["ours"], {"Crossbar": value["Crossbar"]},
                  {"Crossbar": 2.0 if what == "rate" else 1.0}, more_is_better=True)  # fmt: skip
    for name, turns in said.items():
        share, busy = (statistics.median(one[what] for one in turns) for what in ("share", "busy"))
        print(f"    {name}: the server took {share:.0%} of a core, producer and subscribers {busy:.0%}")


def _outlet(table, node, here, count, seconds=4.0):
    """The node alone, and the node with an outlet, each with so many subscribers."""
    settings = {"home": str(here.home.path), "node": here.node("streams_outlet"), "reader": here.access(here.reader, here.ws)}
    rates, event = {}, message()
    with Part("bench.sites.node:OutletPart", **settings) as outlet:
        for addresses in ([node.started], [node.started, outlet.started]):
            subscribers = [Subscriber(address) for address in addresses for _ in range(count)]
            flood = Flood(Producer(node.started), subscribers, SITE, event)
            costs = {"node": Cost(node.pid), "outlet": Cost(outlet.pid), "router": Cost(here.worker)}
            rates[len(addresses)] = flood.run(seconds)["rate"]
            print("    " + ", ".join(f"{name} {cost.share:.0%} of a core" for name, cost in costs.items()))
            flood.close()
    words = f"deliveries a second, {count} subscribers of the node and {count} of an outlet"
    table.add(words, "/s", rates[2], {"the node alone": rates[1]}, more_is_better=True)


def _latency(table, node, count, rate=10, seconds=10):
    address = node.started
    crowd = Crowd([Subscriber(address) for _ in range(count)], SITE)
    producer, taken = Producer(address, 1), []
    before = dict(crowd.counts)
    for _ in range(rate * seconds):
        sent = time.perf_counter()
        producer.publish(SITE, message())
        due, left = sent + 1 / rate, count
        while time.perf_counter() < due:
            crowd.look(max(0.0, due - time.perf_counter()))
            at = time.perf_counter()
            now = dict(crowd.counts)
            came = sum(now[wire] != before[wire] for wire in now)
            taken += [at - sent] * came
            left -= came
            before = now
        assert not left, f"{left} did not hear it within {1 / rate} s"
    crowd.close()
    taken.sort()
    p50, p99 = (1e3 * taken[int(len(taken) * part)] for part in (0.5, 0.99))
    table.add(f"ms from POST to a subscriber, p99 of {count} at {rate} a second", "ms", p99, at_most=50.0)
    print(f"    half of them within {p50:.1f} ms, the last after {1e3 * taken[-1]:.1f} ms")


def _idle(table, node, count):
    cost = Cost(node.pid)
    before = cost.memory
    made = [Subscriber(node.started) for _ in range(count)]
    time.sleep(2.0)
    total, cpu = cost.memory, Cost(node.pid)
    time.sleep(5.0)
    table.add(f"MB of the process with {count} idle subscribers", "MB", total / 1e6, at_most=150.0)
    print(
        f"    {before / 1e6:.0f} MB of it without any, {(total - before) / count / 1e3:.1f} kB each; {cpu.share:.1%} of a core"
    )
    for one in made:
        one.wire.close()


if __name__ == "__main__":
    main()
