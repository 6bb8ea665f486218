"""Who may write a node's history: the process that has the node's name, and while nobody can say, the one that had it.

The lease is a number in the store. It is taken in three steps: its number is read, the name is made sure of, and the
lease is taken only if the number still is that one. So whoever slept between two of them, or was taken over, does not
take it back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sisock.errors import LostLease

if TYPE_CHECKING:
    from sisock.store.history import NodeHistory
    from sisock.store.store import Store

# How often the lease is looked at again when somebody took it in between.
TRIES = 5

# Whether a process has the name of its node: None where the router, who could say, is away.
HasName = Callable[[], bool | None]


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wants to write a node: an instance of it (a UUID kept in its home), and the how-manieth start of that."""

    instance: str
    start: int


@dataclass(frozen=True, slots=True)
class Tenure:
    """The lease as the store has it: its number, and who took it last; `holder` is None once that was released."""

    number: int
    holder: str | None
    writer: Writer | None


def take(store: Store, name: str, writer: Writer, has_name: HasName, mine: int | None = None) -> NodeHistory | None:
    """The node's history, to write; None while that is another's. `mine` is the number of the lease that one had.

    LostLease if another process took both the name and that lease.
    """
    for _ in range(TRIES):
        held = store.tenure(name)
        named = has_name()
        if not may_take(held, writer, named, mine):
            if named is False and mine is not None and held is not None and held.number != mine:
                raise LostLease(f"another process writes the history of {name!r} now. Stop one of the two.")
            return None
        try:
            return store.node(name, writer=writer, after=0 if held is None else held.number)
        except LostLease:
            # Somebody was faster, who may have more right to it.
            continue
    return None


def may_take(held: Tenure | None, writer: Writer, named: bool | None, mine: int | None) -> bool:
    """Whether a writer may take the lease, given whether it has the node's name."""
    if named is not None:
        return named
    # Nobody can say whose the name is. It is nobody else's if nobody else writes.
    if held is None or held.holder is None or held.number == mine:
        return True
    before = held.writer
    if before is None or before.instance != writer.instance or before.start > writer.start:
        return False
    # An older start of this very node, in this home, on this machine. In a container its name and number may be new.
    host, _, pid = held.holder.rpartition(" ")
    return host != socket.gethostname() or int(pid) == os.getpid() or not lives(int(pid))


def lives(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
