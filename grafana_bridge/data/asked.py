"""What the data API is asked: the parameters of its addresses, checked. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sisock.asking import Answered, Question
from sisock.downsample import METHODS
from sisock.errors import InvalidArgument, UnknownField, shown
from sisock.fields import Catalogue, Field
from sisock.grafana_bridge.data.forms import FORMS
from sisock.times import LATEST, now, parse_duration, parse_time, to_micros
from sisock.uris import check_field_name, check_node_name

MAX_FIELDS = 1000
MAX_POINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked request of rows: fields in [start, end), in microseconds; `form` is the one of the answer."""

    fields: tuple[str, ...]
    start: int
    end: int
    max_points: int | None = None
    min_stride: float | None = None
    method: str | None = None
    form: str = "json"

    @property
    def reduces(self) -> bool:
        """Whether fewer rows are asked for than there are."""
        return self.max_points is not None or bool(self.min_stride)

    def question(self) -> Question:
        """The call of get_data."""
        how = {"max_points": self.max_points, "min_stride": self.min_stride, "method": self.method}
        return Question(self.fields, self.start, self.end, **how)  # type: ignore[arg-type]

    def lines(self, node: str, offered: Catalogue) -> dict[str, dict[str, Field]]:
        """The fields by their timelines; UnknownField for one that the node has not."""
        found: dict[str, dict[str, Field]] = {}
        for name in self.fields:
            if name not in offered.fields:
                raise UnknownField(f"{node} has no field {name!r:.80}. /api/nodes/{node}/fields lists them.")
            found.setdefault(offered.fields[name].timeline, {})[name] = offered.fields[name]
        return found

    def lines_of(self, answers: Mapping[str, Answered]) -> dict[str, dict[str, Field]] | None:
        """The same as the answers themselves say it; None where one of them does not know a field, or its type."""
        found: dict[str, dict[str, Field]] = {}
        for name in self.fields:
            for timeline, answer in answers.items():
                if name in answer.fields and not all(block.columns[name].is_null for block in answer.blocks):
                    found.setdefault(timeline, {})[name] = answer.fields[name]
                    break
            else:
                return None
        return found


class Parameters:
    """The parameters of one request; each may be given once, `field` often."""

    def __init__(self, args: Mapping[bytes, Sequence[bytes]], known: Sequence[str]) -> None:
        self._given: dict[str, list[str]] = {}
        for key, values in args.items():
            try:
                name, texts = key.decode(), [value.decode() for value in values]
            except UnicodeDecodeError:
                raise InvalidArgument("a parameter is text in UTF-8") from None
            if name not in known:
                raise InvalidArgument(f"there is no parameter {shown(name)} here; there are {', '.join(known)}")
            self._given[name] = texts
        for name, texts in self._given.items():
            if name != "field" and len(texts) > 1:
                raise InvalidArgument(f"{name} is given {len(texts)} times")

    def text(self, name: str) -> str | None:
        """The text of a parameter; None where it is not given, or empty."""
        return next(iter(self._given.get(name, ())), None) or None

    def fields(self) -> tuple[str, ...]:
        """The fields, in their order."""
        names = dict.fromkeys(check_field_name(name) for name in self._given.get("field", ()))
        if not names:
            raise InvalidArgument("name at least one field: ?field=air&field=wind")
        if len(names) > MAX_FIELDS:
            raise InvalidArgument(f"{len(names)} fields are named; up to {MAX_FIELDS} are answered at a time")
        return tuple(names)

    def time(self, name: str, default: float) -> float:
        """A time as people write it, in UNIX seconds."""
        text = self.text(name)
        if text is None:
            return default
        t = parse_time(text)
        return t if t > 0 else now() + t

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number in a range."""
        text = self.text(name)
        if text is None:
            return None
        try:
            number = parse_duration(text) if name == "min_stride" else float(int(text))
        except (ValueError, OverflowError):
            raise InvalidArgument(f"{name} is a number, not {shown(text)}") from None
        if not least <= number <= most:
            raise InvalidArgument(f"{name} is from {least:g} to {most:g}, not {shown(text)}")
        return number

    def choice(self, name: str, among: Sequence[str]) -> str | None:
        """One of some words."""
        text = self.text(name)
        if text is not None and text not in among:
            raise InvalidArgument(f"{name} is one of {', '.join(among)}, not {shown(text)}")
        return text


ROWS = ("field", "start", "end", "max_points", "min_stride", "method", "format")


def wanted(args: Any, accept: str = "") -> Wanted:
    """The request for rows; the form is `format`, or else what the Accept header names."""
    given = Parameters(args, ROWS)
    start, end = given.time("start", 1e-6), given.text("end")
    until = LATEST if end is None else to_micros(given.time("end", 0.0))
    if to_micros(start) > until:
        raise InvalidArgument("start is after end")
    points = given.number("max_points", 1, MAX_POINTS)
    by_accept = next((form for form in FORMS if form in accept), "json")
    return Wanted(
        given.fields(),
        to_micros(start),
        until,
        None if points is None else int(points),
        given.number("min_stride", 0, 3.2e9),
        given.choice("method", METHODS),
        given.choice("format", FORMS) or by_accept,
    )


def node_of(name: str) -> str:
    """The name of a node as an address has it."""
    return check_node_name(name)
