"""The node of the chaos: it counts a hundred times a second, with late rows and corrections.

It writes what was acknowledged into `acknowledged-PID.txt` beside its home's run: time in microseconds, value, version.
While a file `quiet` is there it is on the air and says nothing.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from sisock import DataNode, Field, Timeline
from sisock.times import now


class Counter(DataNode):
    """Counts a hundred times a second."""

    name = "chaos"
    interval = 0.01
    fields = {"n": Field(units="1"), "version": Field()}
    timelines = {"t": Timeline(0.01, lateness=2.0)}

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(os.environ["SISOCK_HOME"])
        self.log = (self.home / f"acknowledged-{os.getpid()}.txt").open("a", buffering=1)
        self.recent: list[float] = []
        self.version = 0
        self.chance = random.Random(os.getpid())

    def sample(self):
        if (self.home / "quiet").exists():
            return
        self.version += 1
        t = now()
        self.keep(t, {"n": float(self.version), "version": self.version})
        self.recent = [*self.recent[-500:], t]
        if self.chance.random() < 0.05:
            self.version += 1
            self.keep(t - self.chance.random(), {"n": 0.5, "version": self.version})
        if self.chance.random() < 0.05:
            self.version += 1
            self.keep(self.chance.choice(self.recent), {"n": -1.0, "version": self.version}, correct=True)

    def keep(self, t: float, values: dict[str, float], *, correct: bool = False) -> None:
        self.append("t", t, values, correct=correct).result(60)
        # What stands in this file was acknowledged.
        self.log.write(f"{round(t * 1e6)} {values['version']}\n")
