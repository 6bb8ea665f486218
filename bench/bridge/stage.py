"""Where the bridge is measured: router, node and bridge in processes of their own, and peers with the same rows."""

from __future__ import annotations

import http.client
import time
import urllib.parse
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.follow.archive import NAME, Archive
from bench.follow.parts import Part
from bench.follow.site import access, site
from bench.store.measuring import fill, series
from bench.store.peers import PEERS
from sisock.home import Home
from sisock.naming import Identity
from sisock.serving import NodeService
from sisock.store import Store

POINTS = 1000
LINES = 20_000


class BridgePart:
    """The bridge, as a site has it: who comes without a token is let in by the rules."""

    def __init__(self, reader, home):
        from sisock.grafana_bridge import Bridge

        self._bridge = Bridge(access(reader), "127.0.0.1", 0, home=Home(Path(home)))

    async def start(self):
        (await self._bridge.start()).addErrback(lambda failure: failure.printTraceback())
        return self._bridge.listening.getHost().port

    async def stop(self):
        await self._bridge.stop()


class NodePart:
    """A node of one field, as `sisock run` serves it."""

    def __init__(self, store, node):
        self._store, self._node, self._archive = Store.open(store), access(node), Archive()

    async def start(self):
        self._archive.history = self._store.node(NAME)
        self._service = NodeService(self._archive, self._node, Identity("bench", 1))
        await self._service.start()

    async def stop(self):
        await self._service.stop()
        self._store.close()


class Bridge:
    """One connection to the bridge."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def ask(self, path, body=None):
        """A request, a POST where it has a body; the answer's bytes."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.connection.request("GET" if body is None else "POST", path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {data[:500]!r}")
        return data


@dataclass(frozen=True)
class Grid:
    """POINTS times, whole seconds, each so many seconds behind the one before."""

    start: int
    step: int

    @property
    def end(self):
        return self.start + self.step * (POINTS - 1)

    def moved(self, seconds):
        return Grid(self.start + seconds, self.step)


class Stage:
    """What is there: the bridge's port, the processes that answer, the peers, the rows."""

    def __init__(self, folder, rows, here, held):
        self.rows = rows
        self.t, self.v = series(rows)
        step = max(1, int((self.t[-1] - self.t[0]) / 1e6) // (POINTS + 1))
        self.grid = Grid(int(self.t[0] / 1e6) + step, step)
        self.peers = {}
        self._here, self._store = here, folder / "history.db"
        with Store.open(self._store) as store:
            fill(store.node(NAME), "t", self.t, self.v)
        reader = here.access(here.reader, here.local)
        bridge = held.enter_context(Part("bench.bridge.stage:BridgePart", reader=reader, home=str(here.home.path)))
        self.port = bridge.started
        self.processes = {"bridge": bridge.pid, "router": here.worker}
        self._node = None
        held.callback(self.stop)
        self.begin_again()

    def stop(self):
        """Stops the node."""
        if self._node is not None:
            self._node.stop()

    def begin_again(self):
        """Starts the node anew, so that it remembers nothing; its libraries are loaded."""
        self.stop()
        self._node = Part("bench.bridge.stage:NodePart", store=str(self._store), node=self._here.node(NAME))
        self.processes["node"] = self._node.pid
        bridge, deadline = Bridge(self.port), time.monotonic() + 30
        last = path(f"/api/nodes/{NAME}/data", field="x", start=self.grid.end, end=self.grid.end + 1)
        while True:
            try:
                bridge.ask(last)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


@contextmanager
def stage(folder, rows):
    """Everything, started, with these rows in it."""
    with ExitStack() as held:
        here = held.enter_context(site(folder))
        made = Stage(folder, rows, here, held)
        for peer in PEERS:
            if peer.installed():
                made.peers[peer.name] = held.enter_context(peer(folder))
                for at in range(0, rows, LINES):
                    made.peers[peer.name].write(peer.text("t", made.t[at : at + LINES], made.v[at : at + LINES]))
                made.peers[peer.name].settle()
        yield made


def path(where, **query):
    """A path with its query."""
    return f"{where}?{urllib.parse.urlencode(query)}"
