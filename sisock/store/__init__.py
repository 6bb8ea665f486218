"""The store: history on disk, read at the speed of memory. `docs/store.md` explains how it lies there."""

from __future__ import annotations

from sisock.errors import LostLease, PositionLost, StoreAway, StoreDamaged, StoreFull
from sisock.history import Changes
from sisock.store.history import NodeHistory
from sisock.store.overview import Overview
from sisock.store.store import Store

__all__ = [
    "Changes",
    "LostLease",
    "NodeHistory",
    "Overview",
    "PositionLost",
    "Store",
    "StoreAway",
    "StoreDamaged",
    "StoreFull",
]
