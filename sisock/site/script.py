"""Runs a program of the old kind so that it ends with its connection: `python -m sisock.site.script FILE`.

Autobahn's ApplicationRunner leaves it to the session to stop the reactor. A session that does not, or that was never made
because the router took the connection and went before the handshake was over, leaves a program that runs on with no
connection. Here every lost connection ends the program, so that its supervisor starts it again; a runner that was told
to reconnect by itself is left to do so.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from functools import wraps
from pathlib import Path
from typing import Any

from autobahn.twisted import wamp
from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sisock.errors import Superseded

# Seconds that a program whose connection is gone has to end: a thread that waits for an instrument may never return.
ENDS_WITHIN = 5.0
# How a program ends that is not to be started again (no status that programs use), and one that had to be ended.
SUPERSEDED = 79
HAD_TO_BE_ENDED = 70


class _Protocol(WampWebSocketClientProtocol):
    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        super().connectionLost(reason)
        if not reason.check(ConnectionDone, ConnectionLost):
            # A certificate that is not the pinned one, for example.
            sys.stderr.write(f"sisock: the connection to the router failed: {reason.value}\n")
        _end()


class _Factory(WampWebSocketClientFactory):
    protocol = _Protocol


def _end() -> None:
    from twisted.internet import reactor

    if reactor.running:
        reactor.stop()
    last = threading.Timer(ENDS_WITHIN, os._exit, [HAD_TO_BE_ENDED])
    last.daemon = True
    last.start()


def end_with_the_connection() -> None:
    """Makes every ApplicationRunner of this process that does not reconnect end with its connection."""
    run = wamp.ApplicationRunner.run

    @wraps(run)
    def ending(self: Any, make: Any, start_reactor: bool = True, auto_reconnect: bool = False, *args: Any, **more: Any) -> Any:
        # The runner takes its factory from its module.
        wamp.WampWebSocketClientFactory = WampWebSocketClientFactory if auto_reconnect else _Factory
        return run(self, make, start_reactor, auto_reconnect, *args, **more)

    wamp.ApplicationRunner.run = ending


def main() -> None:
    """Runs the file as Python would."""
    file = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(file).parent)
    end_with_the_connection()
    try:
        runpy.run_path(file, run_name="__main__")
    except Superseded:
        # It has been said in the log.
        sys.exit(SUPERSEDED)


if __name__ == "__main__":
    main()
