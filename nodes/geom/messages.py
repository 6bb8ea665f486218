"""Messages of the WebSocket, in both spellings: `{"event": NAME, "data": ...}` and `{NAME: ...}` (contract B2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any, Literal

import msgspec
import orjson

from sisock.errors import SisockError
from sisock.times import MICROS

Spelling = Literal["event", "plain"]

NAMES = ("ping", "auth", "getGeoms", "getCoordinates")
SECONDS = 25.0
MAX_TEXT = 1000
# Bytes of a message: a token has some thousands.
MAX_MESSAGE = 65_536
# Both spellings are objects, whose parts stay as they were written.
_FORM = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|\+00:00)?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Refused(SisockError):
    """A message is answered by an error frame with this code: 4400, 4401, 4404, 4413, 4503 or 4500."""

    uri = "sisock.error.geom_refused"
    status = 400

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A message that came: its name, its data as it was written (None where there was none), and how it was spelled.

    One that was not understood has no name, and says why not; it is `unknown` if it may be one that others understand.
    """

    name: str
    written: bytes | None
    spelling: Spelling
    wrong: Refused | None = None
    unknown: bool = False

    @property
    def data(self) -> Any:
        """Its data, decoded; Refused if they cannot be."""
        try:
            return None if self.written is None else orjson.loads(self.written)
        except ValueError:
            raise Refused(4400, "the data are no JSON") from None


@dataclass(frozen=True, slots=True)
class GeomsAsked:
    """What getGeoms asks for."""

    environment_id: str
    date: str


@dataclass(frozen=True, slots=True)
class CoordinatesAsked:
    """What getCoordinates asks for: [start, end] in microseconds, both ends included."""

    sample_id: int
    device_id: str
    start: int
    end: int


def message_of(payload: bytes) -> Message:
    """The message that a frame holds; what is none is answered as the running clients spell."""
    spelling: Spelling = "event"
    name: object
    data: msgspec.Raw | None
    try:
        # Neither msgspec nor the client that a ping goes back to should meet what is no UTF-8.
        payload.decode()
        told = _FORM.decode(payload)
    except msgspec.ValidationError:
        return _wrong(spelling, 'a message is an object: {"event": NAME, "data": {...}} or {NAME: {...}}')
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _wrong(spelling, "the frame is no JSON")
    if "event" not in told and len(told) == 1:
        spelling = "plain"
        ((name, data),) = told.items()
    else:
        name, data = _name(told.get("event")), told.get("data")
    if not isinstance(name, str) or name not in NAMES:
        return Message("", None, spelling, Refused(4400, f"a message is one of {', '.join(NAMES)}"), unknown=True)
    return Message(name, None if data is None else bytes(data), spelling)


def too_long(length: int) -> Message:
    """What comes of a frame that is longer than any message."""
    return _wrong("event", f"a message has at most {MAX_MESSAGE} bytes, this one {length}", 4413)


def _wrong(spelling: Spelling, why: str, code: int = 4400) -> Message:
    return Message("", None, spelling, Refused(code, why))


def _name(told: msgspec.Raw | None) -> object:
    try:
        return None if told is None else orjson.loads(bytes(told))
    except ValueError:
        return None


def token_of(message: Message) -> str:
    """The token of an auth message, raw or behind `Bearer `."""
    data = message.data
    told = data.get("Authorization") if isinstance(data, dict) else None
    if not isinstance(told, str):
        raise Refused(4401, "Unauthorized")
    scheme, blank, rest = told.strip().partition(" ")
    return rest.strip() if blank and scheme.lower() == "bearer" else told.strip()


def geoms_asked(message: Message) -> GeomsAsked:
    """What a getGeoms asks for."""
    data = _object(message)
    day = _text(data, "date")
    try:
        if not _DAY.fullmatch(day):
            raise ValueError
        date.fromisoformat(day)
    except ValueError:
        raise Refused(4400, "date is YYYY-MM-DD") from None
    return GeomsAsked(_text(data, "environment_id"), day)


def coordinates_asked(message: Message, longest: float) -> CoordinatesAsked:
    """What a getCoordinates asks for; of at most so many seconds."""
    data = _object(message)
    number, length = data.get("sample_id"), data.get("seconds", SECONDS)
    if type(number) is not int or not 0 <= number < 2**63:
        raise Refused(4400, "sample_id is a whole number")
    if isinstance(length, bool) or not isinstance(length, (int, float)) or not isfinite(length) or length < 0:
        raise Refused(4400, "seconds is a number, 0 or more")
    if length > longest:
        raise Refused(4413, f"seconds is at most {longest:g} here")
    start = _moment(_text(data, "from"))
    return CoordinatesAsked(number, _text(data, "device_id"), start, start + round(length * MICROS))


def _object(message: Message) -> dict[str, Any]:
    data = message.data
    if not isinstance(data, dict):
        raise Refused(4400, f"{message.name} takes an object")
    return data


def _text(data: dict[str, Any], name: str) -> str:
    told = data.get(name)
    if not isinstance(told, str) or not 1 <= len(told) <= MAX_TEXT:
        raise Refused(4400, f"{name} is a text")
    # PostgreSQL takes neither.
    if "\0" in told:
        raise Refused(4400, f"{name} holds the character NUL")
    return told


def _moment(text: str) -> int:
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        since = datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH
    except ValueError:
        raise Refused(4400, "from is YYYY-MM-DDThh:mm:ss, in UTC") from None
    return (since.days * 86_400 + since.seconds) * MICROS + since.microseconds


_REPLIES = {"ping": "pong", "auth": "authorized", "getGeoms": "geoms", "getCoordinates": "coordinates"}


def reply(message: Message, data: bytes | None) -> bytes:
    """The frame that answers a message with JSON; None is no data."""
    name = _REPLIES[message.name].encode()
    if message.spelling == "plain":
        return b'{"%b":%b}' % (name, b"{}" if data is None else data)
    return b'{"event":"%b"}' % name if data is None else b'{"event":"%b","data":%b}' % (name, data)


def error(spelling: Spelling, refused: Refused) -> bytes:
    """The frame of an error."""
    told = {"message": str(refused), "code": refused.code}
    return orjson.dumps({"event": "error", "data": told} if spelling == "event" else {"error": told})
