"""Blocks: rows of one timeline as columns, the unit in which data are kept, read and sent.

A block holds `t`, strictly ascending whole microseconds, and a column a field of the same length. A column is a NumPy
array (float64, int64, bool, or object for strings) and a mask of the values that are there: a null is a missing value,
a NaN a number that is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.errors import InvalidArgument, shown
from sisock.fields import FieldType
from sisock.times import EARLIEST, LATEST, MICROS, Micros
from sisock.uris import check_field_name

Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

# Beyond this a JSON client's number no longer is the integer that was sent.
EXACT = 2**53

_DTYPES: dict[str, npt.DTypeLike] = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64, "O": object}
_TYPES: dict[str, FieldType] = {"b": "bool", "i": "number", "f": "number", "O": "string"}
_BLANK: dict[str, Any] = {"b": False, "i": 0, "f": np.nan, "O": None}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of one field; `valid` is None where none of them is null."""

    values: Values
    valid: Bools | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column) or self.values.dtype != other.values.dtype or len(self) != len(other):
            return False
        mine, theirs = self.mask(), other.mask()
        if not np.array_equal(mine, theirs):
            return False
        return np.array_equal(self.values[mine], other.values[theirs], equal_nan=self.values.dtype.kind == "f")

    __hash__ = None  # type: ignore[assignment]

    @property
    def type(self) -> FieldType:
        """The field's type that these values have."""
        return _TYPES[self.values.dtype.kind]

    @property
    def is_null(self) -> bool:
        """Whether it holds no value: nothing, or nothing but nulls. Such a column fits a field of any type."""
        return not len(self) or (self.valid is not None and not self.valid.any())

    def cast(self, dtype: np.dtype[Any]) -> Column:
        """The column in a type that `common_dtype` found."""
        return Column.null(len(self), dtype) if self.is_null else Column(self.values.astype(dtype, copy=False), self.valid)

    def mask(self) -> Bools:
        """True where there is a value."""
        return np.ones(len(self.values), np.bool_) if self.valid is None else self.valid

    def take(self, index: npt.NDArray[np.intp] | Bools | slice) -> Column:
        """The column at these rows."""
        return Column(self.values[index], None if self.valid is None else self.valid[index])

    def numbers(self) -> npt.NDArray[np.float64]:
        """The values as float64, nulls as NaN; InvalidArgument for strings."""
        if self.values.dtype.kind == "O":
            raise InvalidArgument("strings have no numbers")
        numbers = self.values.astype(np.float64)
        if self.valid is not None:
            numbers[~self.valid] = np.nan
        return numbers

    def to_list(self) -> list[Any]:
        """Values for a JSON client: null where there is none, for NaN and infinities, and for integers beyond 2^53."""
        shown = self.valid
        if self.values.dtype.kind == "f":
            finite = np.isfinite(self.values)
            shown = finite if shown is None else finite & shown
        elif self.values.dtype.kind == "i" and len(self.values):
            exact = (self.values <= EXACT) & (self.values >= -EXACT)
            shown = exact if shown is None else exact & shown
        if shown is None or shown.all():
            return list(self.values.tolist())
        listed = self.values.astype(object)
        listed[~shown] = None
        return list(listed.tolist())

    @classmethod
    def of(cls, values: Any, name: str = "values") -> Column:
        """Column of numbers, booleans or strings, with None for null; InvalidArgument for anything else."""
        if isinstance(values, Column):
            return values
        if isinstance(values, np.ndarray):
            if values.ndim != 1:
                raise InvalidArgument(f"{name} must have one dimension, not {values.ndim}")
            if values.dtype.kind in "OU":
                return _from_objects(values.tolist(), name)
            if isinstance(values, np.ma.MaskedArray):
                return cls(_known(np.asarray(values.data), name), ~np.ma.getmaskarray(values))
            return cls(_known(values, name))
        if not isinstance(values, Iterable) or isinstance(values, (str, bytes, bytearray, Mapping, Set)):
            raise InvalidArgument(f"{name} takes a sequence of values, not {shown(values)}")
        return _from_objects(list(values), name)

    @classmethod
    def null(cls, length: int, dtype: npt.DTypeLike = np.float64) -> Column:
        """Column of nothing but nulls."""
        kind = np.dtype(dtype)
        return cls(np.full(length, _BLANK[kind.kind], kind), np.zeros(length, np.bool_))


def _known(array: npt.NDArray[Any], name: str) -> Values:
    dtype = _DTYPES.get(array.dtype.kind)
    if dtype is None:
        raise InvalidArgument(f"{name} holds {array.dtype}; a field takes numbers, booleans or strings")
    if array.dtype.kind == "u" and len(array) and array.max() > np.iinfo(np.int64).max:
        raise InvalidArgument(f"{name} holds an integer beyond 64 bits")
    return array.astype(dtype, copy=False)


def _from_objects(values: list[Any], name: str) -> Column:
    """Column of Python values, whose kind is read off those that are not None."""
    there = [value for value in values if value is not None]
    kinds = {_kind(value, name) for value in there}
    if len(kinds) > 1 and kinds != {"i", "f"}:
        raise InvalidArgument(f"{name} mixes numbers, booleans or strings; a field has one type")
    kind = "f" if "f" in kinds or not kinds else kinds.pop()
    dtype = np.dtype(_DTYPES[kind])
    blank = _BLANK[kind]
    try:
        if len(there) == len(values):
            return Column(np.array(values, dtype))
        valid = np.array([value is not None for value in values], np.bool_)
        return Column(np.array([blank if value is None else value for value in values], dtype), valid)
    except OverflowError:
        raise InvalidArgument(f"{name} holds an integer beyond 64 bits") from None


def _kind(value: Any, name: str) -> str:
    # bool is an int in Python, so it is asked first.
    if isinstance(value, (bool, np.bool_)):
        return "b"
    if isinstance(value, (int, np.integer)):
        return "i"
    if isinstance(value, (float, np.floating)):
        return "f"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"{name} holds text that is not valid UTF-8") from None
        return "O"
    raise InvalidArgument(f"{name} holds a {type(value).__name__}; a field takes numbers, booleans, strings or None")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one timeline: `t` in microseconds, strictly ascending, and a column a field."""

    t: Micros
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.t)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and np.array_equal(self.t, other.t) and dict(self.columns) == dict(other.columns)

    __hash__ = None  # type: ignore[assignment]

    def take(self, index: npt.NDArray[np.intp] | Bools | slice) -> Block:
        """The block of these rows, which must be in order."""
        return Block(self.t[index], {name: column.take(index) for name, column in self.columns.items()})

    def between(self, start: int, end: int) -> Block:
        """The rows in [start, end), in microseconds."""
        low, high = np.searchsorted(self.t, (start, end))
        return self.take(slice(int(low), max(int(low), int(high))))

    @classmethod
    def of(cls, t: Any, values: Mapping[str, Any]) -> Block:
        """Block of one row or of columns, as a node's author writes them.

        `t` is UNIX seconds, a number or a sequence, in any order; `values` maps a field to a value or to a sequence as
        long as `t`. Of rows with the same time the last counts. InvalidArgument says what does not fit.
        """
        try:
            single = np.ndim(t) == 0
        except ValueError:
            raise InvalidArgument("times must have one dimension") from None
        times = micros_of([t] if single else t)
        if not isinstance(values, Mapping):
            raise InvalidArgument(f"values is a dict of fields, not {type(values).__name__}")
        columns = {check_field_name(name): Column.of([value] if single else value, name) for name, value in values.items()}
        for name, column in columns.items():
            if len(column) != len(times):
                raise InvalidArgument(f"{name} has {len(column)} values for {len(times)} times")
        block = cls(times, columns)
        if len(times) > 1 and not (times[1:] > times[:-1]).all():
            # The last of equal times wins: a stable sort keeps their order, and the last of each run is taken.
            order = np.argsort(times, kind="stable")
            ordered = times[order]
            keep = np.append(ordered[1:] != ordered[:-1], True)
            block = block.take(order[keep])
        return block


def micros_of(t: Sequence[float] | npt.NDArray[Any]) -> Micros:
    """Whole microseconds of times in seconds; InvalidArgument for what is not finite or beyond the ends of time."""
    try:
        seconds = np.asarray(t)
        if seconds.dtype.kind not in "iuf" and len(seconds):
            raise TypeError
        seconds = seconds.astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidArgument("a time is a number of UNIX seconds") from None
    if seconds.ndim != 1:
        raise InvalidArgument("times must have one dimension")
    with np.errstate(over="ignore"):
        scaled = np.rint(seconds * MICROS)
    if not (np.isfinite(scaled) & (scaled > EARLIEST) & (scaled < LATEST)).all():
        raise InvalidArgument("a time must be a finite number of UNIX seconds")
    micros: Micros = scaled.astype(np.int64)
    return micros


def concat(blocks: Iterable[Block]) -> Block:
    """One block of several that follow each other in time; a field that one lacks is null there."""
    parts = [block for block in blocks if len(block)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Block(np.empty(0, np.int64))
    names = dict.fromkeys(name for part in parts for name in part.columns)
    return Block(np.concatenate([part.t for part in parts]), {name: _joined(parts, name) for name in names})


def _joined(parts: Sequence[Block], name: str) -> Column:
    present = [part.columns[name] for part in parts if name in part.columns]
    dtype = common_dtype(name, present)
    columns = [part.columns[name].cast(dtype) if name in part.columns else Column.null(len(part), dtype) for part in parts]
    values = np.concatenate([column.values for column in columns])
    whole = all(column.valid is None for column in columns)
    return Column(values, None if whole else np.concatenate([column.mask() for column in columns]))


def common_dtype(name: str, columns: Sequence[Column]) -> np.dtype[Any]:
    """The type that holds the values of all of these; InvalidArgument where numbers, booleans and strings meet."""
    dtypes = [column.values.dtype for column in columns if not column.is_null] or [columns[0].values.dtype]
    kinds = {dtype.kind for dtype in dtypes}
    if kinds == {"i", "f"}:
        return np.dtype(np.float64)
    if len(kinds) != 1:
        raise InvalidArgument(f"{name} mixes numbers, booleans or strings; a field has one type")
    return dtypes[0]


def merge(old: Block, new: Block) -> Block:
    """Rows of both, by time. At a time that both have, the fields that `new` names are replaced, the others stay."""
    if not len(old) or not len(new):
        return new if not len(old) else old
    # What lies before and after the new rows stays as it is.
    low, high = int(np.searchsorted(old.t, new.t[0])), int(np.searchsorted(old.t, new.t[-1], "right"))
    return concat((old.take(slice(0, low)), _overlaid(old.take(slice(low, high)), new), old.take(slice(high, None))))


def _overlaid(old: Block, new: Block) -> Block:
    if not len(old):
        return new
    t = old.t
    if not np.array_equal(old.t, new.t):
        both = np.sort(np.concatenate((old.t, new.t)), kind="stable")
        t = both[np.append(True, both[1:] != both[:-1])]
    at_old, at_new = np.searchsorted(t, old.t), np.searchsorted(t, new.t)
    names = dict.fromkeys([*old.columns, *new.columns])
    columns: dict[str, Column] = {}
    for name in names:
        layers = [(at, block.columns[name]) for at, block in ((at_old, old), (at_new, new)) if name in block.columns]
        dtype = common_dtype(name, [column for _, column in layers])
        values = np.full(len(t), _BLANK[dtype.kind], dtype)
        valid = np.zeros(len(t), np.bool_)
        for at, column in layers:
            values[at], valid[at] = column.cast(dtype).values, column.mask()
        columns[name] = Column(values, None if valid.all() else valid)
    return Block(t, columns)


def news(old: Block, new: Block) -> Block:
    """The rows of `new` that would change anything if they were merged into `old`."""
    if not len(old) or not len(new):
        return new
    at = np.minimum(np.searchsorted(old.t, new.t), len(old) - 1)
    same: Bools = old.t[at] == new.t
    for name, column in new.columns.items():
        before = old.columns.get(name)
        if before is None:
            return new
        was, there = before.mask()[at], column.mask()
        kinds = before.values.dtype.kind, column.values.dtype.kind
        # Numbers of which none is there may be called whole ones or others.
        if kinds[0] != kinds[1] and not (set(kinds) == {"f", "i"} and not (was.any() and there.any())):
            return new
        equal = np.asarray(before.values[at] == column.values, np.bool_)
        if column.values.dtype.kind == "f":
            equal |= np.isnan(before.values[at]) & np.isnan(column.values)
        same &= (was == there) & (equal | ~there)
    return new.take(~same)
