"""All rows by the data API, in each form: rows a second, and the memory that the bridge takes for it."""

from __future__ import annotations

import socket
import time

from bench.bridge.stage import path
from bench.follow.archive import NAME
from bench.follow.parts import Growth

FORMS = ("csv", "arrow", "parquet", "json")
# Bytes that are read at a time.
CHUNK = 1 << 16
SLOW = 1e6
SLOW_LASTS = 20.0


def whole(table, stage):
    """As fast as it comes."""
    for form in FORMS:
        _warm(stage, form)
        with Growth(stage.processes["bridge"]) as growth:
            began = time.perf_counter()
            taken = sum(map(len, _octets(stage.port, form)))
            seconds = time.perf_counter() - began
        table.add(f"{stage.rows / 1e6:g} million rows as {form}, {taken / 1e6:.0f} MB", "M rows/s", stage.rows / seconds / 1e6)
        table.add("  the bridge grows by", "MB", growth.mb, at_most=50)


def slow(table, stage):
    """By a reader who takes 1 MB a second."""
    for form in FORMS:
        _warm(stage, form)
        with Growth(stage.processes["bridge"]) as growth:
            began, taken = time.monotonic(), 0
            for octets in _octets(stage.port, form):
                taken += len(octets)
                time.sleep(max(0.0, began + taken / SLOW - time.monotonic()))
                if time.monotonic() > began + SLOW_LASTS:
                    break
        table.add(f"a reader of 1 MB/s, {form}, for {SLOW_LASTS:g} s: the bridge grows by", "MB", growth.mb, at_most=50)


def _warm(stage, form):
    """A short answer: what the form needs is loaded, which is not of the rows."""
    end = stage.grid.start + min(50_000, stage.rows) // 10
    sum(map(len, _octets(stage.port, form, end=end)))


def _octets(port, form, **more):
    """What comes, with the marks of its chunks; the connection is closed behind it."""
    where = path(f"/api/nodes/{NAME}/data", field="x", start=1, format=form, **more)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        ended = b""
        while octets := connection.recv(CHUNK):
            ended = (ended + octets)[-5:]
            yield octets
        if ended != b"0\r\n\r\n":
            raise RuntimeError(f"{form}: the answer was broken off")
