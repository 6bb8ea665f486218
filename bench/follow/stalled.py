"""A follower that stops reading: what the router holds for it, what the others notice, and how it catches up.

It is a process that is stopped by SIGSTOP, once beside the router and once behind a link of 10 Mbit/s (a network
namespace of the benchmark's own, with tc; it needs root). Five followers of another process go on.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

import numpy as np

from bench.follow.parts import Growth, Part

OTHERS = 5
BLOCKS = 50
# Rows of a block beside the router, 3.2 MB/s, and behind the link, a third of what it carries.
ROWS, SLOW_ROWS = 4000, 500
# So often in the short form: what else the machine does shows as a pause, now and then.
TIMES = 3
LINK_BITS = 10_000_000


def stalled(table, folder, here, seconds):
    """Beside the router, and behind a slow link."""
    reader = here.access(here.reader, here.ws)
    with (
        Part("bench.follow.streams:LivePart", store=str(folder / "live.db"), node=here.node("bench_live")) as node,
        Part("bench.follow.streams:FollowersPart", reader=reader, ws=here.ws, followers=OTHERS, bare=0) as others,
    ):
        with Part("bench.follow.streams:FollowersPart", reader=reader, ws=here.ws, followers=1, bare=0, since=0.0) as sleeper:
            _stall(table, here, node, others, sleeper, seconds, ROWS, "A follower that reads nothing")
        if os.getuid() or not shutil.which("ip") or not shutil.which("tc"):
            print("A link of 10 Mbit/s is not measured: it needs root, ip and tc.")
            return
        with slow_link(here.ws) as (url, prefix):
            part = Part(
                "bench.follow.streams:FollowersPart",
                prefix=prefix,
                reader={**reader, "url": url},
                ws=url,
                followers=1,
                bare=0,
                since=0.0,
            )
            with part as sleeper:
                _stall(table, here, node, others, sleeper, seconds, SLOW_ROWS, "The same over 10 Mbit/s")


def _stall(table, here, node, others, sleeper, seconds, rows, words):
    def run(length):
        others.ask("taken")
        ran = node.ask("run", seconds=length, rows=rows, blocks=BLOCKS)
        others.ask("caught_up", rows=ran["rows"], within=60)
        sent = dict(map(tuple, ran["sent"]))
        delays = [at - sent[seq] for seq, at, _ in others.ask("taken")["arrived"] if seq in sent]
        return ran["rows"], [float(one) * 1e3 for one in np.percentile(delays, [50, 99])]

    run(2.0)
    grown, before, during, taken = [], [], [], []
    for _ in range(TIMES if seconds <= 20 else 1):
        before.append(run(max(3.0, seconds / 3))[1])
        with Growth(here.worker) as growth:
            os.kill(sleeper.pid, signal.SIGSTOP)
            try:
                total, delays = run(seconds)
            finally:
                os.kill(sleeper.pid, signal.SIGCONT)
        during.append(delays)
        grown.append(growth.mb)
        taken.append(sleeper.ask("caught_up", rows=total, within=120))
    held = rows * 16 * BLOCKS * seconds / 1e6
    most = max(grown)
    # A ratio to nothing at all would be none.
    sent = {"what it was sent meanwhile": held} if most else {}
    table.add(f"{words} for {seconds:g} s: the router grows by", "MB", most, sent, at_most=20)
    for number, name in enumerate(("p50", "p99")):
        there, then = (float(np.median([one[number] for one in each])) for each in (before, during))
        table.add(f"  the others' {name} meanwhile", "ms", then, {"before": there})
        table.add(f"  the others' {name} grows by", "ms", max(0.0, then - there), at_most=50)
    table.add("  it has every row after", "s", float(np.median(taken)), {"the time it slept": seconds})


@contextmanager
def slow_link(url, bits=LINK_BITS):
    """An address behind which the router is reached at so many bits a second, and the command to run a process there."""
    name = f"sisock{os.getpid()}"
    here, there = f"{name[-10:]}a", f"{name[-10:]}b"
    near, far = "10.213.77.1", "10.213.77.2"

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    shape = ["root", "tbf", "rate", str(bits), "burst", "32kbit", "latency", "100ms"]
    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{near}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{far}/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        subprocess.run(["tc", "qdisc", "add", "dev", here, *shape], check=True)
        subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", there, *shape], check=True)
        with socket.create_server((near, 0)) as server:
            where = urlsplit(url)
            Thread(target=_forward, args=(server, (where.hostname, where.port)), daemon=True).start()
            yield f"ws://{near}:{server.getsockname()[1]}{where.path}", ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _forward(server, target):
    """Passes on what comes to the router, which listens on loopback alone; whoever sends has to wait for whoever reads."""
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        far = socket.create_connection(target)
        for one in (near, far):
            # The link is to be slow, and nothing before it to be long.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        for source, sink in ((near, far), (far, near)):
            Thread(target=_pass, args=(source, sink), daemon=True).start()


def _pass(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        # One end is gone, and the other is told.
        time.sleep(0)
    finally:
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
