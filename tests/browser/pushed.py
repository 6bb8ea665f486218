"""A node that a test starts: it says that a row comes each minute, and appends four a second.

Some are late, and some are corrected.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from sisock import DataNode, Field, Timeline

ROWS = 60_000


class Pushed(DataNode):
    """Counts, and corrects itself."""

    name = "pushed"
    fields = {"n": Field(units="1"), "when": Field(units="s"), "note": Field(type="string"), "past": Field(timeline="long")}
    # Whoever asked again and again would ask each minute.
    timelines = {"t": Timeline(60.0, lateness=5.0)}

    def start(self):
        self.over = threading.Event()
        t = 1_600_000_000 + np.arange(ROWS) * 0.5
        self.append("long", t, {"past": np.arange(float(ROWS))}, correct=True)
        threading.Thread(target=self.count, daemon=True).start()

    def stop(self):
        self.over.set()

    def count(self):
        times = []
        n = 0
        while not self.over.wait(0.25):
            t = time.time()
            self.append("t", t, {"n": n, "when": t, "note": f"row {n}"}).result()
            times.append(t)
            if n % 4 == 3:
                self.append("t", times[-2], {"n": -n}, correct=True).result()
                self.append("t", (times[-2] + times[-1]) / 2, {"n": 0.5 + n}).result()
            n += 1
