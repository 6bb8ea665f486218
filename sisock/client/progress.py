"""A bar on standard error while a long answer comes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

from sisock.client.core import Progress

# On a terminal, what takes no longer than this shows no bar, in seconds.
SLOW = 1.0


@contextmanager
def bar(progress: Progress, title: str, wanted: bool | None) -> Iterator[Callable[[], None] | None]:
    """Gives what draws the bar each time that it is called, or None if there is to be none.

    `wanted`: True shows it in any case, False never, None on a terminal once it takes longer than a second.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    begins = monotonic() + (0.0 if wanted else SLOW)
    with ExitStack() as stack:
        drawn: list[Bar] = []

        def tick() -> None:
            if not drawn and monotonic() >= begins:
                columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                made = Bar(*columns, console=Console(stderr=True), transient=wanted is None)
                drawn.append(stack.enter_context(made))
                made.add_task(escape(title), total=None)
            for shown in drawn:
                # More may come than was counted when it began.
                total = max(progress.total, progress.rows) or None
                shown.update(shown.task_ids[0], completed=progress.rows, total=total)

        yield tick
        # The end is shown, too.
        tick()
