"""What the router asks: who a user is (the authenticator) and what a session may do (the authorizer)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autobahn.wamp.exception import ApplicationError

from sisock import authorization, uris
from sisock.session import QuietSession
from sisock.users import Users


class Authenticator(QuietSession):
    """The router component that knows the users' secrets."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.users = Users(Path(config.extra["users"]))

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Offers the procedure that the router asks at each join."""
        await self.register(self.authenticate, uris.AUTHENTICATE)

    def authenticate(self, realm: str, authid: str | None, details: dict[str, Any]) -> dict[str, Any]:
        """The user's role, and the secret that the router checks the answer to its challenge with."""
        user = self.users.get(authid)
        if user is None or details.get("authmethod") != "wampcra":
            raise ApplicationError(ApplicationError.NO_SUCH_PRINCIPAL, "no such user, or another way in")
        return {"realm": realm, "role": user.role, "secret": user.secret}


class Authorizer(QuietSession):
    """The router component that is asked before each call, registration, publication and subscription."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.users = Users(Path(config.extra["users"]))

    async def onJoin(self, details: Any) -> None:  # noqa: N802
        """Offers the procedure that the router asks."""
        await self.register(self.authorize, uris.AUTHORIZE)

    def authorize(
        self, session: dict[str, Any], uri: str, action: str, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Yes or no, and that the session is disclosed. Never cached: the router's cache has no user in its key."""
        role = session["authrole"]
        user = None if role == "anonymous" else self.users.get(session["authid"])
        return {"allow": authorization.may(role, user, action, uri, options or {}), "disclose": True, "cache": False}
