"""The router of the benchmark, in a process of its own, and how the other parts join it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from bench.follow.parts import Part, router_worker
from sisock.home import Home
from sisock.session import Access
from sisock.testing import Router


class RouterPart:
    """The process that starts the router and ends it."""

    def __init__(self, home):
        self._router = Router(Path(home))

    async def start(self):
        await self._router.start()
        return {"ws": self._router.ws, "realm": self._router.realm, "pid": self._router.pid, "port": self._router.ws}

    async def stop(self):
        await self._router.stop()


class Site:
    """Where the router is and who may join it, in a form that settings of parts can hold."""

    def __init__(self, home, started):
        self.home, self.ws, self.realm, self.pid = Home(Path(home)), started["ws"], started["realm"], started["pid"]
        self.local = f"unix://{self.home.socket}"
        self.worker = router_worker(self.pid)
        self.server = self.home.users.ensure("bench-server", "server")
        self.reader = self.home.users.ensure("bench-reader", "consumer")

    def node(self, name):
        """How a node joins."""
        user = self.home.users.ensure(f"node:{name}", "node", name)
        return {"url": self.local, "authid": user.authid, "secret": user.secret, "realm": self.realm}

    def access(self, user, url):
        return {"url": url, "authid": user.authid, "secret": user.secret, "realm": self.realm}


@contextmanager
def site(folder):
    home = folder / "home"
    with Part("bench.follow.site:RouterPart", home=str(home)) as router:
        yield Site(home, router.started)


def access(settings):
    return Access(**settings)
