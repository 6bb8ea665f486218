"""Matching: which series a selector means, by its four kinds of matchers. Expressions are RE2's, anchored, in linear time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import promql_parser as parser
import pyarrow as pa
import pyarrow.compute as pc

from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.names import NAME, Source

Op = Literal["=", "!=", "=~", "!~"]

# Characters of an expression: RE2 is linear in the text, and what it makes of an expression is bounded as well.
MAX_PATTERN = 10_000


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a label that is not there is an empty one."""

    name: str
    op: Op
    value: str

    def keeps(self, values: Sequence[str]) -> set[str]:
        """Those of these values that fit."""
        if self.op == "=":
            return {self.value} & set(values)
        if self.op == "!=":
            return set(values) - {self.value}
        fits = matching(self.value, values)
        return {value for value, fit in zip(values, fits, strict=True) if fit == (self.op == "=~")}


@dataclass(frozen=True, slots=True)
class Selector:
    """All the conditions that a series must meet."""

    matchers: tuple[Matcher, ...]

    @property
    def nodes(self) -> frozenset[str] | None:
        """The only nodes that can have such a series; None where any can."""
        named = [matcher.value for matcher in self.matchers if matcher.name == "node" and matcher.op == "="]
        return frozenset(named) if named else None

    @property
    def equals(self) -> dict[str, str]:
        """The labels, but for the name, of which the value is said."""
        found: dict[str, str] = {}
        twice: set[str] = set()
        for matcher in self.matchers:
            if matcher.name in found or matcher.op != "=":
                twice.add(matcher.name)
            else:
                found[matcher.name] = matcher.value
        return {name: value for name, value in found.items() if name not in twice and name != NAME}

    def choose(self, offered: Iterable[Source]) -> list[Source]:
        """Those of these series that are meant."""
        chosen = [(dict(source.labels), source) for source in offered]
        for matcher in self.matchers:
            values = list({labels.get(matcher.name, "") for labels, _ in chosen})
            kept = matcher.keeps(values)
            chosen = [one for one in chosen if one[0].get(matcher.name, "") in kept]
        return [source for _, source in chosen]


def selector_of(expression: Any) -> Selector:
    """The conditions of the parser's selector."""
    if expression.matchers.or_matchers:
        raise BadQuery("`or` between matchers is not understood here. Write two selectors with `or` between them.")
    matchers = [Matcher(one.name, _op(one.op), one.value) for one in expression.matchers.matchers]
    for matcher in matchers:
        if matcher.op in ("=~", "!~"):
            check_pattern(matcher.value)
    if expression.name is not None:
        matchers.insert(0, Matcher(NAME, "=", expression.name))
    return Selector(tuple(matchers))


def matching(pattern: str, values: Sequence[str]) -> list[bool]:
    """Whether each of these values fits an expression as a whole."""
    try:
        fits = pc.match_substring_regex(pa.array(values, pa.string()), pattern=f"^(?s:{pattern})$")
    except pa.ArrowInvalid as error:
        raise BadQuery(f"{pattern!r:.80} is no regular expression: {error}") from None
    found: list[bool] = fits.to_pylist()
    return found


def check_pattern(pattern: str) -> None:
    """Raises BadQuery for an expression that is none, or too long."""
    if len(pattern) > MAX_PATTERN:
        raise BadQuery(f"a regular expression of {len(pattern)} characters is longer than the {MAX_PATTERN} that are taken")
    matching(pattern, [""])


def _op(op: Any) -> Op:
    kinds: list[tuple[Any, Op]] = [
        (parser.MatchOp.Equal, "="),
        (parser.MatchOp.NotEqual, "!="),
        (parser.MatchOp.Re, "=~"),
        (parser.MatchOp.NotRe, "!~"),
    ]
    return next(word for kind, word in kinds if kind == op)
