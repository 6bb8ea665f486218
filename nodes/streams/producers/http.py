"""Producers over HTTP: POST /<stage> with a message, or a list of them, as JSON; all of a list are taken, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sisock.errors import InvalidArgument
from sisock.http import reply, reply_error

if TYPE_CHECKING:
    from klein import Klein

    from sisock.nodes.streams.node import Streams

MAX_MESSAGES = 1000
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def add_routes(app: Klein, node: Streams) -> None:
    """Adds the producers' route to a Klein application, and what is said to whoever asks for the subscribers' without one."""

    async def send(request: Any, stage: str) -> bytes:
        messages = [node.parse(body, stage, "http") for body in _bodies(request.content.read(), node)]
        if messages:
            await node.send(*messages)
        return reply(request, {"stored": len(messages)}, 201)

    def subscribe(request: Any, stage: str) -> bytes:
        request.setHeader(b"Upgrade", b"websocket")
        return reply_error(request, 426, "upgrade_required", f"/{stage} is a WebSocket: ws://host:port/{stage}?site=<site>")

    path = "/<any({}):stage>".format(",".join(f'"{stage}"' for stage in node.settings.stages))
    app.route(path, methods=["GET"])(subscribe)
    app.route(path, methods=["POST"])(send)


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
