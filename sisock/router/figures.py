"""Figures: what passes the router, counted, and a record of what happened to its nodes. All of it has a bound."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from autobahn.wamp import message

# What happened lately, and calls whose answer is awaited.
MAX_EVENTS = 1000
MAX_PENDING = 10_000

What = Literal["came", "went", "corrected"]


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened to a node. `t`, `start` and `end` are UNIX seconds; the latter two are of a correction."""

    number: int
    t: float
    node: str
    what: What
    start: float | None = None
    end: float | None = None

    def to_wire(self) -> list[Any]:
        """The form that is answered."""
        return [self.number, self.t, self.node, self.what, self.start, self.end]


class Figures:
    """Counts messages as they pass, and how long calls take."""

    def __init__(self, clock: Callable[[], float] = time.time, timer: Callable[[], float] = time.perf_counter) -> None:
        self.life = uuid4().hex
        self.calls = self.answers = self.errors = self.publications = self.events = 0
        self.seconds = 0.0
        self.slowest = 0.0
        self.happened: deque[Happened] = deque(maxlen=MAX_EVENTS)
        self._clock, self._timer = clock, timer
        self._pending: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._number = 0

    def received(self, session: int, msg: Any) -> None:
        """Takes in a message from somebody outside."""
        kind = type(msg)
        if kind is message.Call:
            self.calls += 1
            self._pending[session, msg.request] = self._timer()
            if len(self._pending) > MAX_PENDING:
                self._pending.popitem(last=False)
        elif kind is message.Publish:
            self.publications += 1

    def sent(self, session: int, msg: Any) -> None:
        """Takes in a message to somebody outside."""
        kind = type(msg)
        if kind is message.Event:
            self.events += 1
        elif kind is message.Result:
            if not msg.progress:
                self._answered(session, msg.request)
        elif kind is message.Error:
            self.errors += 1
            if msg.request_type == message.Call.MESSAGE_TYPE:
                self._answered(session, msg.request)

    def _answered(self, session: int, request: int) -> None:
        began = self._pending.pop((session, request), None)
        if began is not None:
            took = self._timer() - began
            self.answers += 1
            self.seconds += took
            self.slowest = max(self.slowest, took)

    def note(self, node: str, what: What, start: float | None = None, end: float | None = None) -> None:
        """Records what happened to a node."""
        self._number += 1
        self.happened.append(Happened(self._number, self._clock(), node, what, start, end))

    def to_wire(self, after: int = 0) -> dict[str, Any]:
        """All of it, and what happened after that number. The slowest call is one of those since the last time."""
        slowest, self.slowest = self.slowest, 0.0
        return {
            "life": self.life,
            "calls": self.calls,
            "answers": self.answers,
            "errors": self.errors,
            "publications": self.publications,
            "events": self.events,
            "seconds": self.seconds,
            "slowest": slowest,
            "happened": [one.to_wire() for one in self.happened if one.number > after],
        }
