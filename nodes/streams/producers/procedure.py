"""Producers over WAMP: the procedure `consumer.streams.send(site, topic, data, id=None, stage="prod")`.

WAMP carries values, not their spelling: `data` goes out as JSON of its own, in the order of its keys, and numbers as Python
writes them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sisock.errors import InvalidArgument
from sisock.nodes.streams.message import MAX_MESSAGE, STAGE, make

if TYPE_CHECKING:
    from sisock.nodes.streams.node import Streams


def procedure(node: Streams) -> Callable[..., Awaitable[bool]]:
    """The procedure that takes a message, and answers True when it is stored and handed on."""

    async def send(site: str, topic: str, data: Any, id: str | None = None, stage: str = STAGE) -> bool:  # noqa: A002
        node.settings.check_stage(stage)
        try:
            for name, value in (("site", site), ("topic", topic), ("id", id)):
                if not isinstance(value, str) and not (name == "id" and value is None):
                    raise InvalidArgument(f"{name} is a text")
            message = make(site, topic, _json(data), stage, id)
        except InvalidArgument as error:
            node.errors.say("wamp", str(error))
            raise
        await node.send(message)
        return True

    return send


def _json(data: Any) -> str:
    try:
        text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"data is no JSON: {error}") from None
    if size > MAX_MESSAGE:
        raise InvalidArgument(f"a message has {MAX_MESSAGE} bytes at most, this one {size}")
    return text
