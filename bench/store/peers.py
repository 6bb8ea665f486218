"""InfluxDB and VictoriaMetrics as real servers in temporary folders, on free ports of this machine.

`make bench-peers` unpacks Debian's packages to build/peers; what is on the PATH serves as well. Both get the same rows
as the store, as text that was built beforehand, and answer as CSV, which Arrow's reader parses: the fastest way in and
out that each of them offers over HTTP.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pyarrow.csv

UNPACKED = Path("build/peers/usr/bin")
# How long a server may take to start, in seconds.
PATIENCE = 60


def program(name):
    """The path of a peer's program; None if it is not there."""
    unpacked = UNPACKED / name
    return str(unpacked.absolute()) if unpacked.is_file() else shutil.which(name)


class Peer:
    """A server of another system, as a context."""

    name = program_name = health = ""

    def __init__(self, folder):
        self.folder = folder / self.name
        self.folder.mkdir()

    @classmethod
    def installed(cls):
        return program(cls.program_name) is not None

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments, environment = self.command()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program(self.program_name), *arguments], stdout=log, stderr=log, env={**os.environ, **environment}
            )
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            self._wait()
            self.made()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask(self.health)
                return
            except OSError as error:
                self.connection.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} did not start: {(self.folder / 'log').read_text()[-2000:]}") from error
                time.sleep(0.05)

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def made(self):
        """What is to be done once it answers."""

    def begin(self, turn):
        """What is written from now on are new series."""

    def ask(self, path, body=None, headers=None, **query):
        """A request; the answer's bytes."""
        where = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        self.connection.request("GET" if body is None else "POST", where, body, headers or {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{self.name} answered {answer.status} to {path}: {data[:500]!r}")
        return data


def _columns(text, names):
    """Columns of CSV as NumPy arrays."""
    table = pyarrow.csv.read_csv(
        io.BytesIO(text), pyarrow.csv.ReadOptions(column_names=names, skip_rows=int(not text[:1].isdigit()))
    )
    return table["t"].to_numpy(), table["v"].to_numpy()


class VictoriaMetrics(Peer):
    """Keeps times in milliseconds, and answers before rows are on the disk."""

    name = "VictoriaMetrics"
    program_name = "victoria-metrics"
    health = "/health"

    def made(self):
        self.labels = {}

    def command(self):
        return [
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-search.disableCache",
        ], {}

    @staticmethod
    def text(series, t, v):
        """Rows as it takes them fastest: one line of JSON a series."""
        times = ",".join(map(str, (t // 1000).tolist()))
        values = ",".join(map(repr, v.tolist()))
        return f'{{"metric":{{"__name__":"{series}"}},"timestamps":[{times}],"values":[{values}]}}\n'.encode()

    def begin(self, turn):
        self.labels = {"extra_label": f"turn={turn}"}

    def write(self, text):
        self.ask("/api/v1/import", text, **self.labels)

    def settle(self):
        """Lets what was written be seen, and merges it."""
        self.ask("/internal/force_flush")
        self.ask("/internal/force_merge")
        self.ask("/internal/force_flush")

    def read(self, series, start, end):
        """Times and values in [start, end), microseconds."""
        text = self.ask(
            "/api/v1/export/csv",
            **{"match[]": series, "format": "__timestamp__:unix_ms,__value__", "start": start / 1e6, "end": (end - 1) / 1e6},
        )
        return _columns(text, ["t", "v"])

    def overview(self, series, start, end, pixels):
        """The least and the greatest value of each pixel."""
        step = (end - start) / pixels / 1e6
        said = json.loads(
            self.ask(
                "/api/v1/query_range",
                query=f'aggr_over_time(("min_over_time", "max_over_time"), {series}[{step:.3f}s])',
                start=start / 1e6 + step,
                end=end / 1e6,
                step=f"{step:.3f}s",
                nocache=1,
            )
        )
        by_name = {one["metric"]["rollup"]: np.array(one["values"], float) for one in said["data"]["result"]}
        return by_name["min_over_time"], by_name["max_over_time"]


class InfluxDB(Peer):
    """Keeps times in nanoseconds, and fsyncs its log at each write."""

    name = "InfluxDB"
    program_name = "influxd"
    health = "/ping"

    def command(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            other = free.getsockname()[1]
        return ["run"], {
            "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{other}",
            "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{self.port}",
            "INFLUXDB_HTTP_LOG_ENABLED": "false",
            "INFLUXDB_META_DIR": str(self.folder / "meta"),
            "INFLUXDB_DATA_DIR": str(self.folder / "data"),
            "INFLUXDB_DATA_WAL_DIR": str(self.folder / "wal"),
            "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
            "INFLUXDB_MONITOR_STORE_ENABLED": "false",
            "INFLUXDB_REPORTING_DISABLED": "true",
            "INFLUXDB_CONTINUOUS_QUERIES_ENABLED": "false",
        }

    def made(self):
        self.begin(0)

    def begin(self, turn):
        self.database = f"bench{turn}"
        self.ask("/query", b"", q=f"CREATE DATABASE {self.database}")

    @staticmethod
    def text(series, t, v):
        """Rows as lines."""
        return "".join(f"{series} v={b!r} {a}\n" for a, b in zip(t.tolist(), v.tolist(), strict=True)).encode()

    def write(self, text):
        self.ask("/write", text, db=self.database, precision="u")

    def settle(self):
        """Nothing: what it answered to is there."""

    def read(self, series, start, end):
        """Times and values in [start, end), microseconds."""
        text = self.ask(
            "/query",
            headers={"Accept": "application/csv"},
            db=self.database,
            epoch="u",
            q=f"SELECT v FROM {series} WHERE time >= {start}u AND time < {end}u",
        )
        return _columns(text, ["series", "tags", "t", "v"])


PEERS = (VictoriaMetrics, InfluxDB)
