"""The bridge's live rows in a page of somebody else's making: an EventSource, and nothing of sisock's client."""

from __future__ import annotations

import os
import signal

from conftest import wait

FOLLOW = """
(address) => {
    window.seen = { t: [], values: [], gaps: [], errors: 0 };
    const source = new EventSource(address);
    source.addEventListener("rows", (event) => {
        const told = JSON.parse(event.data);
        seen.t.push(...told.t);
        seen.values.push(...told.data.cpu_load);
    });
    source.addEventListener("gap", (event) => seen.gaps.push(event.data));
    source.onerror = () => (seen.errors += 1);
    window.source = source;
}
"""


def test_a_page_follows_through_a_restart_of_the_bridge(chromium, site):
    context = chromium.new_context()
    page = context.new_page()
    try:
        page.goto(f"{site.run['bridge']}/healthz")
        page.evaluate(FOLLOW, f"{site.run['bridge']}/api/nodes/sensors/live?field=cpu_load&start=1")
        wait(lambda: page.evaluate("seen.t.length") >= 2)
        before = page.evaluate("seen.t.length")
        old = site.run["pids"]["bridge"]
        os.kill(old, signal.SIGKILL)
        wait(lambda: page.evaluate("seen.errors") >= 1)
        wait(lambda: page.evaluate("seen.t.length") >= before + 3)
        assert site.run["pids"]["bridge"] != old
        assert page.evaluate("source.readyState") == 1
        seen = page.evaluate("seen")
    finally:
        context.close()
    assert seen["gaps"] == []
    assert seen["t"] == sorted(set(seen["t"]))
    kept = site.values("sensors", "cpu_load", "--start", str(seen["t"][0]), "--end", str(seen["t"][-1] + 1e-6))
    assert dict(zip(seen["t"], seen["values"], strict=True)) == kept
