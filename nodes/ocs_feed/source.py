"""What agents publish on a feed, read into blocks; it knows no router.

An event on `observatory.<TARGET>.feeds.<FEED>` is one list [message, feed_data]:

    message    {block: {"block_name", "data": {channel: [values]}, "timestamps": [UNIX seconds]}}
    feed_data  {"agent_address": "observatory.<TARGET>", "feed_name", ...}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sisock.blocks import Block, Column
from sisock.errors import InvalidArgument, SetupError, shown
from sisock.uris import check_field_name

_TOPIC = re.compile(r"observatory\.(.+)\.feeds\.(.+)")
_PART = re.compile(r"[^\s#.\[\]]+")


@dataclass(frozen=True, slots=True)
class Feed:
    """Feeds to follow: a target and a feed, each a name or a pattern in which `*` stands for anything."""

    target: str
    feed: str

    @classmethod
    def of(cls, text: str) -> Feed:
        """The feed of `TARGET.FEED`, such as `thermo.temperatures`, `dome.*` or `*.*`; SetupError for anything else."""
        target, dot, feed = text.strip().partition(".")
        if not dot or not _PART.fullmatch(target) or not _PART.fullmatch(feed):
            raise SetupError(f"{text!r:.100} is no feed: write TARGET.FEED, such as thermo.temperatures, dome.* or *.*")
        return cls(target, feed)

    @property
    def is_pattern(self) -> bool:
        """Whether it can mean several feeds."""
        return "*" in self.target or "*" in self.feed

    @property
    def topic(self) -> str:
        """The topic to subscribe to; of a pattern, one in which nothing stands for anything (WAMP's wildcard)."""
        target, feed = ("" if "*" in part else part for part in (self.target, self.feed))
        return f"observatory.{target}.feeds.{feed}"

    def means(self, target: str, feed: str) -> bool:
        """Whether a feed is among these."""
        return fnmatchcase(target, self.target) and fnmatchcase(feed, self.feed)


def feeds_of(text: str) -> tuple[Feed, ...]:
    """The feeds of a list with commas between."""
    return tuple(Feed.of(one) for one in text.split(",") if one.strip())


def parts_of(topic: str) -> tuple[str, str]:
    """Target and feed of a topic; InvalidArgument for one that is no feed's."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        raise InvalidArgument(f"{topic!r:.100} is no feed's topic: observatory.<TARGET>.feeds.<FEED>")
    return match[1], match[2]


@dataclass(frozen=True, slots=True)
class Samples:
    """Co-sampled channels of one block: the timeline they share, and rows with the channels' fields."""

    timeline: str
    block: Block
    channels: Mapping[str, str]
    """The channel, as the agent writes it, of each field."""


def read(topic: str, event: Any, plain: bool = False) -> Iterator[Samples | InvalidArgument]:
    """What an event holds, block by block; what is wrong with a block or a channel comes before it, and all else is kept.

    Fields are named `<target>.<feed>.<channel>`, or `<channel>` alone where they are `plain`. InvalidArgument is raised for
    an event that is none at all.
    """
    target, feed = parts_of(topic)
    if not isinstance(event, (list, tuple)) or len(event) != 2:
        raise InvalidArgument(f"an event is one list [message, feed_data], not {shown(event)}")
    message, told = event
    if not isinstance(message, Mapping) or not isinstance(told, Mapping):
        raise InvalidArgument("message and feed_data of an event are objects")
    if told.get("agent_address") != f"observatory.{target}":
        raise InvalidArgument(f"its agent_address is {shown(told.get('agent_address'))}, not observatory.{target}")
    for key, block in message.items():
        try:
            yield from _samples(f"{target}.{feed}", str(key), block, plain)
        except InvalidArgument as error:
            yield InvalidArgument(f"block {str(key)!r:.100}: {error}")


def _samples(feed: str, key: str, block: Any, plain: bool) -> Iterator[Samples | InvalidArgument]:
    if not isinstance(block, Mapping):
        raise InvalidArgument(f"a block is an object, not {shown(block)}")
    data, times, name = block.get("data"), block.get("timestamps"), block.get("block_name", key)
    if not isinstance(data, Mapping) or not isinstance(times, (list, tuple)) or not isinstance(name, str):
        raise InvalidArgument("a block has block_name, data {channel: [values]} and timestamps [seconds]")
    timeline = check_field_name(f"observatory.{feed}.{name}", "timeline")
    channels: dict[str, str] = {}
    columns: dict[str, Column] = {}
    for channel, values in data.items():
        try:
            field, column = _column(feed, channel, values, len(times), plain)
            if field in channels:
                raise InvalidArgument(f"the channels {channels[field]!r} and {channel!r} have one name: {field}")
        except InvalidArgument as error:
            yield InvalidArgument(f"block {key!r:.100}: {error}")
        else:
            channels[field], columns[field] = channel, column
    if columns:
        yield Samples(timeline, Block.of(times, columns), channels)


def _column(feed: str, channel: Any, values: Any, rows: int, plain: bool) -> tuple[str, Column]:
    if not isinstance(channel, str) or not channel or not isinstance(values, (list, tuple)):
        raise InvalidArgument(f"channel {shown(channel)} is not a list of values")
    field = check_field_name(field_name(channel) if plain else f"{feed}.{field_name(channel)}")
    if len(values) != rows:
        raise InvalidArgument(f"channel {channel!r:.100} has {len(values)} values for {rows} times")
    return field, Column.of(values, field)


def field_name(channel: str) -> str:
    """A channel's name as a field has it: lower-cased, blanks as _."""
    return channel.lower().replace(" ", "_")
