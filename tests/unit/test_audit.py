"""The audit: a line an event, bounded in a flood, its owner's alone, and never in the way of the site."""

from __future__ import annotations

import json

import pytest
from twisted.internet.task import Clock

from sisock import audit
from sisock.audit import MAX_TEXT, PER_SECOND, Audit, named


@pytest.fixture
def clock():
    made = Clock()
    made.advance(1_700_000_000.25)
    return made


@pytest.fixture
def kept(tmp_path, clock):
    made = Audit(tmp_path / "logs" / "audit-test.log", clock.seconds)
    yield made
    made.close()


def lines(kept):
    return [json.loads(line) for line in kept.path.read_text().splitlines()]


def test_a_line_has_its_time_its_event_and_what_is_known(kept):
    kept.note("login", user="anna", address="192.0.2.7", session=7, why=None)
    assert lines(kept) == [
        {"time": "2023-11-14T22:13:20.250Z", "event": "login", "user": "anna", "address": "192.0.2.7", "session": 7}
    ]
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700


def test_of_a_flood_the_first_are_written_and_the_others_counted_each_kind_for_itself(kept, clock):
    for _ in range(1000):
        kept.note("refused", user="x")
    kept.note("login", user="anna")
    assert len(lines(kept)) == PER_SECOND + 1
    clock.advance(1)
    kept.settle()
    assert lines(kept)[-1] | {"time": ""} == {"time": "", "event": "refused", "more": 1000 - PER_SECOND}
    kept.note("refused", user="y")
    assert lines(kept)[-1]["user"] == "y"


def test_the_count_is_told_when_it_is_closed(kept):
    for _ in range(PER_SECOND + 5):
        kept.note("denied", user="x")
    kept.close()
    assert lines(kept)[-1]["more"] == 5


def test_a_line_stays_one_line_and_short_whatever_a_name_holds(kept):
    kept.note("refused", user='a\n{"event": "login"}\u2028' + "x" * 1000)
    (line,) = kept.path.read_text().splitlines()
    assert line.isascii()
    assert len(json.loads(line)["user"]) == MAX_TEXT


@pytest.mark.parametrize("secret", ["s3cretinthewrongplace", "short", "x", "\ud800"])
def test_a_name_that_nobody_has_may_be_a_secret_and_is_marked_alone(secret):
    assert named(secret, known=True) == secret
    told = named(secret, known=None)
    assert told == named(secret, known=None) != named(secret + "x", known=None)
    assert told.removeprefix("unknown ")[8:] == f" ({len(secret)} characters)"
    assert secret not in told.removesuffix(" characters)") or len(secret) == 1
    assert named("", known=None) == ""


def test_it_is_rotated_and_the_oldest_goes(kept, clock, monkeypatch):
    monkeypatch.setattr(audit, "MAX_BYTES", 2000)
    for number in range(1000):
        clock.advance(1)
        kept.note("login", user=f"user{number}")
    files = sorted(kept.path.parent.iterdir())
    assert len(files) == audit.KEPT + 1
    assert sum(file.stat().st_size for file in files) < 2500 * (audit.KEPT + 1)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert "user999" in kept.path.read_text()


def test_a_place_that_cannot_be_written_keeps_nobody_out_and_is_said(tmp_path, clock, caplog):
    (tmp_path / "logs").write_text("a file where the folder should be")
    kept = Audit(tmp_path / "logs" / "audit-test.log", clock.seconds)
    kept.note("login", user="anna")
    assert "cannot be written" in caplog.text
    (tmp_path / "logs").unlink()
    kept.note("login", user="bob")
    assert [line["user"] for line in lines(kept)] == ["bob"]
    kept.close()
