"""What can go wrong with a store; these belong in the one tree of `sisock.errors`."""

from __future__ import annotations

from sisock.errors import SisockError


class LostLease(SisockError):
    """Another process writes this node's history now, so nothing was kept. Stop one of the two."""

    uri = "sisock.error.lost_lease"
    status = 409


class PositionLost(SisockError, LookupError):
    """This position is of another life of the history. Read anew, and show the gap."""

    uri = "sisock.error.position_lost"
    status = 410


class StoreFull(SisockError, OSError):
    """There is no room on the store's disk. Reads go on; make room, and appends work again."""

    uri = "sisock.error.store_full"
    status = 507


class StoreDamaged(SisockError, OSError):
    """A part of the store cannot be read. `sisock store check` lists what is lost and saves the rest."""

    uri = "sisock.error.store_damaged"


class StoreAway(SisockError, ConnectionError):
    """The database does not answer. Nothing that was acknowledged is lost; try again when it is back."""

    uri = "sisock.error.store_away"
    status = 503
