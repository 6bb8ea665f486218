"""Recordings: whatever came in whatever order, and wherever the program ended, the rows are read back as the node has them."""

import random

import numpy as np
import pytest

from sisock import files
from sisock.blocks import Block, Column, concat, merge
from sisock.errors import InvalidArgument, SetupError, StoreDamaged, StoreFull
from sisock.fields import Catalogue, Field
from sisock.positions import Position
from sisock.recording import Recording, Tape, parts
from sisock.recording import tape as taping
from sisock.recording.about import About, locked
from sisock.recording.parts import Gap
from sisock.splice import Unread
from sisock.store.layers import outside

FIELDS = {"x": Field("a number", "V"), "s": Field(type="string")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Disks are waited for elsewhere; parts are many here."""
    monkeypatch.setattr(files.os, "fsync", lambda fd: None)
    monkeypatch.setattr(taping, "MANY", 4)
    monkeypatch.setattr(parts, "GROUP_ROWS", 20)


def tape(folder, **limits):
    return Tape(folder / parts.file_name("t"), "t", FIELDS, **limits)


def recording(folder):
    About("roof", 1, "On the roof.", Catalogue(FIELDS)).write(folder)
    return Recording.find(folder)


def block(times, value=1.0):
    return Block(np.array(times, np.int64), {"x": Column(np.full(len(times), value))})


class Model:
    """The rows as a follower has them, and a chance of what comes next."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.rows = block([])
        self.newest = 1000

    def comes(self):
        chance = self.chance
        if chance.random() < 0.6:
            count = chance.randrange(1, 30)
            times, revises = [self.newest + 1 + i for i in range(count)], ()
            self.newest += count
        else:
            low = chance.randrange(900, self.newest + 5)
            high = low + chance.randrange(1, 60)
            times = sorted({chance.randrange(low, high) for _ in range(chance.randrange(5))})
            revises = ((low, high),)
            self.newest = max(self.newest, high)
        came = block(times, chance.random())
        for start, end in revises:
            self.rows = outside(self.rows, start, end)
        self.rows = merge(self.rows, came)
        return came, revises


@pytest.mark.parametrize("seed", range(25))
def test_what_is_read_back_is_what_came(tmp_path, seed):
    model = Model(seed)
    chance = model.chance
    kept = tape(tmp_path)
    for number in range(60):
        kept.add(*model.comes(), Position("epoch", number))
        if chance.random() < 0.4:
            kept.commit(kept.take())
        if chance.random() < 0.2:
            kept.tidy()
        if chance.random() < 0.1:
            kept.commit(kept.take())
            kept = tape(tmp_path, max_size=chance.choice([1, 20_000, 1 << 30]))
    kept.commit(kept.take())
    kept.tidy(last=chance.random() < 0.5)
    found = recording(tmp_path)
    assert concat(found.rows("t")).columns["x"] == model.rows.columns["x"]
    assert concat(found.rows("t")).t.tolist() == model.rows.t.tolist()
    low, high = sorted(chance.randrange(900, model.newest) for _ in range(2))
    assert concat(found.rows("t", low, high)).t.tolist() == model.rows.between(low, high).t.tolist()
    again = tape(tmp_path)
    assert again.told.position == Position("epoch", 59)
    assert again.newest >= model.rows.t[-1]


@pytest.mark.parametrize("seed", range(12))
def test_wherever_the_program_ends_what_was_committed_is_there(tmp_path, monkeypatch, seed):
    """Ended before or after any step on the disk: what is read is what some commit left, and the tape goes on from it."""
    model = Model(seed)

    class Ended(BaseException):
        pass

    def maybe(step):
        def ending(*args, **kwargs):
            if model.chance.random() < 0.05:
                raise Ended
            done = step(*args, **kwargs)
            if model.chance.random() < 0.05:
                raise Ended
            return done

        return ending

    path = type(tmp_path)
    kept, committed, number = tape(tmp_path), {0: block([])}, 0
    for step in ("replace", "unlink"):
        monkeypatch.setattr(path, step, maybe(getattr(path, step)))
    for _ in range(80):
        number += 1
        came = model.comes()
        committed[number] = model.rows
        try:
            kept.add(*came, Position("epoch", number))
            kept.commit(kept.take())
            kept.tidy()
        except Ended:
            while True:
                try:
                    kept = tape(tmp_path)
                    break
                except Ended:
                    continue
            position = kept.told.position
            reached = 0 if position is None else position.seq
            assert reached in (number, number - 1)
            model.rows, number = committed[reached], reached
    monkeypatch.undo()
    found = recording(tmp_path)
    assert concat(found.rows("t")).t.tolist() == model.rows.t.tolist()
    assert concat(found.rows("t")).columns["x"] == model.rows.columns["x"]


def test_how_far_it_came_and_what_is_missing_is_told(tmp_path):
    kept = tape(tmp_path)
    unread = Unread(5, 9, anew=True)
    kept.add(block([1, 2]), (), Position("epoch", 3), unread)
    kept.gap(Gap(1, 7, "nobody knows"))
    kept.commit(kept.take())
    kept.gap(Gap(1, 7, "nobody knows"))
    kept.gap(Gap(8, 9, "the router was away"))
    kept.commit(kept.take())
    again = tape(tmp_path)
    assert (again.told.position, again.newest, again.told.unread) == (Position("epoch", 3), 2, unread)
    again.tidy(last=True)
    found = recording(tmp_path)
    assert found.gaps("t") == [Gap(1, 7, "nobody knows"), Gap(8, 9, "the router was away")]
    assert found.span("t") == (1, 2)
    assert found.fields("t") == FIELDS
    assert found.about.description == "On the roof."


def test_old_rows_that_are_corrected_do_not_hold_up_what_is_new(tmp_path):
    """A late row has a row group of its own, so that reading does not hold all that lies between."""
    kept = tape(tmp_path)
    kept.add(block(range(100)))
    kept.commit(kept.take())
    kept.add(block([3], 7.0), ((3, 4),))
    kept.add(block(range(100, 110)))
    kept.commit(kept.take())
    last = parts.load(*[(path, first, number) for first, number, path in parts.names(tmp_path / "t")][-1])
    assert [(group.first, group.last) for group in last.groups] == [(3, 3), (100, 109)]


def test_a_disk_that_took_nothing_ends_the_tape(tmp_path, monkeypatch):
    kept = tape(tmp_path)
    kept.add(block([1]), (), Position("epoch", 1))
    kept.commit(kept.take())
    kept.add(block([2]), (), Position("epoch", 2))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            kept.commit(kept.take())
    kept.add(block([3]), (), Position("epoch", 3))
    with pytest.raises(StoreFull):
        kept.commit(kept.take())
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["00000001-00000001.parquet"]
    assert tape(tmp_path).told.position == Position("epoch", 1), "a part behind one that is missing would hide that"


def test_what_is_no_recording_says_so(tmp_path):
    with pytest.raises(SetupError, match="no recording"):
        Recording.find(tmp_path)
    for name in ("roof", "yard"):
        (tmp_path / name).mkdir()
        About(name, 1).write(tmp_path / name)
    with pytest.raises(InvalidArgument, match="name one"):
        Recording.find(tmp_path)
    (tmp_path / "roof" / "recording.json").write_text("{")
    with pytest.raises(StoreDamaged, match=r"recording\.json"):
        Recording.find(tmp_path / "roof")
    (tmp_path / "yard" / "t").mkdir()
    (tmp_path / "yard" / "t" / "00000001-00000001.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StoreDamaged, match="no part"):
        Recording.find(tmp_path / "yard")


def test_a_folder_has_one_writer(tmp_path):
    with locked(tmp_path), pytest.raises(SetupError, match="process"), locked(tmp_path):
        pass


@pytest.mark.parametrize("name", [".", "..", "a/b", "x" * 255, "ö" * 255, "~", "%2E"])
def test_any_timeline_has_a_folder(tmp_path, name):
    folder = tmp_path / parts.file_name(name)
    kept = Tape(folder, name, FIELDS)
    kept.add(block([1]))
    kept.commit(kept.take())
    assert folder.parent == tmp_path
    assert recording(tmp_path).timelines == [name]
