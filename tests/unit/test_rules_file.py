"""access.toml: what it grants, what is wrong with it, and when an edit counts."""

from __future__ import annotations

import os
import time

import pytest
from twisted.internet.task import Clock

from sisock.errors import SetupError
from sisock.rules import CLOSED, OPEN, SETTLES, Rules, RulesFile, covers, parse
from sisock.users import ANYBODY, BRIDGE, User

ANNA, ROOF, SERVER = User("anna", "consumer"), User("node:roof", "node", nodes=("roof",)), User("server", "server")

GRANTS = """
[[rule]]
who = ["anna", "role:node", "group:lab:astronomers"]
nodes = ["apex_*", "dome.*", "Caf\u00e9"]
verbs = ["read"]
"""


def rules(text=GRANTS):
    return parse(text)


@pytest.mark.parametrize(
    ("user", "verb", "node", "may"),
    [
        (ANNA, "read", "apex_archive", True),
        (ANNA, "see", "apex_archive", True),
        (ANNA, "follow", "apex_archive", False),
        (ANNA, "serve", "apex_archive", False),
        (ANNA, "read", "Apex_archive", False),
        (ANNA, "read", "x.apex_archive", False),
        (ANNA, "read", "dome.1", True),
        (ANNA, "read", "domex1", False),
        (ANNA, "read", "Caf\u00e9", True),
        (ANNA, "read", "Cafe\u0301", False),
        (User("bob", "consumer"), "read", "apex_archive", False),
        (User("jwt:lab:eve", "consumer", groups=("lab:astronomers",)), "read", "apex_archive", True),
        (User("jwt:lab:eve", "consumer", groups=("lab:cooks",)), "read", "apex_archive", False),
        (User("annabel", "consumer"), "read", "apex_archive", False),
        (ANYBODY, "see", "apex_archive", False),
        (SERVER, "read", "anything", True),
        (User(BRIDGE, "consumer"), "read", "anything", True),
        (ROOF, "serve", "roof", True),
        (ROOF, "serve", "roof.air", False),
        (ROOF, "read", "apex_archive", False),
    ],
)
def test_what_a_rule_grants(user, verb, node, may):
    assert rules().allow(user, verb, node) is may


def test_without_a_rule_consumers_may_all_and_with_none_that_fits_nothing():
    assert Rules().allow(ANNA, "follow", "x")
    assert Rules().allow(ANYBODY, "see", "x")
    assert not CLOSED.allow(ANNA, "see", "x")
    assert not parse('blocked = ["anna"]').allow(ANNA, "see", "x")


def test_a_star_is_whoever_has_logged_in_and_public_is_named():
    star = rules('[[rule]]\nwho = "*"\nnodes = "*"\nverbs = "read"')
    assert star.allow(ANNA, "read", "x")
    assert not star.allow(ANYBODY, "read", "x")
    assert rules('[[rule]]\nwho = "public"\nnodes = "*"\nverbs = "read"').allow(ANYBODY, "read", "x")


@pytest.mark.parametrize(
    ("who", "means"),
    [
        ("r*", {"r.fish"}),
        ("*", {"r.fish", "jwt:lab:eve", "a?[b]c"}),
        ("*:*", {"jwt:lab:eve"}),
        ("group:*", {"jwt:lab:eve"}),
        ("group:lab:astro*", {"jwt:lab:eve"}),
        ("role:consumer", {"r.fish", "jwt:lab:eve", "a?[b]c"}),
        ("role:node", set()),
        ("a?[b]c", {"a?[b]c"}),
        ("r?fish", set()),
        ("[r].fish", set()),
        ("r.*sh", {"r.fish"}),
        ("r.fis", set()),
        (".*", set()),
    ],
)
def test_a_star_is_the_only_sign_and_names_are_apart_from_roles_and_groups(who, means):
    users = [User("r.fish", "consumer"), User("a?[b]c", "consumer")]
    users.append(User("jwt:lab:eve", "consumer", groups=frozenset({"lab:astronomers"})))
    granted = rules(f'[[rule]]\nwho = "{who}"\nnodes = "x*z"\nverbs = "read"')
    assert {user.authid for user in users if granted.allow(user, "read", "xyz")} == means
    assert not any(granted.allow(user, "read", node) for user in users for node in ("x", "axyz", "xy", "xyz.a"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[rule]\n", "no TOML"),
        ("rule = 5", "list of tables"),
        ("colour = 1", "'colour' is not known"),
        ('[[rule]]\nwho = []\nnodes = ["a"]\nverbs = ["see"]', "who is empty"),
        ('[[rule]]\nwho = ["a"]\nnodes = ["a"]', "verbs"),
        ('[[rule]]\nwho = ["a"]\nnodes = ["a"]\nverbs = ["fly"]', "no verb 'fly'"),
        ('[[rule]]\nwho = ["role:king"]\nnodes = ["a"]\nverbs = ["see"]', "no role"),
        ('[[rule]]\nwho = [5]\nnodes = ["a"]\nverbs = ["see"]', "list of texts"),
        ("face = 1", "write [face.bridge]"),
        ("[face]\nbridge = 1", "write [face.bridge]"),
        ('[face.bridge]\nwithout_token = ["192.0.2.1/24"]', "Write networks"),
        ('[[issuer]]\nname = "a b"\nissuer = "i"\naudience = "s"\njwks = "k"', "letters"),
        ('[[issuer]]\nname = "a"\nissuer = "i"\naudience = "s"\njwks = "http://x.example/k"', "https"),
        ('[[issuer]]\nname = "a"\nissuer = "i"\naudience = "s"\njwks = "k"\nalgorithms = ["HS256"]', "HS256"),
        ('[[issuer]]\nname = "a"\nissuer = "i"\naudience = "s"\njwks = "k"\n' * 2, "same name"),
        ('[[issuer]]\nname = "a"\nissuer = "i"\njwks = "k"', "audience is a text"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, word):
    with pytest.raises(SetupError) as told:
        parse(text)
    assert word in str(told.value)


class Edited:
    def __init__(self, path):
        self.clock, self.path, self.writes = Clock(), path, 0
        self.file = RulesFile(path, self.clock.seconds)

    def write(self, text):
        self.path.write_text(text)
        # Of the future, so that only the clock of this test counts; each by itself.
        self.writes += 1
        os.utime(self.path, (time.time() + 3600 + self.writes,) * 2)

    def settled(self):
        self.file.current()
        self.clock.advance(2 * SETTLES)
        return self.file.current()


def test_an_edit_counts_once_it_stands_and_one_that_breaks_the_file_not_at_all(tmp_path):
    edited = Edited(tmp_path / "access.toml")
    assert edited.file.current() == OPEN
    edited.write(GRANTS)
    assert edited.file.current() == OPEN, "an editor may be in the middle of it"
    assert edited.settled() == rules()
    edited.write("")
    assert edited.settled() == rules()
    assert "empty" in edited.file.problem
    with pytest.raises(SetupError):
        edited.file.check()
    edited.write("rule = 5")
    assert edited.settled() == rules()
    edited.write('blocked = ["anna"]')
    assert edited.settled().blocked == {"anna"}
    assert edited.file.problem is None
    edited.path.unlink()
    assert edited.settled() == OPEN


def test_whoever_looks_seldom_does_not_go_by_old_rules(tmp_path):
    path = tmp_path / "access.toml"
    file = RulesFile(path)
    assert file.current() == OPEN
    path.write_text(GRANTS)
    os.utime(path, (time.time() - 1,) * 2)
    assert file.current() == rules()
    path.write_text('blocked = ["anna"]')
    os.utime(path, (time.time() - 0.5,) * 2)
    assert file.current().blocked == {"anna"}


@pytest.mark.parametrize("hindered", ["stat", "read_text"])
def test_what_could_not_be_read_for_a_moment_is_read_again(tmp_path, monkeypatch, hindered):
    edited = Edited(tmp_path / "access.toml")
    edited.write('blocked = ["anna"]')
    assert edited.settled().blocked == {"anna"}
    edited.write('blocked = ["anna", "bob"]')

    def fail(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as hindrance:
        hindrance.setattr(type(edited.path), hindered, fail)
        assert edited.settled().blocked == {"anna"}
        assert "Too many" in edited.file.problem
    assert edited.settled().blocked == {"anna", "bob"}
    assert edited.file.problem is None
    with monkeypatch.context() as hindrance:
        hindrance.setattr(type(edited.path), hindered, fail)
        edited.write(GRANTS)
        edited.settled()
    edited.path.unlink()
    assert edited.settled() == OPEN


def test_broken_from_the_start_it_grants_nothing(tmp_path):
    (tmp_path / "access.toml").write_bytes(b"\xff\xfe")
    file = RulesFile(tmp_path / "access.toml")
    assert file.current() == CLOSED
    assert not file.current().allow(ANNA, "see", "x")


@pytest.mark.parametrize(
    ("address", "inside"),
    [("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.3.7", False), ("2001:db8::1", False), ("", False), ("x", False)],
)
def test_which_addresses_a_network_covers(address, inside):
    networks = parse('[face.a]\nwithout_token = ["192.0.2.0/24"]').faces["a"].without_token
    assert covers(networks, address) is inside
