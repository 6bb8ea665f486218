"""Commands that look at what is there without reading it all: the newest values, and where there are holes."""

from __future__ import annotations

import json
from typing import Any

import click

from sisock.cli.asking import age, ask, check_fields, shown, span
from sisock.cli.completion import listed_fields, listed_nodes
from sisock.cli.options import home_option, json_option
from sisock.cli.tables import print_table
from sisock.consumer import Consumer
from sisock.times import iso, now, parse_duration, to_seconds


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@click.argument("field", nargs=-1, shell_complete=listed_fields)
@home_option
@json_option
def last(node: str, field: tuple[str, ...], as_json: bool) -> None:
    """Print the newest value of each FIELD of NODE, of all if none is named, with its age.

    It reads no more than that: one call, and a few more for a field that has no value in the newest row.

    \b
    sisock last sensors
    sisock last apex_archive apex_temperature --json
    """  # noqa: D301
    from sisock.newest import Newest, newest

    async def read(consumer: Consumer) -> list[Newest]:
        offered = await consumer.get_fields(node)
        check_fields(node, offered, field)
        names = list(dict.fromkeys(field)) or list(offered.fields)
        return await newest(consumer, node, names, offered.fields) if names else []

    found, present = ask(read), now()
    if as_json:
        for one in found:
            told = {"field": one.field, "units": one.spec.units, "timeline": one.spec.timeline, "t": None, "value": one.value}
            t = None if one.t is None else to_seconds(one.t)
            click.echo(json.dumps({**told, "t": t, "age": None if t is None else present - t}, allow_nan=False))
        return
    if not found:
        click.echo(f"{node} has no fields yet.", err=True)
        return
    rows = []
    for one in found:
        moment = ("", "no value yet") if one.t is None else (iso(to_seconds(one.t)), age(present - to_seconds(one.t)))
        rows.append((one.field, shown(one.value), one.spec.units or "", *moment))
    print_table(("field", "value", "units", "time (UTC)", "age"), rows)


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@click.option("--longer", metavar="LENGTH", help="Only holes longer than this: 1m, 2h.  [twice the usual spacing]")
@click.option("--start", help="From when: -10d, 2017-07-14, 2017-07-14T12:30, UNIX seconds.  [the first row]")
@click.option("--end", help="Until when, itself not included; as --start.  [the last row]")
@click.option("--exact", is_flag=True, help="Read the times of all rows, however many there are.")
@home_option
@json_option
def gaps(node: str, longer: str | None, start: str | None, end: str | None, exact: bool, as_json: bool) -> None:
    """List where NODE's timelines have holes: rows that follow each other further apart than is usual there.

    Of more than 20 million rows of a timeline an overview is read, which shows holes down to a length that is then told;
    a shorter time, or --exact, shows all of them.

    \b
    sisock gaps apex_archive
    sisock gaps roof --longer 1m --start -30d --json
    """  # noqa: D301
    from sisock import gaps as searching

    least = None if longer is None else parse_duration(longer)
    if least is not None and least <= 0:
        raise click.UsageError("--longer takes a length of time above nothing")
    low, high = span(start or "1", end)

    async def look(consumer: Consumer) -> list[searching.Found]:
        return await searching.find(consumer, node, least, low, high, exact=exact)

    found: list[searching.Found] = ask(look)
    if as_json:
        click.echo(json.dumps([_wire(one) for one in found]))
        return
    for one in found:
        if one.longer is None:
            what = "has no rows there" if not one.rows else "has no usual spacing: say --longer"
            click.echo(f"{one.timeline} {what}.", err=True)
        elif one.asked is not None and one.longer > one.asked:
            click.echo(
                f"{one.timeline} has {one.rows} rows: only holes longer than {age(one.longer)} were looked for. "
                "A shorter time (--start --end) or --exact finds those longer than "
                f"{age(one.asked)}.",
                err=True,
            )
    rows = [
        (one.timeline, iso(to_seconds(begin)), iso(to_seconds(stop)), age(to_seconds(stop - begin)), _missing(one, begin, stop))
        for one in found
        for begin, stop in one.holes
    ]
    if rows:
        print_table(("timeline", "last row before (UTC)", "first row after (UTC)", "length", "rows missing"), rows, right=2)
    elif any(one.longer is not None for one in found):
        click.echo(f"{node} has no holes there.", err=True)


def _missing(found: Any, start: int, end: int) -> str:
    """About how many rows would usually stand there."""
    usual = found.usual
    return "" if not usual else str(max(0, round(to_seconds(end - start) / usual) - 1))


def _wire(found: Any) -> dict[str, Any]:
    holes = [{"start": to_seconds(start), "end": to_seconds(end)} for start, end in found.holes]
    return {"timeline": found.timeline, "rows": found.rows, "longer": found.longer, "usual": found.usual, "gaps": holes}
