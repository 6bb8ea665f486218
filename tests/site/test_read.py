"""Reading a site: the command line, a plain client and the bridge agree with the files, to the last digit."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import pytest_twisted

from tests.plain import BASE, join
from tests.site.conftest import wait

FIELDS = ("apex_humidity", "apex_pressure", "apex_radiometer", "apex_temperature", "apex_windspeed")


def rows_of(path):
    """What a file holds, read the plainest way; a time that stands twice counts once."""
    rows = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            t, value = line.split()
            rows[float(t)] = float(value)
    return rows


@pytest.fixture(scope="module")
def files(site):
    wait(site.whole)
    return {field: rows_of(site.home / "weather" / f"{field}.dat") for field in FIELDS}


@pytest_twisted.ensureDeferred
async def test_a_plain_client_reads_what_the_files_hold(site, files):
    consumer = await join(site.run["ws"], tuple(site.run["consumer"].values()))
    try:
        described, timelines = await consumer.call(f"{BASE}consumer.apex_archive.get_fields", 1, 0)
        assert timelines["hourly"]["interval"] == 3600.0
        assert timelines["minutely"]["interval"] == 60.0
        assert {name: spec["units"] for name, spec in described.items()} == {
            "apex_humidity": "%",
            "apex_pressure": "mBar",
            "apex_radiometer": "mm",
            "apex_temperature": "C",
            "apex_windspeed": "km/h",
        }
        answer = await consumer.call(f"{BASE}consumer.apex_archive.get_data", list(FIELDS), 1, 0)
        for field, held in files.items():
            t = answer["timeline"][described[field]["timeline"]]["t"]
            read = {at: value for at, value in zip(t, answer["data"][field], strict=True) if value is not None}
            assert read == held
        everything = math.fsum(v for values in answer["data"].values() for v in values if v is not None)
        assert everything == math.fsum(value for held in files.values() for value in held.values())
        hourly = answer["timeline"]["hourly"]["t"]
        assert hourly == sorted(set(hourly))
        assert None in [v for field in FIELDS[:2] for v in answer["data"][field]], "the sample one field lacks is null"
        first, last = hourly[0], hourly[-1]
        inside = await consumer.call(f"{BASE}consumer.apex_archive.get_data", ["apex_pressure"], first, last)
        assert last not in inside["timeline"]["hourly"]["t"]
    finally:
        await consumer.quit()


def test_the_command_line_reads_them_too(site, files):
    listed = site.sisock("ls").stdout
    assert "Archived APEX weather." in listed
    shown = site.sisock("fields", "apex_archive").stdout
    assert "apex_temperature" in shown
    assert "3600 s" in shown
    fields = json.loads(site.sisock("fields", "apex_archive", "--json").stdout)
    assert set(fields["fields"]) == set(FIELDS)
    text = site.sisock("get", "apex_archive", "apex_temperature", "--start", "2017-07-14", "--format", "csv").stdout
    read = {float(row["time"]): float(row["apex_temperature"]) for row in csv.DictReader(io.StringIO(text))}
    assert read == files["apex_temperature"]
    answer = json.loads(site.sisock("get", "apex_archive", "apex_windspeed", "--start=-20y", "--format", "json").stdout)
    assert answer["data"]["apex_windspeed"] == list(files["apex_windspeed"].values())
    table = site.sisock("get", "apex_archive", "apex_windspeed", "--start", "2017-07-14", "--max-points", "10").stdout
    assert table.splitlines()[0].split() == ["time", "(UTC)", "apex_windspeed", "[km/h]"]
    assert 2 <= len(table.splitlines()) <= 11


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["get", "apex_archive", "nothing"], "sisock fields apex_archive"),
        (["get", "nobody", "x"], "nobody"),
        (["fields", "a b"], "cannot be a node's name"),
        (["get", "apex_archive", "apex_windspeed", "--start", "soon"], "no time"),
        (["get", "apex_archive", "apex_windspeed", "--min-stride", "5 parsecs"], "no length of time"),
        (["ls", "--home", "/nonexistent"], "sisock up"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(site, args, said):
    done = site.sisock(*args, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


def test_the_bridge_answers_search_and_query(site, files):
    names = site.get("/search")
    assert {f"apex_archive::{field}" for field in FIELDS} <= set(names)
    query = {
        "range": {"from": "2017-07-14T00:00:00.000Z", "to": "2017-08-01T00:00:00.000Z"},
        "targets": [
            {"target": "apex_archive::apex_windspeed", "refId": "A", "type": "timeserie"},
            {"target": "nobody::nothing", "refId": "B", "type": "timeserie"},
            {"target": "apex_archive::apex_temperature", "refId": "C", "type": "table"},
        ],
    }
    wind, nobody, table = site.get("/query", query)
    assert wind["target"] == "apex_archive::apex_windspeed"
    assert wind["datapoints"] == [[value, t * 1000] for t, value in files["apex_windspeed"].items()]
    assert nobody["datapoints"] == []
    assert nobody["error"]["message"]
    assert table["type"] == "table"
    assert [row[1] for row in table["rows"]] == list(files["apex_temperature"].values())


def test_sensors_are_live(site):
    def newest():
        text = site.sisock("get", "sensors", "memory_percent", "--start", "-1m", "--format", "csv").stdout
        rows = list(csv.DictReader(io.StringIO(text)))
        return float(rows[-1]["time"]) if rows else None

    before = wait(newest)
    assert wait(lambda: newest() > before)


def test_help_teaches(site):
    for command in ((), ("up",), ("run",), ("ls",), ("fields",), ("get",), ("bridge",)):
        text = site.sisock(*command, "--help").stdout
        assert "Usage: sisock" in text
        assert "--home" in text
