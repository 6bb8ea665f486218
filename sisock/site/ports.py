"""Ports: free ones to take, and a clear word when one is taken."""

from __future__ import annotations

import errno
import socket

from sisock.errors import PortTaken, SetupError


def free(host: str) -> int:
    """A port that nobody listens on now; SetupError if this machine has no such address."""
    try:
        with _socket(host, 0) as held:
            return int(held.getsockname()[1])
    except OSError as error:
        raise SetupError(f"nothing can listen on {host}: {error.strerror}. Choose another with --host.") from None


def check(host: str, port: int, what: str, option: str) -> None:
    """Raises PortTaken, which names the port and the option, if the port cannot be listened on."""
    try:
        _socket(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} for {what} is taken. Choose another with {option}, or --ports auto.") from None
        raise SetupError(
            f"{what} cannot listen on {host} port {port}: {error.strerror}. Choose others with --host and {option}."
        ) from None


def _socket(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    held = socket.socket(family, kind, protocol)
    try:
        # As servers do: the closed connections of an earlier run do not hold the port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(address)
        held.listen(1)
    except BaseException:
        held.close()
        raise
    return held
