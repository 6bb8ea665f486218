"""Plans: a query as what must be read, its leaves, and what is made of that when it is there.

A query is taken apart before anything is read, so that what is not understood is told at once, and all that it reads is
asked for together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import promql_parser as parser

from sisock.grafana_bridge.prom import aggregations, functions, operators, steps
from sisock.grafana_bridge.prom.aggregations import Grouping
from sisock.grafana_bridge.prom.errors import BadQuery
from sisock.grafana_bridge.prom.leaves import Grid, Leaf, Thunk
from sisock.grafana_bridge.prom.matching import check_pattern, selector_of
from sisock.grafana_bridge.prom.operators import Matching
from sisock.grafana_bridge.prom.values import Floats, Text, Value, Vector
from sisock.grafana_bridge.prom.windows import FUNCTIONS
from sisock.times import LATEST, MICROS

# The parser takes each nesting from the stack, and so do we; no dashboard writes as much.
MAX_TOKENS = 1000
MAX_QUERY = 100_000
# Steps of a subquery.
MAX_INNER = 100_000
# What a subquery without a step takes: Prometheus' own default.
DEFAULT_STEP = 60 * MICROS

# A text without an end is one, too: it would be looked for again from each sign in it that could begin another.
_TEXTS = re.compile(r'"(?:\\.|[^"\\])*"?|\'(?:\\.|[^\'\\])*\'?|`[^`]*`?|#[^\n]*')
_TOKENS = re.compile(r"[\w.:]+|[^\s\w]")


def parse(text: str) -> Any:
    """The syntax tree of a query; BadQuery says what is wrong with it."""
    if len(text) > MAX_QUERY or len(_TOKENS.findall(_TEXTS.sub("''", text))) > MAX_TOKENS:
        raise BadQuery(f"the query is longer than the {MAX_TOKENS} words and signs that are taken. Make two of it.")
    if not text.strip():
        raise BadQuery("the query is empty. Name a metric, such as air_temperature.")
    try:
        return parser.parse(text)
    except (ValueError, OverflowError) as error:
        raise BadQuery(f"the query is no PromQL: {error}") from None


class Plan:
    """A query, ready to be read for and to be evaluated. `leaves` are what it reads."""

    def __init__(self, text: str, grid: Grid) -> None:
        self.leaves: list[Leaf] = []
        self._query = grid
        expression = parse(text)
        # A range by itself is what an instant query alone may ask for.
        self.range_leaf: Leaf | None = None
        try:
            if isinstance(expression, parser.MatrixSelector) and len(grid) == 1:
                self.range_leaf = self._ranged(expression, grid, "samples", ())[0]
                return
            self._top = self._build(expression, grid)
        except RecursionError:
            raise BadQuery("the query is nested too deeply. Make two of it.") from None
        except BadQuery:
            raise
        except (ValueError, OverflowError) as error:
            # The parser hands on times and lengths that neither Python's nor an array's can be.
            raise BadQuery(f"the query names a time or a length of time that there is not: {error}") from None

    @property
    def is_read(self) -> bool:
        """Whether nothing is to be made of what is read: its only leaf is its value."""
        return isinstance(self._top, partial) and self._top.func is steps.read

    @property
    def cells(self) -> int:
        """How many numbers it takes beside its ranges, at all steps together."""
        return sum(len(leaf.at) * len(leaf.numbers) for leaf in self.leaves)

    @property
    def has_plain_numbers(self) -> bool:
        """Whether these are no work: written out, if there are any."""
        return all(isinstance(one, partial) and one.func is steps.number for leaf in self.leaves for one in leaf.numbers)

    def work_out(self) -> None:
        """Evaluates the numbers that functions take beside their ranges: they are needed before anything is read."""
        with np.errstate(all="ignore"):
            for leaf in self.leaves:
                leaf.params = tuple(self._param(leaf, thunk) for thunk in leaf.numbers)

    @staticmethod
    def _param(leaf: Leaf, thunk: Thunk) -> Floats:
        param = steps.scalar(thunk())
        if len(param) == len(leaf.at):
            return param
        if (param != param[0]).any() and not np.isnan(param).all():
            raise BadQuery(f"beside a range with @, {leaf.function} takes a number that is the same at all steps")
        return param[:1]

    def evaluate(self) -> Value:
        """The query's value, when its leaves are filled."""
        # Infinities and what is no number are values like others.
        with np.errstate(all="ignore"):
            value = self._top()
        if isinstance(value, Vector):
            value = replace(value, stamps=None)
        return value

    def _build(self, expression: Any, grid: Grid) -> Thunk:
        match expression:
            case parser.NumberLiteral():
                return partial(steps.number, expression.val, len(grid))
            case parser.StringLiteral():
                return partial(steps.constant, Text(expression.val))
            case parser.ParenExpr():
                return self._build(expression.expr, grid)
            case parser.VectorSelector():
                return self._selected(expression, grid)
            case parser.UnaryExpr():
                return partial(steps.negated, self._build(expression.expr, grid))
            case parser.BinaryExpr():
                return self._binary(expression, grid)
            case parser.AggregateExpr():
                return self._aggregated(expression, grid)
            case parser.Call():
                return self._call(expression, grid)
            case parser.MatrixSelector() | parser.SubqueryExpr():
                raise BadQuery(
                    "a range has no value at a step. Put it into a function, such as rate(...) or avg_over_time(...)."
                )
            case _:
                raise BadQuery(f"{type(expression).__name__} is not understood here")

    # Selectors

    def _times(self, expression: Any, grid: Grid) -> tuple[range, bool]:
        """When a selector looks, by its offset and @, and whether that is the same at all steps."""
        offset = _micros(expression.offset)
        if expression.at is None:
            return _checked(range(grid.steps.start - offset, grid.steps.stop - offset, grid.steps.step)), False
        kind = expression.at.type
        if kind == parser.AtModifierType.Start:
            at = self._query.start
        elif kind == parser.AtModifierType.End:
            at = self._query.end
        else:
            at = _moment(expression.at)
        return _checked(range(at - offset, at - offset + 1)), True

    def _leaf(self, leaf: Leaf, count: int, *, fixed: bool) -> tuple[Leaf, Thunk]:
        self.leaves.append(leaf)
        return leaf, partial(steps.repeated if fixed else steps.read, leaf, count)

    def _selected(self, expression: Any, grid: Grid, *, stamps: bool = False) -> Thunk:
        at, fixed = self._times(expression, grid)
        return self._leaf(Leaf(selector_of(expression), at, stamps=stamps), len(grid), fixed=fixed)[1]

    def _ranged(self, expression: Any, grid: Grid, function: str, numbers: tuple[Thunk, ...]) -> tuple[Leaf, Thunk]:
        at, fixed = self._times(expression.vector_selector, grid)
        length = _micros(expression.range)
        leaf = Leaf(selector_of(expression.vector_selector), at, length, function, numbers)
        return self._leaf(leaf, len(grid), fixed=fixed)

    def _subquery(self, expression: Any, grid: Grid, function: str, numbers: tuple[Thunk, ...]) -> Thunk:
        at, fixed = self._times(expression, grid)
        length = _micros(expression.range)
        step = DEFAULT_STEP if expression.step is None else _micros(expression.step)
        # Steps of a subquery are multiples of its step, whatever those of the query are.
        first = (at[0] - length) // step * step + step
        if (at[-1] - first) // step > MAX_INNER:
            raise BadQuery(f"a subquery has more than {MAX_INNER} steps. Give it a longer step, as in [1h:1m].")
        inner = replace(grid, steps=_checked(range(first, at[-1] + 1, step)))
        thunk = self._build(expression.expr, inner)
        return partial(steps.over_steps, thunk, inner.steps, at, length, function, numbers, len(grid), fixed)

    # Operators

    def _binary(self, expression: Any, grid: Grid) -> Thunk:
        op = str(expression.op)
        modifier = expression.modifier
        matching, as_bool = Matching(), False
        if modifier is not None:
            fill = modifier.fill_values
            if fill is not None and (fill.lhs is not None or fill.rhs is not None):
                raise BadQuery("fill is not understood here. Write `or vector(0)` for what has no partner.")
            as_bool = modifier.return_bool
            matching = _matching(modifier)
        left, right = self._build(expression.lhs, grid), self._build(expression.rhs, grid)
        if op not in operators.SETS and op not in operators.COMPARISONS and op not in operators.ARITHMETIC:
            raise BadQuery(f"the operator {op} is not understood here")
        return partial(steps.operated, op, left, right, matching, as_bool)

    def _aggregated(self, expression: Any, grid: Grid) -> Thunk:
        op = str(expression.op)
        modifier = expression.modifier
        grouping = Grouping()
        if modifier is not None:
            grouping = Grouping(tuple(modifier.labels), modifier.type == parser.AggModifierType.Without)
        inner = self._build(expression.expr, grid)
        if op in aggregations.REDUCTIONS:
            return partial(steps.aggregate, op, inner, grouping)
        if op not in ("topk", "bottomk", "quantile", "count_values"):
            raise BadQuery(f"the aggregation {op} is not understood here")
        if op == "count_values":
            functions.check_label(_unwrapped(expression.param).val)
        return partial(steps.aggregate_by, op, self._build(expression.param, grid), inner, grouping)

    # Functions

    def _call(self, expression: Any, grid: Grid) -> Thunk:
        name, args = expression.func.name, expression.args
        if name in FUNCTIONS or name == "absent_over_time":
            return self._of_range(name, args, grid)
        if name == "timestamp":
            inner = _unwrapped(args[0])
            if isinstance(inner, parser.VectorSelector):
                return partial(steps.stamped, self._selected(inner, grid, stamps=True), grid)
            return partial(steps.stamped, self._build(inner, grid), grid)
        if name == "absent":
            inner = _unwrapped(args[0])
            labels = selector_of(inner).equals if isinstance(inner, parser.VectorSelector) else {}
            return partial(steps.absent, self._build(inner, grid), labels)
        if name not in steps.CALLS:
            raise BadQuery(f"the function {name} is not understood here")
        texts = [arg.val for arg in map(_unwrapped, args) if isinstance(arg, parser.StringLiteral)]
        if name == "label_replace":
            functions.check_label(texts[0])
            check_pattern(texts[3])
        elif name == "label_join":
            for label in (texts[0], *texts[2:]):
                functions.check_label(label)
        built = [self._build(arg, grid) for arg in args]
        return partial(steps.CALLS[name], name, grid, built)

    def _of_range(self, name: str, args: Sequence[Any], grid: Grid) -> Thunk:
        numbers: list[Thunk] = []
        ranged: Any = None
        for arg in map(_unwrapped, args):
            if isinstance(arg, (parser.MatrixSelector, parser.SubqueryExpr)):
                ranged = arg
            else:
                numbers.append(self._number(name, arg, grid))
        function = "present_over_time" if name == "absent_over_time" else name
        if isinstance(ranged, parser.SubqueryExpr):
            made = self._subquery(ranged, grid, function, tuple(numbers))
        else:
            made = self._ranged(ranged, grid, function, tuple(numbers))[1]
        if name != "absent_over_time":
            return made
        labels = selector_of(ranged.vector_selector).equals if isinstance(ranged, parser.MatrixSelector) else {}
        return partial(steps.absent, made, labels)

    def _number(self, name: str, expression: Any, grid: Grid) -> Thunk:
        """A number that a function takes beside its range: it is needed before anything is read."""
        before = len(self.leaves)
        thunk = self._build(expression, grid)
        if len(self.leaves) > before:
            raise BadQuery(f"{name} takes a number beside its range, and no metric")
        return thunk


def _micros(delta: timedelta | None) -> int:
    micros = 0 if delta is None else delta // timedelta(microseconds=1)
    if abs(micros) >= LATEST:
        raise OverflowError(f"{delta} is too long")
    return micros


def _checked(at: range) -> range:
    """These times, all of which an array can hold."""
    if at and max(abs(at[0]), abs(at[-1])) >= LATEST:
        raise OverflowError(f"{at[0] // MICROS} s are too far from 1970")
    return at


def _moment(modifier: Any) -> int:
    """The time of an @, to the millisecond."""
    try:
        at = modifier.at
    except BaseException as error:
        # What the parser raises before 1970 is none of Exception's, and it does not say which time it was.
        if type(error).__name__ != "PanicException":
            raise
        raise BadQuery("@ takes a time from 1970 on") from None
    millis: int = round(at.timestamp() * 1000)
    return millis * 1000


def _unwrapped(expression: Any) -> Any:
    while isinstance(expression, parser.ParenExpr):
        expression = expression.expr
    return expression


def _matching(modifier: Any) -> Matching:
    card = modifier.card
    kinds = parser.VectorMatchCardinality
    many: Any = "left" if card == kinds.ManyToOne else "right" if card == kinds.OneToMany else "none"
    by = modifier.matching
    on = by is not None and by.type == parser.LabelModifierType.Include
    return Matching(tuple(by.labels) if by is not None else (), on, many, tuple(modifier.group_labels or ()))
