"""How followed rows are shown: as a table that moves, as plain lines, or as lines of JSON."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import click
from twisted.internet.threads import deferToThread

from sisock.blocks import Block, concat
from sisock.cli.asking import age, shown
from sisock.fields import Field
from sisock.followed import Followed, Missing
from sisock.newest import Newest
from sisock.times import MICROS, iso, now, to_seconds

# Seconds over which the rate of rows is told, rows that a plot shows of a timeline, and gaps that stay in sight.
RATE_OVER = 10.0
PLOTTED_ROWS = 20_000
SHOWN_GAPS = 5


class Show(Protocol):
    """Shows what comes."""

    async def item(self, item: Followed | Missing) -> None:
        """Shows rows, or that some are missing; it waits while nobody takes them."""

    def problem(self, words: str | None) -> None:
        """Shows what is wrong; None when it is right again."""

    def refresh(self) -> None:
        """Is called several times a second."""

    def end(self) -> None:
        """Leaves the terminal as it was."""


async def _print(text: str) -> None:
    """Prints in a thread, since whoever reads a pipe may take his time."""
    await deferToThread(_write, text)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def gap_words(gap: Missing) -> str:
    """A gap for people."""
    ends = " to ".join(iso(to_seconds(t)) for t in (gap.start, gap.end))
    return f"gap in {gap.timeline}, {ends}: {gap.reason}"


class JsonLines:
    """A line of JSON a block, a gap and a problem."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def item(self, item: Followed | Missing) -> None:
        """Prints a line."""
        told: dict[str, Any] = {"node": self._node, "timeline": item.timeline}
        if isinstance(item, Missing):
            told["gap"] = {"start": to_seconds(item.start), "end": to_seconds(item.end), "reason": item.reason}
        else:
            told["t"] = (item.block.t / MICROS).tolist()
            told["data"] = {name: column.to_list() for name, column in item.block.columns.items()}
            told["revises"] = [[to_seconds(t) for t in pair] for pair in item.revises]
            told["finalized_until"] = item.finalized_until
            told["position"] = None if item.position is None else item.position.to_wire()
        await _print(json.dumps(told, allow_nan=False) + "\n")

    def problem(self, words: str | None) -> None:
        """Prints a line, too."""
        _write(json.dumps({"node": self._node, "problem": words}) + "\n")

    def refresh(self) -> None:
        """Has nothing to do."""

    def end(self) -> None:
        """Has nothing to do."""


class Lines:
    """A line a row; what is wrong goes to standard error."""

    def __init__(self, node: str, fields: Mapping[str, Field]) -> None:
        self._node, self._fields = node, fields

    async def item(self, item: Followed | Missing) -> None:
        """Prints a line a row."""
        if isinstance(item, Missing):
            click.echo(f"sisock: {gap_words(item)}", err=True)
            return
        for at in range(0, len(item.block), 1000):
            await _print("".join(self._lines(item.block.take(slice(at, at + 1000)))))

    def _lines(self, block: Block) -> Iterable[str]:
        columns = {name: column.to_list() for name, column in block.columns.items()}
        for at, t in enumerate(block.t.tolist()):
            there = {name: values[at] for name, values in columns.items() if values[at] is not None}
            cells = [" ".join(filter(None, (name, shown(value), self._fields[name].units))) for name, value in there.items()]
            yield "  ".join([iso(to_seconds(t)), *cells]) + "\n"

    def problem(self, words: str | None) -> None:
        """Prints a line on standard error."""
        click.echo(f"sisock: {words or f'{self._node} is there again'}", err=True)

    def refresh(self) -> None:
        """Has nothing to do."""

    def end(self) -> None:
        """Has nothing to do."""


class Screen:
    """A table of the newest values that moves, with a plot below it if that is wanted."""

    def __init__(self, node: str, fields: Mapping[str, Field], *, plots: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        self._node, self._fields, self._plots = node, fields, plots
        self._values: dict[str, tuple[int, Any]] = {}
        self._rows: dict[str, deque[tuple[float, int]]] = {}
        self._kept: dict[str, Block] = {}
        self._gaps: deque[str] = deque(maxlen=SHOWN_GAPS)
        self._problem: str | None = None
        console = Console(highlight=False)
        # Not to a terminal, as when its output is kept, every picture would be printed below the one before.
        self._live = Live(console=console, auto_refresh=False, screen=False, transient=not console.is_terminal)

    def begin(self, found: Iterable[Newest]) -> None:
        """Shows what is there before anything comes."""
        self._values = {one.field: (one.t, one.value) for one in found if one.t is not None}
        self._live.start()

    async def item(self, item: Followed | Missing) -> None:
        """Takes in what came; the next picture shows it."""
        if isinstance(item, Missing):
            self._gaps.append(gap_words(item))
            return
        rows = self._rows.setdefault(item.timeline, deque())
        rows.append((time.monotonic(), len(item.block)))
        for name, column in item.block.columns.items():
            there = column.mask().nonzero()[0]
            if len(there) and name in self._fields:
                t = int(item.block.t[there[-1]])
                if name not in self._values or t >= self._values[name][0]:
                    self._values[name] = t, column.to_list()[there[-1]]
        if self._plots:
            self._keep(item)

    def _keep(self, item: Followed) -> None:
        from sisock.blocks import merge
        from sisock.store.layers import outside

        rows = self._kept.get(item.timeline, Block.of([], {}))
        for start, end in item.revises:
            rows = outside(rows, start, end)
        rows = merge(rows, item.block)
        self._kept[item.timeline] = rows.take(slice(max(0, len(rows) - PLOTTED_ROWS), None))

    def problem(self, words: str | None) -> None:
        """Shows it below the title."""
        self._problem = words

    def refresh(self) -> None:
        """Draws the next picture."""
        self._live.update(self._picture(), refresh=True)

    def end(self) -> None:
        """Leaves the last picture where it is."""
        if self._live.is_started:
            self._live.stop()

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for head, justify in (("field", "left"), ("value", "right"), ("units", "left"), ("age", "right"), ("rows/s", "right")):
            table.add_column(head, justify=justify, no_wrap=True, min_width=8)  # type: ignore[arg-type]
        present = now()
        for name, spec in self._fields.items():
            t, value = self._values.get(name, (None, None))
            old = "" if t is None else age(present - to_seconds(t))
            # Text, since a name may hold what Rich would take for markup.
            cells = (name, shown(value), spec.units or "", old, self._rate(spec.timeline))
            table.add_row(*(Text(cell) for cell in cells))
        state = Text(self._problem, style="bold red") if self._problem else Text("live", style="green")
        parts: list[Any] = [Text.assemble((self._node, "bold"), "  ", iso(round(present)), "  ", state), table]
        if self._plots:
            parts.append(Text.from_ansi(self._plot(len(self._fields) + 3 + len(self._gaps))))
        return Group(*parts, *(Text(words, style="yellow") for words in self._gaps))

    def _rate(self, timeline: str) -> str:
        came = self._rows.get(timeline)
        if not came:
            return ""
        present = time.monotonic()
        while came and present - came[0][0] > RATE_OVER:
            came.popleft()
        return f"{sum(rows for _, rows in came) / RATE_OVER:.3g}"

    def _plot(self, taken: int) -> str:
        from sisock import plotting

        size = shutil.get_terminal_size()
        lines = [
            plotting.line(name, spec, concat([self._kept[spec.timeline]]))
            for name, spec in self._fields.items()
            if spec.timeline in self._kept and spec.type != "string"
        ]
        return plotting.characters(lines, size.columns, size.lines - taken, colour=not self._live.console.no_color)
