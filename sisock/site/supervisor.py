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
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.runner.procmon import ProcessMonitor

from sisock.home import Ended
from sisock.times import now

LOG_BYTES = 5_000_000
LOGS_KEPT = 3
# What a part prints without an end of line is cut here.
MAX_LINE = 16_384


class EchoLogs:
    """Passes on what parts print. The monitor takes it for its logger."""

    def info(self, text: str, *, tag: str, line: str, **_: Any) -> None:
        """Prints a line of a part. Where nothing can be printed any more, parts go on all the same."""
        with suppress(OSError):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def failure(self, text: str, **fields: Any) -> None:
        """Prints why a part could not be started."""
        with suppress(OSError):
            sys.stderr.write(f"{fields.get('failure')}\n")

    def close(self) -> None:
        """Ends nothing: standard output is not ours."""


class PartLogs(EchoLogs):
    """Writes what each part prints to a file of its own; what a full disk does not take is lost, which is said once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._is_lost = False

    def info(self, text: str, *, tag: str, line: str, **_: Any) -> None:
        try:
            if tag not in self._files:
                self._files[tag] = LogFile(f"{tag}.log", str(self._folder), rotateLength=LOG_BYTES, maxRotatedFiles=LOGS_KEPT)
            self._files[tag].write(f"{line}\n")
            self._files[tag].flush()
            self._is_lost = False
        except OSError as error:
            self._lost(tag, error)

    def _lost(self, tag: str, error: OSError) -> None:
        """Drops a file that takes nothing; the next line opens it anew."""
        file = self._files.pop(tag, None)
        with suppress(OSError, ValueError):
            if file is not None:
                file.close()
        if not self._is_lost:
            self._is_lost = True
            with suppress(OSError):
                sys.stderr.write(f"sisock: {self._folder / tag}.log cannot be written, and what parts print is lost: {error}\n")

    def failure(self, text: str, **fields: Any) -> None:
        self.info(text, tag=str(fields.get("name", "up")), line=str(fields.get("failure")))

    def close(self) -> None:
        while self._files:
            with suppress(OSError):
                self._files.popitem()[1].close()


class _Part(ProcessProtocol):
    """A part's process, whose lines go to the log. The monitor's own protocol breaks at a very long one."""

    transport: IProcessTransport | None = None

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        self._supervisor, self._name = supervisor, name
        self._begun: dict[int, bytes] = {}

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        """Logs the lines that are whole."""
        *lines, begun = (self._begun.get(childFD, b"") + data).split(b"\n")
        self._begun[childFD] = begun if len(begun) <= MAX_LINE else b""
        for line in (*lines, *([begun] if len(begun) > MAX_LINE else [])):
            for at in range(0, max(len(line), 1), MAX_LINE):
                self._log(line[at : at + MAX_LINE])

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """Logs what was left, and tells the supervisor."""
        for line in filter(None, self._begun.values()):
            self._log(line)
        self._supervisor.part_ended(self._name, reason)

    def _log(self, line: bytes) -> None:
        self._supervisor.log.info("", tag=self._name, line=line.decode("utf-8", "backslashreplace"))


class Supervisor(ProcessMonitor):
    """Keeps parts running. `changed` is called whenever a part was started.

    A part that ends with the status `final` is not started again; then `finished` is called with its name.
    """

    def __init__(
        self,
        logs: EchoLogs,
        changed: Callable[[], None] = lambda: None,
        *,
        final: int | None = None,
        finished: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.threshold = 2
        self.minRestartDelay = 0.2
        self.maxRestartDelay = 5
        self.killTime = 8
        self.log = logs
        self.ended: dict[str, Ended] = {}
        self._changed = changed
        self._final = final
        self._finished = finished

    def add_part(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        """Adds a part; it ends when this process does."""
        leash = [sys.executable, "-m", "sisock.site.leash", str(os.getpid()), *command]
        self.addProcess(name, leash, env=dict(env), cwd=str(cwd) if cwd else None)

    def startProcess(self, name: str) -> None:  # noqa: N802
        """Starts a part and tells of it."""
        if name in self.protocols or name not in self._processes:
            return
        part = self._processes[name]
        self.protocols[name] = protocol = _Part(self, name)
        self.timeStarted[name] = self._clock.seconds()
        try:
            self._reactor.spawnProcess(protocol, part.args[0], part.args, env=part.env, path=part.cwd)
        except OSError:
            # A machine out of processes or files: tried again, as when it had ended.
            self.log.failure("", name=name, failure=Failure())
            self._monitoredProcessExited(name)
        self._changed()

    def part_ended(self, name: str, reason: Failure) -> None:
        """Called when a part's process has ended; starts it again unless it has ended for good."""
        if self.running and name in self._processes:
            number = getattr(reason.value, "signal", None)
            how = f"signal {signal.Signals(number).name}" if number else f"status {getattr(reason.value, 'exitCode', 0)}"
            self.ended[name] = {"times": self.ended[name]["times"] + 1 if name in self.ended else 1, "how": how, "at": now()}
            self.log.info("", tag=name, line=f"sisock: {name} ended ({how})")
        final = self._final is not None and getattr(reason.value, "exitCode", None) == self._final
        if final:
            self._processes.pop(name, None)
        self._monitoredProcessExited(name, reason)
        if final and self._finished is not None:
            self._finished(name)

    def pids(self) -> dict[str, int]:
        """The process of each part that runs."""
        pids = {name: proto.transport.pid for name, proto in self.protocols.items() if proto.transport is not None}
        return {name: pid for name, pid in pids.items() if pid}

    async def stop(self) -> None:
        """Ends all parts, the ones started last first, and waits until they are gone."""
        for waiting in self.restart.values():
            # What would be started in a moment is not.
            if waiting.active():
                waiting.cancel()
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
