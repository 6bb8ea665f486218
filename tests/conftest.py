"""Fixtures of the whole run: the environment is clean, the router one, sessions are closed after each test."""

from __future__ import annotations

import gc
import json
import os

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.logger import globalLogPublisher

from tests.plain import join, until

NAMES = ("SISOCK_HOME", "SISOCK_STORE", "SISOCK_TRACE", "CROSSBAR_HOST", "CROSSBAR_TLS_PORT", "CROSSBAR_OCS_PORT")
WAMP = ("USER", "SECRET", "SECRET_FILE", "AUTHMETHOD", "REALM")
for name in (*NAMES, *(f"WAMP_{which}" for which in WAMP), "SISOCK_CERTIFICATE", "PORT"):
    os.environ.pop(name, None)

# On a busy machine any example may take long, and to be made, too.
settings.register_profile("sisock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sisock")


@pytest.fixture(autouse=True)
def no_unhandled_errors():
    """A Deferred whose error nobody took fails its test."""
    lost = []

    def look(event):
        if event.get("log_failure") is not None and "Unhandled" in str(event.get("log_format", "")):
            lost.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(look)
    # What was there before cannot become this test's garbage, so it is not looked at.
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()
    globalLogPublisher.removeObserver(look)
    assert not lost, "\n".join(lost)


class Guests:
    """Joins plain sessions at a router and closes them at the end."""

    def __init__(self, router):
        self.router = router
        self.sessions = []

    async def __call__(self, user="consumer", *, url=None, **options):
        users = {"consumer": self.router.consumer, "server": self.router.server}
        known = users.get(user, user)
        credentials = None if known is None else (known.authid, known.secret) if hasattr(known, "secret") else known
        session = await join(url or self.router.ws, credentials, **options)
        self.sessions.append(session)
        return session

    async def node(self, name, *, user=None, register=True, **options):
        """A session of a user who may serve `name`, with both procedures registered."""
        session = await self(user or self.router.user(f"node:{name}", name), **options)
        if register:
            base = f"org.simonsobservatory.consumer.{name}"
            await session.register(lambda start, end: [{}, {}], f"{base}.get_fields")
            await session.register(lambda *args, **kwargs: {"data": {}, "timeline": {}}, f"{base}.get_data")
        return session

    async def close(self):
        for session in self.sessions:
            await session.quit()


@pytest_twisted.async_yield_fixture
async def guests(router):
    made = Guests(router)
    yield made
    await made.close()


def audit(router):
    """The lines of the router's audit."""
    path = router.home.audit("router")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest_twisted.async_yield_fixture
async def rules(router):
    """Writes the site's rules and waits until they count: (who, nodes, verbs) each, and what stands before them."""
    path = router.home.rules.path

    def counted():
        return len([line for line in audit(router) if line["event"] == "rules"])

    async def write(*granted, more="# none\n"):
        before = counted()
        told = [
            f"[[rule]]\nwho = {json.dumps(who)}\nnodes = {json.dumps(nodes)}\nverbs = {json.dumps(verbs)}\n"
            for who, nodes, verbs in granted
        ]
        path.write_text(more + "\n".join(told))
        await until(lambda: counted() > before)

    yield write
    if path.exists():
        before = counted()
        path.unlink()
        await until(lambda: counted() > before)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No test reads or writes the home of whoever runs it."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
