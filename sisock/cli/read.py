"""Commands that read: which nodes there are, what they offer, what they hold."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sisock.asking import Question
from sisock.blocks import Block, merge
from sisock.cli.asking import ask, check_fields, shown, span
from sisock.cli.completion import listed_fields, listed_nodes
from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table
from sisock.consumer import Consumer
from sisock.downsample import METHODS
from sisock.fields import Catalogue
from sisock.times import iso, parse_duration, parse_time, to_seconds


@click.command()
@home_option
@json_option
def ls(as_json: bool) -> None:
    """List the data nodes that are there, oldest first."""
    nodes = ask(lambda consumer: consumer.nodes())
    if as_json:
        click.echo(json.dumps(nodes))
    elif not nodes:
        click.echo(f"No data nodes are here{settings().as_far_as_seen()}. `sisock run NODE` starts one.", err=True)
    else:
        print_table(("node", "description"), [(node["name"], node["description"]) for node in nodes])


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@home_option
@json_option
def fields(node: str, as_json: bool) -> None:
    """List what NODE offers: its fields with units, type, timeline and spacing."""
    catalogue = ask(lambda consumer: consumer.get_fields(node))
    if as_json:
        fields, timelines = catalogue.to_wire()
        click.echo(json.dumps({"fields": fields, "timelines": timelines}))
        return
    rows = [
        (name, spec.units or "", spec.type, spec.timeline, _spacing(catalogue, spec.timeline), spec.description or "")
        for name, spec in catalogue.fields.items()
    ]
    print_table(("field", "units", "type", "timeline", "interval", "description"), rows)


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@click.argument("field", nargs=-1, required=True, shell_complete=listed_fields)
@click.option("--start", default="-1h", show_default=True, help="From when: -10m, 2017-07-14, 2017-07-14T12:30, UNIX seconds.")
@click.option("--end", default=None, help="Until when, itself not included; as --start.  [open]")
@click.option("--max-points", type=click.IntRange(1), help="At most so many points a field.")
@click.option("--min-stride", help="At least so long from point to point: 30s, 5m.")
@click.option("--method", type=click.Choice(METHODS), help="How points become fewer.  [minmax]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet", "arrow"]),
    help="How to print it, or with -o how to write it.  [table; with -o what FILE ends in]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write all rows to a .parquet, .arrow or .csv."
)
@home_option
def get(
    node: str,
    field: tuple[str, ...],
    start: str,
    end: str | None,
    max_points: int | None,
    min_stride: str | None,
    method: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """Print the data of NODE's FIELDs, or write them to a file with -o.

    What is printed is one answer of the node, 250,000 values at most; a file holds as many rows as there are, is written
    as they come, and is there when it is whole. Fields of several timelines go to a file each: roof.parquet becomes
    roof.hourly.parquet and so on. Parquet and Arrow hold units and descriptions in the fields' metadata.

    \b
    sisock get apex_archive apex_temperature --start 2017-07-14 --max-points 20
    sisock get sensors cpu_load load_1 --start -5m --format csv
    sisock get apex_archive apex_windspeed --start 2017-07-14 -o wind.parquet
    """  # noqa: D301
    if output is not None:
        _save(node, field, (start, end), (max_points, min_stride, method), output, form)
        return
    if form in ("parquet", "arrow"):
        raise click.UsageError(f"{form} is for files: name one with -o")
    # A range that ends before it begins is an error here, too.
    span(start, end)
    since, until = parse_time(start), None if end is None else parse_time(end)
    stride = None if min_stride is None else parse_duration(min_stride)

    async def read(consumer: Consumer) -> tuple[Catalogue, dict[str, Any]]:
        offered = await consumer.get_fields(node)
        check_fields(node, offered, field)
        data = await consumer.get_data(node, list(field), since, until, min_stride=stride, max_points=max_points, method=method)
        return offered, data

    offered, answer = ask(read)
    if form == "json":
        click.echo(json.dumps(answer, allow_nan=False))
        return
    block = _joined(answer, offered)
    if not len(block):
        click.echo(
            f"{node} has no rows of {', '.join(field)} from {start} on{f' until {end}' if end else ''}. "
            f"`sisock last {node}` tells its newest, --start 1 begins with its first.",
            err=True,
        )
    columns = [block.columns[name].to_list() if name in block.columns else [None] * len(block) for name in field]
    times = [to_seconds(t) for t in block.t.tolist()]
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("time", *field))
        writer.writerows(zip(times, *columns, strict=True))
    elif len(block):
        heads = [f"{name} [{units}]" if (units := offered.fields[name].units) else name for name in field]
        rows = [(iso(t), *(shown(v) for v in row)) for t, *row in zip(times, *columns, strict=True)]
        print_table(("time (UTC)", *heads), rows, right=len(field))


def _save(
    node: str,
    field: Sequence[str],
    ends: tuple[str, str | None],
    thinned: tuple[int | None, str | None, str | None],
    output: Path,
    form: str | None,
) -> None:
    from sisock.cli.saving import save

    if form in ("table", "json"):
        raise click.UsageError(f"{form} is printed; a file is parquet, arrow or csv")
    max_points, min_stride, method = thinned
    stride = None if min_stride is None else parse_duration(min_stride)
    question = Question(list(dict.fromkeys(field)), *span(*ends), max_points, stride, method)
    saved = save(node, question, output, form)
    if not any(one.rows for one in saved):
        click.echo(f"{node} has no rows of {', '.join(field)} in that time.", err=True)
    for one in saved:
        click.echo(f"{one.rows} rows of {one.timeline} are in {one.path}.")


def _joined(answer: dict[str, Any], offered: Catalogue) -> Block:
    """All rows of an answer in one block; where a field has no value at a time, it is null."""
    whole = Block.of([], {})
    for timeline, line in answer["timeline"].items():
        names = [name for name, values in answer["data"].items() if values and offered.fields[name].timeline == timeline]
        whole = merge(whole, Block.of(line["t"], {name: answer["data"][name] for name in names}))
    return whole


def _spacing(catalogue: Catalogue, timeline: str) -> str:
    interval = catalogue.timeline(timeline).interval
    return "" if interval is None else f"{interval:g} s"
