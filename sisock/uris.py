"""Names on the wire: the URIs of procedures and topics, and what a node may be called."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from sisock.errors import InvalidArgument, shown

BASE_URI = "org.simonsobservatory"
REALM = "sisock"
# The node that tells how the hub is; the name is no other's.
HUB = "hub"

MAX_NAME_BYTES = 255

# A node's name stands verbatim in its URIs, so it obeys WAMP's loose rule: components without blanks or '#'.
_NAME = re.compile(r"[^\s.#\x00-\x1f\x7f-\x9f]+(\.[^\s.#\x00-\x1f\x7f-\x9f]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Components that follow a name in its URIs. As a part of another name they would make two nodes share a topic.
_RESERVED = frozenset({"get_fields", "get_data", "data", "latest"})


def uri(name: str) -> str:
    """Full URI of a name under the base: `uri("data_node.add")`."""
    return f"{BASE_URI}.{name}"


ADD = uri("data_node.add")
SUBTRACT = uri("data_node.subtract")
CLAIM = uri("data_node.claim")
WATCHED = uri("data_node.watched")
CORRECTED = uri("data_node.corrected")
FIGURES = uri("data_node.figures")
GET_DATA_NODE = uri("consumer.get_data_node")
ADDED = uri("consumer.data_node_added")
SUBTRACTED = uri("consumer.data_node_subtracted")
AUTHENTICATE = "sisock.hub.authenticate"
AUTHORIZE = "sisock.hub.authorize"

_CONSUMER = uri("consumer.")


def get_fields(node: str) -> str:
    """Procedure that answers a node's fields and timelines."""
    return f"{_CONSUMER}{node}.get_fields"


def get_data(node: str) -> str:
    """Procedure that answers a node's data."""
    return f"{_CONSUMER}{node}.get_data"


def procedure(node: str, name: str) -> str:
    """A procedure of a node by the last part of its URI."""
    return f"{_CONSUMER}{node}.{name}"


def send(node: str) -> str:
    """Procedure that takes messages, of a node that does."""
    return procedure(node, "send")


def latest(node: str) -> str:
    """Topic of the newest row of each of a node's timelines."""
    return f"{_CONSUMER}{node}.latest"


def live_prefix(node: str) -> str:
    """What the topics of a node's live blocks begin with."""
    return f"{_CONSUMER}{node}.data."


def live(node: str, timeline: str) -> str:
    """Topic of one timeline's live blocks; the timeline is percent-encoded to a single component."""
    return live_prefix(node) + escape(timeline)


def watched(node: str) -> str:
    """Topic on which the hub tells a node who watches it."""
    return f"{WATCHED}.{node}"


def escape(timeline: str) -> str:
    """One URI component that stands for any timeline name."""
    return quote(timeline, safe="").replace(".", "%2E").replace("~", "%7E")


def unescape(part: str) -> str:
    """The timeline that a component stands for."""
    return unquote(part)


def is_node_name(name: object) -> bool:
    """Whether a node may carry this name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_NAME_BYTES and not _RESERVED.intersection(name.split("."))


def check_node_name(name: object) -> str:
    """The name itself, or InvalidArgument that says what a node may be called."""
    if not is_node_name(name):
        raise InvalidArgument(
            f"{shown(name)} cannot be a node's name: it takes up to {MAX_NAME_BYTES} bytes without blanks or '#', "
            f"dots only between parts, and none of the parts {', '.join(sorted(_RESERVED))}"
        )
    return str(name)


def check_field_name(name: object, what: str = "field") -> str:
    """The name itself, or InvalidArgument: fields and timelines take 1 to 255 characters, none of them control characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or _CONTROL.search(name):
        raise InvalidArgument(f"{shown(name)} cannot be a {what}'s name: it takes 1 to 255 characters, no control characters")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{shown(name)} cannot be a {what}'s name: it is not valid UTF-8") from None
    return name


def parse_consumer(full: str) -> tuple[str, str] | None:
    """Node name and what is asked of it, for a URI below `consumer.<NAME>`; None if it is no such URI.

    The second part is one of `get_fields`, `get_data`, `send`, `latest`, `data.` (the prefix of all live topics) or
    `data.<timeline>`.
    """
    if not full.startswith(_CONSUMER):
        return None
    rest = full[len(_CONSUMER) :]
    name, dot, last = rest.rpartition(".")
    if name.endswith(".data") and dot:
        name, last = name.removesuffix(".data"), f"data.{last}"
    elif last not in ("get_fields", "get_data", "send", "latest"):
        return None
    return (name, last) if is_node_name(name) else None
