"""Mosquitto as a broker beside ours, on free ports of this machine. `make bench-peers` unpacks Debian's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

UNPACKED = Path("build/peers")


def installed():
    return _program() is not None


def _program():
    unpacked = UNPACKED / "usr/sbin/mosquitto"
    return str(unpacked.absolute()) if unpacked.is_file() else shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")


class Mosquitto:
    """A broker as a context: `tcp`, `unix` and `ws` are its addresses, `pid` its process."""

    def __init__(self, folder):
        self._folder = folder / "mosquitto"
        self._folder.mkdir()

    def __enter__(self):
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        path = self._folder / "socket"
        self.tcp, self.ws, self.unix = f"tcp://127.0.0.1:{ports[0]}", f"ws://127.0.0.1:{ports[1]}/mqtt", f"unix://{path}"
        configuration = self._folder / "mosquitto.conf"
        # Nothing is dropped for a queue that is long, as nothing is by our router.
        configuration.write_text(
            f"user {'root' if os.getuid() == 0 else 'mosquitto'}\nallow_anonymous true\nmax_queued_messages 0\n"
            f"set_tcp_nodelay true\n"
            f"listener {ports[0]} 127.0.0.1\nlistener 0 {path}\nlistener {ports[1]} 127.0.0.1\nprotocol websockets\n"
        )
        libraries = [str(one.absolute()) for one in UNPACKED.glob("usr/lib/*-linux-gnu")]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":"),
        }
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([_program(), "-c", str(configuration)], stdout=log, stderr=log, env=environment)
        self.pid = self._process.pid
        deadline = time.monotonic() + 10
        while True:
            try:
                for port in ports:
                    socket.create_connection(("127.0.0.1", port)).close()
                return self
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"Mosquitto did not start: {(self._folder / 'log').read_text()}") from error
                time.sleep(0.05)

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
