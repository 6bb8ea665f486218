"""The commands, and the how-to of the geoms, followed as it is written."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import pytest_twisted
from click.testing import CliRunner
from twisted.internet.utils import getProcessOutputAndValue

from sisock.cli import sisock as program
from sisock.nodes.geom import Geoms
from sisock.nodes.geom.keeping import TABLES, Samples
from sisock.store import Store
from tests.test_tokens import BELIEVED, jwks, token

HOWTO = Path(__file__).parents[2] / "docs" / "how-to"
TEXT = (HOWTO / "geoms.md").read_text()


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SISOCK_GEOM_PORT", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "access.toml").write_text(BELIEVED)
    (tmp_path / "home" / "keys.json").write_text(jwks())
    return tmp_path / "home"


def sisock(command, status=0):
    """What a command prints."""
    done = CliRunner().invoke(program, command.split())
    assert done.exit_code == status, (command, done.output, done.exception)
    return done.output


def refusal(command):
    """What a command says that cannot be done."""
    done = CliRunner().invoke(program, command.split())
    assert done.exit_code
    return str(done.exception) if done.exit_code == 1 else done.output


def test_a_day_is_prepared_listed_and_deleted(home):
    assert "no store" in refusal("geom samples"), "none is made by looking"
    span = "--start 2026-07-14T09:00 --end 2026-07-14T09:02"
    assert "in inputs/positions.csv" in sisock(f"geom generate inputs {span} --csv --people 2 --trays 1 --cameras 2")
    assert "--force" in refusal(f"geom generate inputs {span}")
    assert "in inputs/positions.parquet" in sisock(f"geom generate inputs {span} --force --people 2 --trays 1 --cameras 2")
    (home / "own").mkdir()
    own = home / "own" / "cameras.csv"
    own.write_text("device_id\nmine\n")
    assert "(cameras)" in refusal(f"geom generate {own.parent} {span}")
    assert own.read_text() == "device_id\nmine\n"
    sisock(f"geom generate {own.parent} {span} --force")
    assert not own.exists(), "a second file of cameras could not be prepared"
    prepared = json.loads(sisock(f"geom prepare --environment lab {span} --input inputs --json"))
    assert (prepared["sample"], prepared["frames"], prepared["geoms"], prepared["devices"]) == (1, 1200, 6, 2)
    said = sisock(f"geom prepare --environment lab {span} --input inputs")
    assert "sample 2: 1200 frames" in said
    assert re.search(r" 99\.\d % of them in a picture\n", said)
    assert [one["id"] for one in json.loads(sisock("geom samples --json"))] == [1, 2]
    listed = sisock("geom samples").splitlines()
    assert listed[0].split() == ["sample", "environment", "start", "(UTC)", "end", "source", "status", "frames", "cameras"]
    assert listed[2].split() == ["2", "lab", "2026-07-14T09:00", "2026-07-14T09:02", "cuwb", "success", "1200", "2"]
    assert "say --yes" in refusal("geom forget 1")
    assert "no sample 9" in refusal("geom forget 1 9 --yes")
    assert sisock("geom forget 1 --yes") == "sample 1 is deleted\n"
    assert [one["id"] for one in json.loads(sisock("geom samples --json"))] == [2]
    with Store.open(home / "history.db", tables=TABLES) as store:
        assert Samples(store).get(2).source_name == "inputs", "a name, and not where it lies"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--day 2026-07-14 --start 2026-07-14T09:00", "say which time"),
        ("--start 2026-07-14T09:00", "say which time"),
        ("", "say which time"),
        ("--start 2026-07-14T09:00 --end 2026-07-14T09:00", "before the start"),
        ("--day 2026-07-14T13:00", "no day"),
        ("--day 2026-02-30", "no time"),
        ("--start yesterday --end 2026-07-14T09:00", "no time"),
        ("--day 2026-07-14 --fps 0", "0.1"),
        ("--day 2026-07-14 --source nobodys", "Installed are cuwb, detection, pose"),
        ("--day 2026-07-14 --input nowhere", "does not exist"),
        ("--day 2026-07-14", "positions is missing"),
    ],
)
def test_what_cannot_be_prepared_is_told(home, tmp_path, options, said):
    assert said in refusal(f"geom prepare --environment lab --input {tmp_path} {options}")


@pytest_twisted.ensureDeferred
async def test_the_how_to_is_followed(home, tmp_path, router, monkeypatch):
    ((environment, day, device),) = re.findall(
        r"environment_id (\S+), date (\S+), and device_id (\S+)\.", sisock("simulate geoms --minutes 2 --people 2")
    )
    made = Geoms()
    service = await router.serve(made)
    environ = os.environ | {"GEOMS_TOKEN": token(), "GEOMS_URL": made.faces.address.replace("http", "ws") + "/ws"}
    script = str(HOWTO / "ask_geoms.py")
    out, err, status = await getProcessOutputAndValue(sys.executable, [script, environment, day, device], environ)
    assert status == 0, err
    assert b"sample 1: 1200 frames" in out
    assert b"Ada (Text2D): 11 frames" in out
    # A bad token, and a day without samples.
    for more, args, said in (({"GEOMS_TOKEN": "a:b"}, [day], b"4401"), ({}, ["2001-01-01"], b"4404")):
        out, err, status = await getProcessOutputAndValue(sys.executable, [script, environment, *args, device], environ | more)
        assert status == 1
        assert said in err
    await service.stop()


def test_the_source_of_the_how_to_is_a_source(home, tmp_path, monkeypatch):
    (python,), (toml,) = (re.findall(rf"```{kind}\n(.*?)```", TEXT, re.S) for kind in ("python", "toml"))
    entry = re.search(r"\[project.entry-points.\"sisock.geoms\"\]\n(.*)", toml)[1].replace('"', "")
    (tmp_path / "circling.py").write_text(python)
    installed = tmp_path / "circling-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: circling\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[sisock.geoms]\n{entry}\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = sisock("geom prepare --environment lab --day 2026-07-14 --source circling --input .")
    assert "324000 frames, 1 geoms, 1 cameras" in said


def test_the_commands_of_the_how_to_are_there():
    """Each line of it that calls us has options that the command knows."""
    calls = re.findall(r"^ {4}(?:\S+=\S+ )*sisock (.+)$", TEXT, re.M)
    assert len(calls) > 10
    for call in calls:
        words = call.split("#")[0].split()
        command, names = program, []
        context = None
        while hasattr(command, "get_command") and words:
            context = command.make_context("sisock", [], parent=context, resilient_parsing=True)
            names.append(words.pop(0))
            command = command.get_command(context, names[-1])
            assert command is not None, call
        options = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, call


@pytest.mark.parametrize(
    "command", ["geom prepare", "geom generate", "geom import", "geom samples", "geom forget", "simulate geoms"]
)
def test_help_keeps_its_examples_apart(command):
    said = sisock(f"{command} --help")
    assert "\\b" not in said
    examples = [line.strip() for line in said.splitlines() if line.strip().startswith("sisock ")]
    assert len(examples) == (2 if command in ("geom prepare", "geom generate", "simulate geoms") else 0), said
