"""Inside Crossbar: what the hub needs of the router that hosts it, and WAMP has no procedure for.

These are the places that a new release of Crossbar can break; the tests of refusals hold each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError, SessionNotReady
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sisock.router.figures import Figures
from sisock.users import ROLES

log = Logger()

# How long a session that was told to leave has to do so, in seconds; then its transport is closed.
LEAVES_WITHIN = 0.5

# The roles of whoever is no part of the router itself.
_OUTSIDE = (*ROLES, "anonymous")


@dataclass(frozen=True, slots=True)
class Joined:
    """A session of somebody from outside."""

    id: int
    authid: str | None
    role: str


class Inside:
    """The router under a component's session."""

    def __init__(self, component: Any) -> None:
        self._router = component._transport._router

    def sessions(self) -> Iterator[Joined]:
        """Who is there, but for the router's own components."""
        for number, session in self.all():
            if session._authrole in ROLES:
                yield Joined(number, session._authid, session._authrole)

    def all(self) -> list[tuple[int, Any]]:
        """Crossbar's own sessions, by their numbers."""
        return list(self._router._session_id_to_session.items())

    def subscribed(self, number: int) -> list[tuple[str, str]]:
        """What a session is subscribed to: URIs, and how they match."""
        return self._held(number, self._router._broker._session_to_subscriptions)

    def registered(self, number: int) -> list[tuple[str, str]]:
        """What a session has registered."""
        return self._held(number, self._router._dealer._session_to_registrations)

    def _held(self, number: int, by_session: Any) -> list[tuple[str, str]]:
        session = self._router._session_id_to_session.get(number)
        return [(held.uri, held.match) for held in by_session.get(session, ())]

    def end(self, number: int, reason: str, text: str, within: float = LEAVES_WITHIN) -> Deferred[bool]:
        """Ends a session: by GOODBYE, and if that is not answered in time, by closing its transport under it.

        Answers False if there was nothing left that could leave.
        """
        from twisted.internet import reactor

        session = self._router._session_id_to_session.get(number)
        if session is not None:
            try:
                session.leave(reason=reason, message=text)
            except SessionNotReady:
                log.debug("session {session} was told to leave before", session=number)
        cut: Deferred[bool] = deferLater(reactor, within, self.cut, number)
        return cut

    def cut(self, number: int) -> bool:
        """Closes the transport under a session, whether it answers or not; False if there is none."""
        found = self._router._session_id_to_session.get(number)
        if found is None or found._transport is None:
            return False
        # Below the protocol, so that what is sent to it in this moment is lost in silence and raises nothing.
        found._transport.transport.abortConnection()
        return True

    def count(self, figures: Figures) -> None:
        """Counts what passes between the router and those outside."""
        router = self._router
        process, send = router.process, router.send

        def counted(session: Any, msg: Any) -> None:
            if session._authrole in _OUTSIDE:
                figures.received(session._session_id, msg)
            process(session, msg)

        def sent(session: Any, msg: Any) -> Any:
            if session._authrole in _OUTSIDE:
                figures.sent(session._session_id, msg)
            return send(session, msg)

        router.process, router.send = counted, sent

    def guard(self, hides: Callable[[Joined, str], bool], may_register: Callable[[Joined, message.Register], bool]) -> None:
        """Takes away what would pass by every check, and answers two things before the router does, which would tell too much.

        `forward_for` is how one router tells another for whom it asks. Crossbar believes it of everybody: whoever sends it
        would call and publish as somebody else. Nobody from outside is a router here.

        A call of a node that the caller may not see gets the very error of one that is not there. A registration that is
        refused is told so; the router goes on after its refusal and tells whether the name is taken.
        """
        router = self._router
        process = router.process

        def guarded(session: Any, msg: Any) -> None:
            if session._authrole in _OUTSIDE:
                if getattr(msg, "forward_for", None):
                    msg.forward_for = None
                joined = Joined(session._session_id, session._authid, session._authrole)
                if isinstance(msg, message.Call) and hides(joined, msg.procedure):
                    text = f"no callee registered for procedure <{msg.procedure}>"
                    router.send(session, _error(msg, ApplicationError.NO_SUCH_PROCEDURE, text))
                    return
                if isinstance(msg, message.Register) and not may_register(joined, msg):
                    text = (
                        f'session (session_id={joined.id}, authid="{joined.authid}", authrole="{joined.role}") is not '
                        f'authorized to register procedure "{msg.procedure}" on realm "{session._realm}"'
                    )
                    router.send(session, _error(msg, ApplicationError.NOT_AUTHORIZED, text))
                    return
            process(session, msg)

        router.process = guarded


def _error(msg: Any, uri: str, text: str) -> message.Error:
    return message.Error(type(msg).MESSAGE_TYPE, msg.request, uri, [text])
