"""A command's way into the store: opened at its address, kept from nodes that are being written, with a bar."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sisock.cli.options import settings
from sisock.errors import SetupError, SisockError

if TYPE_CHECKING:
    from sisock.beside import Tables
    from sisock.store import NodeHistory, Store

# Called with what is done, how much of it and how much there is.
Tell = Callable[[str, int, int], None]


@contextmanager
def opened(address: str | None, *, make: bool = False, tables: Tables | None = None) -> Iterator[Store]:
    """Opens the store at this address, or the settings', and a node's `tables` in it.

    SetupError if there is none and it is not to be made.
    """
    from sisock.store import Store

    where = address or settings().store
    path = Path(where).expanduser()
    if "://" not in where:
        where = str(path)
        if not make and not path.exists():
            raise SetupError(f"there is no store at {path}. Nodes make it when they run; --store names another.")
    try:
        held = Store.open(where, tables=tables)
    except SisockError:
        # Some of them are OSErrors, too.
        raise
    except OSError as error:
        raise unwritable(path.parent, error) from error
    with held:
        yield held


def refuse_if_written(held: Store, node: str, force: bool) -> None:
    """Raises SetupError if a process may be writing the node: to take its lease would end it.

    The store knows who took the lease last, of whatever home, started by `up` or by hand: run.json knows only of one
    site's own parts. A process of this machine is there or not (another one may have got its number since; then
    --force is right). Of another machine's, or another container's, nobody here can tell.
    """
    holder = held.holder(node)
    if holder is None or force:
        return
    host, _, pid = holder.rpartition(" ")
    if host == socket.gethostname():
        from sisock.store.leases import lives

        if lives(int(pid)):
            raise SetupError(f"process {pid} writes the history of {node} now. Stop that node first, or add --force to end it.")
        return
    raise SetupError(
        f"process {pid} on {host} was the last to write the history of {node}, and cannot be seen from here. "
        "Make sure that it has ended, and add --force."
    )


@contextmanager
def writing(held: Store, node: str, force: bool) -> Iterator[NodeHistory]:
    """Opens a node's history to write, and releases it at the end; as refuse_if_written."""
    refuse_if_written(held, node, force)
    history = held.node(node)
    try:
        yield history
    except BaseException:
        with suppress(SisockError):
            history.release()
        raise
    history.release()


def shown_address(address: str | None) -> str:
    """An address without its password; the settings' if it is None."""
    from sisock.store.database import url_of

    where = address or settings().store
    return url_of(where).render_as_string(hide_password=True) if "://" in where else where


def unwritable(folder: Path, error: OSError) -> SetupError:
    """What a failed write says."""
    return SetupError(f"{error.filename or folder} cannot be written: {error.strerror or error}.")


@contextmanager
def progress() -> Iterator[Tell]:
    """Shows a bar on standard error if that is a terminal; it shows the part that is being worked on."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bars.update(task, description=escape(what), completed=done, total=max(total, 1))

        yield tell
