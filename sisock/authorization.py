"""Who may do what: one pure function from a session's role and an action to yes or no.

| role | may |
|---|---|
| node | register and publish what carries the name of a node that its user may serve; ask the hub about it |
| consumer | ask the hub for the nodes, call any node, subscribe to joins, leaves and any node's live topics |
| server | everything under the base URI and `observatory.` (the old trusted role) |
| anonymous | publish and subscribe under `observatory.` (where that listener is switched on) |

What is not in the table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sisock import uris
from sisock.users import User

OBSERVATORY = "observatory."

_HUB_OF_NODES = frozenset({uris.ADD, uris.SUBTRACT, uris.CLAIM, uris.WATCHED})
_HUB_TOPICS = frozenset({uris.ADDED, uris.SUBTRACTED})


def may(role: str, user: User | None, action: str, uri: str, options: Mapping[str, Any]) -> bool:
    """Whether a session may call, register, publish or subscribe a URI, with the options it sent.

    `user` is the session's user as the site knows it now; None for an anonymous session or one that was taken away.
    """
    match = options.get("match") or "exact"
    if action == "register" and (match != "exact" or options.get("force_reregister")):
        return False
    if role == "anonymous":
        return action in ("publish", "subscribe") and _under(uri, OBSERVATORY, match)
    if user is None or user.role != role:
        return False
    if role == "server":
        return _under(uri, OBSERVATORY, match) or _under(uri, f"{uris.BASE_URI}.", match)
    if role == "consumer":
        return _consumer(action, uri, match)
    return role == "node" and _node(user, action, uri, match)


def _under(uri: str, prefix: str, match: str) -> bool:
    """Whether all that a pattern can match begins with the prefix; a wildcard may be empty parts behind it only."""
    return uri.startswith(prefix) and match in ("exact", "prefix", "wildcard")


def _consumer(action: str, uri: str, match: str) -> bool:
    parts = uris.parse_consumer(uri)
    if action == "call":
        return uri == uris.GET_DATA_NODE or (parts is not None and parts[1] in ("get_fields", "get_data"))
    if action != "subscribe":
        return False
    if match == "exact":
        return uri in _HUB_TOPICS or (parts is not None and _is_live(parts[1]))
    return match == "prefix" and parts is not None and parts[1] == "data."


def _node(user: User, action: str, uri: str, match: str) -> bool:
    if action == "call":
        return uri in _HUB_OF_NODES
    if action == "subscribe":
        node = uri.removeprefix(f"{uris.WATCHED}.")
        return match == "exact" and uri == uris.watched(node) and user.may_serve(node)
    parts = uris.parse_consumer(uri)
    if parts is None or match != "exact" or not user.may_serve(parts[0]):
        return False
    if action == "register":
        return parts[1] in ("get_fields", "get_data")
    return action == "publish" and _is_live(parts[1])


def _is_live(part: str) -> bool:
    return part == "latest" or (part.startswith("data.") and part != "data.")
