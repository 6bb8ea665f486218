"""The pytest plugin: the fixture `router`, one router for a whole test run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# Its assertions are for the author of a node to read.
pytest.register_assert_rewrite("sisock.testing.contract")

if TYPE_CHECKING:
    from sisock.testing.router import Router


def pytest_configure(config: pytest.Config) -> None:
    """Keeps a warning about what Autobahn imports out of every author's test run; nothing can be done about it there."""
    config.addinivalue_line("filterwarnings", "ignore:'crypt' is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    """A real router with the hub, for all tests of the run."""
    import pytest_twisted
    from twisted.internet.defer import Deferred

    from sisock.testing.router import Router

    started = Router()
    pytest_twisted.blockon(Deferred.fromCoroutine(started.start()))
    try:
        yield started
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(started.stop()))
        started.remove()
