"""A real Prometheus, as Debian packs it, that holds the same samples as data nodes do; and promtool."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from sisock.grafana_bridge.prom.names import NAME, sources
from sisock.times import EARLIEST, LATEST, MICROS

UNPACKED = Path(__file__).parents[2] / "build" / "prometheus" / "usr" / "bin"
PATIENCE = 60.0


def program(name):
    """The path of `prometheus` or `promtool`. A test that cannot have it is skipped, but not where it must be."""
    found = shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        message = f"{name} is not there; `make test` fetches it as Debian packs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def promtool(*args):
    """What promtool prints."""
    done = subprocess.run([program("promtool"), *args], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def openmetrics(nodes):
    """All samples of these nodes in OpenMetrics' text, under the labels that the bridge gives them."""
    by_metric = {}
    for node in nodes:
        for source in sources(node.name, node.get_fields(1.0, None)):
            block, _ = node.history.read(source.timeline, [source.field], EARLIEST, LATEST)
            column = block.columns[source.field]
            there = column.mask()
            labels = dict(source.labels)
            metric = labels.pop(NAME)
            series = metric + "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
            assert (block.t % 1000 == 0).all(), "Prometheus keeps milliseconds"
            values = np.asarray(column.values[there], float)
            for t, value in zip(block.t[there].tolist(), values.tolist(), strict=True):
                shown = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(value), repr(value))
                by_metric.setdefault(metric, []).append(f"{series} {shown} {t / MICROS:.3f}")
    parts = [line for metric, lines in by_metric.items() for line in (f"# TYPE {metric} gauge", *lines)]
    return "\n".join([*parts, "# EOF", ""])


class Prometheus:
    """A server of its own in a folder, on a free port, that holds what nodes hold; it scrapes the addresses in `scrapes`."""

    def __init__(self, folder, nodes=(), scrapes=()):
        self.folder = folder
        self.nodes = nodes
        self.scrapes = scrapes
        self._told = {}

    def __enter__(self):
        data, text = self.folder / "data", self.folder / "samples.txt"
        if self.nodes:
            text.write_text(openmetrics(self.nodes))
            promtool("tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(data))
        jobs = [{"job_name": "sisock", "scrape_interval": "1s", "static_configs": [{"targets": [*self.scrapes]}]}]
        # YAML takes JSON.
        (self.folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs if self.scrapes else []}))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={data}",
                    "--storage.tsdb.retention.time=100y",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
                return
            except OSError:
                log = (self.folder / "log").read_text()
                assert self.process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.02)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path, **parameters):
        """The status and the answer of a request, asked once: what it holds does not change."""
        key = path, urllib.parse.urlencode(parameters, doseq=True)
        if key not in self._told:
            self._told[key] = self.ask_now(path, **parameters)
        return self._told[key]

    def ask_now(self, path, **parameters):
        """The same, asked anew."""
        try:
            form = urllib.parse.urlencode(parameters, doseq=True)
            with urllib.request.urlopen(f"{self.url}/api/v1{path}?{form}", timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
