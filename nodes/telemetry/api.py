"""The HTTP API of the old telemetry, under /api: robots, their events, their odometers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.threads import deferToThread

from sisock.blocks import Block
from sisock.doors import caller_of
from sisock.errors import InvalidArgument, NotAuthorized, SisockError, StoreAway
from sisock.http import reply, to_json
from sisock.nodes.telemetry.source import MAX_TIMESTAMP, Robot
from sisock.streamed import reply_pages

if TYPE_CHECKING:
    from klein import Klein

# Events that are encoded at a time.
PAGE = 5_000
# Stands for a / in a segment of a path: no name has it.
SLASH = "\x1f"

UNLEARNED = "does not know yet how far robots have come, as the store is away"


class UnknownRobot(SisockError, LookupError):
    """No robot of this name has reported yet. `/api/robots` lists those that have."""

    uri = "sisock.error.unknown_robot"
    status = 404


class Reports(Protocol):
    """What the API shows: the node."""

    robots: dict[str, Robot]

    @property
    def learned(self) -> bool:
        """Whether it is known which robots there are."""

    @property
    def name(self) -> Any:
        """What it is called."""

    def events(self, robot: str, start: int | None, end: int | None, rows: int) -> Iterator[Block]:
        """A robot's events in [start, end], both in milliseconds and included, as blocks of x and y."""

    def odometer(self, robot: str, start: int | None, end: int | None) -> float:
        """The way between the first and the last event in [start, end]."""


def add_routes(app: Klein, reports: Reports) -> None:
    """Adds the API's routes to a Klein application."""

    def robots(request: Any) -> bytes:
        _may_read(request, reports)
        return reply(request, [_robot(robot) for robot in tuple(reports.robots.values()) if robot.timestamp is not None])

    def one(request: Any, name: str) -> bytes:
        _may_read(request, reports)
        name = name.replace(SLASH, "/")
        robot = reports.robots.get(name)
        if robot is None or robot.timestamp is None:
            raise UnknownRobot(f"no robot {name!r:.80} has reported yet. /api/robots lists those that have.")
        return reply(request, _robot(robot))

    async def events(request: Any, name: str) -> bytes:
        _may_read(request, reports)
        name, (start, end) = name.replace(SLASH, "/"), _window(request)
        pages = reports.events(name, start, end, PAGE) if name in reports.robots else iter(())
        # Page by page, so that a year of events needs no memory.
        return await reply_pages(request, pages, partial(_page, name))

    async def odometer(request: Any, name: str) -> bytes:
        _may_read(request, reports)
        name, (start, end) = name.replace(SLASH, "/"), _window(request)
        robot = reports.robots.get(name)
        if robot is None:
            way = 0.0
        elif start is None and end is None:
            way = robot.odometer
        else:
            way = await deferToThread(reports.odometer, name, start, end)
        return reply(request, {"odometer": way, "robot": name})

    app.route("/api/robots", methods=["GET"])(robots)
    app.route("/api/robots/<string:name>", methods=["GET"])(one)
    app.route("/api/robots/<string:name>/events", methods=["GET"])(events)
    app.route("/api/robots/<string:name>/odometer", methods=["GET"])(odometer)


def _may_read(request: Any, reports: Reports) -> None:
    """Raises NotAuthorized for who may not read, and StoreAway while there is nothing to read."""
    # Here, and not by the path: there are many ways to write one, as %61pi.
    if not caller_of(request).may("read", reports.name):
        raise NotAuthorized(f"this caller may not read the node {reports.name!r}")
    if not reports.learned:
        raise StoreAway(f"the telemetry {UNLEARNED}")


def _page(robot: str, block: Block) -> bytes:
    x, y = (block.columns[f"{robot}.{name}"].to_list() for name in ("x", "y"))
    rows = zip((block.t // 1000).tolist(), x, y, strict=True)
    return to_json([{"robot": robot, "x": x, "y": y, "timestamp": t} for t, x, y in rows])[1:-1]


def _robot(robot: Robot) -> dict[str, Any]:
    return {
        "name": robot.name,
        "odometer": robot.odometer,
        "last_x": robot.x,
        "last_y": robot.y,
        "created_time": _iso(robot.first),
        "updated_time": None if robot.timestamp == robot.first else _iso(robot.timestamp),
        "removed_time": 0,
    }


def _iso(milliseconds: int | None) -> str:
    moment = datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _window(request: Any) -> tuple[int | None, int | None]:
    """start_time and end_time in milliseconds, each None where it is missing, in order."""
    start, end = _bound(request, "start_time"), _bound(request, "end_time")
    return (end, start) if start is not None and end is not None and start > end else (start, end)


def _bound(request: Any, name: str) -> int | None:
    given = request.args.get(name.encode())
    if not given:
        return None
    text = given[0].decode("latin-1")
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > MAX_TIMESTAMP:
        raise InvalidArgument(f"{name} is a whole number of milliseconds, 0 or more, not {text!r:.40}")
    return int(text)
