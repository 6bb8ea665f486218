"""What is shipped: a wheel in an empty environment runs a whole site; the library alone fits beside a current JupyterLab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.site import conftest

CHECKOUT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
# As it is before a test gets a home of its own: the cache of packages is in the home.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
NO_NETWORK = re.compile(r"error sending request|dns error|[Nn]etwork|[Cc]ould not connect|timed out")

NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "js", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "tests", "bench"
)


def cannot(reason):
    """Where nobody looks at the skipped ones, a test that cannot run has failed."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


def uv(*args, text=None):
    if not UV.exists():
        cannot("uv is not in the environment; make setup puts it there")
    done = subprocess.run([UV, *map(str, args)], input=text, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
    if done.returncode and NO_NETWORK.search(done.stderr):
        cannot(f"the packages cannot be had: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves its traces, and what an older one left would be shipped."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CHECKOUT, folder / "source", ignore=NOT_SOURCE)
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, folder / "source")
    return next(folder.glob("*.whl"))


def test_all_that_the_packages_hold_is_in_the_wheel(wheel):
    shipped = set(zipfile.ZipFile(wheel).namelist())
    places = {"sisock": "sisock", "nodes": "sisock/nodes", "grafana_bridge": "sisock/grafana_bridge"}
    held = {
        f"{place}/{file.relative_to(CHECKOUT / folder)}"
        for folder, place in places.items()
        for file in (CHECKOUT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name not in ("README.md", ".gitignore")
    }
    assert held - shipped == set()
    assert {"sisock/crossbar/config.json", "sisock/py.typed", "sisock/page/index.html"} <= shipped
    assert not [name for name in shipped if not name.startswith(("sisock/", "sisock-"))]


def test_a_whole_site_runs_from_the_wheel_in_an_empty_environment(wheel, tmp_path, monkeypatch):
    python = tmp_path / "env" / "bin" / "python"
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "env")
    pins = ["--constraint", CHECKOUT / "requirements" / "lock.txt", "--override", CHECKOUT / "requirements" / "overrides.txt"]
    uv("pip", "install", "--quiet", "--compile-bytecode", "--python", python, *pins, f"sisock[site] @ {wheel.as_uri()}")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(conftest, "SISOCK", str(python.with_name("sisock")))
    up = conftest.Up(tmp_path / "home", "--no-open").ready()
    try:
        for command in (["ls"], ["get", "apex_archive", "apex_windspeed", "--start", "2017-07-14", "--max-points", "4"]):
            assert "apex_" in up.sisock(*command).stdout
        assert "sensors" in up.sisock("ls").stdout
        conftest.wait(up.whole)
        with urllib.request.urlopen(up.run["page"].partition("#")[0], timeout=10) as page:
            assert b"<title>sisock" in page.read()
        up.sisock("new-node", "roof")
        assert (tmp_path / "empty" / "roof" / "node.py").exists()
    finally:
        assert up.stop() == 0
    assert up.err == "", "a start prints no warnings"


def test_the_library_alone_brings_no_crossbar_and_does_not_hold_jupyterlab_back(wheel):
    def resolved(*requirements):
        given = "".join(f"{one}\n" for one in requirements)
        found = uv("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", sys.executable, "-", text=given)
        return dict(line.split("==") for line in found.splitlines() if "==" in line)

    alone, together = resolved("jupyterlab"), resolved("jupyterlab", f"sisock @ {wheel.as_uri()}")
    assert "crossbar" not in together
    assert "autobahn" in together
    assert alone.items() <= together.items()
