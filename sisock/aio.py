"""The client in asyncio's words: `await sisock.aio.connect()`.

    import asyncio
    import sisock.aio

    async def main():
        async with await sisock.aio.connect() as hub:
            data = await hub["sensors"].get(["cpu_load"], start="-10m")
            async for block in hub["sensors"].follow(["cpu_load"]):
                print(block.time[-1], block["cpu_load"][-1])

    asyncio.run(main())

It is the blocking client's twin, with the same names and arguments: see `help(sisock.client.blocking)`. The Twisted client
runs in a thread; whatever is cancelled here is cancelled there, and nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from sisock.client.address import access_of
from sisock.client.blocking import PATIENCE
from sisock.client.catalogue import Fields
from sisock.client.core import Client, Wish, names_of
from sisock.client.data import Data, Rows
from sisock.client.loop import leave, loop
from sisock.client.stream import OnGap, Stream
from sisock.client.when import micros_of_time, timeout_of
from sisock.errors import TimedOut
from sisock.session import CALL_TIMEOUT

T = TypeVar("T")


async def connect(
    address: str | None = None,
    token: str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109
    patience: float = PATIENCE,
) -> Hub:
    """Connects to a hub and answers it; arguments and errors as `sisock.connect`."""
    access = access_of(address, token, home=home, certificate=certificate)
    silence, longest = timeout_of(timeout, "timeout"), timeout_of(patience, "patience")
    return Hub(await _wait(lambda: Client.opened(access, silence, longest)))


class Hub:
    """A hub and its nodes; `await sisock.aio.connect()` makes it.

    await hub.nodes()
    hub["sensors"]          # a Node; whether it is there shows when it is asked
    await hub.close()       # or: async with await sisock.aio.connect() as hub
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

    async def nodes(self, *, timeout: float | None = None) -> list[Node]:  # noqa: ASYNC109
        """The nodes that are there, oldest first; each has a `name` and a `description`. TimedOut after `timeout` seconds."""
        return [Node(self, entry["name"], entry["description"]) for entry in await _wait(self._client.listed, timeout)]

    async def close(self) -> None:
        """Leaves; what is followed comes to its end."""
        if self._leave.detach():
            await _wait(self._client.stop, PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __getitem__(self, name: str) -> Node:
        return Node(self, name)

    def __repr__(self) -> str:
        return f"<sisock hub at {self.address}, {'connected' if self.connected else 'not connected'}>"


class Node:
    """A data node of a hub; `hub["sensors"]` makes it, or `await hub.nodes()`, which knows its description.

    fields = await node.fields()
    df = (await node.get(["cpu_load"], start="-10m")).to_pandas()
    async for block in node.follow(["cpu_load"], start="-10m"): ...
    """

    def __init__(self, hub: Hub, name: str, description: str | None = None) -> None:
        self.hub, self.name, self.description = hub, name, description
        self._client = hub._client

    def __repr__(self) -> str:
        return f"<node {self.name!r}: {self.description}>" if self.description else f"<node {self.name!r}>"

    async def fields(self, *, timeout: float | None = None) -> Fields:  # noqa: ASYNC109
        """What the node offers: a mapping of names to Fields, with their `timelines`. TimedOut after `timeout` seconds."""
        return Fields(self.name, await _wait(lambda: self._client.catalogue(self.name), timeout))

    async def get(
        self,
        fields: str | list[str] | tuple[str, ...] | None = None,
        start: Any = "-1h",
        end: Any = None,
        *,
        max_points: int | None = None,
        min_stride: Any = None,
        method: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Data:
        """The rows of these fields (of all, if none are named) in [start, end), as the blocking client's `get`.

        data = await hub["apex_archive"].get(["apex_temperature"], start="-10y", max_points=2000)
        """
        wish = Wish.of(fields, start, end, max_points, min_stride, method)
        return await _wait(lambda: self._client.get(self.name, wish), timeout)

    def follow(
        self,
        fields: str | list[str] | tuple[str, ...] | None = None,
        start: Any = 0,
        *,
        on_gap: OnGap | None = None,
        timeout: float | None = None,
    ) -> Following:
        """Follows these fields (all, if none are named) from `start` on, as the blocking client's `follow`.

            async for block in hub["sensors"].follow(["cpu_load"], start="-10m"):
                print(block.time[-1], block["cpu_load"][-1])

        An unknown node or field is an error at the first step. Leaving the loop ends it; `async with` ends it in any case.
        """
        wanted = None if timeout is None else timeout_of(timeout, "timeout")
        return Following(self, None if fields is None else names_of(fields), micros_of_time(start, "start"), on_gap, wanted)


class Following:
    """What is followed; `node.follow(...)` makes it. Iterate over it; leaving the loop, or `close`, ends it."""

    def __init__(
        self,
        node: Node,
        names: tuple[str, ...] | None,
        start: int,
        on_gap: OnGap | None,
        timeout: float | None,
    ) -> None:
        self.node = node
        self._names, self._start, self._on_gap, self._timeout = names, start, on_gap, timeout
        self._stream: Stream | None = None
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Rows]:
        try:
            while (block := await self.next(self._timeout)) is not None:
                yield block
        finally:
            self.close()

    async def next(self, timeout: float | None = None) -> Rows | None:  # noqa: ASYNC109
        """The next block, or Gap; None at the end. TimedOut, and nothing is lost, if none comes within `timeout` seconds."""
        within = None if timeout is None else timeout_of(timeout, "timeout")
        stream = self._stream
        if stream is None and not self._closed:
            client, node = self.node._client, self.node.name
            names = await _wait(lambda: client.followable(node, self._names), within)
            stream = self._stream = self._stream or Stream(client, node, names, self._start, self._on_gap)
            weakref.finalize(self, stream.close)
        while stream is not None and not self._closed:
            if (block := stream.taken()) is not None:
                return block
            if not await _wait(stream.fill, within):
                break
        return None

    def close(self) -> None:
        """Ends it: nothing is subscribed any more. Does not wait."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _wait(work: Callable[[], Awaitable[T]], within: float | None = None) -> T:
    """Does work in the reactor's thread; TimedOut after `within` seconds."""

    async def awaited() -> T:
        return await work()

    seconds = None if within is None else timeout_of(within, "timeout")
    try:
        async with asyncio.timeout(seconds) as limit:
            return await asyncio.wrap_future(loop.submit(awaited))
    except TimeoutError:
        # Ours is one, too.
        if limit.expired():
            raise TimedOut(f"it took longer than {seconds:g} s") from None
        raise
