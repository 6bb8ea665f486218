"""What a follower is given: rows that came, and what may be missing."""

from __future__ import annotations

from dataclasses import dataclass

from sisock.blocks import Block
from sisock.positions import Position


@dataclass(frozen=True, slots=True)
class Followed:
    """Rows that came to a timeline. In each of the ranges `revises` they replace all that was delivered before.

    Times are microseconds; `finalized_until` is seconds, None where the node says nothing of it. `position` is what
    `Resume` takes to go on behind them: None while what lies before it is still to come, and for a node that keeps none.
    """

    timeline: str
    block: Block
    revises: tuple[tuple[int, int], ...] = ()
    position: Position | None = None
    finalized_until: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows of a timeline in [start, end), in microseconds, may be missing or other than delivered; `reason` says why."""

    timeline: str
    start: int
    end: int
    reason: str
