"""How a node comes by its name: it registers both procedures and is listed, or it waits, or it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.util import sleep
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import RegisterOptions
from twisted.logger import Logger

from sisock import uris
from sisock.errors import NotAuthorized
from sisock.session import AskingSession, raises_on_the_wire

log = Logger()

# How often a taken name is asked for again, in seconds: the first time and at most.
RETRY = (1.0, 10.0)

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


async def take_name(session: AskingSession, node: Applicant) -> bool:
    """Registers both procedures and has the node listed; waits while the name is another's. False if the session ended.

    Raises Superseded if a newer start of the same instance has it, NotAuthorized if the user may not serve it.
    """
    wait, longest = RETRY
    while session.is_attached():
        if await _register_and_add(session, node):
            log.info("{name} is on the air", name=node.name)
            return True
        identity = node.identity
        if not await session.ask(uris.CLAIM, node.name, identity.instance, identity.start):
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
