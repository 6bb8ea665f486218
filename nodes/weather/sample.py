"""A made-up archive with the traps of a real one: `python -m sisock.nodes.weather.sample FOLDER`.

Two weeks in five files, the same at each run. A comment opens each day, the midnight between two days stands in both,
there are gaps, and a file lacks an hour that the others of its timeline have.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

START = 1499990400.0
DAYS = 14
DAY = 86400.0
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Series:
    """One file: `value` takes days since the start and noise of mean 0 and deviation 1; `gaps` are in seconds since it."""

    field: str
    description: str
    timeline: str
    units: str
    spacing: float
    decimals: int
    value: Callable[[float, float], float]
    gaps: tuple[tuple[float, float], ...] = ()


def _daily(days: float, peak: float) -> float:
    """1 at the day's hour of the peak (UTC), -1 half a day later."""
    return math.cos(2 * math.pi * (days - peak / 24))


# All three hourly instruments were off for three hours of the seventh day.
_OFF = (6 * DAY + 10 * HOUR, 6 * DAY + 13 * HOUR)

SERIES = (
    Series(
        "apex_humidity",
        "Relative humidity (made-up sample)",
        "hourly",
        "%",
        HOUR,
        1,
        lambda d, e: min(100.0, max(1.0, 25 - 12 * _daily(d, 18) + 10 * math.sin(d / 2) + 2 * e)),
        (_OFF, (3 * DAY + 5 * HOUR, 3 * DAY + 6 * HOUR)),
    ),
    Series(
        "apex_pressure",
        "Air pressure (made-up sample)",
        "hourly",
        "mBar",
        HOUR,
        2,
        lambda d, e: 555 + 2 * math.sin(d / 3) + 0.5 * math.cos(4 * math.pi * d) + 0.1 * e,
        (_OFF,),
    ),
    Series(
        "apex_temperature",
        "Air temperature (made-up sample)",
        "hourly",
        "C",
        HOUR,
        2,
        lambda d, e: -4 + 5 * _daily(d, 19) + 2 * math.sin(d / 2) + 0.4 * e,
        (_OFF,),
    ),
    Series(
        "apex_radiometer",
        "Precipitable water vapour (made-up sample)",
        "minutely",
        "mm",
        60.0,
        3,
        lambda d, e: max(0.1, 0.9 + 0.5 * math.sin(d / 2) + 0.1 * _daily(d, 20) + 0.03 * e),
        ((4 * DAY + 2 * HOUR, 4 * DAY + 7 * HOUR),),
    ),
    Series(
        "apex_windspeed",
        "Wind speed (made-up sample)",
        "minutely",
        "km/h",
        60.0,
        1,
        lambda d, e: abs(22 + 12 * _daily(d, 20) + 6 * math.sin(d) + 4 * e),
        ((6 * DAY + 19 * HOUR, 6 * DAY + 19 * HOUR + 420),),
    ),
)


def write(folder: Path) -> None:
    """Writes the five files into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for series in SERIES:
        (folder / f"{series.field}.dat").write_text("\n".join(_lines(series)) + "\n", "ascii")


def ensure(folder: Path) -> None:
    """Makes the sample if the folder is not there or empty; all of it or nothing, also if two do it at once."""
    if folder.is_dir() and any(folder.iterdir()):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write(made)
        made.chmod(0o755)
        made.rename(folder)
    except OSError:
        # Another process was first if there is something now.
        if not (folder.is_dir() and any(folder.iterdir())):
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _lines(series: Series) -> Iterator[str]:
    yield from (f"# {series.description}", f"# {series.timeline}", f"# {series.units}")
    # Noise, not a secret; and the same on every machine.
    noise = random.Random(series.field)  # noqa: S311
    steps = round(DAY / series.spacing)
    midnight = ""
    for day in range(DAYS):
        yield f"# {datetime.fromtimestamp(START + day * DAY, UTC):%Y-%m-%d}"
        if midnight:
            yield midnight
        for step in range(1 if day else 0, steps + 1):
            since = day * DAY + step * series.spacing
            value = series.value(since / DAY, noise.gauss(0, 1))
            midnight = f"{START + since:.1f} {value:.{series.decimals}f}"
            if not any(low <= since < high for low, high in series.gaps):
                yield midnight


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sisock.nodes.weather.sample FOLDER")
    write(Path(sys.argv[1]))
