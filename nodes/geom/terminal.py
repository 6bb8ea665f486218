"""What the commands share: times, the frames they mean, a bar, and an end that leaves nothing behind."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The hours of a day, as the old command had them, in UTC.
_FROM, _TO = timedelta(hours=13), timedelta(hours=22)

Told = Callable[[int, int], None]


class Moment(click.ParamType[datetime]):
    """A time, YYYY-MM-DDTHH:MM in UTC."""

    name = "YYYY-MM-DDTHH:MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time."""
        if isinstance(value, datetime):
            return value
        if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?Z?", value):
            self.fail(f"{value!r} is no time: write YYYY-MM-DDTHH:MM, in UTC", param, ctx)
        try:
            return datetime.fromisoformat(value.rstrip("Z")).replace(tzinfo=UTC)
        except ValueError as error:
            self.fail(f"{value!r} is no time: {error}", param, ctx)


class Date(Moment):
    """A day, YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Its beginning, in UTC."""
        if isinstance(value, str) and len(value) != 10:
            self.fail(f"{value!r} is no day: write YYYY-MM-DD", param, ctx)
        return super().convert(value, param, ctx)


start_option = click.option("--start", type=Moment(), help="The first frame, in UTC.")
end_option = click.option("--end", type=Moment(), help="Where the frames end, in UTC.")
day_option = click.option("--day", type=Date(), help="A day in place of both: its frames from 13:00 to 22:00 UTC.")


def span(start: datetime | None, end: datetime | None, day: datetime | None) -> tuple[int, int]:
    """The times that the options mean, in microseconds."""
    if (day is None) == (start is None and end is None) or (day is None and (start is None or end is None)):
        raise click.UsageError("say which time: --day, or --start and --end")
    low, high = (day + _FROM, day + _TO) if day is not None else (start, end)
    if low is None or high is None or high <= low:
        raise click.UsageError("the end lies before the start")
    first, last = ((one - _EPOCH) // timedelta(microseconds=1) for one in (low, high))
    return first, last


@contextmanager
def stopping(left: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work, which then takes away what it has begun; `left` says what is there after it.

    Whoever is impatient does not disturb that, unless it is for the third time.
    """
    times = 0

    def stop(*_: Any) -> None:
        nonlocal times
        times += 1
        if times != 2:
            raise KeyboardInterrupt

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"sisock: stopped; {left}", err=True)
        sys.exit(130)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def progress(what: str, shown: bool = True) -> Iterator[Told]:
    """What hears how much of all is done, and shows it, its rate and the time that is left, to people."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn(what + " {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not shown or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rate="")

        def told(done: int, whole: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=whole, rate="" if speed is None else f"{speed:,.0f}/s")

        yield told
