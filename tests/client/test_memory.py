"""A long answer by pages: what it costs whoever reads it is the answer, what it costs the router is nothing that stays."""

from __future__ import annotations

import json

import numpy as np
import psutil
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.store import Store
from tests.client.conftest import Counter, T, token
from tests.client.programs import Program

ROW = 16
READS = """
import json, re, sys, time
from pathlib import Path
import sisock

def memory(which="VmRSS"):
    # The system's ru_maxrss would be that of whoever started this.
    return int(re.search(which + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

hub = sisock.connect(*sys.argv[1:3])
counter = hub["counter"]
# Whatever a first answer loads is there.
counter.get("n", start=1, end=1_700_000_001).to_pandas().to_numpy()
before = memory()
begun = time.monotonic()
data = counter.get("n", start=1)
seconds = time.monotonic() - begun
peak = memory("VmHWM")
frame = data.to_pandas()
after = memory()
n = frame["n"].to_numpy()
right = bool(n[0] == 0 and n[-1] == len(n) - 1 and (n[1:] - n[:-1] == 1).all())
print(json.dumps({"rows": len(data), "right": right, "seconds": seconds, "before": before, "peak": peak, "after": after}))
"""


def router_memory(router):
    """Resident bytes of the router, with the workers that it has."""
    process = psutil.Process(router.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


async def read_all(router, rows, tmp_path):
    with Store.open(tmp_path / "history.db") as store:
        node = Counter()
        node.history = store.node("counter")

        def fill():
            for first in range(0, rows, 100_000):
                n = np.arange(first, min(rows, first + 100_000), dtype=float)
                node.append("t", T + n * 0.01, {"n": n}).result()

        service = await router.serve(node)
        try:
            await deferToThread(fill)
            arguments = (READS, router.ws, token(router.consumer))
            # The first one warms the router's buffers.
            await Program(*arguments).done(within=300)
            before = router_memory(router)
            told = json.loads(await Program(*arguments).done(within=300))
            after = router_memory(router)
        finally:
            await service.stop()
    told["router"] = after - before
    print(json.dumps(told))
    assert told["rows"] == rows
    assert told["right"]
    return told


MB = 1 << 20


@pytest_twisted.ensureDeferred
async def test_a_million_points(router, tmp_path):
    told = await read_all(router, 1_000_000, tmp_path)
    # The longest page is 14 MB, and is there as messages and as rows.
    assert told["peak"] - told["before"] < 1_000_000 * ROW + 48 * MB
    assert told["after"] - told["before"] < 1_000_000 * ROW + 48 * MB
    assert told["router"] < 8 * MB


@pytest.mark.soak
@pytest_twisted.ensureDeferred
async def test_ten_million_points(router, tmp_path):
    told = await read_all(router, 10_000_000, tmp_path)
    assert told["peak"] - told["before"] < 1.25 * 10_000_000 * ROW
    assert told["after"] - told["before"] < 1.25 * 10_000_000 * ROW
    assert told["router"] < 8 * MB
