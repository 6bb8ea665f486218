"""What is followed, on its way from the reactor's thread to a reader in another one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from sisock.client.core import Client
from sisock.client.data import Gap, Rows
from sisock.client.loop import later
from sisock.followed import Followed, Missing
from sisock.following import Follower
from sisock.times import to_seconds

log = logging.getLogger("sisock")

OnGap = Callable[[Gap], Any]


class Stream:
    """A follower, and what it gave that nobody took yet.

    It takes from the follower only what somebody asks for, so that one who is slow holds no more than the follower does.
    Whoever gives up waiting loses nothing: what came waits here.
    """

    def __init__(self, client: Client, node: str, fields: tuple[str, ...], start: int, on_gap: OnGap | None) -> None:
        self.node, self.fields, self.on_gap = node, fields, on_gap
        self._client, self._start = client, start
        self._follower: Follower | None = None
        self._came: deque[Followed | Missing] = deque()
        self.closed = False

    def taken(self) -> Rows | Gap | None:
        """What came next, if anything did. A gap that goes to `on_gap` is passed over."""
        while True:
            try:
                item = self._came.popleft()
            except IndexError:
                return None
            offered = self._follower.catalogue.fields if self._follower is not None else {}
            fields = {name: offered[name] for name in self.fields if name in offered}
            if isinstance(item, Followed):
                if not len(item.block) and not item.revises:
                    # It tells a position, and nothing that a reader of rows sees.
                    continue
                return Rows.of(self.node, fields, item)
            gap = Gap.named(self.node, fields, item)
            if self.on_gap is None:
                # Code that looks at rows alone does not see it.
                log.warning("%r", gap)
                return gap
            self.on_gap(gap)

    async def fill(self) -> bool:
        """Waits until there is something to take; False at the end. Runs in the reactor's thread."""
        if self._came:
            return True
        if self.closed or self._client.closed:
            return False
        if self._follower is None:
            self._follower = self._client.follow(self.node, self.fields, to_seconds(self._start))
        try:
            self._came.append(await self._follower.__anext__())
        except StopAsyncIteration:
            return bool(self._came)
        self._came.extend(self._follower.ready())
        return True

    def close(self) -> None:
        """Ends it; what came and was not taken is dropped. From any thread."""
        if not self.closed:
            self.closed = True
            self._came.clear()
            later(self._stop)

    def _stop(self) -> None:
        if self._follower is not None:
            self._follower.stop()
