"""A PostgreSQL server that can be killed, as the store's tests have it."""

from tests.store.conftest import own_server, postgres, server

__all__ = ["own_server", "postgres", "server"]
