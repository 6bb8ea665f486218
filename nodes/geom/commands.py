"""The commands `sisock geom`: prepare, generate, import, samples, forget."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from sisock.cli.options import json_option, settings
from sisock.errors import SetupError
from sisock.nodes.geom.generator import Day, Room, write
from sisock.nodes.geom.importer import bring
from sisock.nodes.geom.keeping import TABLES, Samples
from sisock.nodes.geom.prepare import Summary, prepare
from sisock.nodes.geom.shapes import Frames, Source, Task
from sisock.nodes.geom.wire import iso
from sisock.store import Store
from sisock.times import MICROS

SOURCES = "sisock.geoms"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The hours of a day, as the old command had them, in UTC.
_FROM, _TO = timedelta(hours=13), timedelta(hours=22)


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


start_option = click.option("--start", type=Moment(), help="The first frame, in UTC.")
end_option = click.option("--end", type=Moment(), help="Where the frames end, in UTC.")
day_option = click.option("--day", type=Moment(), help="A day, YYYY-MM-DD: its frames from 13:00 to 22:00 UTC.")
store_option = click.option("--store", "address", help="The store: a file, or postgresql://...  [$SISOCK_STORE, or the site's]")


@click.group()
def geom() -> None:
    """Shapes over a video: prepare them, list them, make some up."""


@geom.command("prepare")
@click.option("--environment", required=True, help="Whose cameras these are: the environment_id that clients ask for.")
@start_option
@end_option
@day_option
@click.option(
    "--source", default="cuwb", show_default=True, help="What the inputs are: cuwb, pose, detection, or one of your own."
)
@click.option(
    "--input",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The inputs' folder.",
)
@click.option("--fps", type=click.FloatRange(0.1, 1000), default=10.0, show_default=True, help="Frames a second.")
@store_option
@json_option
def prepare_command(
    environment: str,
    start: datetime | None,
    end: datetime | None,
    day: datetime | None,
    source: str,
    folder: Path,
    fps: float,
    address: str | None,
    as_json: bool,
) -> None:
    r"""Prepare the shapes of a time from files, as a new sample.

    Clients see it when it is whole; the newest sample of a day counts. Ctrl-C leaves nothing behind.

    \b
    sisock geom prepare --environment lab --day 2026-07-14 --input inputs
    sisock geom prepare --environment lab --start 2026-07-14T09:00 --end 2026-07-14T10:00 --source pose --input inputs
    """
    low, high = _span(start, end, day)
    frames = Frames.between(low, high, fps)
    made = _source(source)
    with _stopping(), Store.open(address or settings().store, tables=TABLES) as store, _progress("frames", not as_json) as told:
        summary = prepare(Samples(store), environment, made, source, Task(folder, frames), told)
    if as_json:
        click.echo(json.dumps({**asdict(summary), "rate": summary.rate}))
    else:
        click.echo(told_of(summary, (high - low) / MICROS))


def told_of(summary: Summary, length: float) -> str:
    """A summary in words; `length` is how long the frames last, in seconds."""
    parts = ", ".join(
        f"{name} {seconds:.1f} s"
        for name, seconds in (
            ("collecting", summary.collecting),
            ("encoding", summary.encoding),
            ("the store", summary.waiting),
        )
    )
    return (
        f"sample {summary.sample}: {summary.frames} frames, {summary.geoms} geoms, {summary.devices} cameras, "
        f"{summary.pairs} coordinate pairs\n"
        f"{summary.seconds:.1f} s, {summary.rate:.0f} frames/s, {length / max(summary.seconds, 1e-9):.0f} times as fast as it "
        f"was recorded ({parts})"
    )


@geom.command("generate")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--source", type=click.Choice(["cuwb", "pose", "detection"]), default="cuwb", show_default=True, help="Whose inputs."
)
@start_option
@end_option
@day_option
@click.option("--people", type=click.IntRange(0, 500), default=6, show_default=True, help="How many walk about.")
@click.option("--trays", type=click.IntRange(0, 500), default=4, show_default=True, help="How many trays they carry.")
@click.option("--cameras", type=click.IntRange(1, 64), default=4, show_default=True, help="How many look at them.")
@click.option(
    "--rate", type=click.FloatRange(0.1, 100), default=5.0, show_default=True, help="Positions of a tag a second (cuwb)."
)
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV and not Parquet.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed is another day.")
@json_option
def generate_command(
    folder: Path,
    source: str,
    start: datetime | None,
    end: datetime | None,
    day: datetime | None,
    people: int,
    trays: int,
    cameras: int,
    rate: float,
    as_csv: bool,
    seed: int,
    as_json: bool,
) -> None:
    r"""Write the inputs of a day that never was: a room, cameras, people who walk and trays that they carry.

    \b
    sisock geom generate inputs --start 2026-07-14T09:00 --end 2026-07-14T10:00
    sisock geom generate inputs --source pose --day 2026-07-14 --people 3
    """
    if not people + trays:
        raise click.UsageError("nobody is there: give --people or --trays")
    if not (people if source == "pose" else trays if source == "detection" else 1):
        raise click.UsageError("pose needs people, and detection needs trays")
    low, high = _span(start, end, day)
    made = Day(Room(people, trays, cameras, seed), low, (high - low) / MICROS, rate, seed=seed)
    whole = round(made.seconds)
    with _stopping(), _progress("seconds", not as_json) as told:
        rows = write(made, folder, source, ".csv" if as_csv else ".parquet", lambda done: told(round(done), whole))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "rows": rows}))
    else:
        click.echo(f"{rows} rows in {folder}")


@geom.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@store_option
@json_option
def import_command(folder: Path, address: str | None, as_json: bool) -> None:
    """Bring samples of the old database over, with their numbers: samples.csv, geoms.csv and coordinates.csv in FOLDER.

    COPY samples TO 'samples.csv' CSV HEADER, and so on, makes them. A sample that is there already is left as it is.
    """
    with _stopping(), Store.open(address or settings().store, tables=TABLES) as store, _progress("rows", not as_json) as told:
        brought = bring(Samples(store), folder, told)
    if as_json:
        click.echo(json.dumps(asdict(brought)))
        return
    click.echo(
        f"{len(brought.samples)} samples with {brought.rows} rows of coordinates imported, {len(brought.there)} were there"
    )
    for line in brought.wrong:
        click.echo(line, err=True)
    if brought.wrong:
        raise click.ClickException("these rows were no coordinates; all others are there")


@geom.command("samples")
@store_option
@json_option
def samples_command(address: str | None, as_json: bool) -> None:
    """List the samples there are."""
    with Store.open(address or settings().store, tables=TABLES) as store:
        found = Samples(store).all()
    if as_json:
        names = ("id", "environment_id", "date", "source_type", "status", "num_frames", "frames_per_second")
        told = [
            {name: getattr(one, name) for name in names}
            | {"devices": one.devices, "start_time": iso(one.start_time), "end_time": iso(one.end_time)}
            for one in found
        ]
        click.echo(json.dumps(told))
        return
    for one in found:
        click.echo(
            f"{one.id:6}  {one.environment_id}  {iso(one.start_time)[:16]} to {iso(one.end_time)[:16]}  {one.source_type}  "
            f"{one.num_frames} frames, {len(one.devices)} cameras  {one.status}"
        )


@geom.command("forget")
@click.argument("numbers", type=int, nargs=-1, required=True)
@store_option
def forget_command(numbers: tuple[int, ...], address: str | None) -> None:
    """Delete samples with all their coordinates, for good."""
    with Store.open(address or settings().store, tables=TABLES) as store:
        for number in numbers:
            Samples(store).forget(number)


def _span(start: datetime | None, end: datetime | None, day: datetime | None) -> tuple[int, int]:
    if (day is None) == (start is None and end is None) or (day is None and (start is None or end is None)):
        raise click.UsageError("say which time: --day, or --start and --end")
    low, high = (day + _FROM, day + _TO) if day is not None else (start, end)
    if low is None or high is None or high <= low:
        raise click.UsageError("the end lies before the start")
    first, last = ((one - _EPOCH) // timedelta(microseconds=1) for one in (low, high))
    return first, last


def _source(name: str) -> Source:
    installed = {entry.name: entry for entry in entry_points(group=SOURCES)}
    if name not in installed:
        raise SetupError(f"there is no source {name!r}. Installed are {', '.join(sorted(installed))}.")
    made: Source = installed[name].load()
    return made


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: with nothing left behind."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(what: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """What hears how much of all is done, and shows it to people."""
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
    with Progress(*columns, console=console, transient=True, disable=not shown or not console.is_terminal) as progress:
        task = progress.add_task("", total=None, rate="")

        def told(done: int, whole: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=whole, rate="" if speed is None else f"{speed:,.0f}/s")

        yield told
