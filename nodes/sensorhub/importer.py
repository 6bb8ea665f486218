"""Brings the raw readings of the old system over, with their ids: `python -m sisock.nodes.sensorhub.importer readings.csv`.

The file has the columns `id`, `sensor`, `value` and `timestamp`; docs/how-to/move-readings.md shows how psql writes it.

Each reading comes into the timeline of its sensor and, with its id, into the raw readings; the present values are the newest by
time of all. The node must not be running. It may be run again after it was interrupted: what is there stays as it is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sisock.errors import SetupError, SisockError
from sisock.home import Home
from sisock.nodes.sensorhub.config import Config
from sisock.nodes.sensorhub.intake import Row, beside, block_of
from sisock.nodes.sensorhub.node import SensorHub
from sisock.nodes.sensorhub.source import Malformed, reading_of
from sisock.settings import Settings
from sisock.store import Store
from sisock.store.leases import Writer, take

# Readings that are committed together.
TOGETHER = 20_000
# Lines that are named as none; there may be many more.
MAX_WRONG = 1000
COLUMNS = ("id", "sensor", "value", "timestamp")


def bring(path: Path, address: str, writer: Writer, told: Any = lambda _: None) -> tuple[int, list[str]]:
    """Imports a file into a store; how many readings came, and what was wrong with the lines that were none.

    `told` hears how many came so far. SetupError where the node is running, or the file is no CSV or has other columns.
    """
    try:
        return _bring(path, address, writer, told)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SetupError(f"{path} is no CSV in UTF-8: {error}. What came before may be there; import it again.") from None


def _bring(path: Path, address: str, writer: Writer, told: Any) -> tuple[int, list[str]]:
    wrong: list[str] = []
    with Store.open(address, tables=SensorHub.tables) as store, path.open(newline="", encoding="utf-8") as file:
        history = take(store, SensorHub.name, writer, lambda: None)
        if history is None:
            raise SetupError("the node sensorhub is running and writes its history. Stop it, then import.")
        lines = csv.DictReader(file)
        missing = set(COLUMNS) - set(lines.fieldnames or ())
        if missing:
            raise SetupError(f"{path} has no column {', '.join(sorted(missing))}; it needs {', '.join(COLUMNS)}")
        count = 0
        readings = _readings(lines, wrong)
        while rows := list(islice(readings, TOGETHER)):
            by_sensor: dict[str, list[Row]] = {}
            for row in rows:
                by_sensor.setdefault(row[0].sensor, []).append(row)
            kept = [
                history.append(
                    sensor, block_of(sensor, some), correct=True, beside=beside(SensorHub.name, sensor, some, new=True)
                )
                for sensor, some in by_sensor.items()
            ]
            for one in kept:
                one.result()
            count += len(rows)
            told(count)
        history.release()
    return count, wrong


def _readings(lines: csv.DictReader[str], wrong: list[str]) -> Iterator[Row]:
    for line in lines:
        try:
            number = int(line["id"])
            told = {"sensor": line["sensor"], "value": float(line["value"]), "timestamp": line["timestamp"]}
            yield reading_of(told), number, f"old:{number}"
        except (Malformed, ValueError, TypeError) as error:
            if len(wrong) < MAX_WRONG:
                wrong.append(f"line {lines.line_num}: {error}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="The site's folder.  [$SISOCK_HOME, or ~/.sisock]"
)
def main(file: Path, home: Path | None) -> None:
    """Bring the raw readings of the old system over, with their ids, from a CSV of id, sensor, value and timestamp."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    at = home or Home.default().path
    settings = Settings.read(home=Home(at))
    settings.home.make()
    identity = settings.home.identity(SensorHub.name)
    try:
        with Progress(SpinnerColumn(), TextColumn("{task.completed} readings"), TimeElapsedColumn(), transient=True) as shown:
            task = shown.add_task("import", total=None)
            store = Config.read(at).store or settings.store
            count, wrong = bring(file, store, Writer(*identity), lambda done: shown.update(task, completed=done))
    except SisockError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} readings imported")
    for line in wrong[:20]:
        click.echo(line, err=True)
    if wrong:
        more = " and more" if len(wrong) == MAX_WRONG else ""
        raise click.ClickException(f"{len(wrong)}{more} lines were no readings; all others are there")


if __name__ == "__main__":
    main()
