"""What a reading is, and what is none; the configuration; what is kept of what was refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import SetupError
from sisock.nodes.sensorhub.config import Config, Sensor
from sisock.nodes.sensorhub.refused import KEPT, MAX_TEXT, Refused
from sisock.nodes.sensorhub.source import MAX_MESSAGE, Malformed, Reading, clock, parse

NOON = 1_733_054_400_000_000


@pytest.mark.parametrize(
    ("timestamp", "t"),
    [
        ("2024-12-01 12:00:00", NOON),
        ("2024-12-01T12:00:00", NOON),
        ("2024-12-01T12:00:00Z", NOON),
        ("2024-12-01 14:00:00+02:00", NOON),
        ("2024-12-01 12:00:00.000001", NOON + 1),
        ("2024-02-29 00:00:00", 1_709_164_800_000_000),
        ("9999-12-31 23:59:59", 253_402_300_799_000_000),
    ],
)
def test_times_without_a_zone_are_utc(timestamp, t):
    assert parse(json.dumps({"sensor": "a", "value": 1, "timestamp": timestamp})) == Reading("a", 1.0, t)
    assert clock(NOON) == "2024-12-01 12:00:00"


def message(**changed):
    return {"sensor": "temperature", "value": 14, "timestamp": "2024-12-01 12:00:00"} | changed


BAD = {
    "no JSON": [
        *(b"", b"{", b"\xff", b"nonsense", b'{"sensor": "a" "value": 1}', "[" * 2000),
        *(message(value=float("nan")), message(sensor="\ud800")),
    ],
    "no object": [b"5", b"null", b'"a"', b"[]", b"true", json.dumps([message()])],
    "too long": [json.dumps(message(sensor="x" * MAX_MESSAGE)), b"[" * 100_000],
    **{f"no {key}": [{k: v for k, v in message().items() if k != key}] for key in message()},
    "sensor": [message(sensor=name) for name in ("", None, 5, ["a"], "a\nb", "a\x00", "x" * 256)],
    "value": [message(value=value) for value in ("14", None, True, [1], {})],
    "timestamp": [
        message(timestamp=text)
        for text in (
            *(1_733_054_400, None, "", "yesterday", "2024-13-01 00:00:00", "2023-02-29 00:00:00", "2024-12-01 24:00:01"),
            *("0000-00-00 00:00:00", "1969-12-31 23:59:59", "0001-01-01 00:00:00", "2016-12-31 23:59:60", "1" * 1000),
        )
    ],
}


@pytest.mark.parametrize(("reason", "bad"), [(reason, bad) for reason, bads in BAD.items() for bad in bads])
def test_what_is_no_reading_is_told_by_its_reason(reason, bad):
    with pytest.raises(Malformed) as told:
        parse(json.dumps(bad) if isinstance(bad, dict) else bad)
    assert told.value.reason == reason
    assert told.value.status == 400
    assert len(str(told.value)) < 1000


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_comes_is_a_reading_or_malformed(value):
    for text in (json.dumps(value), json.dumps(message(value=value)), json.dumps(message(sensor=value, timestamp=value))):
        try:
            assert isinstance(parse(text), Reading)
        except Malformed:
            pass


def test_of_what_was_refused_the_newest_are_kept():
    refused = Refused()
    for number in range(3 * KEPT):
        refused.note("channel", Malformed("no JSON", "x" * 1000), b"\xff" + b"%d " % number + b"y" * 100_000)
    refused.note("http", Malformed("value", "value is a number"), "text")
    told = refused.told()
    assert told["refused"] == {"no JSON": 3 * KEPT, "value": 1}
    assert refused.count == 3 * KEPT + 1
    assert len(told["newest"]) == KEPT
    assert all(len(one["message"]) <= MAX_TEXT and len(one["why"]) <= MAX_TEXT for one in told["newest"])
    assert told["newest"][-2]["message"].startswith("\\xff59 ")


def test_the_configuration_is_the_files_then_the_old_environments(tmp_path):
    assert Config.read(tmp_path, {}) == Config()
    old = {"REDIS_HOST": "broker", "API_HOST": "192.0.2.1", "DB_HOST": "db:5433", "DB_PASSWORD": "p@ss/w"}
    read = Config.read(tmp_path, old)
    assert read.redis == "redis://broker:6379/0"
    assert read.host == "192.0.2.1"
    assert read.store == "postgresql://postgres:p%40ss%2Fw@db:5433/postgres"
    assert Config.read(tmp_path, {**old, "SISOCK_STORE": "x"}).store is None
    for host, address in (("::1", "[::1]:6379"), ("[::1]", "[::1]:6379"), ("[::1]:7", "[::1]:7"), ("broker:7", "broker:7")):
        assert Config.read(tmp_path, {"REDIS_HOST": host}).redis == f"redis://{address}/0"
    (tmp_path / "sensorhub.toml").write_text(
        'redis = "redis://here:1/0"\nstream = "s"\n[sensors.temperature]\nunits = "degC"\ndescription = "In the hall"\n'
    )
    read = Config.read(tmp_path, old)
    assert (read.redis, read.stream) == ("redis://here:1/0", "s")
    assert read.sensors == {"temperature": Sensor("degC", "In the hall")}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "cannot be read"),
        ("colour = 1", "colour"),
        ("redis = 5", "redis is a text"),
        ("sensors = 5", "[sensors.NAME]"),
        ("[sensors.a]\nunit = 'x'", "takes units and description"),
        ("[sensors.a]\nunits = 5", "are texts"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path, text, word):
    (tmp_path / "sensorhub.toml").write_text(text)
    with pytest.raises(SetupError) as told:
        Config.read(tmp_path, {})
    assert word in str(told.value)
