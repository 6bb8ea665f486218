"""Times and values of databases: how a column writes its times, and what a driver's answers are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import sqlalchemy as sa

from sisock.blocks import Column
from sisock.fields import FieldType
from sisock.nodes.table.clock import PER_SECOND
from sisock.times import MICROS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A time as SQLite's own functions write and read it.
TEXT = r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?"
TYPES: dict[str, FieldType] = {"number": "number", "bool": "bool", "text": "string", "time": "string"}


@dataclass(frozen=True, slots=True)
class SqlClock:
    """How the times of a column are written: `kind` is number, moment (timestamp of PostgreSQL) or text (of SQLite)."""

    kind: str
    unit: str = "s"
    whole: bool = False
    zone: str | None = None
    aware: bool = False
    # How a text is written: what stands between date and time, the digits of a second's fraction, what ends it.
    between: str = " "
    digits: int = 0
    ending: str = ""

    def bound(self, micros: int) -> Any:
        """What times at or after these microseconds are at or after, as the column has them."""
        if self.kind == "number":
            per = PER_SECOND[self.unit]
            if self.whole:
                return micros * (per // MICROS) if per > MICROS else -(-micros // (MICROS // per))
            # Half a microsecond earlier begins what is rounded to it.
            return (micros - 0.5) * per / MICROS
        if self.kind == "moment":
            moment = EPOCH + timedelta(microseconds=micros)
            return moment if self.aware else moment.astimezone(self._zone).replace(tzinfo=None)
        step = 10 ** (6 - min(6, self.digits))
        moment = (EPOCH + timedelta(microseconds=-(-micros // step) * step)).astimezone(self._zone)
        text = moment.isoformat(self.between, "seconds")[:19]
        fraction = f".{moment.microsecond:06d}"[: self.digits + 1].ljust(self.digits + 1, "0") if self.digits else ""
        if not self.ending:
            # Whoever writes no fraction where it is nothing has shorter texts, which come first.
            return (text + fraction).rstrip("0").rstrip(".") if fraction else text
        return text + fraction + self.ending

    def micros(self, value: Any) -> int | None:
        """Microseconds of a value as the database answers it; None for what is no time."""
        try:
            if self.kind == "number":
                per = PER_SECOND[self.unit]
                if isinstance(value, int):
                    return value // (per // MICROS) if per > MICROS else value * (MICROS // per)
                nearest = round(float(value) * MICROS / per)
                # A float that lies on the edge belongs where the database finds it.
                return nearest - int(value < self.bound(nearest)) + int(value >= self.bound(nearest + 1))
            if self.kind == "text":
                value = datetime.fromisoformat(value)
            if value.tzinfo is None:
                value = value.replace(tzinfo=self._zone)
            since = value - EPOCH
            return int((since.days * 86_400 + since.seconds) * MICROS + since.microseconds)
        except (ValueError, TypeError, OverflowError, AttributeError):
            return None

    @property
    def _zone(self) -> Any:
        return ZoneInfo(self.zone) if self.zone else UTC


def kind_of(kind: Any) -> str:
    """What a column of a type may be taken for: time, number, bool, text, or nothing that a field holds."""
    if isinstance(kind, sa.Boolean):
        return "bool"
    if isinstance(kind, (sa.Integer, sa.Numeric, sa.Float)):
        return "number"
    if isinstance(kind, (sa.DateTime, sa.Date, sa.TIMESTAMP)):
        return "time"
    if isinstance(kind, (sa.LargeBinary, sa.JSON, sa.ARRAY)) and not isinstance(kind, sa.Enum):
        return "other"
    return "text" if isinstance(kind, (sa.String, sa.Uuid, sa.Enum, sa.Time)) else "other"


def is_moment(text: str) -> bool:
    """Whether a text is a time as SQLite's own functions write it."""
    return re.fullmatch(TEXT, text) is not None


def column_of(values: list[Any], kind: FieldType) -> Column:
    """A column of what the driver answered; what is of another type is null."""
    there: Any = None
    if kind == "string":
        made = [None if one is None else one if isinstance(one, str) else str(one) for one in values]
        there = np.array([one is not None for one in made], np.bool_)
        # A surrogate cannot travel.
        texts = [one if one is None else one.encode("utf-8", "replace").decode() for one in made]
        listed_texts = np.empty(len(texts), object)
        listed_texts[:] = texts
        return Column(listed_texts, None if there.all() else there)
    if kind == "bool":
        there = np.array([one is not None and one in (0, 1) for one in values], np.bool_)
        return Column(np.array([bool(one) for one in values], np.bool_), None if there.all() else there)
    there = np.array([isinstance(one, float) or (isinstance(one, int) and abs(one) < 2**63) for one in values], np.bool_)
    numbers = [one if good else 0 for one, good in zip(values, there.tolist(), strict=True)]
    whole = all(isinstance(one, int) for one in numbers) and bool(numbers)
    return Column(np.array(numbers, np.int64 if whole else np.float64), None if there.all() else there)
