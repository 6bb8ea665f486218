"""Filters: the ad hoc filters of a dashboard, which leave out targets by node, field, units or type. Pure functions.

Patterns are RE2's, which take no longer than the text is long, and match the whole of a value, as Grafana has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sisock.errors import InvalidArgument, shown
from sisock.fields import Field

KEYS = ("node", "field", "units", "type")
OPERATORS = ("=", "!=", "=~", "!~", "<", ">", "=|", "!=|")
MAX_FILTERS = 100
MAX_PATTERN = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: a key, an operator, and the values it is held to (one, but for the two that take several)."""

    key: str
    operator: str
    values: tuple[str, ...]

    def passing(self, values: set[str]) -> set[str]:
        """Those of these values that pass. A pattern is made ready once for all of them, which takes most of its time."""
        match self.operator:
            case "=" | "=|":
                return values & set(self.values)
            case "!=" | "!=|":
                return values - set(self.values)
            case "=~":
                return matching(self.values[0], values)
            case "!~":
                return values - matching(self.values[0], values)
            case "<":
                return {value for value in values if value < self.values[0]}
            case _:
                return {value for value in values if value > self.values[0]}


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

    def sources(self, named: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """The targets, (node, field), that pass, as far as their names tell."""
        return self._passing(named, ("node", "field"))

    def kinds(self, specs: Iterable[Field]) -> set[tuple[str, str]]:
        """The kinds of these fields, (units, type), that pass."""
        return self._passing(map(kind, specs), ("units", "type"))

    def _passing(self, found: Iterable[tuple[str, str]], keys: tuple[str, str]) -> set[tuple[str, str]]:
        left = set(found)
        for one in self.all:
            if one.key in keys:
                at = keys.index(one.key)
                passing = one.passing({pair[at] for pair in left})
                left = {pair for pair in left if pair[at] in passing}
        return left


def kind(spec: Field) -> tuple[str, str]:
    """The units and the type of a field, by which it can be left out."""
    return spec.units or "", spec.type


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
        matching(values[0], {""})
    return Filter(str(key), str(operator), tuple(values))


def matching(pattern: str, values: set[str]) -> set[str]:
    """Those of these values that a pattern matches as a whole; InvalidArgument for one that is none."""
    import pyarrow as pa
    from pyarrow import compute

    if len(pattern) > MAX_PATTERN:
        raise InvalidArgument(f"a pattern has at most {MAX_PATTERN} characters")
    listed = sorted(values)
    try:
        fits = compute.match_substring_regex(pa.array(listed, pa.string()), pattern=f"^(?s:{pattern})$")
    except (pa.ArrowException, UnicodeError) as error:
        raise InvalidArgument(f"{shown(pattern)} is no pattern: {error}") from None
    return {value for value, fit in zip(listed, fits.to_pylist(), strict=True) if fit}
