"""Filters: the ad hoc filters of a dashboard, which leave out targets by node, field, units or type. Pure functions.

Patterns are RE2's, which take no longer than the text is long, and match the whole of a value, as Grafana has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisock.errors import InvalidArgument, shown
from sisock.fields import Field

KEYS = ("node", "field", "units", "type")
# What a field must be asked for before one knows.
_OF_FIELD = ("units", "type")
OPERATORS = ("=", "!=", "=~", "!~", "<", ">", "=|", "!=|")
MAX_FILTERS = 100
MAX_PATTERN = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: a key, an operator, and the values it is held to (one, but for the two that take several)."""

    key: str
    operator: str
    values: tuple[str, ...]

    def lets(self, value: str) -> bool:
        """Whether a value passes."""
        match self.operator:
            case "=" | "=|":
                return value in self.values
            case "!=" | "!=|":
                return value not in self.values
            case "=~":
                return matches(self.values[0], value)
            case "!~":
                return not matches(self.values[0], value)
            case "<":
                return value < self.values[0]
            case _:
                return value > self.values[0]


@dataclass(frozen=True, slots=True)
class Filters:
    """All filters of a query; a target passes if it passes each."""

    all: tuple[Filter, ...] = ()

    @classmethod
    def of(cls, *lists: Any) -> Filters:
        """The filters as they were posted, under `filters` or `adhocFilters`; InvalidArgument names what does not fit."""
        made: list[Filter] = []
        for given in lists:
            if given is None:
                continue
            if not isinstance(given, list) or len(given) > MAX_FILTERS:
                raise InvalidArgument(f"filters are a list of at most {MAX_FILTERS}, not {shown(given)}")
            made += [_filter(one) for one in given]
        return cls(tuple(dict.fromkeys(made)))

    def let_source(self, node: str, field: str) -> bool:
        """Whether a target of that name passes, as far as its name tells."""
        named = {"node": node, "field": field}
        return all(one.lets(named[one.key]) for one in self.all if one.key in named)

    def let_field(self, spec: Field) -> bool:
        """Whether a field of that kind passes."""
        known = {"units": spec.units or "", "type": spec.type}
        return all(one.lets(known[one.key]) for one in self.all if one.key in _OF_FIELD)


def _filter(given: Any) -> Filter:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f'a filter is {{"key", "operator", "value"}}, not {shown(given)}')
    key, operator = given.get("key"), given.get("operator", "=")
    if key not in KEYS:
        raise InvalidArgument(f"a filter's key is one of {', '.join(KEYS)}, not {shown(key)}")
    if operator not in OPERATORS:
        raise InvalidArgument(f"a filter's operator is one of {' '.join(OPERATORS)}, not {shown(operator)}")
    values = given.get("values") if operator in ("=|", "!=|") and given.get("values") else [given.get("value")]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidArgument(f"a filter's value is text, not {shown(values)}")
    if operator in ("=~", "!~"):
        matches(values[0], "")
    return Filter(str(key), str(operator), tuple(values))


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern matches the whole of a value; InvalidArgument for one that is none."""
    import pyarrow as pa
    from pyarrow import compute

    if len(pattern) > MAX_PATTERN:
        raise InvalidArgument(f"a pattern has at most {MAX_PATTERN} characters")
    try:
        fits = compute.match_substring_regex(pa.array([value], pa.string()), pattern=f"^(?s:{pattern})$")
    except (pa.ArrowException, UnicodeError) as error:
        raise InvalidArgument(f"{shown(pattern)} is no pattern: {error}") from None
    return bool(fits[0].as_py())
