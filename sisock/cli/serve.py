"""`sisock serve`: any table is a node."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table
from sisock.times import iso, parse_duration


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    return None if value is None else parse_duration(value)


@click.command()
@click.argument("source", required=False, type=click.Path())
@click.option("--name", help="What consumers call the node.  [the file's or the table's name]")
@click.option("--table", metavar="TABLE", help="The table, or view, of a database: T, or SCHEMA.T.  [the only one]")
@click.option("--time", metavar="COLUMN", help="The column that holds the times.  [the one that must be it]")
@click.option("--series", metavar="COLUMN", help="The column that names a series: each of them becomes a timeline.")
@click.option(
    "--describe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A TOML file: fields, units and descriptions of columns, and all that options say.",
)
@click.option("--zone", metavar="ZONE", help="The zone of times that name none: Europe/Berlin.  [UTC]")
@click.option(
    "--time-unit", type=click.Choice(["s", "ms", "us", "ns"]), help="What times that are numbers count.  [by their size]"
)
@click.option(
    "--time-format", metavar="FORMAT", help="How times are written, as strptime has it: '%d.%m.%Y %H:%M:%S'.  [ISO 8601]"
)
@click.option("--separator", metavar="C", help="What stands between the columns of a CSV file.  [by its header]")
@click.option("--decimal", metavar="C", help="The decimal mark of a CSV file.  [by its numbers]")
@click.option("--encoding", help="The encoding of a CSV file.  [utf-8]")
@click.option(
    "--columns", "columns_named", metavar="A,B", help="The columns of a CSV file whose first line does not name them."
)
@click.option(
    "--null", multiple=True, metavar="TEXT", help="What stands for no value in a CSV file, beside nothing, NA and null."
)
@click.option("--skip", type=click.IntRange(0), metavar="N", help="Lines of a CSV file before the one that names the columns.")
@click.option("--every", callback=_seconds, metavar="TIME", help="How often to look for new rows: 200ms, 10s.  [1s]")
@click.option("--lateness", callback=_seconds, metavar="TIME", help="How late a row may come.  [0 in files, 10s in databases]")
@click.option("--check", "--dry-run", "checks", is_flag=True, help="Only say what is there and how it would be served.")
@json_option
@home_option
def serve(source: str | None, checks: bool, as_json: bool, columns_named: str | None, **given: Any) -> None:
    """Make a node of a table that is there: columns become fields, and new rows are followed.

    SOURCE is a .csv, .parquet or .db file, a folder of CSV or Parquet files that are one table, the address of a
    PostgreSQL database, or a .toml file that names one of these. Without it, $SISOCK_SERVE_URL is served.

    \b
    sisock serve air.csv
    sisock serve air.csv --check
    sisock serve readings.csv --time when --series sensor --zone Europe/Berlin
    sisock serve postgresql://reader@db.example/plant --table readings --time t
    """  # noqa: D301
    from sisock.plugins import find_tables

    home = settings().home
    os.environ["SISOCK_HOME"] = str(home.path)
    home.make()
    named = tuple(one.strip() for one in columns_named.split(",")) if columns_named else ()
    node = find_tables().open_table(source, home=home, columns_named=named, **given)
    found = node.found()
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)
    if checks:
        node.stop()
        return
    from sisock.cli.running import run_node

    def announced() -> None:
        click.echo(f"{node.name} is on the air. Ctrl-C stops it.", err=as_json)

    run_node(node, announced)


def _show(found: dict[str, Any]) -> None:
    what = f"{found['source']}, table {found['table']}" if "table" in found else found["source"]
    click.echo(f"{found['node']}: {what}")
    timeline = "t" if found["series"] is None else f"each {found['series']}"
    field = "" if found["series"] is None else f"{found['series'].upper()}."
    rows = [
        (one["column"], field + one["field"], one["units"] or "", one["type"] or "(no value yet)", timeline)
        for one in found["columns"]
    ]
    print_table(("column", "field", "units", "type", "timeline"), rows)
    ends = "" if found.get("first") is None else f", {iso(found['first'])} to {iso(found['last'])}"
    click.echo(f"time is {found['time']}; about {found['rows']} rows{ends}")
    for note in found["notes"]:
        click.echo(f"note: {note}")
