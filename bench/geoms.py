"""Measures the geoms: `python -m bench.geoms [--json FILE] [--hours N] [--clients N]`.

A day of 20 tags and 4 cameras is prepared in a process of its own, whose memory is its peak. Then answers are made beside that
day: in this process, next to what orjson takes for the same dicts; and over sockets, by a node in a process of its own and
clients that each ask for the next 25 seconds as soon as they have the last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import selectors
import socket
import statistics
import struct
import tempfile
import time
from functools import wraps
from pathlib import Path

import orjson
import psutil

from bench.store.measuring import fsync_probe

START = 1_784_019_600_000_000
PEOPLE, TRAYS, CAMERAS, RATE = 16, 4, 4, 5.0
ISSUER, AUDIENCE = "https://login.example.org/", "geoms"


def generate(folder, hours):
    """Writes the inputs of a day."""
    from sisock.nodes.geom.generator import Day, Room, write

    write(Day(Room(PEOPLE, TRAYS, CAMERAS, 1), START, hours * 3600, RATE, seed=1), folder, "cuwb", ".parquet")


def prepared(folder, path, hours, done):
    """Prepares it; says what took how long, and the most memory there was."""
    from sisock.nodes.geom import prepare as preparing
    from sisock.nodes.geom.camera import Camera
    from sisock.nodes.geom.keeping import TABLES, Samples
    from sisock.nodes.geom.shapes import Frames, Task
    from sisock.nodes.geom.sources.cuwb import cuwb
    from sisock.store import Store, database, sqlite

    took = dict.fromkeys(("projection", "encoding", "commit"), 0.0)

    def timing(part, where, name):
        function = getattr(where, name)

        @wraps(function)
        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took[part] += time.perf_counter() - begin

        setattr(where, name, timed)

    timing("projection", Camera, "seen")
    timing("encoding", preparing, "block_of")
    for name in ("encode", "encode_times", "cells_of"):
        timing("encoding", sqlite, name)
    timing("commit", database.Transaction, "__exit__")
    with Store.open(path, tables=TABLES) as store:
        task = Task(folder, Frames.between(START, START + round(hours * 3.6e9), 10))
        summary = preparing.prepare(Samples(store), "lab", cuwb, "cuwb", task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done.put((summary, took, peak))


def apart(work, *args):
    """What a function puts into its queue, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    process = context.Process(target=work, args=(*args, done))
    process.start()
    answer = done.get()
    process.join()
    return answer


def measure_preparing(table, folder, path, hours):
    inputs = folder / "inputs"
    generate(inputs, hours)
    summary, took, peak = apart(prepared, inputs, path, hours)
    seconds, name = summary.seconds, f"prepare {hours:g} h, {PEOPLE + TRAYS} tags, {CAMERAS} cameras"
    table.add(name, f"{summary.frames / seconds:,.0f} frames/s", note=f"{summary.pairs:,} coordinate pairs in {seconds:.1f} s")
    table.add("times as fast as it was recorded", f"{hours * 3600 / seconds:.0f}", goal="at least 500")
    table.add("its peak memory", f"{peak / 2**20:.0f} MB", goal="at most 512 MB")
    for part, spent in took.items():
        table.add(f"share of {part}", f"{spent / seconds:.0%}", note="of the clock; sealing runs beside collecting")
    table.add("bytes a stored coordinate", f"{path.stat().st_size / summary.values:.2f}")
    return summary.sample


def measure_answers(table, path, sample, hours):
    from sisock.nodes.geom.library import Library
    from sisock.nodes.geom.messages import CoordinatesAsked

    library = Library(str(path))
    chance = random.Random(1)

    def ask():
        start = START + chance.randrange(int(hours * 3600) - 30) * 1_000_000
        asked = CoordinatesAsked(sample, f"camera-{chance.randrange(CAMERAS) + 1}", start, start + 25_000_000)
        begin, busy = time.perf_counter(), time.thread_time()
        answer = library.coordinates(asked, "event")
        return (time.perf_counter() - begin) * 1e3, (time.thread_time() - busy) * 1e3, answer

    for _ in range(20):
        ask()
    taken, dicts = [], []
    for _ in range(100):
        wall, busy, answer = ask()
        taken.append((wall, busy))
        told = orjson.loads(answer)
        begin = time.perf_counter()
        orjson.dumps(told)
        dicts.append((time.perf_counter() - begin) * 1e3)
    walls, busy = zip(*taken, strict=True)
    table.add(
        "getCoordinates, 25 s of 40 geoms, at a random time of the day",
        f"{statistics.median(walls):.1f} ms",
        goal="at most 10 ms",
        note=f"processor {statistics.median(busy):.1f} ms, p99 {sorted(walls)[98]:.1f} ms",
    )
    table.add("orjson alone, of dicts that are there", f"{statistics.median(dicts):.1f} ms")
    library.close()


def serve(home, done):
    """The node without a router, until the process is ended."""
    os.environ |= {"SISOCK_HOME": str(home), "SISOCK_GEOM_PORT": "0"}
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    from sisock.nodes.geom import Geoms

    node = Geoms()
    reactor.callWhenRunning(
        lambda: deferToThread(node.start).addCallbacks(
            lambda _: done.put((os.getpid(), node.faces.address)), lambda failure: done.put(failure.getTraceback())
        )
    )
    reactor.run()


class Client:
    """A bare socket that asks, and counts bytes until its answer is whole."""

    def __init__(self, port):
        self.socket = socket.create_connection(("localhost", port))
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(4096)
        del self.buffer[:]
        self.asked = 0.0

    def send(self, told, opcode=1):
        payload = told if isinstance(told, bytes) else json.dumps(told).encode()
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0x80 | 126]) + struct.pack("!H", len(payload))
        # A mask of zeros.
        self.socket.sendall(bytes([0x80 | opcode]) + length + bytes(4) + payload)
        self.asked = time.perf_counter()

    def read(self):
        """Reads what there is; the answer, when it is whole."""
        self.buffer += self.socket.recv(1 << 18)
        while len(self.buffer) >= 2:
            size, head = self.buffer[1] & 127, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                if len(self.buffer) < head:
                    return None
                size = int.from_bytes(self.buffer[2:head], "big")
            if len(self.buffer) < head + size:
                return None
            opcode, payload = self.buffer[0] & 15, bytes(self.buffer[head : head + size])
            del self.buffer[: head + size]
            if opcode == 9:
                self.send(payload, 10)
            elif opcode == 1:
                return payload
            else:
                raise ConnectionError(payload)
        return None

    def ask(self, told):
        self.send(told)
        while (answer := self.read()) is None:
            pass
        return answer


def authorize(home):
    """Makes the site believe tokens; answers one."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    told = jwt.get_algorithm_by_name("RS256").to_jwk(key.public_key(), as_dict=True)
    home.mkdir(exist_ok=True)
    (home / "keys.json").write_text(json.dumps({"keys": [{**told, "kid": "k", "use": "sig", "alg": "RS256"}]}))
    (home / "access.toml").write_text(
        f'[[issuer]]\nname = "lab"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "keys.json"\n'
    )
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "viewer", "exp": time.time() + 3600}
    return jwt.encode(claims, key, "RS256", {"kid": "k"})


def measure_clients(table, folder, path, sample, hours, clients, each):
    home = folder / "home"
    token = authorize(home)
    os.environ["SISOCK_STORE"] = str(path)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    server = context.Process(target=serve, args=(home, done))
    server.start()
    try:
        told = done.get(timeout=60)
        if isinstance(told, str):
            raise SystemExit(told)
        pid, address = told
        process = psutil.Process(pid)
        crowd = [Client(int(address.rsplit(":", 1)[1])) for _ in range(clients)]
        for one in crowd:
            assert b"authorized" in one.ask({"event": "auth", "data": {"Authorization": token}})
        memory = [process.memory_info().rss]
        taken, errors, size = [], 0, 0
        chance = random.Random(2)
        at = {one: chance.randrange(int(hours * 3600) - 26 * each) for one in crowd}
        left = dict.fromkeys(crowd, each)

        def ask(one):
            start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START // 1_000_000 + at[one]))
            at[one] += 25
            data = {"sample_id": sample, "device_id": f"camera-{chance.randrange(CAMERAS) + 1}", "from": start}
            one.send({"event": "getCoordinates", "data": data})

        selector = selectors.DefaultSelector()
        begin = time.perf_counter()
        for one in crowd:
            selector.register(one.socket, selectors.EVENT_READ, one)
            ask(one)
        while left:
            for ready, _ in selector.select(60):
                one = ready.data
                answer = one.read()
                if answer is None:
                    continue
                taken.append((time.perf_counter() - one.asked) * 1e3)
                errors += not answer.startswith(b'{"event":"coordinates","data":{"')
                size += len(answer)
                left[one] -= 1
                if left[one]:
                    ask(one)
                else:
                    del left[one]
                    selector.unregister(one.socket)
                if len(taken) % (clients * each // 4) == 0:
                    memory.append(process.memory_info().rss)
        seconds = time.perf_counter() - begin
        table.add(
            f"{clients} clients, {each} windows of 25 s each, one after the other",
            f"{len(taken) / seconds:.0f} answers/s",
            note=f"{errors} errors, {size / seconds / 1e6:.0f} MB/s",
        )
        taken.sort()
        table.add(
            "until a client has its answer", f"p50 {taken[len(taken) // 2]:.0f} ms, p99 {taken[len(taken) * 99 // 100]:.0f} ms"
        )
        table.add("the node's memory, before and after each quarter", ", ".join(f"{one / 2**20:.0f}" for one in memory) + " MB")
        for one in crowd:
            one.socket.close()
        measure_stalled(table, process, address, token, sample)
        if errors:
            raise SystemExit(f"{errors} answers were errors")
    finally:
        server.kill()
        server.join()


def measure_stalled(table, process, address, token, sample):
    """Clients that ask for 300 seconds again and again and read nothing."""
    stalled = [Client(int(address.rsplit(":", 1)[1])) for _ in range(100)]
    data = {"sample_id": sample, "device_id": "camera-1", "seconds": 300}
    for one in stalled:
        one.ask({"event": "auth", "data": {"Authorization": token}})
        for minute in range(60):
            start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START // 1_000_000 + 60 * minute))
            one.send({"event": "getCoordinates", "data": {**data, "from": start}})
    most = still = 0
    other = Client(int(address.rsplit(":", 1)[1]))
    while still < 20:
        time.sleep(0.5)
        memory = process.memory_info().rss
        still, most = (0, memory) if memory > most else (still + 1, most)
        assert other.ask({"event": "ping", "data": 1}) == b'{"event":"pong","data":1}'
    table.add(
        "the node's memory with 100 clients that ask for 300 s, 60 times each, and read nothing", f"{most / 2**20:.0f} MB"
    )
    for one in (*stalled, other):
        one.socket.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--each", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sisock-geoms-") as name:
        folder = Path(name)
        table = Report()
        table.add("an fsync", f"{fsync_probe(folder):.2f} ms")
        path = folder / "history.db"
        sample = measure_preparing(table, folder, path, args.hours)
        measure_answers(table, path, sample, args.hours)
        measure_clients(table, folder, path, sample, args.hours, args.clients, args.each)
        if args.json:
            args.json.write_text(json.dumps(table.rows, indent=1) + "\n")


class Report:
    """Prints figures as they come, and keeps them."""

    def __init__(self):
        self.rows = []

    def add(self, what, figure, goal="", note=""):
        self.rows.append({"what": what, "figure": figure, "goal": goal, "note": note})
        more = ", ".join(filter(None, (goal and f"goal: {goal}", note)))
        print(f"{what}: {figure}{f' ({more})' if more else ''}", flush=True)


if __name__ == "__main__":
    main()
