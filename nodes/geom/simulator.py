"""A sample that is none: people who walk and trays that they carry, in the minutes before now, prepared as a real one is."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click

from sisock.cli.opening import opened
from sisock.cli.options import home_option, json_option
from sisock.cli.store import store_option
from sisock.nodes.geom.commands import NOTHING, in_words, source_of
from sisock.nodes.geom.generator import INPUTS, Day, Room, write
from sisock.nodes.geom.keeping import TABLES, Samples
from sisock.nodes.geom.prepare import prepare
from sisock.nodes.geom.shapes import Frames, Task
from sisock.nodes.geom.terminal import progress, stopping
from sisock.times import MICROS


@click.command()
@click.option("--environment", default="demo", show_default=True, help="The environment_id that clients ask for.")
@click.option("--minutes", type=click.IntRange(1, 1440), default=30, show_default=True, help="How long, until now.")
@click.option("--source", type=click.Choice(sorted(INPUTS)), default="cuwb", show_default=True, help="What sees them.")
@click.option("--people", type=click.IntRange(1, 100), default=6, show_default=True, help="How many walk about.")
@click.option("--trays", type=click.IntRange(1, 100), default=4, show_default=True, help="How many trays they carry.")
@click.option("--cameras", type=click.IntRange(1, 64), default=4, show_default=True, help="How many look at them.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed is another day.")
@store_option
@home_option
@json_option
def geoms(
    environment: str,
    minutes: int,
    source: str,
    people: int,
    trays: int,
    cameras: int,
    seed: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Make up the last minutes of a room before cameras, as a new sample of the node `geom`.

    `sisock geom generate` writes the inputs of any time into a folder instead.

    \b
    sisock simulate geoms
    sisock simulate geoms --minutes 5 --source pose --people 2
    """  # noqa: D301
    end = int(time.time()) // 60 * 60 * MICROS
    start = end - minutes * 60 * MICROS
    room = Room(people, trays, cameras, seed)
    with (
        stopping(NOTHING),
        tempfile.TemporaryDirectory(prefix="sisock-geoms-") as name,
        opened(address, make=True, tables=TABLES) as store,
        progress("frames", not as_json) as told,
    ):
        folder = Path(name) / "simulated"
        write(Day(room, start, minutes * 60.0, seed=seed), folder, source, ".parquet")
        task = Task(folder, Frames.between(start, end, 10))
        samples = Samples(store)
        summary = prepare(samples, environment, source_of(source), source, task, told)
        sample = samples.get(summary.sample)
    if as_json:
        click.echo(json.dumps({**asdict(summary), "rate": summary.rate}))
        return
    click.echo(in_words(summary, minutes * 60.0))
    if sample is not None:
        day, device = sample.date, room.cameras[0].device_id
        click.echo(f"Clients ask for it by environment_id {environment}, date {day}, and device_id {device}.")
