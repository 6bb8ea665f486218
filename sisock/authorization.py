"""Who may do what: one pure function from a session's user and an action to yes or no.

| role | may |
|---|---|
| node | register and publish what carries the name of a node that its user may serve; ask the hub about it; send |
| consumer | ask the hub for the nodes, and of each the fields, data and live topics, as far as it may see, read and follow it |
| server | everything under the base URI and `observatory.` (the old trusted role) |
| anonymous | publish and subscribe under `observatory.` (where that listener is switched on) |

What is not in the table is refused. The rules of single nodes are `sisock.rules`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sisock import uris
from sisock.rules import OPEN, Rules, Verb
from sisock.users import User

OBSERVATORY = "observatory."

_HUB_OF_NODES = frozenset({uris.ADD, uris.SUBTRACT, uris.CLAIM, uris.WATCHED, uris.CORRECTED, uris.FIGURES})
# What a consumer must be granted to call a node's procedures.
_VERBS: dict[str, Verb] = {"get_fields": "see", "get_data": "read", "send": "send"}
_HUB_TOPICS = frozenset({uris.ADDED, uris.SUBTRACTED})


def may(role: str, user: User | None, action: str, uri: str, options: Mapping[str, Any], rules: Rules = OPEN) -> bool:
    """Whether a session may call, register, publish or subscribe a URI, with the options it sent.

    `user` is the session's user as the site knows it now; None for an anonymous session or one that was taken away.
    """
    match = options.get("match") or "exact"
    if action == "register" and (match != "exact" or options.get("force_reregister")):
        return False
    if action == "publish" and options.get("retain") and not _may_retain(role, uri, options):
        return False
    if role == "anonymous":
        return action in ("publish", "subscribe") and _under(uri, OBSERVATORY, match)
    if user is None or user.role != role or user.authid in rules.blocked:
        return False
    if role == "server":
        return _under(uri, OBSERVATORY, match) or _under(uri, f"{uris.BASE_URI}.", match)
    if role == "consumer":
        return _consumer(user, action, uri, match, rules)
    return role == "node" and _node(user, action, uri, match, rules)


def hides(user: User | None, uri: str, rules: Rules) -> bool:
    """Whether a call of this URI is answered as if nobody had registered it: it is of a node that a consumer may not see."""
    parts = uris.parse_consumer(uri)
    if user is None or user.role != "consumer" or parts is None or parts[1] not in _VERBS:
        return False
    return not rules.allow(user, "see", parts[0])


def _under(uri: str, prefix: str, match: str) -> bool:
    """Whether all that a pattern can match begins with the prefix; a wildcard may be empty parts behind it only."""
    return uri.startswith(prefix) and match in ("exact", "prefix", "wildcard")


def _may_retain(role: str, uri: str, options: Mapping[str, Any]) -> bool:
    """Whether the router may keep an event for those who come later, which it does for as long as it runs.

    It keeps one a topic, but beside it each that is meant for some alone: so these, and free choice of topics, would fill it.
    """
    parts = uris.parse_consumer(uri)
    narrowed = any(name.startswith(("exclude", "eligible")) and name != "exclude_me" for name in options)
    return role == "server" or (role == "node" and parts is not None and parts[1] == "latest" and not narrowed)


def _consumer(user: User, action: str, uri: str, match: str, rules: Rules) -> bool:
    if action == "call" and uri == uris.GET_DATA_NODE:
        return True
    parts = uris.parse_consumer(uri)
    if action == "call":
        return parts is not None and parts[1] in _VERBS and rules.allow(user, _VERBS[parts[1]], parts[0])
    if action != "subscribe":
        return False
    if match == "exact" and uri in _HUB_TOPICS:
        return True
    wanted = parts is not None and (_is_live(parts[1]) if match == "exact" else match == "prefix" and parts[1] == "data.")
    return wanted and parts is not None and rules.allow(user, "follow", parts[0])


def _node(user: User, action: str, uri: str, match: str, rules: Rules) -> bool:
    parts = uris.parse_consumer(uri)
    if action == "call":
        sends = parts is not None and parts[1] == "send" and rules.allow(user, "send", parts[0])
        return sends or uri in _HUB_OF_NODES
    if action == "subscribe":
        node = uri.removeprefix(f"{uris.WATCHED}.")
        return match == "exact" and uri == uris.watched(node) and rules.allow(user, "serve", node)
    if parts is None or match != "exact" or not rules.allow(user, "serve", parts[0]):
        return False
    if action == "register":
        return parts[1] in _VERBS
    return action == "publish" and _is_live(parts[1])


def _is_live(part: str) -> bool:
    return part == "latest" or (part.startswith("data.") and part != "data.")
