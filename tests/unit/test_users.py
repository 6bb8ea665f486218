"""The file of users, which several programs and an editor write."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading

import pytest
from twisted.internet.task import Clock

from sisock.errors import SetupError
from sisock.users import SETTLES, User, Users, write_private


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / ".crossbar" / "users.json"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def leftovers(path):
    return sorted(entry.name for entry in path.parent.iterdir()) if path.parent.exists() else []


def test_without_a_file_there_is_nobody(path):
    assert Users(path).get("server") is None
    assert Users(path).get(None) is None
    assert not path.parent.exists(), "asking makes nothing"


def test_a_user_is_added_and_found_by_others(path):
    added = Users(path).add(User("roof", "node", "secret", ("roof", "attic")))
    assert added == User("roof", "node", "secret", ("roof", "attic"))
    assert Users(path).get("roof") == added
    assert json.loads(path.read_text()) == {"roof": {"role": "node", "secret": "secret", "nodes": ["roof", "attic"]}}


def test_one_that_is_there_keeps_its_secret(path):
    users = Users(path)
    first = users.ensure("server", "server")
    assert users.ensure("server", "server") == first
    assert Users(path).ensure("server", "consumer") == first
    assert users.add(User("server", "server", "new"), keep=False).secret == "new"
    assert Users(path).get("server").secret == "new"


def test_secrets_are_long_and_each_is_another(path):
    secrets = {Users(path).ensure(f"user{number}", "consumer").secret for number in range(20)}
    assert len(secrets) == 20
    assert all(len(secret) >= 43 for secret in secrets)


def test_only_its_owner_reads_it(path):
    Users(path).ensure("server", "server")
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    path.chmod(0o644)
    Users(path).ensure("simonsobs", "consumer")
    assert mode(path) == 0o600


def test_an_edit_counts_at_once(path):
    clock = Clock()
    users = Users(path, clock.seconds)
    users.add(User("roof", "node", "one", ("roof",)))
    assert users.get("roof").secret == "one"
    path.write_text('{"roof": {"role": "node", "secret": "another", "nodes": ["roof", "attic"]}}')
    assert users.get("roof") == User("roof", "node", "another", ("roof", "attic"))
    Users(path).add(User("cam", "node", "two", ("cam",)))
    assert users.get("cam") == User("cam", "node", "two", ("cam",))
    path.unlink()
    assert users.get("roof") is not None, "an editor may be in the middle of it"
    clock.advance(SETTLES)
    assert users.get("roof") is None
    users.ensure("roof", "consumer")
    assert users.get("roof").role == "consumer"


def test_a_file_that_is_away_for_a_moment_ends_nobody(path):
    clock = Clock()
    users = Users(path, clock.seconds)
    users.add(User("roof", "node", "one"))
    before, text = users.stamp, path.read_text()
    for _ in range(3):
        path.unlink()
        assert users.get("roof").secret == "one"
        assert users.stamp == before
        clock.advance(SETTLES / 2)
        assert users.get("roof").secret == "one"
        path.write_text(text[:10])
        assert users.get("roof").secret == "one"
        path.write_text(text)
        before = users.stamp
        clock.advance(10 * SETTLES)
        assert users.get("roof").secret == "one"
    # One that is half written after it was away for long is no reason to fall over.
    path.unlink()
    users.get("roof")
    clock.advance(SETTLES)
    assert users.all() == {}
    path.write_text(text[:10])
    assert users.all() == {}
    path.write_text(text)
    assert users.get("roof").secret == "one"


BROKEN = {
    "empty": "",
    "cut": '{"roof": {"role": "no',
    "list": "[]",
    "null": "null",
    "user is text": '{"roof": "secret"}',
    "no role": '{"roof": {"secret": "x"}}',
    "odd role": '{"roof": {"role": "root", "secret": "x"}}',
    "role is a list": '{"roof": {"role": [], "secret": "x"}}',
    "no secret": '{"roof": {"role": "node"}}',
    "empty secret": '{"roof": {"role": "node", "secret": ""}}',
    "secret is a number": '{"roof": {"role": "node", "secret": 5}}',
    "nodes is text": '{"roof": {"role": "node", "secret": "x", "nodes": "roof"}}',
    "nodes are numbers": '{"roof": {"role": "node", "secret": "x", "nodes": [5]}}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_left_alone(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    users = Users(path)
    for attempt in (lambda: users.get("roof"), lambda: users.ensure("roof", "node"), lambda: users.get("roof")):
        with pytest.raises(SetupError) as caught:
            attempt()
        assert str(path) in str(caught.value)
    assert path.read_text() == text


def test_a_file_that_is_no_text(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match=r"users\.json"):
        Users(path).get("roof")


def test_a_mended_file_is_read(path):
    users = Users(path)
    users.add(User("roof", "node", "one"))
    path.write_text("{")
    with pytest.raises(SetupError):
        users.get("roof")
    path.write_text('{"roof": {"role": "node", "secret": "two"}}')
    assert users.get("roof").secret == "two"


def test_a_folder_in_its_place(path):
    path.mkdir(parents=True)
    for attempt in (lambda: Users(path).get("roof"), lambda: Users(path).ensure("roof", "node")):
        with pytest.raises(SetupError, match=r"users\.json"):
            attempt()


def test_a_home_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    users = Users(tmp_path / "file" / "users.json")
    for attempt in (lambda: users.get("roof"), lambda: users.ensure("roof", "node")):
        with pytest.raises(SetupError, match=r"users\.json"):
            attempt()


ADD = """
import sys
from pathlib import Path
from sisock.users import Users

users = Users(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(25):
    users.ensure(f"{sys.argv[2]}.{number}", "consumer")
    users.ensure(f"shared.{number}", "consumer")
    print(users.get(f"shared.{number}").secret)
"""


def test_several_processes_add_at_once_and_lose_nobody(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, path, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    users = Users(path)
    assert all(users.get(f"{name}.{number}") for name in "abc" for number in range(25))
    shared = [users.get(f"shared.{number}").secret for number in range(25)]
    assert [output.split() for output, _ in told] == [shared] * 3, "all got the same secrets"
    assert len(json.loads(path.read_text())) == 100
    assert leftovers(path) == ["users.json", "users.lock"]


def test_who_reads_meanwhile_sees_a_whole_file(path):
    Users(path).add(User("first", "consumer", "x"))
    stop, wrong = threading.Event(), []

    def read():
        reader = Users(path)
        while not stop.is_set():
            try:
                if reader.get("first") is None:
                    wrong.append("nobody")
            except SetupError as error:
                wrong.append(str(error))

    reading = threading.Thread(target=read)
    reading.start()
    for number in range(100):
        Users(path).add(User(f"user{number}", "consumer", "y" * 100))
    stop.set()
    reading.join()
    assert not wrong


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "private.json"
    write_private(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "whole"
    assert leftovers(path) == ["private.json"]
