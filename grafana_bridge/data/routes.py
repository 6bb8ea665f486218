"""The routes of the data API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from sisock.asking import Answered, Take
from sisock.doors import caller_of
from sisock.errors import Busy, NodeFailed, NotAuthorized, NotConnected, SisockError, TimedOut, UnknownNode
from sisock.grafana_bridge.data import asked, forms, live
from sisock.grafana_bridge.data.document import DOCUMENT, page
from sisock.grafana_bridge.data.pump import Pump, Room
from sisock.grafana_bridge.reader import NoSession, Reader
from sisock.grafana_bridge.turns import Turns
from sisock.http import ZIPPED_FROM, ZIPPED_HERE, error_shape, gzipped, reply, reply_encoded, reply_long, takes_gzip, to_json
from sisock.openapi import offer
from sisock.seen import Seen
from sisock.streamed import Gone, Streamed

if TYPE_CHECKING:
    from klein import Klein

log = Logger()

# Long answers that are written at the same time, and readers who follow.
MAX_STREAMS = 16
MAX_LIVE = 500
# Values that are written right here: some milliseconds; more in a thread.
BREATH = 20_000


class _Places:
    """So many may be inside at a time."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what, self._taken = most, what, 0

    def __enter__(self) -> None:
        if self._taken >= self._most:
            raise Busy(f"{self._taken} {self._what} now. Try again in a moment.")
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1


def add_routes(app: Klein, consumer: Any, reader_for: Callable[[Any], Reader], turns: Turns) -> None:
    """Adds the data API's routes to a Klein application; `turns` count what is asked."""
    streams, followers = _Places(MAX_STREAMS, "long answers are written"), _Places(MAX_LIVE, "readers follow")

    def seen_by(request: Any) -> Seen:
        reader_for(request).check_session()
        return Seen(consumer, caller_of(request))

    async def nodes(request: Any) -> bytes:
        asked.Parameters(request.args, ())
        async with turns.count("data"):
            return await reply_long(request, to_json(await reader_for(request).nodes()))

    async def fields(request: Any, name: str) -> bytes:
        given = asked.Parameters(request.args, ("start", "end"))
        span = given.time("start", 1.0), None if given.text("end") is None else given.time("end", 0.0)
        async with turns.count("data"):
            found = (await reader_for(request).catalogue(asked.node_of(name), *span)).to_wire()
        return await reply_long(request, to_json({"fields": found[0], "timelines": found[1]}))

    async def data(request: Any, name: str) -> bytes:
        async with turns.count("data"):
            return await _data(request, name)

    async def _data(request: Any, name: str) -> bytes:
        node, seen = asked.node_of(name), seen_by(request)
        accept = (request.getHeader(b"accept") or b"").decode("latin-1")
        wanted = asked.wanted(request.args, accept)
        seen.check(node, reading=True)
        if wanted.reduces:
            return await _whole(request, wanted, node, reader_for(request))
        lines = wanted.lines(node, await reader_for(request).catalogue(node))
        form = forms.make(wanted.form, node, lines)
        with streams:
            await _stream(request, form, wanted, node, seen)
        return b""

    async def follow(request: Any, name: str) -> bytes:
        node, given = asked.node_of(name), asked.Parameters(request.args, ("field", "start", "ticket", "last_event_id"))
        names, start = given.fields(), given.time("start", 0.0) if given.text("start") else 0.0
        last = (request.getHeader(b"last-event-id") or b"").decode("latin-1") or given.text("last_event_id") or ""
        resume = live.Places.of_id(last)
        came_by_ticket = b"ticket" in request.args or "~" in last
        try:
            seen = seen_by(request)
            asked.Wanted(names, 0, 0).lines(node, await reader_for(request).catalogue(node))
            with followers:
                follower = seen.follow(node, names, start, resume)
                await _follow(request, follower, live.Places(resume), seen, came_by_ticket)
        except (NotConnected, UnknownNode, NodeFailed, TimedOut, Busy) as error:
            if not last:
                raise
            # A browser that comes back gives up for good at an error, and this one passes.
            ticket = _next_ticket(request) if came_by_ticket else ""
            return _come_again(request, error, live.Places(resume).to_id() + ticket)
        return b""

    def tickets(request: Any) -> bytes:
        door = getattr(request, "door", None)
        if door is None:
            raise NotAuthorized("nobody needs a ticket here")
        ticket = door.tickets.give(caller_of(request))
        return reply(request, {"ticket": ticket, "expires_in": door.tickets.LASTS})

    def show(request: Any) -> bytes:
        body = reply_encoded(request, page())
        request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        request.setHeader(b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'")
        return body

    offer(app, DOCUMENT)
    app.route("/api", methods=["GET"])(show)
    app.route("/api/tickets", methods=["POST"])(tickets)
    app.route("/api/nodes", methods=["GET"])(_says_503(nodes))
    app.route("/api/nodes/<string:name>/fields", methods=["GET"])(_says_503(fields))
    app.route("/api/nodes/<string:name>/data", methods=["GET"])(_says_503(data))
    app.route("/api/nodes/<string:name>/live", methods=["GET"])(_says_503(follow))


async def _whole(request: Any, wanted: asked.Wanted, node: str, reader: Reader) -> bytes:
    """An answer that was made fewer, as a panel asks for it: of many at a time, and equal ones at once."""
    answers = await reader.ask(node, wanted.question())
    lines = wanted.lines_of(answers)
    if lines is None:
        lines = wanted.lines(node, await reader.catalogue(node))
    form = forms.make(wanted.form, node, lines)

    def encode() -> bytes:
        parts = [form.part(timeline, block) for timeline, answer in answers.items() for block in answer.blocks]
        return b"".join([form.begin(), *parts, form.end(answers)])

    points = sum(len(block) for answer in answers.values() for block in answer.blocks) * len(wanted.fields)
    body: bytes = encode() if points <= BREATH else await deferToThread(encode)
    _head(request, wanted)
    if wanted.form != "parquet" and takes_gzip(request) and len(body) > ZIPPED_FROM:
        request.setHeader(b"Content-Encoding", b"gzip")
        body = gzipped(body) if len(body) <= ZIPPED_HERE else await deferToThread(gzipped, body)
    return body


def _head(request: Any, wanted: asked.Wanted) -> None:
    request.setHeader(b"Content-Type", forms.TYPES[wanted.form].encode())
    request.setHeader(b"Cache-Control", b"no-store")
    request.responseHeaders.addRawHeader(b"Vary", b"Accept, Accept-Encoding")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")


async def _stream(request: Any, form: forms.Form, wanted: asked.Wanted, node: str, seen: Seen) -> None:
    _head(request, wanted)
    # Parquet is compressed by itself.
    if wanted.form != "parquet" and takes_gzip(request):
        form = forms.Zipped(form)
        request.setHeader(b"Content-Encoding", b"gzip")

    async def read(take: Take, room: Room) -> Mapping[str, Answered]:
        return await seen.read_all(node, wanted.question(), take, room=room)

    try:
        await Pump(Streamed(request), form).run(read)
    except SisockError:
        # Nothing was written yet: the error is, and not in gzip.
        request.responseHeaders.removeHeader(b"Content-Encoding")
        raise


def _next_ticket(request: Any) -> str:
    """What stands behind an event's id for whoever came by a ticket, so that the browser can come again by itself."""
    return f"~{request.door.tickets.give(caller_of(request), live.COMES_BACK)}"


def _come_again(request: Any, error: SisockError, ident: str) -> bytes:
    request.setHeader(b"Content-Type", b"text/event-stream")
    request.setHeader(b"Cache-Control", b"no-store")
    return f"retry: 2000\n: {' '.join(str(error).split())}\nid: {ident}\n\n".encode()


def _says_503(route: Callable[..., Any]) -> Callable[..., Any]:
    """The old dialects answer 500 where there is no session with the router; here it is what HTTP has for that."""

    @wraps(route)
    async def answered(*args: Any, **named: Any) -> Any:
        try:
            return await route(*args, **named)
        except NoSession:
            raise NotConnected("the bridge has no session with the router. Try again in a moment.") from None

    return answered


async def _follow(request: Any, follower: Any, places: live.Places, seen: Seen, came_by_ticket: bool) -> None:
    request.setHeader(b"Content-Type", b"text/event-stream")
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Accel-Buffering", b"no")
    answer = Streamed(request)
    request.notifyFinish().addBoth(lambda _: follower.stop())

    caller, silent = caller_of(request), 0
    again = _next_ticket(request) if came_by_ticket else ""

    def beat() -> None:
        nonlocal silent
        silent += 1
        if not caller.welcome():
            # Taken away, or with another secret than before.
            follower.stop()
        elif silent % live.BEAT == 0 and not answer.is_full and not answer.gone:
            request.write(b": \n\n")

    beating = LoopingCall(beat)
    with suppress(Gone):
        try:
            await answer.write(b"retry: 1000\n\n")
            beating.start(1.0, now=False).addErrback(lambda failure: log.failure("a beat failed", failure))
            async for item in follower:
                if not seen.may_follow(follower.node):
                    break
                if live.rows_of(item) is not None:
                    places.note(item)
                if live.is_worth_telling(item):
                    await answer.write(await deferToThread(live.event, item, places.to_id() + again))
        except SisockError as error:
            await answer.write(b"event: error\ndata: " + to_json(error_shape(error.uri, str(error))) + b"\n\n")
        finally:
            if beating.running:
                beating.stop()
            follower.stop()
            answer.close()
