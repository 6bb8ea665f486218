"""The doctor's visit: what the router and the nodes themselves say, and how each node's sampling goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from twisted.internet.defer import Deferred, gatherResults

from sisock.consumer import Consumer
from sisock.errors import SisockError, WrongCertificate
from sisock.settings import Settings
from sisock.site.doctor import Finding, run_of
from sisock.times import iso

# A call of sample() that takes longer is told of, in seconds.
SLOW_SAMPLE = 20.0


async def ask(settings: Settings) -> list[Finding]:
    """What the router itself says: whether one gets in, which nodes are there and whether each answers."""
    if run_of(settings) is None and not settings.crossbar_host:
        return []
    try:
        consumer = await Consumer(settings.consumer(), call_timeout=5).start(patience=5)
    except WrongCertificate as error:
        remedy = f"copy the router's own .crossbar/server_cert.pem to {settings.home.certificate}, if it is the right router"
        return [Finding("error", "router", str(error), remedy)]
    except SisockError as error:
        remedy = "check the address and the credentials" if settings.crossbar_host else f"see {settings.home.logs}/router.log"
        return [Finding("error", "router", str(error), remedy)]
    findings = [Finding("ok", "router", "one gets in as a consumer")]
    try:
        nodes = await consumer.nodes()
        if not nodes:
            what = f"none is there{settings.as_far_as_seen()}"
            findings.append(Finding("warning", "nodes", what, "`sisock run NODE` starts one"))
        # All at once: a slow node does not keep the others waiting.
        asked = [Deferred.fromCoroutine(_node(settings, consumer, node["name"])) for node in nodes]
        for found in await gatherResults(asked, consumeErrors=True):
            findings += found
    except SisockError as error:
        findings.append(Finding("error", "router", str(error), f"see {settings.home.logs}"))
    finally:
        await consumer.stop()
    return findings


async def _node(settings: Settings, consumer: Consumer, name: str) -> list[Finding]:
    began = time.monotonic()
    try:
        catalogue = await consumer.get_fields(name)
    except SisockError as error:
        remedy = f"look into {settings.home.logs}, or start it again"
        return [Finding("error", "nodes", f"{name} does not answer: {error}", remedy), *sampling(settings, name)]
    took = (time.monotonic() - began) * 1000
    what = f"{name} has {len(catalogue.fields)} field{'' if len(catalogue.fields) == 1 else 's'} ({took:.0f} ms)"
    return [Finding("ok", "nodes", what), *sampling(settings, name)]


def sampling(settings: Settings, node: str) -> Iterator[Finding]:
    """How the sampling of a node of this home goes, as its process tells."""
    try:
        health = json.loads(settings.home.health(node).read_text())
    except (OSError, ValueError):
        return
    log = _log_of(settings, health.get("pid"))
    if health.get("errors"):
        what = (
            f"{node}: sample() raised {health['errors']} times beside {health['samples']} samples, last {health['last_error']}"
        )
        yield Finding("warning", "nodes", what, f"{log} says where")
    if health.get("refused"):
        what = f"{node}: {health['refused']} times what it appended was not kept, last {health['last_refused']}"
        yield Finding("warning", "nodes", what, f"{log} may say more")
    keeping = health.get("keeping") or {}
    if keeping.get("away"):
        since = "" if keeping["since"] is None else f" since {iso(keeping['since'])}"
        what = f"{node}: its database is away{since}, and {keeping['waiting']} blocks wait here for it: {keeping['away']}"
        yield Finding("warning", "nodes", what, "nothing is lost; bring the database back, and they are handed over")
    if health.get("trouble"):
        yield Finding("warning", "nodes", f"{node}: {health['trouble']}", f"{log} may say more")
    # A row that a clock made late is kept all the same.
    since = health.get("sampling_since")
    if since is not None and time.time() - since > SLOW_SAMPLE:
        what = f"{node}: sample() has not come back for {time.time() - since:.0f} s"
        yield Finding("warning", "nodes", what, "its instrument may hang; stop the node and start it again")
    elif health.get("missed", 0) > health.get("samples", 0) + health.get("errors", 0):
        what = f"{node}: sample() takes longer than the node's interval; {health['missed']} times it was not called for that"
        yield Finding("note", "nodes", what, "give the node a longer interval, or let sample() return sooner")


def _log_of(settings: Settings, pid: int | None) -> str:
    """Where a node's process logs: a file of the site that started it, or the terminal where somebody did."""
    run = run_of(settings)
    part = next((part for part, its in (run.pids.items() if run else ()) if its == pid), None)
    return f"{settings.home.logs / part}.log" if part else f"the terminal that runs process {pid}"
