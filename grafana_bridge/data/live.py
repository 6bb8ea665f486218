"""Live rows as server-sent events: a browser's EventSource opens them with a ticket, and goes on where it was by itself.

The id of an event holds how far each timeline has come and, for one who came with a ticket, behind a `~` the ticket of the
next time: the browser sends it back when it connects again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import orjson

from sisock.blocks import Block
from sisock.errors import InvalidArgument
from sisock.followed import Followed, Missing
from sisock.following import Resume
from sisock.grafana_bridge.series import column_json
from sisock.positions import Position
from sisock.splice import Unread
from sisock.times import MICROS, to_seconds

# Seconds after which a reader who was cut off may come back with the ticket of its last event.
COMES_BACK = 3600.0
# Seconds between two signs of life where nothing comes.
BEAT = 15


class Places:
    """How far each timeline has come, and its form in an event's id."""

    def __init__(self, resume: Mapping[str, Resume] | None = None) -> None:
        self._at = dict(resume or {})

    def note(self, item: Followed) -> None:
        """Takes in what was delivered."""
        if item.position is None:
            return
        before = self._at.get(item.timeline)
        newest = int(item.block.t[-1]) if len(item.block) else None
        known = newest if before is None else before.newest if newest is None else max(newest, before.newest)
        if known is not None:
            self._at[item.timeline] = Resume(item.position, known, item.unread)

    def to_id(self) -> str:
        """The form in an event's id."""
        told = {
            name: [
                one.position.to_wire(),
                one.newest,
                [one.unread.start, one.unread.end, one.unread.anew] if one.unread else None,
            ]
            for name, one in self._at.items()
        }
        return base64.urlsafe_b64encode(orjson.dumps(told)).decode()

    @staticmethod
    def of_id(text: str) -> dict[str, Resume] | None:
        """The places that an id tells of; None for none, InvalidArgument for what is no id of ours."""
        encoded = text.partition("~")[0]
        if not encoded:
            return None
        try:
            told = orjson.loads(base64.b64decode(encoded, altchars=b"-_", validate=True))
            return {
                str(name): Resume(Position.from_wire(at), int(newest), None if unread is None else Unread(*unread))
                for name, (at, newest, unread) in told.items()
            } or None
        except (binascii.Error, ValueError, TypeError, AttributeError, orjson.JSONDecodeError):
            raise InvalidArgument("Last-Event-ID is the id of an event that came from here") from None


def event(item: Followed | Missing, ident: str) -> bytes:
    """One event: rows (`event: rows`), or that some may be missing (`event: gap`)."""
    if isinstance(item, Missing):
        told = {"timeline": item.timeline, "start": to_seconds(item.start), "end": to_seconds(item.end), "reason": item.reason}
        return _event(b"gap", orjson.dumps(told), ident)
    told = {
        "timeline": item.timeline,
        "t": orjson.Fragment(orjson.dumps(item.block.t / MICROS, option=orjson.OPT_SERIALIZE_NUMPY)),
        "data": {name: orjson.Fragment(column_json(column)) for name, column in item.block.columns.items()},
        "revises": [[to_seconds(start), to_seconds(end)] for start, end in item.revises],
        "finalized_until": item.finalized_until,
    }
    return _event(b"rows", orjson.dumps(told), ident)


def _event(name: bytes, data: bytes, ident: str) -> bytes:
    return b"id: " + ident.encode() + b"\nevent: " + name + b"\ndata: " + data + b"\n\n"


def is_worth_telling(item: Followed | Missing) -> bool:
    """Whether an event tells anything: a node that is silent repeats its position."""
    return isinstance(item, Missing) or bool(len(item.block)) or bool(item.revises)


def rows_of(item: Followed | Missing) -> Block | None:
    """The rows of an item."""
    return item.block if isinstance(item, Followed) else None
