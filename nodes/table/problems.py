"""What in a table could not be served: counted by kind, the newest kept for the operator to look at."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# The newest that are kept, and that are logged of one kind before it is only counted.
KEPT = 100
LOGGED = 5
# Of these kinds something was not served; others only tell how it came.
LOST = frozenset(
    (
        "overlong lines",
        "rows of another number of columns",
        "rows without a series",
        "rows without a time",
        "series left out",
        "series too many",
        "unreadable parts",
        "values of another type",
    )
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be served: where it stands, and what is wrong; `line` counts from 1."""

    kind: str
    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.line is None else f"{self.file}, line {self.line}: {self.text}"


class Problems:
    """Counts of each kind, and the newest of them."""

    def __init__(self, lost: Callable[[Problem, int], None] | None = None) -> None:
        """`lost` is called with what was not served, and how often."""
        self._lost = lost
        self.counts: Counter[str] = Counter()
        self.newest: deque[Problem] = deque(maxlen=KEPT)
        self._last: dict[str, str] = {}

    def add(self, problem: Problem, times: int = 1) -> None:
        """Takes note of it; `times` counts those of which this is the last."""
        before = self.counts[problem.kind]
        self.counts[problem.kind] += times
        self.newest.append(problem)
        if problem.kind in LOST and self._lost is not None:
            self._lost(problem, times)
        if before < LOGGED:
            log.warning("%s", problem)
            if before + times >= LOGGED:
                log.warning("further %s are counted, and not told one by one", problem.kind)

    def once(self, problem: Problem) -> None:
        """Takes note of a state of a file, which is told again only after another one of that file."""
        if self._last.get(problem.file) != problem.text:
            self._last[problem.file] = problem.text
            self.add(problem)

    def over(self, file: str) -> None:
        """The state of a file that `once` told of is over."""
        self._last.pop(file, None)
