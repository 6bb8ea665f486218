"""Measures the telemetry beside a bare Autobahn echo server: `python -m bench.robots [--json FILE] [--only WORD]`.

Router, node, echo server, senders and followers are processes of their own. The senders are bare sockets that keep so many
frames on their way; the node answers each after its commit, the echo server at once. The two take turns.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import statistics
import struct
import tempfile
import time
from pathlib import Path
from threading import Thread

import numpy as np

from bench.follow.parts import Cost, Part
from bench.follow.site import access, site
from bench.follow.wires import Crowd, Wamp, Wire
from bench.store.measuring import Table, fsync_probe

ROBOT = "robot-{:04d}"
T0 = 1_700_000_000_000
OK = b"\x81\x02OK"


class EchoPart:
    """What Autobahn takes when nothing is done with a frame."""

    async def start(self):
        from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
        from twisted.internet import reactor

        class Echo(WebSocketServerProtocol):
            def onMessage(self, payload, isBinary):  # noqa: N802, N803
                self.sendMessage(payload, isBinary)

        factory = WebSocketServerFactory()
        factory.protocol = Echo
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=2000)
        return f"ws://127.0.0.1:{self._port.getHost().port}/"

    async def stop(self):
        await self._port.stopListening()


class TelemetryPart:
    """The node on a store, at the router."""

    def __init__(self, folder, node, rows=0):
        os.environ["SISOCK_HOME"] = folder
        os.environ["SISOCK_TELEMETRY_PORT"] = "0"
        self._folder, self._join, self._rows = Path(folder), access(node), rows

    async def start(self):
        from twisted.internet.threads import deferToThread

        from sisock.naming import Identity
        from sisock.nodes.telemetry import Telemetry
        from sisock.serving import NodeService
        from sisock.store import Store

        self._store = await deferToThread(Store.open, str(self._folder / "history.db"))
        self._node = Telemetry()
        self._node.history = self._store.node(self._node.name)
        if self._rows:
            await deferToThread(self._fill)
        self._service = NodeService(self._node, self._join, Identity("bench", 1))
        await self._service.start()
        while not self._service.announced:
            await deferToThread(time.sleep, 0.01)
        return self._node.faces.address.replace("http", "ws", 1) + "/upstream"

    def _fill(self):
        """A robot that has reported for long."""
        from sisock.blocks import Block, Column

        self._node.meet("old")
        chance = np.random.default_rng(0)
        way = 0.0
        for at in range(0, self._rows, 200_000):
            t = (T0 + 100 * np.arange(at, at + 200_000)) * 1000
            x, y, steps = chance.normal(size=200_000), chance.normal(size=200_000), chance.random(200_000)
            odometer = way + np.cumsum(steps)
            way = float(odometer[-1])
            columns = {"old.x": x, "old.y": y, "old.odometer": odometer, "old.speed": steps * 10}
            self._node.append_block("old", Block(t, {name: Column(values) for name, values in columns.items()})).result(60)

    async def windows(self, times):
        """Milliseconds that the odometers of windows anywhere in the history take."""
        from twisted.internet.threads import deferToThread

        def ask():
            chance, taken = random.Random(1), []
            for _ in range(times):
                start, end = sorted(T0 + 100 * chance.randrange(self._rows) + chance.randrange(100) for _ in range(2))
                begin = time.perf_counter()
                self._node.odometer("old", start, end)
                taken.append((time.perf_counter() - begin) * 1e3)
            return taken

        return await deferToThread(ask)

    async def stored(self):
        return self._node.intake.stored

    async def stop(self):
        from twisted.internet.threads import deferToThread

        await self._service.stop()
        await deferToThread(self._store.close)


class Senders:
    """Robots' connections as bare sockets, each with at most `window` frames on their way."""

    def __init__(self, url, connections):
        self._selector = selectors.EpollSelector()
        self.wires = [Wire(url, "") for _ in range(connections)]
        for wire in self.wires:
            wire.socket.setblocking(False)
            self._selector.register(wire.socket, selectors.EVENT_READ, wire)

    def run(self, frames, window):
        """Sends each connection its frames; answers how many a second were answered, and each answer's delay in seconds."""
        pending = dict(zip(self.wires, frames, strict=True))
        sent, got, owed = dict.fromkeys(self.wires, 0), dict.fromkeys(self.wires, 0), dict.fromkeys(self.wires, b"")
        total = sum(map(len, frames))
        begin, busy = time.perf_counter(), time.process_time()
        for wire in self.wires:
            self._send(wire, pending[wire], sent, got, window)
        answered, patience = 0, time.monotonic() + 120
        while answered < total:
            assert time.monotonic() < patience, f"{answered} of {total} were answered"
            for key, _ in self._selector.select(1.0):
                wire = key.data
                data = owed[wire] + wire.socket.recv(1 << 18)
                count, owed[wire] = self.count(wire, data)
                got[wire] += count
                answered += count
                self._send(wire, pending[wire], sent, got, window)
        seconds = time.perf_counter() - begin
        return {"rate": total / seconds, "busy": (time.process_time() - busy) / seconds}

    @staticmethod
    def _send(wire, frames, sent, got, window):
        at = sent[wire]
        upto = min(len(frames), got[wire] + window)
        # Half a window at a time, as a buffer is filled.
        if upto > at and (upto - at >= window // 2 or upto == len(frames) or window == 1):
            wire.socket.setblocking(True)
            wire.socket.sendall(b"".join(frames[at:upto]))
            wire.socket.setblocking(False)
            sent[wire] = upto

    @staticmethod
    def count(wire, data):
        """How many answers there are in what came, and what is left; pings are answered."""
        whole = len(data) // len(OK)
        if data == OK * whole:
            return whole, b""
        at = count = 0
        while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
            kind, size = data[at], data[at + 1]
            if kind == 0x89:
                wire.socket.send(bytes([0x8A, 0x80 | size]) + bytes(4) + data[at + 2 : at + 2 + size])
            else:
                assert kind == 0x81, f"cut off, or refused: {data[at : at + 100]}"
                assert data[at + 2 : at + 2 + size] != b"ERR"
                count += 1
            at += 2 + size
        return count, data[at:]

    def close(self):
        for wire in self.wires:
            wire.close()


def framed(text):
    """A text frame of a client, whose mask is of zeros."""
    data = text.encode()
    return struct.pack("!BB", 0x81, 0x80 | len(data)) + bytes(4) + data


class SendersPart:
    """Who sends: at full speed, or each robot so many times a second."""

    def __init__(self, urls):
        self._urls = urls
        self._at = 0

    async def start(self):
        """Nothing is open before it is asked."""

    async def full(self, which, connections, frames, window):
        """Frames a second that are answered. The robots' times go on from run to run."""
        from twisted.internet.threads import deferToThread

        senders = await deferToThread(Senders, self._urls[which], connections)
        begin, self._at = self._at, self._at + frames
        made = [
            [
                framed(f"{at % 97 / 7:.3f},{at % 89 / 7:.3f},{T0 + begin + at},{ROBOT.format(number)}")
                for at in range(frames // connections)
            ]
            for number in range(connections)
        ]
        try:
            return await deferToThread(senders.run, made, window)
        finally:
            senders.close()

    async def paced(self, robots, rate, seconds, connections):
        """Reports of many robots, each at its own moment; answers how late the slowest answer was."""
        from twisted.internet.threads import deferToThread

        return await deferToThread(self._paced, robots, rate, seconds, connections)

    def _paced(self, robots, rate, seconds, connections):
        senders = Senders(self._urls["ours"], connections)
        wires, owed = senders.wires, dict.fromkeys(senders.wires, b"")
        steps, ticks = 20, round(seconds * rate)
        sent = answered = 0
        begin = time.time()
        for tick in range(ticks * steps):
            due = begin + tick / (rate * steps)
            while (wait := due - time.time()) > 0 or sent - answered > 50_000:
                answered += self._hear(senders, owed, max(wait, 0))
            frames = dict.fromkeys(wires, b"")
            for robot in range(tick % steps, robots, steps):
                wire = wires[robot % connections]
                frames[wire] += framed(f"{tick % 97 / 7:.3f},{robot / 7:.3f},{round(due * 1000)},{ROBOT.format(robot)}")
                sent += 1
            for wire, data in frames.items():
                if data:
                    wire.socket.setblocking(True)
                    wire.socket.sendall(data)
                    wire.socket.setblocking(False)
        late = time.time() - begin - seconds
        while answered < sent:
            answered += self._hear(senders, owed, 1.0)
        senders.close()
        return {"sent": sent, "late": late, "answered": time.time() - begin - seconds}

    @staticmethod
    def _hear(senders, owed, timeout):
        count = 0
        for key, _ in senders._selector.select(timeout):
            more, owed[key.data] = senders.count(key.data, owed[key.data] + key.fileobj.recv(1 << 18))
            count += more
        return count

    async def stop(self):
        """Nothing is open any more."""


class FollowersPart:
    """Followers of one robot each, as bare sockets."""

    def __init__(self, reader, ws, many):
        self._join = lambda: Wamp(ws, reader["realm"], reader["authid"], reader["secret"])
        self._many, self._open = many, True

    async def start(self):
        from sisock.uris import live

        clients = [self._join() for _ in range(self._many)]
        for number, client in enumerate(clients):
            client.subscribe(live("telemetry", ROBOT.format(number)))
        self._crowd = Crowd(clients, None, stays=True)
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while self._open:
            self._crowd.look(0.1)

    async def least(self):
        """Bytes that came to the one to whom the fewest came."""
        assert self._thread.is_alive(), "a follower was cut off"
        return self._crowd.least()

    async def stop(self):
        self._open = False
        self._thread.join()
        self._crowd.close()


def frames(table, node, urls, rounds):
    """Full speed, beside the echo server. With few on their way, what is measured is how long a commit takes."""
    cost = Cost(node.pid)
    with Part("bench.robots:SendersPart", urls=urls) as senders:
        for connections, window, count in ((20, 100, 40_000), (1000, 50, 100_000), (1000, 10, 40_000), (1000, 1, 20_000)):
            rates = {"ours": [], "echo": []}
            for turn in range(rounds + 1):
                for which, found in rates.items():
                    said = senders.ask("full", which=which, connections=connections, frames=count, window=window)
                    if turn:
                        found.append(said["rate"])
                    else:
                        busy = said["busy"]
            median = {which: statistics.median(found) for which, found in rates.items()}
            words = f"frames a second, each OK durable; {connections} connections, {window} on their way"
            goals = {"a bare echo server": 0.5} if window > 10 else {}
            table.add(words, "/s", median["ours"], {"a bare echo server": median["echo"]}, goals, more_is_better=True)
            print(f"    the senders were busy for {busy:.0%}")
        before = cost.memory
        for _ in range(rounds):
            senders.ask("full", which="ours", connections=1000, frames=100_000, window=10)
        table.add(f"  memory grew with {rounds * 100_000:,} events more by", "MB", (cost.memory - before) / 1e6, at_most=20)


def crowd(table, node, urls, here, seconds):
    """Many robots, some of whom are followed."""
    reader = here.access(here.reader, here.ws)
    with (
        Part("bench.robots:SendersPart", urls=urls) as senders,
        Part("bench.robots:FollowersPart", reader=reader, ws=here.ws, many=100) as followers,
    ):
        senders.ask("paced", robots=1000, rate=10, seconds=2, connections=100)
        before = followers.ask("least")
        router, own = Cost(here.worker), Cost(node.pid)
        said = senders.ask("paced", robots=1000, rate=10, seconds=seconds, connections=100)
        share, mine = router.share * 100, own.share * 100
        assert followers.ask("least") > before, "nothing came to a follower"
    table.add("1000 robots at 10 Hz, 100 followers of one each: the router's share of a core", "%", share, at_most=50)
    table.add("  the node's share of a core", "%", mine)
    table.add("  after the last report all were answered within", "s", said["answered"], at_most=1.0)


def windows(table, node, rows):
    taken = node.ask("windows", times=300)
    words = f"the odometer of a window anywhere in {rows:,} events"
    table.add(f"{words}, median", "ms", statistics.median(taken), at_most=5)
    table.add(f"{words}, p99", "ms", float(np.percentile(taken, 99)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help="the measurements whose name holds this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=10_000_000, help="of the robot whose windows are asked for")
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen, _ = parser.parse_known_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name, site(Path(name)) as here:
        folder = Path(name) / "node"
        folder.mkdir()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, an fsync of 4 kB {fsync_probe(folder):.3f} ms\n")
        wanted = [what for what in ("frames", "crowd", "windows") if not chosen.only or chosen.only in what]
        rows = chosen.events if "windows" in wanted else 0
        with (
            Part("bench.robots:TelemetryPart", folder=str(folder), node=here.node("telemetry"), rows=rows) as node,
            Part("bench.robots:EchoPart") as echo,
        ):
            urls = {"ours": node.started, "echo": echo.started}
            if "windows" in wanted:
                windows(table, node, rows)
            if "frames" in wanted:
                frames(table, node, urls, chosen.rounds)
            if "crowd" in wanted:
                crowd(table, node, urls, here, chosen.seconds)
    if chosen.json:
        table.write(chosen.json, cores=os.cpu_count(), load=os.getloadavg()[0])


if __name__ == "__main__":
    main()
