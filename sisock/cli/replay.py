"""Commands about recordings: one is put on the air, or looked into."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from sisock.cli.asking import following, span
from sisock.cli.completion import listed_nodes
from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table
from sisock.consumer import Consumer
from sisock.errors import InvalidArgument, SisockError
from sisock.times import LATEST, iso, to_seconds
from sisock.uris import check_node_name

# Seconds that a node stays when all was played, so that who follows it has the last rows.
LINGER = 1.0


@click.command()
@click.argument("what", metavar="FILE|DIR|NODE", shell_complete=listed_nodes)
@click.option("--start", help="From which recorded time on: 2017-07-14T12:30, UNIX seconds, -1d.  [the first row]")
@click.option("--end", help="Until which recorded time, itself not included; as --start.  [the last row]")
@click.option("--speed", type=float, default=1.0, show_default=True, help="How many times as fast as it came.")
@click.option("--name", help="What consumers call the node.  [the recorded name with _replay behind it]")
@click.option("--keep-times", is_flag=True, help="Leave rows their own times.  [they are stamped as they come]")
@click.option("--loop", is_flag=True, help="Begin anew at the end, until Ctrl-C.")
@home_option
def replay(
    what: str,
    start: str | None,
    end: str | None,
    speed: float,
    name: str | None,
    keep_times: bool,
    loop: bool,
) -> None:
    """Put a recording, a Parquet file or a NODE's own history on the air as a live node.

    Its rows come as they came, or --speed times as fast, stamped with the time at which they come; fields and units are
    as recorded. What is in the way of that (--keep-times) is that consumers who look at the last minutes see nothing.

    \b
    sisock replay recordings/roof --speed 10
    sisock replay wind.parquet --name wind --loop
    sisock replay apex_archive --start 2017-07-15 --speed 3600
    """  # noqa: D301
    from sisock.cli.reacting import log_to_stderr, serve
    from sisock.replaying import check_speed

    check_speed(speed)
    if loop and keep_times:
        raise click.UsageError("--loop would bring the same times again: it does not go with --keep-times")
    if name is not None:
        check_node_name(name)
    ends = span(start or "1", end)
    log_to_stderr()
    playing = _Playing(what, ends, speed, name, keep_times, loop)
    serve(playing.start, playing.stop, ends=True)
    click.echo(f"{playing.name}: {playing.rows} rows were played.")


class _Playing:
    """A replay on the air."""

    def __init__(self, what: str, ends: tuple[int, int], speed: float, name: str | None, keep_times: bool, loop: bool) -> None:
        self.name = name or ""
        self.rows = 0
        self._what, self._ends, self._speed, self._keep_times, self._loop = what, ends, speed, keep_times, loop
        self._settings = settings()
        self._consumer = Consumer(following())
        self._is_new = False
        self._service: Any = None
        self._running: Deferred[Any] | None = None

    async def start(self) -> Deferred[Any]:
        from sisock.cli.reacting import guarded
        from sisock.naming import Identity
        from sisock.replaying import replay_node, source_of
        from sisock.serving import NodeService

        await self._consumer.start()
        source = source_of(self._what, lambda: self._consumer)
        origin = await source.origin()
        first = await source.first(*self._ends)
        if first is None or not origin.catalogue.fields:
            raise SisockError(f"{self._what} has no rows in that time.")
        self.name = check_node_name(self.name or f"{origin.name}_replay")
        if any(one["name"] == self.name for one in await self._consumer.nodes()):
            # With this home's identity it would take that node's place.
            raise InvalidArgument(f"a node {self.name} is there already. Choose another name with --name.")
        node = replay_node(self.name, origin, self._speed, keep_times=self._keep_times)
        home = self._settings.home
        home.make()
        self._is_new = home.users.get(f"node:{self.name}") is None
        self._service = NodeService(node, self._settings.node(self.name), Identity(*home.identity(self.name)))
        await self._service.start()
        self._running = Deferred.fromCoroutine(self._run(source, node, origin, first))
        # Whoever is refused, or superseded, ends.
        return guarded(self._running, self._service.ended)

    async def _run(self, source: Any, node: Any, origin: Any, first: int) -> None:
        """Plays; whoever stops it cancels it."""
        with suppress(CancelledError):
            await self._play(source, node, origin, first)

    async def _play(self, source: Any, node: Any, origin: Any, first: int) -> None:
        from autobahn.twisted.util import sleep

        from sisock.replaying import Pace, play

        while not self._service.announced:
            await sleep(0.05)
        times = "their own times" if self._keep_times else "the present time"
        click.echo(f"{self.name} is on the air: {self._what} from {iso(to_seconds(first))} on, {self._speed:g} x, at {times}.")
        timelines = dict.fromkeys(spec.timeline for spec in origin.catalogue.fields.values())
        while True:
            pace = Pace(first, self._speed, keep_times=self._keep_times)
            lines = [play(source, node, line, pace, self._ends[1], self._came) for line in timelines]
            played = gatherResults([Deferred.fromCoroutine(line) for line in lines], consumeErrors=True)
            try:
                await played
            except FirstError as error:
                error.subFailure.raiseException()
            await sleep(LINGER)
            if not self._loop:
                return

    def _came(self, rows: int) -> None:
        self.rows += rows

    async def stop(self) -> None:
        if self._running is not None and not self._running.called:
            self._running.cancel()
        if self._service is not None:
            await self._service.stop()
        if self._is_new:
            # It was made for this replay, and nobody else is to find it among the site's users.
            self._settings.home.users.remove(f"node:{self.name}")
        await self._consumer.stop()


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write its rows to a .parquet, .arrow or .csv."
)
@click.option("--start", help="From when: -10m, 2017-07-14, UNIX seconds.  [all]")
@click.option("--end", help="Until when, itself not included; as --start.  [all]")
@json_option
def recording(folder: Path, output: Path | None, start: str | None, end: str | None, as_json: bool) -> None:
    """Say what is in a recording: timelines, rows, first and last time, gaps by name.

    With -o its rows are written as the node had them: in order, each once, with corrections in their place. Of several
    timelines each gets a file of its own. It needs no site.

    \b
    sisock recording recordings/roof
    sisock recording recordings/roof -o roof.parquet
    """  # noqa: D301
    from sisock.recording import Recording

    found = Recording.find(folder)
    low, high = span(start or "1", end) if start or end else (-LATEST, LATEST)
    if output is not None:
        from sisock.cli.saving import save_recording

        for one in save_recording(found, output, low, high):
            click.echo(f"{one.rows} rows of {one.timeline} are in {one.path}.")
        return
    told = []
    for timeline in found.timelines:
        rows, first, last = 0, None, None
        for block in found.rows(timeline, low, high):
            rows += len(block)
            first, last = int(block.t[0]) if first is None else first, int(block.t[-1])
        told.append((timeline, rows, first, last, found.gaps(timeline)))
    if as_json:
        click.echo(json.dumps([_wire(found, *one) for one in told]))
        return
    shown = [
        (
            timeline,
            str(len(found.fields(timeline))),
            *("" if t is None else iso(to_seconds(t)) for t in (first, last)),
            str(rows),
        )
        for timeline, rows, first, last, _ in told
    ]
    click.echo(f"{found.about.node}: {found.about.description}".rstrip(": "))
    print_table(("timeline", "fields", "first (UTC)", "last (UTC)", "rows"), shown, right=1)
    for timeline, _, _, _, gaps in told:
        for gap in gaps:
            click.echo(f"gap in {timeline}, {iso(to_seconds(gap.start))} to {iso(to_seconds(gap.end))}: {gap.reason}")


def _wire(found: Any, timeline: str, rows: int, first: int | None, last: int | None, gaps: Any) -> dict[str, Any]:
    ends = {name: None if t is None else to_seconds(t) for name, t in (("first", first), ("last", last))}
    named = [{"start": to_seconds(gap.start), "end": to_seconds(gap.end), "reason": gap.reason} for gap in gaps]
    fields = {name: spec.to_wire() for name, spec in found.fields(timeline).items()}
    return {"node": found.about.node, "timeline": timeline, "rows": rows, **ends, "gaps": named, "fields": fields}
