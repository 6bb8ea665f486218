"""The command `watch`: the newest values of a node as they come; `screens` shows them."""

from __future__ import annotations

import sys
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from sisock.cli.asking import check_fields, following
from sisock.cli.completion import listed_fields, listed_nodes
from sisock.cli.options import home_option
from sisock.cli.screens import JsonLines, Lines, Screen, Show
from sisock.consumer import Consumer
from sisock.errors import SisockError
from sisock.following import Follower
from sisock.times import parse_time

# Seconds between two looks at whether the node is there, and between two pictures.
LOOK = 2.0
REFRESH = 0.25


@click.command()
@click.argument("node", shell_complete=listed_nodes)
@click.argument("field", nargs=-1, shell_complete=listed_fields)
@click.option("--start", help="Show also what came since then: -10m, 2017-07-14.  [now; with --plot -10m]")
@click.option("--plot", "plots", is_flag=True, help="Draw them, too, with characters.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON a block, for programs.")
@home_option
def watch(node: str, field: tuple[str, ...], start: str | None, plots: bool, as_json: bool) -> None:
    """Show the newest values of NODE's FIELDs, of all if none is named, as they come: units, age, rows a second.

    It goes on through lost connections and restarts of the node; what cannot be filled is named as a gap. Piped, it
    prints a line a row, and what is wrong on standard error. Ctrl-C ends it.

    \b
    sisock watch sensors cpu_load load_1
    sisock watch sensors cpu_load --plot --start -1h
    sisock watch apex_archive --json | jq .data
    """  # noqa: D301
    from sisock.cli.reacting import serve

    if plots and as_json:
        raise click.UsageError("--plot is for people and --json for programs: choose one")
    since = parse_time(start or ("-10m" if plots else "now"))
    watching = _Watching(node, field, since, plots, as_json)
    serve(watching.start, watching.stop)


class _Watching:
    """Follows, and shows what comes."""

    def __init__(self, node: str, fields: tuple[str, ...], start: float, plots: bool, as_json: bool) -> None:
        self._node, self._fields, self._since = node, tuple(dict.fromkeys(fields)), start
        self._plots, self._as_json = plots, as_json
        self._consumer = Consumer(following())
        self._show: Show | None = None
        self._follower: Follower | None = None
        self._there = True
        self._told: str | None = None
        self._looks = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._refreshes = LoopingCall(self._refresh)

    async def start(self) -> Deferred[Any]:
        from sisock.cli.reacting import guarded
        from sisock.newest import newest

        await self._consumer.start()
        offered = await self._consumer.get_fields(self._node)
        check_fields(self._node, offered, self._fields)
        fields = {name: offered.fields[name] for name in self._fields or offered.fields}
        if not fields:
            raise SisockError(f"{self._node} has no fields yet. Watch it when it has.")
        if self._as_json:
            self._show = JsonLines(self._node)
        elif self._plots or sys.stdout.isatty():
            self._show = Screen(self._node, fields, plots=self._plots)
            self._show.begin(await newest(self._consumer, self._node, list(fields), fields))
        else:
            self._show = Lines(self._node, fields)
        self._follower = self._consumer.follow(self._node, list(fields), self._since)
        loops = [self._looks.start(LOOK, now=False), self._refreshes.start(REFRESH)]
        return guarded(Deferred.fromCoroutine(self._follow()), *loops)

    async def stop(self) -> None:
        for loop in (self._looks, self._refreshes):
            if loop.running:
                loop.stop()
        await self._consumer.stop()
        if self._show is not None:
            self._show.end()

    async def _follow(self) -> None:
        if self._follower is None or self._show is None:
            return
        try:
            async for item in self._follower:
                await self._show.item(item)
        except CancelledError:
            return

    async def _look(self) -> None:
        try:
            self._there = any(one["name"] == self._node for one in await self._consumer.nodes())
        except SisockError:
            # That the router is away is told; what else may be, the follower notes.
            return

    def _refresh(self) -> None:
        if self._show is None:
            return
        words = self._words()
        if words != self._told:
            self._told = words
            self._show.problem(words)
        self._show.refresh()

    def _words(self) -> str | None:
        """What is wrong at present."""
        if not self._consumer.connected:
            return "the router is away; it is tried again"
        if not self._there:
            return f"{self._node} is not there; it is waited for"
        problem = self._follower.problem if self._follower is not None else None
        return None if problem is None else str(problem)
