"""Messages: the one JSON form {"site", "topic", "data"}, however it comes; `data` is passed on as it was written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import unquote

import msgspec

from sisock.errors import InvalidArgument, SisockError
from sisock.uris import check_field_name

# Bytes of a message, as queues have it.
MAX_MESSAGE = 1 << 20
MAX_ID = 200
# Messages of this stage carry no stage in the names of their timelines.
STAGE = "prod"


class UnknownStage(SisockError, LookupError):
    """The streams serve no such stage. SISOCK_STREAMS_STAGES names those that they serve."""

    uri = "sisock.error.unknown_stage"
    status = 404


class _Form(msgspec.Struct):
    site: str
    topic: str
    data: msgspec.Raw
    id: str | None = None


_DECODER = msgspec.json.Decoder(_Form)


@dataclass(frozen=True, slots=True)
class Message:
    """What a producer sends to the subscribers of a site. `data` is JSON, as it was written; `id` is the producer's."""

    site: str
    topic: str
    data: str
    stage: str = STAGE
    id: str | None = None
    timeline: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeline", timeline_of(self.stage, self.site, self.topic))

    def encode(self) -> bytes:
        """What subscribers get."""
        return encode(self.site, self.topic, self.data)


def parse(body: str | bytes, stage: str = STAGE) -> Message:
    """The message of a JSON text; InvalidArgument says what is wrong with it. Names that it does not know are ignored."""
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if len(raw) > MAX_MESSAGE:
        raise InvalidArgument(f"a message has {MAX_MESSAGE} bytes at most, this one {len(raw)}")
    try:
        form = _DECODER.decode(raw)
        data = bytes(form.data).decode()
    except RecursionError:
        raise InvalidArgument("data is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f'a message is JSON {{"site": text, "topic": text, "data": anything}}: {error}') from None
    return make(form.site, form.topic, data, stage, form.id)


def make(site: str, topic: str, data: str, stage: str = STAGE, id_: str | None = None) -> Message:
    """A message of parts, checked; `data` is JSON already."""
    for name, value in (("site", site), ("topic", topic)):
        if not value:
            raise InvalidArgument(f"{name} is empty")
        check_field_name(value, name)
    if id_ is not None:
        # PostgreSQL keeps no NUL, no store half of a surrogate.
        check_field_name(id_, "message")
        if len(id_) > MAX_ID:
            raise InvalidArgument(f"id is a text of 1 to {MAX_ID} characters")
    message = Message(site, topic, data, stage, id_)
    # With what is escaped in it, and with "/bytes" behind it, the name has to be a field's.
    check_field_name(size_field(message.timeline), "site and topic")
    return message


def encode(site: str, topic: str, data: str) -> bytes:
    """The JSON text that subscribers get; site and topic as Python and browsers write them, data as it came."""
    return f'{{"site":{_text(site)},"topic":{_text(topic)},"data":{data}}}'.encode()


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def timeline_of(stage: str, site: str, topic: str) -> str:
    """The name of a timeline, and of the field that holds its data: `site/topic`, or `stage:site/topic` beside `prod`."""
    name = f"{_escaped(site)}/{_escaped(topic)}"
    return name if stage == STAGE else f"{stage}:{name}"


def parts_of(timeline: str) -> tuple[str, str, str]:
    """Stage, site and topic of a timeline's name."""
    before, _, topic = timeline.partition("/")
    stage, colon, site = before.rpartition(":")
    return stage if colon else STAGE, unquote(site), unquote(topic)


def id_field(timeline: str) -> str:
    """The field beside a timeline's data that holds the producers' ids."""
    return f"{timeline}/id"


def size_field(timeline: str) -> str:
    """The field beside a timeline's data that holds how many bytes they have."""
    return f"{timeline}/bytes"


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F").replace(":", "%3A")
