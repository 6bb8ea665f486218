"""What a follower is given: rows that came, and what may be missing."""

from __future__ import annotations

from dataclasses import dataclass

from sisock.blocks import Block
from sisock.positions import Position
from sisock.splice import Unread


@dataclass(frozen=True, slots=True)
class Followed:
    """Rows that came to a timeline. In each of the ranges `revises` they replace all that was delivered before.

    Times are microseconds; `finalized_until` is seconds, None where the node says nothing of it. `position` (None for a
    node that keeps none) and what is `unread` are what `Resume` takes to go on behind them. There may be no rows.
    """

    timeline: str
    block: Block
    revises: tuple[tuple[int, int], ...] = ()
    position: Position | None = None
    finalized_until: float | None = None
    unread: Unread | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows of a timeline in [start, end), in microseconds, may be missing or other than delivered; `reason` says why."""

    timeline: str
    start: int
    end: int
    reason: str
