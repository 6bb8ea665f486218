"""The blocking client, for scripts and notebooks: `sisock.connect()`.

It runs the Twisted client in a thread; every call waits for its answer, Ctrl-C ends the wait. Any thread may call it, but
the reactor's own, where nothing may wait (WouldBlock).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from sisock.client.address import access_of
from sisock.client.catalogue import Fields
from sisock.client.core import Client, Progress, Wish, names_of
from sisock.client.data import Data, Rows
from sisock.client.glance import WITHIN, Glance, Seen, glance_at, look_around
from sisock.client.loop import leave, loop
from sisock.client.progress import bar
from sisock.client.stream import OnGap, Stream
from sisock.client.when import micros_of_time, timeout_of
from sisock.errors import SisockError, TimedOut
from sisock.fields import Catalogue
from sisock.session import CALL_TIMEOUT

T = TypeVar("T")

PATIENCE = 10.0


def connect(
    address: str | None = None,
    token: str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    timeout: float = CALL_TIMEOUT,
    patience: float = PATIENCE,
) -> Hub:
    """Connects to a hub and answers it.

        hub = sisock.connect()                    # the site that runs on this machine, or what the environment names
        hub = sisock.connect("wss://hub.example:8080/ws", token="USER:SECRET", certificate="server_cert.pem")
        hub = sisock.connect("http://localhost:8080/#token=page:6yT...")      # what `sisock up` prints
        with sisock.connect() as hub: ...

    Without an address it is the site whose run.json stands in `home` (SISOCK_HOME, or ~/.sisock), or the router that
    CROSSBAR_HOST names, as the user WAMP_USER with WAMP_SECRET. `certificate` is the file of the one to pin for wss.

    A call raises TimedOut if nothing of its answer comes for `timeout` seconds. A connection that is lost is made again, and
    calls wait for it so long, too. Raises NotAuthorized at once if the token is wrong, WrongCertificate if the certificate
    is not to be trusted, NotConnected if no site runs, or its router does not answer for `patience` seconds.
    """
    access = access_of(address, token, home=home, certificate=certificate)
    silence, longest = timeout_of(timeout, "timeout"), timeout_of(patience, "patience")
    return Hub(loop.wait(lambda: Client.opened(access, silence, longest)))


class Hub:
    """A hub and its nodes; `sisock.connect()` makes it.

        hub.nodes()                   # [<node 'apex_archive': ...>, <node 'sensors': ...>]
        hub["sensors"]                # a Node; UnknownNode at once if it is not there
        "sensors" in hub, list(hub)   # names
        hub.close()                   # or: with sisock.connect() as hub

    In a notebook it shows its nodes, and how fresh their data are. Whoever lets go of it lets go of the connection.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._leave = weakref.finalize(self, leave, client.stop)

    @property
    def address(self) -> str:
        """Where its router is."""
        return self._client.access.url

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present; a lost one is made again."""
        return self._client.connected

    def nodes(self, *, timeout: float | None = None) -> list[Node]:
        """The nodes that are there, oldest first; each has a `name` and a `description`. TimedOut after `timeout` seconds."""
        listed = self._wait(self._client.listed, timeout)
        return [Node(self, entry["name"], entry["description"]) for entry in listed]

    def close(self) -> None:
        """Leaves; what is followed comes to its end."""
        if self._leave.detach():
            loop.wait(self._client.stop, PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getitem__(self, name: str) -> Node:
        return Node(self, name, self._wait(lambda: self._client.described(name)))

    def __iter__(self) -> Iterator[str]:
        return iter([node.name for node in self.nodes()])

    def __len__(self) -> int:
        return len(self.nodes())

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __repr__(self) -> str:
        return f"<sisock hub at {self.address}, {'connected' if self.connected else 'not connected'}>"

    def _repr_html_(self) -> str:
        from sisock.client.html import hub_html

        seen: list[Seen] = []
        problem = self._look(lambda: look_around(self._client, seen))
        return hub_html(self.address, seen, problem)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _wait(self, work: Callable[[], Awaitable[T]], within: float | None = None, **more: Any) -> T:
        async def awaited() -> T:
            return await work()

        return loop.wait(awaited, None if within is None else timeout_of(within, "timeout"), **more)

    def _look(self, work: Callable[[], Awaitable[None]]) -> str | None:
        """Looks for a short while; answers what kept it from seeing all."""
        try:
            self._wait(work, WITHIN)
        except TimedOut:
            return f"Not all of it answered within {WITHIN:g} s."
        except SisockError as error:
            return str(error)
        return None


class Node:
    """A data node of a hub; `hub["sensors"]` makes it.

        node.fields()                                                  # {name: Field}, with units and descriptions
        node.get(["cpu_load"], start="-10m").to_pandas()
        for block in node.follow(["cpu_load"], start="-10m"): ...

    In a notebook it shows its fields, their last values, how fresh they are and how they went of late.
    """

    def __init__(self, hub: Hub, name: str, description: str) -> None:
        self.hub, self.name, self.description = hub, name, description
        self._client = hub._client

    def __repr__(self) -> str:
        return f"<node {self.name!r}: {self.description}>"

    def fields(self, *, timeout: float | None = None) -> Fields:
        """What the node offers: a mapping of names to Fields, with their `timelines`. TimedOut after `timeout` seconds."""
        catalogue = self.hub._wait(lambda: self._client.catalogue(self.name), timeout)
        return Fields(self.name, catalogue, lambda: self._glance(catalogue))

    def get(
        self,
        fields: str | list[str] | tuple[str, ...] | None = None,
        start: Any = "-1h",
        end: Any = None,
        *,
        max_points: int | None = None,
        min_stride: Any = None,
        method: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> Data:
        """The rows of these fields (of all, if none are named) in [start, end); without an end, up to the newest.

            data = hub["apex_archive"].get(["apex_temperature"], start="2017-07-14", end="2017-07-28")
            data = hub["apex_archive"].get("apex_temperature", start="-10y", max_points=2000)
            df = data.to_pandas()

        A time is UNIX seconds (0 is now, -600 ten minutes ago), "-10m", "2017-07-14T12:30", a datetime (UTC unless it names a
        zone) or one of NumPy or pandas; 1 is the beginning. `max_points` answers the extremes of so many points,
        `method` ("minmax", "lttb", "mean", "last") others; `min_stride` rows at least so long apart.

        Without `max_points` all rows come, by pages if they are many, with a bar on a terminal if that takes long
        (`progress`: always or never). `timeout` bounds the whole, in seconds. UnknownField, InvalidArgument, TooMuch,
        TimedOut, NotConnected say what went wrong.
        """
        wish = Wish.of(fields, start, end, max_points, min_stride, method)
        came = Progress()
        with bar(came, self.name, progress) as tick:
            return self.hub._wait(lambda: self._client.get(self.name, wish, came), timeout, tick=tick)

    def follow(
        self,
        fields: str | list[str] | tuple[str, ...] | None = None,
        start: Any = 0,
        *,
        on_gap: OnGap | None = None,
        timeout: float | None = None,
    ) -> Following:
        """Follows these fields (all, if none are named) from `start` on: first what is there, then what comes, without a hole.

            for block in hub["sensors"].follow(["cpu_load"], start="-10m"):
                print(block.time[-1], block["cpu_load"][-1])
                for start, end in block.revises: ...         # there, its rows replace all that came before

        Each block is the Rows of one timeline. It goes on through lost connections and restarts of the node. What it may have
        missed for good it names: as a Gap among the blocks (which has no rows, and a line in the log), or to `on_gap(gap)`.
        Leaving the loop ends it. Whoever is slow loses nothing: what waits for him is bounded, and the rest is asked for later.

        `timeout`: TimedOut if nothing comes for so many seconds; else it waits for ever. `start` is as for `get`.
        """
        wanted = None if timeout is None else timeout_of(timeout, "timeout")
        names, first = None if fields is None else names_of(fields), micros_of_time(start, "start")
        chosen = self.hub._wait(lambda: self._client.followable(self.name, names))
        return Following(self, Stream(self._client, self.name, chosen, first, on_gap), wanted)

    def _repr_html_(self) -> str:
        from sisock.client.html import node_html

        catalogue = Catalogue()

        async def ask() -> None:
            nonlocal catalogue
            catalogue = await self._client.get_fields(self.name)

        problem = self.hub._look(ask)
        glance = Glance(problem=problem) if problem else self._glance(catalogue)
        return node_html(self.name, self.description, catalogue, glance)

    def _glance(self, catalogue: Catalogue) -> Glance:
        glance = Glance()
        problem = self.hub._look(lambda: glance_at(self._client, self.name, catalogue, glance))
        glance.problem = glance.problem or problem
        return glance


class Following:
    """What is followed; `node.follow(...)` makes it. Iterate over it; leaving the loop, or `close`, ends it."""

    def __init__(self, node: Node, stream: Stream, timeout: float | None) -> None:
        self.node = node
        self._stream, self._timeout = stream, timeout
        self._end = weakref.finalize(self, stream.close)

    def __repr__(self) -> str:
        return f"<following {', '.join(self._stream.fields)} of {self.node.name}>"

    def __iter__(self) -> Iterator[Rows]:
        try:
            while (block := self.next(self._timeout)) is not None:
                yield block
        finally:
            self.close()

    def next(self, timeout: float | None = None) -> Rows | None:
        """The next block, or Gap; None at the end. TimedOut, and nothing is lost, if none comes within `timeout` seconds."""
        while True:
            if (block := self._stream.taken()) is not None:
                return block
            if self._stream.closed or not self.node.hub._wait(self._stream.fill, timeout):
                return None

    def close(self) -> None:
        """Ends it: nothing is subscribed any more."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
