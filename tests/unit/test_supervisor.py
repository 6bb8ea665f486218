"""A site's supervisor and its run.json on a full disk, and when users change; no part is really started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sisock.cli.site import open_page
from sisock.credentials import new_secret
from sisock.errors import InvalidArgument
from sisock.home import Home
from sisock.settings import Settings
from sisock.site.supervisor import EchoLogs, PartLogs, Supervisor
from sisock.site.up import Plan, Router, Site


def test_a_part_is_started_again_and_the_others_go_on_though_the_disk_is_full(tmp_path, capsys):
    (tmp_path / "roof.log").symlink_to("/dev/full")
    clock, logs = Clock(), PartLogs(tmp_path)
    supervisor = Supervisor(logs)
    supervisor._clock = supervisor._reactor = clock
    supervisor.add_part("roof", ["true"], {})
    supervisor.running = True
    for _ in range(3):
        supervisor.protocols["roof"] = supervisor.timeStarted["roof"] = 0
        supervisor.part_ended("roof", Failure(ProcessTerminated(1)))
        assert "roof" not in supervisor.protocols
        supervisor.restart.pop("roof").cancel()
    logs.info("", tag="cam", line="goes on")
    logs.close()
    assert (tmp_path / "cam.log").read_text() == "goes on\n"
    told = capsys.readouterr().err
    assert told.count("roof.log cannot be written") == 1
    (tmp_path / "roof.log").unlink()
    logs.info("", tag="roof", line="is heard again")
    assert (tmp_path / "roof.log").read_text() == "is heard again\n"
    logs.close()


class Full:
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_what_can_be_printed_nowhere_ends_no_part(tmp_path, monkeypatch):
    (tmp_path / "logs").write_text("a file where the folder should be")
    with monkeypatch.context() as hindrance:
        hindrance.setattr("sys.stdout", Full())
        hindrance.setattr("sys.stderr", Full())
        for logs in (PartLogs(tmp_path / "logs"), EchoLogs()):
            logs.info("", tag="roof", line="lost")
            logs.failure("", name="roof", failure="lost")
            logs.close()


@pytest.fixture
def made(tmp_path):
    """A site that was not started."""
    return Site(Plan(Settings.read({}, Home(tmp_path / "home")), auto_ports=True, nodes=(), bridge=False))


def test_run_json_has_the_secrets_that_let_one_in(made):
    made._look()
    run = made.home.run()
    assert run.server["secret"] == made.home.users.get("server").secret
    made.home.users.update("server", lambda user: replace(user, secret=new_secret()))
    made._look()
    assert made.home.run().server["secret"] == made.home.users.get("server").secret != run.server["secret"]
    assert made.home.run().consumer == run.consumer


def test_a_run_json_that_could_not_be_written_is_written_later(made, monkeypatch):
    made._look()
    made.home.forget_run()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as hindrance:
        hindrance.setattr("sisock.home.write_private", full)
        made._part_started()
        made._look()
    assert made.home.run() is None
    made._look()
    assert made.home.run() is not None
    made.home.forget_run()
    made._look()
    assert made.home.run() is None, "what is as it was is not written again"


def test_a_browser_is_started_without_the_token_in_its_command_line(made, monkeypatch):
    launched = []
    monkeypatch.setattr("click.launch", launched.append)
    open_page(made)
    address, _, token = made.router.page_with_token.partition("#token=")
    assert address.startswith("http")
    (link,) = launched
    assert token not in link
    file = Path(link.removeprefix("file://"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"{address}#token={token}" in file.read_text()


@pytest.mark.parametrize("name", ["public", "hub", "page", "jwt:lab:anna", "role:node", "a b"])
def test_a_user_of_the_environment_whose_name_is_none_is_refused_before_anything_is_written(tmp_path, name):
    home = Home(tmp_path)
    settings = Settings.read({"WAMP_USER": name, "WAMP_SECRET": "s"}, home)
    with pytest.raises(InvalidArgument, match="cannot be a user's name"):
        Router(Plan(settings))
    assert home.users.all() == {}
