"""Measures the sensor hub beside a bare subscriber of the same library: `python -m bench.readings [--json FILE]`.

Redis, publisher, hub and subscriber are processes of their own. Each run publishes the same messages as fast as Redis takes
them; the bare subscriber counts them, the hub has them durably in its store. The two take turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import redis

from bench.store.measuring import Table, fsync_probe
from tests.redis_server import Redis

CHANNEL, STREAM = "sensor_stream", "readings"
SENSORS = 20


def messages(count):
    """Readings of some sensors, one after the other, each at a time of its own."""
    for number in range(count):
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_733_054_400 + number // SENSORS))
        yield json.dumps({"sensor": f"sensor-{number % SENSORS}", "value": number / 7, "timestamp": stamp})


def publish(url, count, to, ready, go):
    """Sends messages by pipelines of a thousand, when it is told to."""
    made = list(messages(count))
    ready.set()
    go.wait()
    client = redis.Redis.from_url(url)
    pipe = client.pipeline(transaction=False)
    for number, message in enumerate(made, 1):
        if to == "channel":
            pipe.publish(CHANNEL, message)
        else:
            pipe.xadd(STREAM, {"json": message})
        if number % 1000 == 0:
            pipe.execute()
    pipe.execute()


def bare(url, count, ready, done):
    """What a subscriber that only counts takes."""
    subscribed = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
    subscribed.subscribe(CHANNEL)
    subscribed.get_message(timeout=5)
    ready.set()
    seen = 0
    while seen < count:
        message = subscribed.get_message(timeout=5)
        if message is None:
            break
        seen += 1
    done.put(seen)


def hub(url, count, home, way, ready, done):
    """The hub's own intake and listener on a store, without a router."""
    os.environ["SISOCK_HOME"] = str(home)
    from sisock.nodes.sensorhub import SensorHub
    from sisock.nodes.sensorhub.listening import Channel, Stream
    from sisock.store import Store

    with Store.open(Path(home) / "h.db", tables=SensorHub.tables) as store:
        node = SensorHub()
        node.history = store.node("sensorhub")
        node.intake.start()
        node.intake.go_on(0, ())
        make = {
            "channel": lambda: Channel(url, CHANNEL, node.intake, node.refused),
            "stream": lambda: Stream(url, STREAM, "g", "me", node.intake, node.refused),
        }
        listener = make[way]()
        listener.start()
        while listener.away is not None:
            time.sleep(0.005)
        process = psutil.Process()
        before = process.memory_info().rss
        ready.set()
        patience = time.monotonic() + 120
        while node.intake.stored < count and time.monotonic() < patience:
            time.sleep(0.002)
        done.put(node.intake.stored)
        listener.stop()
        node.intake.stop()
        done.put((process.memory_info().rss - before) / 1e6)


def timed(work, args, url, count, to):
    """Messages a second from the first publish until all are there, and what the process said after."""
    ready, done = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(*args, ready, done))
    process.start()
    ready.wait(30)
    primed, go = multiprocessing.Event(), multiprocessing.Event()
    publisher = multiprocessing.Process(target=publish, args=(url, count, to, primed, go))
    publisher.start()
    primed.wait(60)
    begin = time.perf_counter()
    go.set()
    seen = done.get(timeout=180)
    seconds = time.perf_counter() - begin
    more = None if work is bare else done.get(timeout=60)
    publisher.join()
    process.join()
    assert seen == count, f"{seen} of {count}"
    return count / seconds, more


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen, _ = parser.parse_known_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {fsync_probe(folder):.3f} ms\n")
        (folder / "redis").mkdir()
        server = Redis(folder / "redis").start()
        # What is measured is not Redis' own disk, and no subscriber is to be cut off for being slow.
        with server.client() as client:
            client.config_set("appendfsync", "no")
            client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
        rates = {"bare": [], "channel": [], "stream": []}
        grown = []
        try:
            for turn in range(chosen.rounds):
                for way, found in rates.items():
                    home = folder / f"{way}{turn}"
                    home.mkdir()
                    with server.client() as client:
                        client.flushall()
                    if way == "bare":
                        rate, _ = timed(bare, (server.url, chosen.count), server.url, chosen.count, "channel")
                    else:
                        args = (server.url, chosen.count, home, way)
                        rate, more = timed(hub, args, server.url, chosen.count, way)
                        grown.append(more)
                    found.append(rate)
        finally:
            server.stop()
        median = {way: statistics.median(found) for way, found in rates.items()}
        for way in ("channel", "stream"):
            table.add(
                f"readings a second from the {way}, each durable with its id",
                "/s",
                median[way],
                {"a bare subscriber": median["bare"]},
                {"a bare subscriber": 0.5},
                more_is_better=True,
            )
        table.add("  the hub's memory grew by", "MB", max(grown), {}, at_most=80)
    if chosen.json:
        table.write(chosen.json, cores=os.cpu_count(), load=os.getloadavg()[0])


if __name__ == "__main__":
    main()
