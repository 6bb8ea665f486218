"""The commands `sisock geom`: prepare, generate, import, samples, forget."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path

import click

from sisock.cli.opening import opened, shown_address
from sisock.cli.options import home_option, json_option
from sisock.cli.store import store_option
from sisock.cli.tables import print_table
from sisock.errors import SetupError
from sisock.nodes.geom.generator import INPUTS, Day, Room, write
from sisock.nodes.geom.keeping import TABLES, NoSample, Samples
from sisock.nodes.geom.prepare import Summary, prepare
from sisock.nodes.geom.shapes import Frames, Source, Task
from sisock.nodes.geom.sources.files import find_optional
from sisock.nodes.geom.terminal import day_option, end_option, progress, span, start_option, stopping
from sisock.nodes.geom.wire import iso
from sisock.times import MICROS

SOURCES = "sisock.geoms"
NOTHING = "nothing of the sample is kept."


@click.group()
def geom() -> None:
    """Shapes over a video: prepare them, list them, make some up."""


@geom.command("prepare")
@click.option("--environment", required=True, help="Whose cameras these are: the environment_id that clients ask for.")
@start_option
@end_option
@day_option
@click.option("--source", default="cuwb", show_default=True, help="What the inputs are: cuwb, pose, detection, or your own.")
@click.option(
    "--input",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The inputs' folder.",
)
@click.option("--fps", type=click.FloatRange(0.1, 1000), default=10.0, show_default=True, help="Frames a second.")
@store_option
@home_option
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
    """Prepare the shapes of a time from files, as a new sample.

    Clients see it when it is whole; the newest sample of a day counts. Ctrl-C leaves nothing behind.

    \b
    sisock geom prepare --environment lab --day 2026-07-14 --input inputs
    sisock geom prepare --environment lab --start 2026-07-14T09:00 --end 2026-07-14T10:00 --source pose --input inputs
    """  # noqa: D301
    low, high = span(start, end, day)
    made = source_of(source)
    task = Task(folder, Frames.between(low, high, fps))
    with stopping(NOTHING), opened(address, make=True, tables=TABLES) as store, progress("frames", not as_json) as told:
        summary = prepare(Samples(store), environment, made, source, task, told)
    if as_json:
        click.echo(json.dumps({**asdict(summary), "rate": summary.rate}))
    else:
        click.echo(in_words(summary, (high - low) / MICROS))


def source_of(name: str) -> Source:
    """The source that is installed under a name; SetupError if there is none."""
    installed = {entry.name: entry for entry in entry_points(group=SOURCES)}
    if name not in installed:
        raise SetupError(f"there is no source {name!r}. Installed are {', '.join(sorted(installed))}.")
    made: Source = installed[name].load()
    return made


def in_words(summary: Summary, length: float) -> str:
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
        f"{summary.pairs} coordinate pairs, {100 * summary.drawn / max(1, summary.values):.3g} % of them in a picture\n"
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
@click.option("--force", is_flag=True, help="Write over the inputs that FOLDER holds.")
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
    force: bool,
    as_json: bool,
) -> None:
    """Write the inputs of a day that never was: a room, cameras, people who walk and trays that they carry.

    \b
    sisock geom generate inputs --start 2026-07-14T09:00 --end 2026-07-14T10:00
    sisock geom generate inputs --source pose --day 2026-07-14 --people 3
    """  # noqa: D301
    if not people + trays:
        raise click.UsageError("nobody is there: give --people or --trays")
    if not (people if source == "pose" else trays if source == "detection" else 1):
        raise click.UsageError("pose needs people, and detection needs trays")
    there = [one for one in (*INPUTS.values(), "cameras", "objects") if find_optional(folder, one)]
    if there and not force:
        raise SetupError(f"{folder} holds inputs already ({', '.join(there)}). Name another folder, or add --force.")
    low, high = span(start, end, day)
    made = Day(Room(people, trays, cameras, seed), low, (high - low) / MICROS, rate, seed=seed)
    whole = round(made.seconds)
    with stopping("its file of rows is not there."), progress("seconds", not as_json) as told:
        path, rows = write(made, folder, source, ".csv" if as_csv else ".parquet", lambda done: told(round(done), whole))
    if as_json:
        click.echo(json.dumps({"file": str(path), "rows": rows}))
    else:
        click.echo(f"{rows} rows in {path}, with cameras and objects beside it")


@geom.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@store_option
@home_option
@json_option
def import_command(folder: Path, address: str | None, as_json: bool) -> None:
    r"""Bring samples of the old database over, with their numbers: samples.csv, geoms.csv and coordinates.csv in FOLDER.

    psql writes them by \copy samples to 'samples.csv' csv header, and so on. A sample that is there already is left as it is,
    so that it may be run again; interrupted, it leaves nothing of what it had not finished.
    """
    from sisock.nodes.geom.importer import bring

    with (
        stopping("nothing of what was not finished is kept."),
        opened(address, make=True, tables=TABLES) as store,
        progress("bytes", not as_json) as told,
    ):
        brought = bring(Samples(store), folder, told)
    if as_json:
        click.echo(json.dumps(asdict(brought)))
    else:
        click.echo(f"{len(brought.samples)} samples are imported, {brought.rows} rows; {len(brought.there)} were there")
    if brought.empty:
        click.echo(f"left out, since the dump has no coordinates of theirs: {', '.join(map(str, brought.empty))}", err=True)
    if brought.late:
        click.echo(
            f"{brought.late} rows are of samples that were there, and are left out. A sample whose rows stand in two dumps is "
            "brought over by one that has all of them, after `sisock geom forget NUMBER`.",
            err=True,
        )
    if brought.wrong:
        for line in brought.reasons:
            click.echo(line, err=True)
        raise click.ClickException(f"{brought.wrong} rows were no coordinates; all others are there")


@geom.command("samples")
@store_option
@home_option
@json_option
def samples_command(address: str | None, as_json: bool) -> None:
    """List the samples there are."""
    with opened(address, tables=TABLES) as store:
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
    print_table(
        ("sample", "environment", "start (UTC)", "end", "source", "status", "frames", "cameras"),
        [
            (
                *(str(one.id), one.environment_id, iso(one.start_time)[:16], iso(one.end_time)[:16], one.source_type),
                *(one.status, str(one.num_frames), str(len(one.devices))),
            )
            for one in found
        ],
        right=2,
    )


@geom.command("forget")
@click.argument("numbers", metavar="NUMBER...", type=int, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
@home_option
def forget_command(numbers: tuple[int, ...], yes: bool, address: str | None) -> None:
    """Delete samples with all their coordinates, for good. `sisock geom samples` lists their NUMBERs."""
    with opened(address, tables=TABLES) as store:
        samples = Samples(store)
        for number in numbers:
            sample = samples.get(number)
            if sample is None:
                raise NoSample(f"there is no sample {number}. `sisock geom samples` lists those that there are.")
            if sample.status == "started" and samples.goes_on(sample):
                raise SetupError(f"sample {number} is being prepared, by process {sample.holder}. Stop that first.")
        if not yes:
            what = f"{'sample' if len(numbers) == 1 else 'samples'} {', '.join(map(str, numbers))}"
            if not sys.stdin.isatty():
                raise click.UsageError(f"{what} would be deleted for good: say --yes")
            click.confirm(f"Delete {what} in {shown_address(address)} for good?", abort=True)
        for number in numbers:
            samples.forget(number)
            click.echo(f"sample {number} is deleted")
