"""Loitering: connections that open and then do not log in, or stay after they were refused, are closed.

Crossbar waits for their HELLO for ever. Here each has a while for it, and where very many wait the one that has waited
longest makes room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

log = Logger()

# Seconds within which a connection has to have a session, and between two looks.
WITHIN = 10.0
LOOK_EVERY = 1.0
# Connections that may wait for their session at the same time.
MAX_WAITING = 2000


class Doorstep:
    """The connections that have no session, by when they were first seen without; the oldest first."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._since: dict[Any, float] = {}
        self._open: set[Any] = set()

    def __len__(self) -> int:
        return len(self._since)

    def opened(self, session: Any) -> Any | None:
        """A connection opened; answers the one that has to make room for it."""
        self._open.add(session)
        self._since[session] = self._seconds()
        return next(iter(self._since)) if len(self._since) > MAX_WAITING else None

    def closed(self, session: Any) -> None:
        """A connection is gone."""
        self._open.discard(session)
        self._since.pop(session, None)

    def look(self, has_session: Callable[[Any], bool]) -> list[Any]:
        """Those that have been without a session for too long."""
        present = self._seconds()
        late = []
        for session in self._open:
            if has_session(session):
                self._since.pop(session, None)
            elif present - self._since.setdefault(session, present) >= WITHIN:
                late.append(session)
        return late


def watch_the_doorstep() -> None:
    """Closes connections without a session in this process, which is a router's worker. It may be called again."""
    from crossbar.router.session import RouterSession
    from twisted.internet import reactor
    from twisted.internet.task import LoopingCall

    if hasattr(RouterSession, "doorstep"):
        return
    doorstep = RouterSession.doorstep = Doorstep(reactor.seconds)
    on_open, on_close = RouterSession.onOpen, RouterSession.onClose

    def opened(self: Any, transport: Any) -> None:
        on_open(self, transport)
        # The router's own components are no connections.
        if getattr(transport, "transport", None) is not None:
            _close(doorstep.opened(self))

    def closed(self: Any, wasClean: Any) -> None:  # noqa: N803
        doorstep.closed(self)
        on_close(self, wasClean)

    def look() -> None:
        for session in doorstep.look(lambda session: session._session_id is not None):
            _close(session)

    RouterSession.onOpen, RouterSession.onClose = opened, closed
    looking = LoopingCall(look)
    looking.start(LOOK_EVERY, now=False).addErrback(lambda failure: log.failure("nobody looks who loiters", failure))


def _close(session: Any) -> None:
    transport = getattr(getattr(session, "_transport", None), "transport", None)
    if transport is not None:
        log.debug("a connection without a session is closed: {peer}", peer=session._transport.peer)
        transport.abortConnection()
