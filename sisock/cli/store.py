"""Commands about the store: what nodes keep on disk, how to move it, mend it and thin it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sisock.cli.opening import Tell, opened, progress, refuse_if_written, shown_address, unwritable, writing
from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table
from sisock.errors import InvalidArgument, SisockError
from sisock.fields import DEFAULT_TIMELINE
from sisock.times import EARLIEST, LATEST, iso, parse_duration, parse_time, resolve, to_micros, to_seconds

if TYPE_CHECKING:
    from sisock.store import NodeHistory

store_option: Callable[[Any], Any] = click.option(
    "--store",
    "address",
    metavar="ADDRESS",
    help="A file, or postgresql://...  [$SISOCK_STORE, or history.db in the home]",
)
force_option: Callable[[Any], Any] = click.option(
    "--force", is_flag=True, help="Write even if the node may be running. It then can keep nothing more, and ends."
)


@click.group()
def store() -> None:
    """Look after what nodes keep on disk: figures, export and import, compaction, checks, copies, retention.

    A command that writes is refused while its node runs: stop the node first. Reading never disturbs one.
    """


@store.command()
@store_option
@home_option
@json_option
def info(address: str | None, as_json: bool) -> None:
    """List the timelines of all nodes: rows, first and last time, bytes a row."""
    from sisock.store.boxes import contents
    from sisock.store.info import info

    with opened(address) as held:
        found = info(held)
    for node, folder in settings().home.outboxes().items():
        try:
            waiting = contents(folder).waiting
        except (OSError, sqlite3.Error) as error:
            click.echo(f"{node}: {folder}, where blocks may wait, cannot be read: {error}", err=True)
            continue
        if waiting:
            click.echo(f"{node}: {waiting} blocks more wait in {folder} for a database that was away.", err=True)
    if as_json:
        listed = []
        for one in found:
            first, last = (None, None) if one.span is None else map(to_seconds, one.span)
            known = {name: value for name, value in asdict(one).items() if name != "span"}
            listed.append({**known, "first": first, "last": last, "bytes_a_row": one.bytes_a_row})
        click.echo(json.dumps(listed))
    elif not found:
        click.echo("No node has kept anything here yet.", err=True)
    else:
        heads = ("node", "timeline", "first (UTC)", "last (UTC)", "fields", "rows", "bytes", "bytes a row")
        rows = []
        for one in found:
            ends = ("", "") if one.span is None else tuple(iso(to_seconds(t)) for t in one.span)
            each = "" if one.bytes_a_row is None else f"{one.bytes_a_row:.1f}"
            rows.append((one.node, one.timeline, *ends, str(one.fields), str(one.rows + one.patch_rows), str(one.bytes), each))
        print_table(heads, rows, right=4)


@store.command()
@click.argument("node")
@click.argument("timeline", nargs=-1)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="A .parquet or .csv."
)
@click.option("--start", help="From when: -10m, 2017-07-14, 2017-07-14T12:30, UNIX seconds.  [all]")
@click.option("--end", help="Until when, itself not included; as --start.  [all]")
@store_option
@home_option
def export(node: str, timeline: tuple[str, ...], output: Path, start: str | None, end: str | None, address: str | None) -> None:
    """Write NODE's rows to a Parquet or CSV file, whole or not at all.

    Of several TIMELINEs (all, if none is named) each gets a file of its own: roof.parquet becomes roof.hourly.parquet
    and so on. `t` is UNIX seconds in CSV and UTC timestamps in Parquet. An interrupted export leaves nothing.
    Parquet is the form to move rows in: from CSV strings of digits are read as numbers.

    \b
    sisock store export apex_archive hourly -o weather.parquet --start 2017-07-14
    """  # noqa: D301
    from sisock.store import transfer

    if transfer.form_of(output) == "dat":
        raise InvalidArgument(f"{output.name}: rows are exported to .parquet or .csv")
    low = EARLIEST if start is None else to_micros(resolve(parse_time(start)))
    high = LATEST if end is None else to_micros(resolve(parse_time(end)))
    with opened(address) as held:
        history = held.reader(node)
        chosen = _timelines(history, timeline)
        names = {chosen[0]: output} if len(chosen) == 1 else {line: _beside(output, line) for line in chosen}
        rows = 0
        try:
            with TemporaryDirectory(prefix=".sisock-export-", dir=output.parent) as folder, progress() as tell:
                for line, path in names.items():
                    rows += transfer.export(
                        history, line, Path(folder) / path.name, start=low, end=high, progress=_told(tell, line)
                    )
                for path in names.values():
                    (Path(folder) / path.name).replace(path)
        except SisockError:
            # Some of them are OSErrors, too.
            raise
        except OSError as error:
            raise unwritable(output.parent, error) from error
    click.echo(f"{rows} rows of {node} are in {', '.join(str(path) for path in names.values())}.")


@store.command("import")
@click.argument("node")
@click.argument("file", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--timeline", help=f"Into which timeline.  [what a .dat file says, or {DEFAULT_TIMELINE}]")
@force_option
@store_option
@home_option
def import_(node: str, file: tuple[Path, ...], timeline: str | None, force: bool, address: str | None) -> None:
    """Keep the rows of FILEs (Parquet, CSV, or .dat of the weather archive) in NODE's history.

    A column t tells the time: UNIX seconds in CSV, timestamps in Parquet; each other column is a field. What stands at
    a time already is replaced. Interrupted, it goes on where it was when it is run again.
    """
    from sisock.store import transfer

    for path in file:
        transfer.form_of(path)
    with opened(address, make=True) as held, writing(held, node, force) as history:
        try:
            with progress() as tell:
                for path in file:
                    line = timeline or _timeline_of(path)
                    rows = transfer.import_file(history, line, path, progress=_told(tell, path.name))
                    click.echo(f"{path}: {rows} rows are in {line} of {node}.")
        except KeyboardInterrupt:
            click.echo("sisock: interrupted. Run the same again, and it goes on where it was.", err=True)
            sys.exit(130)


@store.command()
@click.argument("node", required=False)
@click.option("--shrink", is_flag=True, help="Also give back to the disk what was deleted, with all nodes stopped.")
@force_option
@store_option
@home_option
def compact(node: str | None, shrink: bool, force: bool, address: str | None) -> None:
    """Seal what waits, fold corrections in and join small chunks, of NODE or of all nodes.

    Nodes do this by themselves as rows come; after a large import or many corrections it makes reading faster at once.
    """
    with opened(address) as held:
        nodes = held.nodes() if node is None else [held.reader(node).name]
        # What shrinks is the whole store.
        for name in held.nodes() if shrink else nodes:
            refuse_if_written(held, name, force)
        with progress() as tell:
            for name in nodes:
                with writing(held, name, force) as history:
                    lines = history.timelines()
                    for done, line in enumerate(lines, 1):
                        history.compact(line).result()
                        tell(f"{name} {line}", done, len(lines))
        if shrink:
            held.shrink()
    click.echo(f"{', '.join(nodes) or 'No node'}: compacted.")


@store.command()
@store_option
@home_option
@json_option
def check(address: str | None, as_json: bool) -> None:
    """Read all there is and list what is damaged. The exit status is 1 if anything is.

    `sisock store copy` saves what can be read into another store.
    """
    from sisock.store import checking

    with opened(address) as held, progress() as tell:
        report = checking.check(held, _copied(tell))
    if as_json:
        damage = [{**asdict(one), "start": _seconds(one.start), "end": _seconds(one.end)} for one in report.damage]
        click.echo(json.dumps({"sound": report.sound, "rows": report.rows, "engine": report.engine, "damage": damage}))
    else:
        for line in (*report.engine, *map(str, report.damage)):
            click.echo(line)
        if report.sound:
            click.echo(f"All {report.rows} rows are sound.")
        else:
            click.echo(f"{report.rows} rows can be saved: sisock store copy {shown_address(address)} NEW-FILE.db")
    if not report.sound:
        sys.exit(1)


@store.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@force_option
@home_option
def copy(source: str, target: str, force: bool) -> None:
    """Copy all histories FROM one store TO another: a file, or postgresql://...; either may be of either engine.

    It saves what can be read of a damaged store, too, and names what it could not (exit status 1). The copy has epochs
    of its own, so readers read anew. Interrupted, it is complete after another run. Tables that nodes keep beside their
    histories are not copied; they are named, and the exit status is 1.

    \b
    sisock store copy ~/.sisock/history.db postgresql://sisock@db.example.org/sisock
    """  # noqa: D301
    from sisock.store import checking

    if _same(source, target):
        raise InvalidArgument(f"{shown_address(source)} is both FROM and TO. Name another store to copy to.")
    with opened(source) as old, opened(target, make=True) as new:
        nodes, left = old.nodes(), checking.beside(old)
        for node in nodes:
            refuse_if_written(new, node, force)
        with progress() as tell:
            report = checking.copy(old, new, _copied(tell))
        for node in set(nodes).intersection(new.nodes()):
            new.node(node).release()
    for damage in report.damage:
        click.echo(f"not copied: {damage}", err=True)
    if left:
        click.echo(f"not copied: the nodes' own tables {', '.join(left)}. Move them by the databases' own means.", err=True)
    click.echo(f"{report.rows} rows of {len(nodes)} nodes are in {shown_address(target)}.")
    if left or not report.sound:
        sys.exit(1)


@store.command()
@click.argument("node")
@click.argument("timeline")
@click.option("--keep", metavar="AGE", help="Delete rows that are older: 30d, 2y.")
@click.option("--coarse-after", metavar="AGE", help="Of older rows keep only the extremes of each step.")
@click.option("--coarse-step", metavar="LENGTH", help="That step: 1m, 1h.")
@click.option("--forever", is_flag=True, help="Keep all rows from now on.")
@force_option
@store_option
@home_option
def retain(
    node: str,
    timeline: str,
    keep: str | None,
    coarse_after: str | None,
    coarse_step: str | None,
    forever: bool,
    force: bool,
    address: str | None,
) -> None:
    """Say how long rows of NODE's TIMELINE are kept, from now on; what is older goes at once.

    Ages count from the newest row, and whole chunks go, so a little more may stay. What is not given again is unset.

    \b
    sisock store retain roof t --keep 2y --coarse-after 30d --coarse-step 1m
    """  # noqa: D301
    ages = [None if one is None else parse_duration(one) for one in (keep, coarse_after, coarse_step)]
    if forever == any(age is not None for age in ages):
        raise click.UsageError("say how long: --keep 30d, --coarse-after 7d --coarse-step 1m, or --forever")
    if (ages[1] is None) != (ages[2] is None):
        raise click.UsageError("--coarse-after and --coarse-step go together")
    if any(age is not None and age <= 0 for age in ages):
        raise click.UsageError("an age is longer than nothing")
    with opened(address) as held:
        _timelines(held.reader(node), (timeline,))
        with writing(held, node, force) as history:
            touched = history.retain(timeline, *ages).result()
    click.echo(f"{timeline} of {node}: set, and {touched} parts of it were deleted or thinned.")


@store.command()
@click.argument("node", required=False)
@click.option("--all", "everything", is_flag=True, help="All nodes of the store.")
@force_option
@store_option
@home_option
def restored(node: str | None, everything: bool, force: bool, address: str | None) -> None:
    """Say that NODE's history was brought back from a copy, before the node starts.

    Readers may have seen rows that the copy does not have, and positions that it will give again: with this they read
    anew. docs/store.md tells how copies are made.
    """
    if (node is None) != everything:
        raise click.UsageError("name a node, or say --all")
    with opened(address) as held:
        nodes = held.nodes() if node is None else [held.reader(node).name]
        for name in nodes:
            refuse_if_written(held, name, force)
        for name in nodes:
            held.restored(name)
    click.echo(f"{', '.join(nodes) or 'No node'}: readers read anew.")


@store.command()
@store_option
@home_option
def spread(address: str | None) -> None:
    """Use TimescaleDB or Citus for the store's tables, where its PostgreSQL server has them.

    Once, best while the store is new: what is there already is moved. Neither was at hand when this was made, so try it
    on a copy first (sisock store copy).
    """
    from sisock.store.extensions import spread

    with opened(address, make=True) as held:
        used = spread(held.database)
        where = held.database.shown
    click.echo(f"{where} uses {' and '.join(used)} now." if used else f"{where} has neither TimescaleDB nor Citus.")


@store.command()
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@force_option
@store_option
@home_option
def forget(node: str, yes: bool, force: bool, address: str | None) -> None:
    """Delete NODE's whole history, for good. There is no way back but an export made before."""
    with opened(address) as held:
        held.reader(node)
        refuse_if_written(held, node, force)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(f"all rows of {node} would be deleted for good: say --yes")
            click.confirm(f"Delete all rows of {node} in {shown_address(address)} for good?", abort=True)
        held.forget(node)
    click.echo(f"{node} is forgotten.")


def _timelines(history: NodeHistory, wanted: tuple[str, ...]) -> list[str]:
    """The timelines that are wanted, all if none is named; InvalidArgument for one that is not there."""
    there = history.timelines()
    for line in wanted:
        if line not in there:
            raise InvalidArgument(f"{history.name} has no timeline {line!r}. It has: {', '.join(there) or 'none yet'}.")
    if not there:
        raise InvalidArgument(f"{history.name} has no rows yet.")
    return list(dict.fromkeys(wanted)) or there


def _beside(output: Path, line: str) -> Path:
    return output.with_name(f"{output.stem}.{quote(line, safe=' ')}{output.suffix}")


def _timeline_of(path: Path) -> str:
    """The second line of a `.dat` file names its timeline."""
    if path.suffix.lower() != ".dat":
        return DEFAULT_TIMELINE
    with path.open(encoding="utf-8", errors="replace") as file:
        file.readline()
        second = file.readline()
    return (second.startswith("#") and second.removeprefix("#").strip()) or DEFAULT_TIMELINE


def _same(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one == other
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def _seconds(t: int) -> float | None:
    """UNIX seconds; None for the open end of a range."""
    return to_seconds(t) if EARLIEST < t < LATEST else None


def _told(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(what, done, total)


def _copied(tell: Tell) -> Callable[[str, str, int, int], None]:
    return lambda node, line, done, total: tell(f"{node} {line}", done, total)
