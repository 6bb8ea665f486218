"""A real Redis of a test's own: the machine's, or the one that `make test` has unpacked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

UNPACKED = Path(__file__).parent.parent / "build" / "redis"


def command():
    """The server and the environment it runs in."""
    found = shutil.which("redis-server")
    if found:
        return found, dict(os.environ)
    libraries = [str(folder) for folder in (UNPACKED / "usr" / "lib").glob("*-linux-gnu*")]
    return str(UNPACKED / "usr" / "bin" / "redis-server"), {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}


class Redis:
    """A server that keeps what it has acknowledged over a kill; it starts again at the same port."""

    def __init__(self, folder):
        self.folder = Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process = None

    def start(self):
        server, environment = command()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL, env=environment)
        end = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.ConnectionError:
                assert self._process.poll() is None and time.monotonic() < end, "Redis did not start"
                time.sleep(0.02)

    def client(self):
        """A plain client."""
        return redis.Redis.from_url(self.url)

    @property
    def pid(self):
        """The process."""
        return self._process.pid

    def kill(self):
        self._process.kill()
        self._process.wait()

    stop = kill
