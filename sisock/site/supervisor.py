"""The supervisor: Twisted's process monitor with a log a part and short delays before it starts a part again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from autobahn.twisted.util import sleep
from twisted.python.logfile import LogFile
from twisted.runner.procmon import ProcessMonitor

LOG_BYTES = 5_000_000
LOGS_KEPT = 3


class EchoLogs:
    """Passes on what parts print. The monitor takes it for its logger."""

    def info(self, text: str, *, tag: str, line: str, **_: Any) -> None:
        """Prints a line of a part."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def failure(self, text: str, **fields: Any) -> None:
        """Prints why a part could not be started."""
        sys.stderr.write(f"{fields.get('failure')}\n")

    def close(self) -> None:
        """Ends nothing: standard output is not ours."""


class PartLogs(EchoLogs):
    """Writes what each part prints to a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}

    def info(self, text: str, *, tag: str, line: str, **_: Any) -> None:
        if tag not in self._files:
            self._files[tag] = LogFile(f"{tag}.log", str(self._folder), rotateLength=LOG_BYTES, maxRotatedFiles=LOGS_KEPT)
        self._files[tag].write(f"{line}\n")
        self._files[tag].flush()

    def failure(self, text: str, **fields: Any) -> None:
        self.info(text, tag=str(fields.get("name", "up")), line=str(fields.get("failure")))

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class Supervisor(ProcessMonitor):
    """Keeps parts running. `changed` is called whenever a part was started."""

    def __init__(self, logs: EchoLogs, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.threshold = 2
        self.minRestartDelay = 0.2
        self.maxRestartDelay = 5
        self.killTime = 8
        self.log = logs
        self._changed = changed

    def add_part(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        """Adds a part; it ends when this process does."""
        leash = [sys.executable, "-m", "sisock.site.leash", str(os.getpid()), *command]
        self.addProcess(name, leash, env=dict(env), cwd=str(cwd) if cwd else None)

    def startProcess(self, name: str) -> None:  # noqa: N802
        """Starts a part and tells of it."""
        super().startProcess(name)
        self._changed()

    def pids(self) -> dict[str, int]:
        """The process of each part that runs."""
        pids = {name: proto.transport.pid for name, proto in self.protocols.items() if proto.transport is not None}
        return {name: pid for name, pid in pids.items() if pid}

    async def stop(self) -> None:
        """Ends all parts, the ones started last first, and waits until they are gone."""
        names, groups = list(reversed(self.protocols)), list(self.pids().values())
        await _stopped(self, names[:-1], names[-1:])
        for group in groups:
            # A child of a part that did not hear of its end (a stopped router worker) goes with its group.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self.log.close()


async def _stopped(monitor: ProcessMonitor, *groups: list[str]) -> None:
    for group in groups:
        for name in group:
            if name in monitor.protocols:
                monitor.removeProcess(name)
        while any(name in monitor.protocols for name in group):
            await sleep(0.02)
    monitor.stopService()
