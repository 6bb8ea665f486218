"""Errors: one tree, one page.

    SisockError
    ├── InvalidArgument   (ValueError)       the caller's argument is of the wrong type or range
    ├── UnknownNode       (LookupError)      no data node of this name is there
    ├── UnknownField      (KeyError)         the node has no such field
    ├── NotAuthenticated  (PermissionError)  no token, or one that is not believed
    ├── TooManyLogins     (PermissionError)  too many wrong logins came from there
    ├── NotAuthorized     (PermissionError)  this user may not do that
    ├── NotRegistered                        data_node.add came before both procedures were registered
    ├── Superseded                           a newer start of the same node serves its name now
    ├── LateRow           (ValueError)       a row older than what was declared final
    ├── LostLease                            another process writes the node's history now
    ├── PositionLost      (LookupError)      a position of another life of a history
    ├── StoreFull         (OSError)          no room on the store's disk
    ├── StoreDamaged      (OSError)          a part of the store cannot be read
    ├── StoreAway         (ConnectionError)  the database does not answer
    ├── TooMuch                              more than one answer may hold
    ├── Busy                                 a bounded queue is full
    ├── NodeFailed                           the node's own code raised
    ├── NotConnected      (ConnectionError)  no session with the router
    ├── WrongCertificate  (ConnectionError)  the router's certificate is not the one that is trusted
    ├── TimedOut          (TimeoutError)     no answer in time
    ├── WouldBlock        (RuntimeError)     the reactor's own thread may not wait
    ├── NotInstalled      (ImportError)      an optional package is missing
    ├── PortTaken         (OSError)          another program listens there
    └── SetupError                           the site cannot start as it is set up

Each has a WAMP URI, an HTTP status and a sentence that tells the user what to do (its docstring). Each is
also the standard type it resembles, so that code which knows nothing of sisock can catch it.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import ClassVar


class SisockError(Exception):
    """Something in sisock went wrong."""

    uri: ClassVar[str] = "sisock.error.failed"
    status: ClassVar[int] = 500

    def __str__(self) -> str:
        # KeyError would show the repr of its argument.
        return " ".join(str(part) for part in self.args) or cleandoc(type(self).__doc__ or "")


class InvalidArgument(SisockError, ValueError):
    """An argument has the wrong type or is out of range. The message names it and says what is accepted."""

    uri = "sisock.error.invalid_argument"
    status = 400


class UnknownNode(SisockError, LookupError):
    """No such data node is there. `sisock ls` lists those that are."""

    uri = "sisock.error.unknown_node"
    status = 404


class UnknownField(SisockError, KeyError):
    """This node has no such field. `sisock fields NODE` lists them."""

    uri = "sisock.error.unknown_field"
    status = 404


class NotAuthenticated(SisockError, PermissionError):
    """No token came, or one that is not believed. `sisock user add` makes one."""

    uri = "sisock.error.not_authenticated"
    status = 401


class TooManyLogins(SisockError, PermissionError):
    """Too many wrong logins came from this address. Try again in a minute."""

    uri = "sisock.error.too_many_logins"
    status = 429


class NotAuthorized(SisockError, PermissionError):
    """This user may not do that. The site's users stand in <home>/.crossbar/users.json, its rules in <home>/access.toml."""

    uri = "sisock.error.not_authorized"
    status = 403


class NotRegistered(SisockError):
    """A node registers get_fields and get_data before it calls data_node.add."""

    uri = "sisock.error.not_registered"
    status = 409


class Superseded(SisockError):
    """A newer start of this node serves its name now, so this one leaves. Stop one of the two."""

    uri = "sisock.error.superseded"
    status = 409


class LateRow(SisockError, ValueError):
    """A row is older than what was declared final. Append it with correct=True, or raise the lateness."""

    uri = "sisock.error.late_row"
    status = 409


class TooMuch(SisockError):
    """More was asked for than one answer may hold. Ask for a shorter time, or with max_points."""

    uri = "sisock.error.too_much"
    status = 413


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


class Busy(SisockError):
    """A bounded queue is full. Try again in a moment, or send larger blocks less often."""

    uri = "sisock.error.busy"
    status = 503


class NodeFailed(SisockError):
    """The node's own code raised an error. Its log has the traceback."""

    uri = "sisock.error.node_failed"
    status = 502


class NotConnected(SisockError, ConnectionError):
    """There is no session with the router. `sisock up` starts one; SISOCK_HOME or --home names its folder."""

    uri = "sisock.error.not_connected"
    status = 503


class WrongCertificate(SisockError, ConnectionError):
    """The router shows another certificate than the one to trust. Get its own, or see whether the address is right."""

    uri = "sisock.error.wrong_certificate"
    status = 502


class TimedOut(SisockError, TimeoutError):
    """No answer came in time. The node may be busy or stopped."""

    uri = "sisock.error.timed_out"
    status = 504


class WouldBlock(SisockError, RuntimeError):
    """This is the thread of Twisted's reactor, in which nothing may wait. Await sisock.consumer.Consumer there instead."""

    uri = "sisock.error.would_block"


class NotInstalled(SisockError, ImportError):
    """A package that this needs is not installed. The message says how to install it."""

    uri = "sisock.error.not_installed"


class PortTaken(SisockError, OSError):
    """Another program listens on this port. Stop it, or choose another port."""

    uri = "sisock.error.port_taken"


class SetupError(SisockError):
    """The site cannot start as it is set up. The message says what to change."""

    uri = "sisock.error.setup"


def shown(value: object) -> str:
    """A value as a message shows it: the beginning of its repr."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):
        # An integer of thousands of digits, a list in a list in a list: what a caller sends may have no repr.
        return f"something that cannot be shown ({type(value).__name__})"


def _tree(root: type[SisockError]) -> list[type[SisockError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_URI: dict[str, type[SisockError]] = {error.uri: error for error in _tree(SisockError)}
