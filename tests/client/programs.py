"""Python programs that tests start beside the reactor, where they run themselves."""

from __future__ import annotations

import os
import sys

from twisted.internet.protocol import ProcessProtocol

from tests.plain import until

STARTED = []


class Program(ProcessProtocol):
    """A Python program; `code` is its exit status once it has ended."""

    def __init__(self, code, *args, env=None):
        from twisted.internet import reactor

        self.out, self.err, self.code = "", "", None
        # passlib, which Autobahn imports, is as it is.
        warnings = ["-W", "error", "-W", "ignore:'crypt' is deprecated:DeprecationWarning"]
        command = [sys.executable, *warnings, "-c", code, *args]
        self.transport = reactor.spawnProcess(self, command[0], command, env={**os.environ, **(env or {})})
        STARTED.append(self)

    def outReceived(self, data):
        self.out += data.decode()

    def errReceived(self, data):
        self.err += data.decode()

    def processEnded(self, reason):
        self.code = reason.value.exitCode if reason.value.exitCode is not None else -reason.value.signal

    async def done(self, code=0, within=60):
        await until(lambda: self.code is not None, within)
        assert self.code == code, self.out + self.err
        return self.out
