"""Tables of SQLite and PostgreSQL as nodes: asked where they are."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from sisock.blocks import Block
from sisock.downsample import thin
from sisock.errors import NodeFailed, PositionLost, SetupError, SisockError, StoreAway, TimedOut, TooMuch
from sisock.nodes.table.connection import STATEMENT
from sisock.nodes.table.sqltable import COUNTED, SqlTable
from sisock.positions import Position
from sisock.windows import Windows
from tests.table.conftest import rows

T = 1_767_225_600.0
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def execute(address, *statements):
    engine = sa.create_engine(address.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(*(statement if isinstance(statement, tuple) else (statement,)))
    engine.dispose()


# What a column of times may be, on each engine, and how the time T + n seconds is written in it.
FORMS = {
    "timestamptz": ("postgresql", "timestamptz", lambda n: (DAY + timedelta(seconds=n)).isoformat()),
    "timestamp": ("postgresql", "timestamp", lambda n: (DAY + timedelta(seconds=n)).replace(tzinfo=None).isoformat()),
    "bigint ms": ("postgresql", "bigint", lambda n: round((T + n) * 1000)),
    "double": ("postgresql", "double precision", lambda n: T + n),
    "numeric": ("postgresql", "numeric", lambda n: T + n),
    "integer s": ("sqlite", "INTEGER", lambda n: round(T + n)),
    "real": ("sqlite", "REAL", lambda n: T + n),
    "integer us": ("sqlite", "INTEGER", lambda n: round((T + n) * 1e6)),
    "text": ("sqlite", "TEXT", lambda n: (DAY + timedelta(seconds=n)).replace(tzinfo=None).isoformat(" ")),
    "text Z": ("sqlite", "DATETIME", lambda n: (DAY + timedelta(seconds=n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
}


@pytest.fixture
def made(request, tmp_path):
    """Makes a table of n rows with times in some form; answers its address."""

    def make(form, n, *, index=True, series=0):
        engine, kind, write = FORMS[form]
        address = request.getfixturevalue("postgres")() if engine == "postgresql" else f"sqlite:///{tmp_path / 'plant.db'}"
        mark = "%s" if engine == "postgresql" else "?"
        number = "double precision" if engine == "postgresql" else "REAL"
        execute(
            address,
            f'CREATE TABLE "the table" ("the time" {kind}, who text, "air (degC)" {number}, n bigint, ok boolean, note text)',
        )
        step = 1 if "integer s" in form else 0.5
        values = [
            (
                write(i * step),
                f"s{i % series}" if series else None,
                None if i % 7 == 3 else np.sin(i / 9) * 5,
                i,
                i % 3 == 0,
                f"n{i}",
            )
            for i in range(n)
        ]
        values = [(t, w, None if x is None else float(x), i, ok, note) for t, w, x, i, ok, note in values]
        insert = f'INSERT INTO "the table" VALUES ({", ".join([mark] * 6)})'
        for at in range(0, n, 5000):
            execute(address, (insert, values[at : at + 5000]))
        if index:
            key = 'who, "the time"' if series else '"the time"'
            execute(address, f'CREATE INDEX "by time" ON "the table" ({key})')
        make.add = lambda *some: execute(address, (insert, [(write(n), *rest) for n, *rest in some]))
        make.step = step
        make.journal = lambda kind: execute(address, f"PRAGMA journal_mode = {kind}")
        return address if engine == "postgresql" else str(tmp_path / "plant.db")

    return make


@pytest.mark.parametrize("form", FORMS)
def test_rows_overviews_and_news_of_every_kind_of_time(opened, made, form):
    node = opened(made(form, 3000), time="the time", name="plant")
    step = made.step
    assert {name: (spec.units, spec.type) for name, spec in node.fields.items()} == {
        "who": (None, "string"),
        "air": ("degC", "number"),
        "n": (None, "number"),
        "ok": (None, "bool"),
        "note": (None, "string"),
    }
    assert rows(node, "n", "ok", "note", start=T + 10 * step, end=T + 12 * step) == [
        (T + 10 * step, 10, False, "n10"),
        (T + 11 * step, 11, False, "n11"),
    ]
    everything = node.history.read("t", ["air"], 0, 2**61)[0]
    assert len(everything) == 3000
    start, end = T + 100 * step, T + 2900 * step
    reply = node.get_data(["air"], start, end, max_points=100)
    assert reply["downsampled"]["t"]["from"] == 2800
    assert 90 <= len(reply["timeline"]["t"]["t"]) <= 102
    values = [value for value in reply["data"]["air"] if value is not None]
    between = everything.between(round(start * 1e6), round(end * 1e6)).columns["air"].numbers()
    assert (min(values), max(values)) == (np.nanmin(between), np.nanmax(between))
    # News come by themselves, late ones as well, each once.
    told = []
    node.on_kept = lambda *one: told.append(one)
    node.sample()
    # Of two rows of one time the last counts.
    made.add((3001 * step, None, 1.5, 1, True, "new"), (3001 * step, None, 2.5, 2, None, "x"))
    node.sample()
    node.sample()
    assert [(name, block.t.tolist(), position.seq) for name, block, position in told] == [
        ("t", [round((T + 3001 * step) * 1e6)], 2)
    ]
    made.add((2998 * step + step / 2 if step != 1 else 3000, None, 9.5, 2, None, "late"))
    node.sample()
    _, block, position = told[-1]
    assert block.columns["air"].values.tolist() == [9.5]
    assert position.seq == node.history.position("t").seq == 3
    late = node.history.changes("t", ["air"], Position(position.epoch, 2), 0, 2**61)
    assert late.block.columns["air"].values.tolist() == [9.5]
    assert late.revises == ((int(block.t[0]), int(block.t[0]) + 1),)
    assert node.get_data(["air"], T, None, max_points=1, method="last")["data"]["air"] == [2.5]


@pytest.mark.parametrize("form", ["timestamptz", "bigint ms", "text"])
@pytest.mark.parametrize("index", [True, False])
def test_an_overview_is_what_the_rows_say(opened, made, form, index):
    """Of every bucket the first least and the first greatest value, at their true times."""
    node = opened(made(form, 5000, index=index), time="the time", name="plant")
    everything = node.history.read("t", ["air", "n", "note"], 0, 2**61)[0]
    start, end = int(everything.t[0]), int(everything.t[-1]) + 1
    found = node.history.thinned("t", ["air"], start, end, 40)
    width = -(-(end - start) // 20)
    wanted = set()
    air = everything.columns["air"].numbers()
    for bucket in range(20):
        inside = np.flatnonzero((everything.t - start) // width == bucket)
        wanted |= {int(everything.t[inside[pick(air[inside])]]) for pick in (np.nanargmin, np.nanargmax)}
    if form == "text" or not index:
        # Which of equal values SQLite takes, it does not say; and its days have no more than a millisecond.
        assert len(wanted ^ set(found.t.tolist())) <= 4
    else:
        assert wanted == set(found.t.tolist())
    # Text has no extremes: something of each bucket is shown.
    assert len(node.history.thinned("t", ["note"], start, end, 40)) == 20
    assert ("CREATE INDEX" in " ".join(node.notes)) is not index
    assert isinstance(thin(Block(everything.t, dict(everything.columns)), 40), Block)


@pytest.mark.parametrize("form", ["timestamptz", "real"])
def test_series_are_timelines_and_new_ones_come_up(opened, made, form):
    node = opened(made(form, 300, series=3), time="the time", series="who", name="plant")
    assert sorted({spec.timeline for spec in node.fields.values()}) == ["s0", "s1", "s2"]
    assert [n for _, n in rows(node, "s1.n")][:3] == [1, 4, 7]
    assert len(node.get_data(["s1.air"], 1, None, max_points=20)["timeline"]["s1"]["t"]) <= 21
    told = []
    node.on_kept = lambda *one: told.append(one)
    node.sample()
    made.add((200.0, "s1", 1.0, 1, True, "a"), (200.0, "s9", 2.0, 2, True, "b"), (201.0, None, 3.0, 3, True, "c"))
    node.sample()
    assert sorted((name, len(block), position.seq) for name, block, position in told) == [("s1", 1, 2), ("s9", 1, 1)]
    assert rows(node, "s9.note") == [(T + 200, "b")]
    assert sorted(node.history.timelines()) == ["s0", "s1", "s2", "s9"]


@pytest.mark.parametrize("form", ["timestamptz", "real"])
def test_windows_are_made_of_no_more_rows_than_can_be_read(opened, made, form, monkeypatch):
    monkeypatch.setattr("sisock.nodes.table.sqlhistory.MAX_SCANNED", 200)
    node = opened(made(form, 600, series=3), time="the time", series="who", name="plant")
    start, end = round(T * 1e6), round((T + 300) * 1e6)

    def counted(start):
        return (
            node.history.windowed("s1", ["s1.n"], Windows(start, end, 10_000_000, 10_000_000), "count").columns["s1.n"].values
        )

    assert sum(counted(start)) == 200, "of one series"
    made.add((299.9, "s1", 1.0, 1, True, "one more"))
    node.sample()
    with pytest.raises(TooMuch, match="windows"):
        counted(start)
    assert sum(counted(start + 1_000_000)) == 200


@pytest.mark.parametrize("form", ["timestamptz", "real"])
def test_a_series_that_lags_behind_the_others_loses_nothing(opened, made, form):
    node = opened(made(form, 300, series=3), time="the time", series="who", name="plant")
    told = []
    node.on_kept = lambda name, block, position: told.append((name, len(block), position.seq))
    node.sample()
    made.add((1000.0, "s0", 1.0, 1, True, "a"))
    node.sample()
    # What was not told yet is answered, and replaced when it is told.
    made.add((170.0, "s1", 2.0, 2, True, "b"), (180.0, "s1", 3.0, 3, True, "b"))
    before = node.history.position("s1")
    assert rows(node, "s1.air", start=T + 160) == [(T + 170, 2), (T + 180, 3)]
    node.sample()
    node.sample()
    assert told == [("s0", 1, 2), ("s1", 2, 2)]
    first, last = round((T + 170) * 1e6), round((T + 180) * 1e6)
    assert node.history.changes("s1", ["s1.air"], before, 0, 2**61).revises == ((first, last + 1),)
    # Of one that catches up, what comes behind the newest and what comes before it are told together.
    made.add((200.0, "s2", 4.0, 4, True, "c"), (1001.0, "s2", 5.0, 5, True, "c"))
    node.sample()
    assert told[2:] == [("s2", 2, 2)]


@pytest.mark.parametrize("series", [0, 30])
def test_a_time_far_beyond_the_clock_does_not_end_the_news(opened, made, series):
    """And where many series lag, each has its turn."""
    far = 80 * 365 * 86_400.0
    who = "s1" if series else None
    address = made("real", 300, series=series)
    given = {"time": "the time", "series": "who" if series else None, "name": "plant"}
    node = opened(address, **given)
    made.add((far, who, 9.0, 9, True, "far"))
    for number in (1, 2):
        told = []
        node.on_kept = lambda *one, told=told: told.append(one)
        node.sample()
        made.add((500.0 * number, who, 1.0, 1, True, "a"))
        others = [n for n in range(series) if n != 1]
        for n in others:
            made.add((170.0 * number, f"s{n}", 2.0, 2, True, "b"))
        for _ in range(3):
            node.sample()
        assert sum(len(block) for _, block, _ in told) == (2 - number) + 1 + len(others)
        # A new start knows as much.
        node = opened(address, **given)


def test_a_new_start_goes_on_in_the_same_positions(opened, made):
    address = made("timestamptz", 100)
    given = {"time": "the time", "name": "plant"}
    first = opened(address, **given)
    first.start()
    before = first.history.position("t")
    assert opened(address, **given).history.position("t") == before
    made.add((60.0, None, 1.0, 1, True, "new"))
    started = opened(address, **given)
    started.start()
    again = started.history
    assert again.position("t") == Position(before.epoch, before.seq + 1)
    assert again.changes("t", ["n"], before, 0, 2**61).block.columns["n"].values.tolist() == [1]
    made.add((61.0, None, 1.0, 2, True, "new"))
    opened(address, **given).start()
    third = opened(address, **given).history
    with pytest.raises(TooMuch):
        third.changes("t", ["n"], before, 0, 2**61)
    with pytest.raises(PositionLost):
        third.changes("t", ["n"], Position("another", 1), 0, 2**61)


def test_many_rows_at_once_and_many_at_one_time(opened, made):
    node = opened(made("timestamptz", 10), time="the time", name="plant")
    total = []
    node.on_kept = lambda name, block, position: total.append(len(block))
    execute(
        node.asked.source,
        "INSERT INTO \"the table\" SELECT '2026-01-01Z'::timestamptz + (10 + i / 2) * interval '1 s', NULL, 1, i, true, 'x' "
        "FROM generate_series(0, 44999) i",
    )
    node.sample()
    assert sum(total) == 22_500
    assert len(node.history.read("t", ["n"], 0, 2**61)[0]) == 22_510
    node.sample()
    assert sum(total) == 22_500


def test_names_are_names_whatever_stands_in_them(opened, tmp_path, postgres):
    wild = 'x"; DROP TABLE "t"; --%s :a'
    for address in (postgres(), f"sqlite:///{tmp_path / 'wild.db'}"):
        quoted = '"' + wild.replace('"', '""').replace("%", "%%") + '"'
        literal = quoted if address.startswith("postgresql") else quoted.replace("%%", "%")
        kind = "timestamp" if address.startswith("postgresql") else "TEXT"
        execute(address, f"CREATE TABLE {literal} (t {kind}, {literal} real)")
        execute(address, f"INSERT INTO {literal} VALUES ('2026-01-01 00:00:00', 1.5), ('2026-01-01 00:00:01', 2.5)")
        source = address if address.startswith("postgresql") else str(tmp_path / "wild.db")
        node = opened(source, table=wild, time="t", name="wild")
        assert rows(node, wild) == [(T, 1.5), (T + 1, 2.5)]
        assert node.history.thinned("t", [wild], 0, 2**61, 2).t.tolist() == [int(T * 1e6), int(T * 1e6) + 1_000_000]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"table": "nope"}, "there is no table 'nope'. There are 'other', 'the table'"),
        ({}, "say which with --table"),
        ({"table": "the table"}, "--time COLUMN. There are 'the time'"),
        ({"table": "the table", "time": "x"}, "'x', which is not there"),
        ({"table": "other", "time": "t"}, "neither timestamps nor numbers|is not written|are not written"),
    ],
)
@pytest.mark.parametrize("form", ["bigint ms", "real"])
def test_what_is_not_there_is_listed(opened, made, form, given, said):
    address = made(form, 5)
    execute(
        address if "://" in address else f"sqlite:///{address}",
        "CREATE TABLE other (t text, x real)",
        "INSERT INTO other VALUES ('Monday', 1), ('2026-01-01', 2)",
    )
    with pytest.raises(SetupError, match=said):
        opened(address, **given)


def test_the_database_is_only_read_and_asked_for_a_bounded_time(made, home, monkeypatch):
    from sisock.nodes.table.asked import Asked

    assert STATEMENT == 30
    monkeypatch.setattr("sisock.nodes.table.connection.STATEMENT", 1.0)
    table = SqlTable(Asked(made("timestamptz", 5), table="the table", time="the time"))
    with pytest.raises(TimedOut), table.connections.reading() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(5)")
    with pytest.raises(NodeFailed, match="read-only"), table.connections.reading() as connection:
        connection.exec_driver_sql('DELETE FROM "the table"')
    table.close()
    lite = SqlTable(Asked(made("real", 5), table="the table", time="the time"))
    with pytest.raises(SisockError, match="readonly"), lite.connections.reading() as connection:
        connection.exec_driver_sql('DELETE FROM "the table"')
    with pytest.raises(TimedOut), lite.connections.reading() as connection:
        connection.exec_driver_sql("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n").all()
    # What is read together is of one moment.
    made.journal("wal")
    count = 'SELECT count(*) FROM "the table"'
    with lite.connections.reading() as connection:
        before = connection.exec_driver_sql(count).scalar()
        made.add((60.0, None, 1.0, 1, True, "new"))
        assert connection.exec_driver_sql(count).scalar() == before
    with lite.connections.reading() as connection:
        assert connection.exec_driver_sql(count).scalar() == before + 1
    lite.close()


def test_no_password_is_told(opened, server, caplog):
    address = server.address.replace("postgres:@", "postgres:hunter2@")
    execute(address, "CREATE TABLE a (t timestamptz, x real)", "INSERT INTO a VALUES (now(), 1)")
    node = opened(address)
    for wrong in (
        address + "x",
        address.replace("postgresql", "oracle"),
        "postgresql://u:hunter2@[::1",
        "postgresql://u:hunter2@/x?host=/none",
    ):
        with pytest.raises(SisockError) as raised:
            opened(wrong, table="a")
        assert "hunter2" not in str(raised.value)
    node.start()
    told = json.dumps(node.found()) + node.description + repr(node.asked) + node.history._state.read_text() + caplog.text
    assert "hunter2" not in told
    assert node.found()["rows"] == 1


def test_the_server_goes_and_comes_back(opened, server):
    execute(server.address, "CREATE TABLE a (t timestamptz PRIMARY KEY, x real)", "INSERT INTO a VALUES (now(), 1)")
    node = opened(server.address)
    node.take_sample()
    server.kill()
    with pytest.raises(StoreAway):
        node.get_data(["x"], 1, None)
    with pytest.raises(StoreAway):
        node.take_sample()
    assert node.health.keeping.away
    assert node.get_fields(1, None).fields.keys() == {"x"}
    server.start()
    told = []
    node.on_kept = lambda *one: told.append(one)
    execute(server.address, "INSERT INTO a VALUES (now(), 2)")
    node.take_sample()
    assert node.health.keeping is None
    assert len(told) == 1
    assert [x for _, x in rows(node, "x")] == [1, 2]


def test_a_locked_file_is_away_and_then_is_there(opened, made, monkeypatch):
    monkeypatch.setattr("sisock.nodes.table.connection.LOCKED", 0.05)
    path = made("real", 5)
    node = opened(path, time="the time", name="plant")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreAway, match="another program"):
        node.take_sample()
    holder.execute("ROLLBACK")
    holder.close()
    node.take_sample()
    assert len(rows(node, "n")) == 5


def test_values_of_many_types(opened, postgres, tmp_path):
    address = postgres()
    execute(
        address,
        "CREATE TYPE mood AS ENUM ('calm', 'wild')",
        "CREATE TABLE a (t timestamp, big bigint, price numeric(10, 2), m mood, u uuid, d date, j jsonb, b bytea, f real)",
        "INSERT INTO a VALUES ('2026-01-01', 9007199254740993, 1.25, 'wild', "
        "'00000000-0000-0000-0000-000000000001', '2026-01-02', '{}', 'x', 'NaN'), "
        "('infinity', 1, 1, 'calm', NULL, NULL, NULL, NULL, 1)",
    )
    node = opened(address, zone="Europe/Berlin")
    assert [note for note in node.notes if "left out" in note] == ["left out, as no field holds them: 'j', 'b'"]
    block, _ = node.history.read("t", list(node.fields), 0, 2**61)
    assert block.t.tolist() == [int((T - 3600) * 1e6)]
    shown = {name: column.values[0] for name, column in block.columns.items()}
    assert shown["big"] == 9007199254740993
    assert (shown["price"], shown["m"], shown["d"]) == (1.25, "wild", "2026-01-02")
    assert len(node.history.thinned("t", ["price", "f"], 0, 2**61, 2)) == 1


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_seconds_with_more_digits_than_microseconds_are_found_again(opened, request, tmp_path, engine):
    sqlite = engine == "sqlite"
    address = f"sqlite:///{tmp_path / 'fine.db'}" if sqlite else request.getfixturevalue("postgres")()
    execute(address, f"CREATE TABLE a (t {'REAL' if sqlite else 'double precision'}, x integer)")
    for i in range(50):
        execute(address, f"INSERT INTO a VALUES ({T + i * 1.000000273:.9f}, {i})")
    node = opened(str(tmp_path / "fine.db") if sqlite else address)
    block = node.history.read("t", ["x"], 0, 2**61)[0]
    assert block.columns["x"].values.tolist() == list(range(50))
    assert node.found()["rows"] == 50
    for t, x in zip(block.t.tolist(), range(50), strict=True):
        assert node.history.read("t", ["x"], t, t + 1)[0].columns["x"].values.tolist() == [x]
    pages = [page.columns["x"].values.tolist() for page, _ in node.history.pages("t", ["x"], 0, 2**61, 7)]
    assert [x for page in pages for x in page] == list(range(50))


def test_many_rows_are_estimated(opened, postgres):
    address = postgres()
    execute(
        address,
        "CREATE TABLE a AS SELECT '2026-01-01'::timestamptz + i * interval '1 s' AS t, i AS x "
        f"FROM generate_series(1, {COUNTED + 50_000}) i",
        "CREATE INDEX ON a (t)",
        "ANALYZE a",
    )
    node = opened(address)
    assert abs(node.history.count("t", 0, 2**61) - COUNTED - 50_000) < 20_000
    reply = node.get_data(["x"], 1, None, max_points=100)
    assert reply["data"]["x"][0] == 1
    assert reply["data"]["x"][-1] == COUNTED + 50_000
    assert node.get_data(["x"], 1, None) is False
