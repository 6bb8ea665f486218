"""Autobahn's log lines without colours: it colours the values of lines that nobody sees, for each message on a WebSocket.

That is more than a third of what a message costs the router. Here the values stay as they are, and a line that somebody
does see is made of them then.
"""

from __future__ import annotations

from typing import Any

import autobahn.twisted.websocket
import autobahn.wamp.websocket
import autobahn.websocket.protocol

COLOURED = {
    autobahn.websocket.protocol: ("hlval", "hltype"),
    autobahn.wamp.websocket: ("hlval",),
    autobahn.twisted.websocket: ("hlval", "hltype"),
}


def plain(value: Any, color: str = "", bold: bool = False) -> Any:  # noqa: ARG001
    """The value as it is, in place of its text in a colour."""
    return value


def leave_plain() -> None:
    """Takes the colours out of Autobahn's WebSockets in this process."""
    for module, names in COLOURED.items():
        for name in names:
            setattr(module, name, plain)
