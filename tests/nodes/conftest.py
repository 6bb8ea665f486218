"""The databases, as the store's tests have them."""

from tests.store.conftest import address, own_server, postgres, server

__all__ = ["address", "own_server", "postgres", "server"]
