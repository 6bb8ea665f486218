"""Times of tables as whole microseconds: numbers since 1970 in some unit, timestamps, and texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from sisock.blocks import Bools
from sisock.times import Micros

# The beginnings of the years 1 and 9999 + 1, in microseconds: what a calendar can show.
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_800_000_000

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Below these sizes a number is taken for seconds, milliseconds and microseconds: the year 5138 in one, 1973 in the next.
_BOUNDS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))


def guess_unit(values: Any) -> str:
    """The unit that numbers of this size have, if they are times of our days."""
    sizes = np.abs(np.asarray(values, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    size = float(np.median(sizes)) if len(sizes) else 0.0
    return next((unit for bound, unit in _BOUNDS if size < bound), "ns")


@dataclass(frozen=True, slots=True)
class Clock:
    """How the times of a table are to be read: `unit` of numbers, `zone` of texts and timestamps that name none."""

    unit: str | None = None
    zone: str | None = None
    format: str | None = None

    def micros(self, array: Any) -> tuple[Micros, Bools]:
        """Microseconds of an Arrow array, and which of them are times at all."""
        import pyarrow as pa

        kind = array.type
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if pa.types.is_dictionary(kind):
            array, kind = array.cast(kind.value_type), kind.value_type
        if pa.types.is_integer(kind):
            return _in_range(*self._of_integers(array))
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return _in_range(*self._of_floats(array))
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return _in_range(*self._of_timestamps(array))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _in_range(*self._of_texts(array))
        return np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)

    def _of_integers(self, array: Any) -> tuple[Micros, Bools]:
        valid = np.asarray(array.is_valid())
        values = np.asarray(array.cast("int64", safe=False).fill_null(0))
        per = PER_SECOND[self.unit or guess_unit(values[valid])]
        if per > 1_000_000:
            return values // (per // 1_000_000), valid
        factor = 1_000_000 // per
        fits = np.abs(values) < LAST // factor
        return np.where(fits, values, 0) * factor, valid & fits

    def _of_floats(self, array: Any) -> tuple[Micros, Bools]:
        values = np.asarray(array.cast("float64", safe=False).fill_null(np.nan))
        scaled = values * (1_000_000 / PER_SECOND[self.unit or guess_unit(values)])
        fits = np.isfinite(scaled) & (np.abs(scaled) < LAST)
        return np.rint(np.where(fits, scaled, 0)).astype(np.int64), fits

    def _of_timestamps(self, array: Any) -> tuple[Micros, Bools]:
        import pyarrow as pa

        valid = np.asarray(array.is_valid())
        # Nanoseconds are cut, seconds would overflow only beyond the calendar.
        zone = array.type.tz if pa.types.is_timestamp(array.type) else None
        micros = array.cast(pa.timestamp("us", zone), safe=False)
        if zone is None and self.zone:
            micros = self._in_zone(micros)
        return np.asarray(micros.cast("int64").fill_null(0)), valid

    def _in_zone(self, array: Any) -> Any:
        import pyarrow.compute as pc

        # Of the hour that a clock shows twice in autumn the first is meant, as far as anybody can know.
        return pc.assume_timezone(array, self.zone, ambiguous="earliest", nonexistent="earliest")

    def _of_texts(self, array: Any) -> tuple[Micros, Bools]:
        import pyarrow as pa
        import pyarrow.compute as pc

        array = pc.utf8_trim_whitespace(array.cast("string"))
        try:
            if self.format:
                return self._of_timestamps(pc.strptime(array, format=self.format, unit="us"))
            first = next((text for text in array[:1000].to_pylist() if text), "")
            zone = "UTC" if _names_zone(first) else None
            unit = "ns" if len(first.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0]) > 6 else "us"
            return self._of_timestamps(array.cast(pa.timestamp(unit, zone)))
        except pa.ArrowInvalid:
            # One of them is no time, or they differ in their form: each by itself.
            found = [self._of_text(text) for text in array.to_pylist()]
            valid = np.array([one is not None for one in found], np.bool_)
            return np.array([one or 0 for one in found], np.int64), valid

    def _of_text(self, text: str | None) -> int | None:
        try:
            if self.format:
                moment = datetime.strptime(text or "", self.format)
            else:
                moment = datetime.fromisoformat((text or "").replace(",", "."))
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(self.zone) if self.zone else UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _in_range(micros: Micros, valid: Bools) -> tuple[Micros, Bools]:
    return micros, valid & (micros >= FIRST) & (micros < LAST)


def _names_zone(text: str) -> bool:
    time = text.replace("T", " ").partition(" ")[2]
    return "Z" in time or "+" in time or "-" in time
