"""Listening: a topic is heard for as long as somebody wants to, whatever the router has answered by then.

Autobahn does not take in the answer to a SUBSCRIBE whose Deferred was cancelled, and ends the connection at the first event
that follows; and it forgets all handlers of a topic when the UNSUBSCRIBE of the last one is answered, also one that came
meanwhile. So nothing of Autobahn's is cancelled here, and for each topic of a session one is done after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.wamp import ApplicationSession
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

log = Logger()


class Listening:
    """Hears a topic until `end`. `begun` fires when the router has answered, or fails with why it refused."""

    def __init__(self, session: ApplicationSession, turn: DeferredLock, topic: str, heard: Callable[..., Any]) -> None:
        # Whoever no longer waits for it does not want to hear it, either.
        self.begun: Deferred[None] = Deferred(lambda _: self.end())
        self._session, self._turn, self._topic, self._heard = session, turn, topic, heard
        self._over = False
        self._subscription: Any = None
        turn.run(self._subscribe).addCallbacks(self._answered, self._refused)

    def end(self) -> None:
        """Hears it no more, from now on."""
        if not self._over:
            self._over = True
            self._leave()

    def _event(self, *args: Any, **kwargs: Any) -> Any:
        return None if self._over else self._heard(*args, **kwargs)

    def _subscribe(self) -> Any:
        return None if self._over else self._session.subscribe(self._event, self._topic)

    def _answered(self, subscription: Any) -> None:
        self._subscription = subscription
        if self._over:
            self._leave()
        else:
            self.begun.callback(None)

    def _refused(self, failure: Any) -> None:
        if not self._over:
            self.begun.errback(failure)

    def _leave(self) -> None:
        if self._subscription is not None:
            self._turn.run(self._unsubscribe).addErrback(lambda failure: log.debug("{error}", error=failure.value))

    def _unsubscribe(self) -> Any:
        subscription, self._subscription = self._subscription, None
        gone = subscription is None or not subscription.active or not self._session.is_attached()
        return None if gone else subscription.unsubscribe()
