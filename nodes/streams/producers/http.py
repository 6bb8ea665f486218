"""Producers over HTTP: POST /<stage> with a message, or a list of them, as JSON; all of a list are taken, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sisock.errors import InvalidArgument
from sisock.http import reply

if TYPE_CHECKING:
    from klein import Klein

    from sisock.nodes.streams.node import Streams

MAX_MESSAGES = 1000
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def add_routes(app: Klein, node: Streams) -> None:
    """Adds the producers' route to a Klein application."""

    async def send(request: Any, stage: str) -> bytes:
        node.settings.check_stage(stage)
        messages = [node.parse(body, stage, "http") for body in _bodies(request.content.read(), node)]
        if messages:
            await node.send(*messages)
        return reply(request, {"stored": len(messages)}, 201)

    app.route("/<string:stage>", methods=["POST"])(send)


def _bodies(raw: bytes, node: Streams) -> list[bytes]:
    """One message, or those of a list; all of them are good, or none is taken."""
    if not raw.lstrip().startswith(b"["):
        return [raw]
    try:
        found = [bytes(one) for one in _LIST.decode(raw)]
    except (msgspec.MsgspecError, RecursionError) as error:
        node.errors.say("http", str(error))
        raise InvalidArgument(f"the request's body is no JSON: {error}") from None
    if len(found) > MAX_MESSAGES:
        raise InvalidArgument(f"a request holds {MAX_MESSAGES} messages at most, this one {len(found)}")
    return found
