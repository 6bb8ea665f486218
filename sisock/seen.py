"""What a caller sees of the nodes: a consumer's answers, as far as the rules go for whoever asks through a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sisock import uris
from sisock.asking import Answered, Question, Take
from sisock.consumer import no_such_node
from sisock.doors import Caller
from sisock.errors import NotAuthorized
from sisock.fields import Catalogue
from sisock.following import Follower, Resume


class Seen:
    """A consumer as one caller may use it: a node that the caller may not see is not there."""

    def __init__(self, consumer: Any, caller: Caller) -> None:
        self._consumer = consumer
        self._caller = caller

    @property
    def connected(self) -> bool:
        """Whether there is a session with the router."""
        return bool(self._consumer.connected)

    def check(self, node: str, *, reading: bool) -> None:
        """Raises UnknownNode for a node that the caller may not see, NotAuthorized for one that it may not read."""
        uris.check_node_name(node)
        if not self._caller.may("see", node):
            raise no_such_node(node)
        if reading and not self._caller.may("read", node):
            raise NotAuthorized(f"{self._caller.user.authid} may not read the node {node!r}")

    def sees(self, node: str) -> bool:
        """Whether the caller may see a node of that name."""
        return self._caller.may("see", node)

    async def nodes(self) -> list[dict[str, str]]:
        """The nodes that are there and the caller may see, oldest first."""
        return [node for node in await self._consumer.nodes() if self._caller.may("see", node["name"])]

    async def get_fields(self, node: str, start: float = 1.0, end: float | None = None) -> Catalogue:
        """What a node offers in [start, end)."""
        self.check(node, reading=False)
        found: Catalogue = await self._consumer.get_fields(node, start, end)
        return found

    async def get_data(self, node: str, fields: Sequence[str], start: float, end: float | None, **how: Any) -> dict[str, Any]:
        """Data of a node's fields in [start, end)."""
        self.check(node, reading=True)
        found: dict[str, Any] = await self._consumer.get_data(node, fields, start, end, **how)
        return found

    async def read(self, node: str, question: Question, take: Take | None = None) -> dict[str, Answered]:
        """One call of a node's get_data, read as blocks."""
        self.check(node, reading=True)
        found: dict[str, Answered] = await self._consumer.read(node, question, take)
        return found

    async def read_all(self, node: str, question: Question, take: Take, **how: Any) -> dict[str, Answered]:
        """All rows of a long range, by pages."""
        self.check(node, reading=True)
        found: dict[str, Answered] = await self._consumer.read_all(node, question, take, **how)
        return found

    def follow(
        self, node: str, fields: Sequence[str], start: float = 0.0, resume: Mapping[str, Resume] | None = None
    ) -> Follower:
        """Follows fields of a node."""
        self.check(node, reading=False)
        if not self.may_follow(node):
            raise NotAuthorized(f"{self._caller.user.authid} may not follow the node {node!r}")
        found: Follower = self._consumer.follow(node, fields, start, resume)
        return found

    def may_follow(self, node: str) -> bool:
        """Whether the caller may follow a node, as the rules are now."""
        return self._caller.may("follow", node)
