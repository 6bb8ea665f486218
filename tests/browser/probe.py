"""A node that a test starts and kills itself: two rows a second, of every type."""

from __future__ import annotations

import time

from sisock import DataNode, Field


class Probe(DataNode):
    """Counts what it samples."""

    name = "probe"
    interval = 0.5
    fields = {
        "level": Field(units="K", description="Rises for ever"),
        "valve": Field(type="bool", description="Open every other second"),
        "note": Field(type="string", description="What it says"),
        "holes": Field(units="K", description="Null for three seconds of six"),
    }

    def sample(self):
        t = time.time()
        return {"level": t % 1000, "valve": int(t) % 2 == 0, "note": "<b>bold</b>", "holes": None if t % 6 < 3 else 1.0}


class Mute(DataNode):
    """Has an instrument that does not answer."""

    name = "mute"
    interval = 0.5
    fields = {"level": Field(units="K")}

    def sample(self):
        raise OSError("no answer")
