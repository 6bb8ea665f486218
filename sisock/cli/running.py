"""Running one node in this process: what `sisock run` and `sisock serve` share."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread

from sisock.cli.options import settings
from sisock.errors import SetupError
from sisock.history import MemoryHistory
from sisock.node import DataNode
from sisock.times import now
from sisock.uris import HUB
from sisock.users import write_private

log = logging.getLogger(__name__)

# Seconds between two looks at whether a node's health has changed.
HEALTH_EVERY = 2.0


def run_node(made: DataNode, announced: Callable[[], None] | None = None) -> None:
    """Serves a node until Ctrl-C. It keeps its history in the store, unless it brings one of its own.

    `announced` is called when it is on the air for the first time.
    """
    from sisock.cli.reacting import log_to_stderr, serve
    from sisock.naming import Identity
    from sisock.serving import NodeService
    from sisock.store.lasting import open_history
    from sisock.store.leases import Writer

    if made.name == HUB and not type(made).__module__.startswith("sisock.nodes.hub"):
        raise SetupError(f"the name {HUB} belongs to the site's own health. Give this node another.")
    environment = settings()
    log_to_stderr()
    environment.home.make()
    identity = Identity(*environment.home.identity(made.name))

    def keeping(told: Any) -> None:
        made.health.keeping = told

    def nothing() -> None:
        """A history that a node brings, it closes itself."""

    close: Callable[[], None] = nothing
    if isinstance(made.history, MemoryHistory):
        writer = Writer(identity.instance, identity.start)
        folder = environment.home.outbox(made.name)
        made.history, close = open_history(made.store or environment.store, made.name, writer, folder, keeping, made.tables)
    service = NodeService(made, environment.node(made.name), identity)
    told = LoopingCall(_HealthFile(made, environment.home.health(made.name)).tell)

    def look() -> None:
        if service.announced and announced is not None:
            waiting.stop()
            announced()

    waiting = LoopingCall(look)

    async def start() -> Any:
        await service.start()
        told.start(HEALTH_EVERY).addErrback(lambda failure: service.connection.fail(failure.value))
        if announced is not None:
            waiting.start(0.1).addErrback(lambda failure: service.connection.fail(failure.value))
        return service.ended

    async def stop() -> None:
        await service.stop()
        await deferToThread(close)

    serve(start, stop)


class _HealthFile:
    """Tells in a file how a node's sampling goes, when that changes in more than the count of samples."""

    def __init__(self, node: DataNode, path: Path) -> None:
        self._node, self._path = node, path
        self._told: dict[str, Any] | None = None
        self._failed = False

    def tell(self) -> None:
        health = {**asdict(self._node.health), "trouble": self._node.trouble()}
        since = health["sampling_since"]
        # A call that has only just begun is nothing to tell of.
        health["sampling_since"] = since if since is not None and now() - since > HEALTH_EVERY else None
        changed = {name: value for name, value in health.items() if name != "samples"}
        if changed != self._told:
            try:
                write_private(self._path, json.dumps({**health, "pid": os.getpid()}))
            except OSError as error:
                # A full disk is no reason to leave: readers still are answered.
                if not self._failed:
                    log.warning("%s cannot be written: %s", self._path, error.strerror)
                self._failed = True
            else:
                self._told, self._failed = changed, False
