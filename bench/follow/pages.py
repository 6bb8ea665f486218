"""Ten million points by pages: the consumer's memory beside the result's size, and the router's growth."""

from __future__ import annotations

from bench.follow.parts import Growth, Part


def pages(table, here, settings, where, rows):
    """Reads all of them once, in a consumer that is new."""
    with Part("bench.follow.reading:Reading", **settings) as part, Growth(here.worker) as growth:
        # The first page loads what reading needs; it is not the result's.
        part.ask("pages", start=where["first"], end=where["eighths"][1])
        said = part.ask("pages", start=where["first"], end=where["end"])
    assert said["rows"] == rows, said
    size = rows * 16 / 1e6
    words = f"{rows / 1e6:g} million points by pages ({said['seconds']:.1f} s)"
    table.add(f"{words}: the consumer's memory", "MB", said["peak"], {"the result": size}, {"the result": 0.8})
    table.add("  the router grows by", "MB", growth.mb, {"the result": size}, at_most=20)
