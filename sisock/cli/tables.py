"""Tables that commands print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: int = 0) -> None:
    """Prints a table for people; on a pipe it is as wide as it needs to be. The last `right` columns are numbers."""
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        numeric = number >= len(heads) - right > 0 and right
        table.add_column(
            Text(head),
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="crop" if not console.is_terminal else "ellipsis",
        )
    for row in rows:
        # Text, since a name may hold what Rich would take for markup.
        table.add_row(*(Text(cell) for cell in row))
    if not console.is_terminal:
        console.width = max(80, console.measure(table, options=console.options.update(width=100_000)).maximum)
    console.print(table)
