"""How a node comes by its name: it registers both procedures and is listed, or it waits, or it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.util import sleep
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import RegisterOptions
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from sisock import uris
from sisock.errors import NotAuthorized, SisockError, Superseded
from sisock.history import History, Shared
from sisock.session import AskingSession
from sisock.wire_errors import raises_on_the_wire

log = Logger()

# How often a taken name is asked for again, in seconds: the first time and at most.
RETRY = (1.0, 10.0)
# Seconds within which the hub says whose a name is.
ASK_WITHIN = 5.0

Procedure = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node's process is: the instance it belongs to (a UUID kept in its home) and the how-manieth start of it."""

    instance: str
    start: int


@dataclass(frozen=True, slots=True)
class Applicant:
    """A node that wants its name."""

    name: str
    description: str
    identity: Identity
    get_fields: Procedure
    get_data: Procedure
    # Called whenever the hub says that the name is another's.
    taken: Callable[[], None] = lambda: None


async def take_name(session: AskingSession, node: Applicant) -> bool:
    """Registers both procedures and has the node listed; waits while the name is another's. False if the session ended.

    Raises Superseded if a newer start of the same instance has it, NotAuthorized if the user may not serve it.
    """
    wait, longest = RETRY
    freed = False
    while session.is_attached():
        if await _register_and_add(session, node):
            log.info("{name} is on the air", name=node.name)
            return True
        identity = node.identity
        before, freed = freed, await session.ask(uris.CLAIM, node.name, identity.instance, identity.start)
        if freed and not before:
            continue
        # A router that says twice that the name is free, and refuses it all the same, is not asked in a circle.
        if not freed:
            node.taken()
        log.warn("the name {name} is taken; trying again in {wait:g} s", name=node.name, wait=wait)
        await sleep(wait)
        wait = min(2 * wait, longest)
    return False


async def _register_and_add(session: AskingSession, node: Applicant) -> bool:
    """Both procedures are registered and the node is listed, or nothing is and it answers False."""
    held: list[Any] = []
    added = False
    try:
        for uri, procedure, options in (
            (uris.get_fields(node.name), node.get_fields, None),
            (uris.get_data(node.name), node.get_data, RegisterOptions(details_arg="details")),
        ):
            held.append(await session.register(raises_on_the_wire(procedure), uri, options=options))
        more: dict[str, Any] = {"instance": node.identity.instance, "start": node.identity.start}
        added = bool(await session.ask(uris.ADD, node.name, node.description, session.session_id, **more))
    except ApplicationError as error:
        if error.error == ApplicationError.NOT_AUTHORIZED:
            raise NotAuthorized(f"this user may not serve a node named {node.name!r}") from error
        if error.error != ApplicationError.PROCEDURE_ALREADY_EXISTS:
            raise
    finally:
        if not added and session.is_attached():
            for registration in held:
                await registration.unregister()
    return added


class Claim:
    """Whether a process has its node's name, as far as it can know: what a shared history asks before it is written.

    A process that is told that another one has the name is a stand-by: it takes no samples, which would be the other's
    rows a second time. While the router is away it cannot be told, and goes on.
    """

    def __init__(self, history: History, name: str, identity: Identity) -> None:
        self._name, self._identity = name, identity
        self._session: AskingSession | None = None
        self._taken = False
        self._shared = history if isinstance(history, Shared) else None
        if self._shared is not None:
            self._shared.has_name = self.has_name

    @property
    def stands_by(self) -> bool:
        """Whether another process has the name and writes the history."""
        return self._taken and self._shared is not None

    def taken(self) -> None:
        """Notes that the name is another's."""
        self._taken = True

    def gained(self, session: AskingSession) -> None:
        """Notes that this process has the name now, and lets the history be written."""
        self._session, self._taken = session, False
        if self._shared is not None:
            self._shared.named()

    def lost(self) -> None:
        """Notes that the router is away, so that nobody can say whose the name is."""
        self._session, self._taken = None, False

    def has_name(self) -> bool | None:
        """Whether the name is this process's at this moment, which the hub is asked; None while it cannot be.

        Not to be called in the reactor's thread.
        """
        from twisted.internet import reactor

        if self._session is None:
            return False if self._taken else None

        def ask() -> Deferred[bool | None]:
            return Deferred.fromCoroutine(self._ask())

        try:
            return blockingCallFromThread(reactor, ask)  # type: ignore[arg-type]
        except Superseded:
            return False
        except SisockError:
            # Nobody can say now; whoever asked will ask again.
            return None

    async def _ask(self) -> bool | None:
        session, identity = self._session, self._identity
        if session is None:
            return None
        return bool(await session.ask(uris.CLAIM, self._name, identity.instance, identity.start, timeout=ASK_WITHIN))
