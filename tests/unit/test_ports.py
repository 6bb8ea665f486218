"""Ports: free ones, and a clear word when one is taken."""

from __future__ import annotations

import socket

import pytest

from sisock.errors import PortTaken, SetupError
from sisock.site import ports


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_port_can_be_listened_on(host):
    port = ports.free(host)
    ports.check(host, port, "the router", "--port")
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("held", ["127.0.0.1", ""])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_named_with_its_option(held, host):
    with socket.create_server((held, 0) if held else ("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} for the bridge is taken.*--bridge-port"):
            ports.check(host, port, "the bridge", "--bridge-port")
    ports.check(host, port, "the bridge", "--bridge-port")


def test_a_port_whose_connections_just_closed_is_free():
    """As after a restart: what the last run closed does not hold the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            # Closed at this side first, so that it waits here.
            accepted.close()
    ports.check("127.0.0.1", port, "the router", "--port")


def test_an_address_that_is_not_this_machines():
    # 192.0.2.0/24 is kept for documents: no machine has it.
    with pytest.raises(SetupError, match=r"the router cannot listen on 192\.0\.2\.1 port 1.*--host and --port"):
        ports.check("192.0.2.1", 1, "the router", "--port")
