"""The doctor finds what is wrong and says what to do; the trace shows what goes over the wire; the shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import timedelta

import pytest

from sisock.certificates import Certificates
from sisock.home import Home
from sisock.settings import Settings
from sisock.site.doctor import look
from sisock.site.visit import sampling
from sisock.users import User
from tests.site.conftest import SISOCK, wait


def doctor(env, *options):
    done = subprocess.run([SISOCK, "doctor", "--json", *options], capture_output=True, text=True, env=env, timeout=60)
    return done.returncode, json.loads(done.stdout)


def levels(findings, about):
    return {finding["level"] for finding in findings if finding["about"] == about}


def test_a_well_site_is_well(site):
    wait(site.whole)
    status, findings = doctor(site.env)
    assert status == 0
    # Other tests may have killed parts of it lately, which is told.
    assert {"ok"} == {finding["level"] for finding in findings if "started again" not in finding["what"]}
    assert {"home", "credentials", "versions", "disk", "clock", "site", "port", "router", "nodes"} <= {
        f["about"] for f in findings
    }
    text = site.sisock("doctor").stdout
    assert "apex_archive has 5 fields" in text


def test_each_thing_that_is_wrong_is_found_with_what_to_do(tmp_path):
    crossbar = tmp_path / ".crossbar"
    crossbar.mkdir()
    users = crossbar / "users.json"
    users.write_text('{"server": {"role": "king", "secret": "x"}}')
    (crossbar / "server_cert.pem").write_text("no certificate")
    tmp_path.chmod(0o755)
    run = {
        "ws": "ws://localhost:9/ws",
        "realm": "sisock",
        "base_uri": "org.simonsobservatory",
        "page": "",
        "bridge": None,
        "local": f"unix://{tmp_path}/none",
        "certificate": None,
        "consumer": {"authid": "simonsobs", "secret": "x"},
        "server": {"authid": "server", "secret": "x"},
        "pids": {"router": 2**22 + 1},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    env = {**os.environ, "SISOCK_HOME": str(tmp_path), "PORT": "5050", "WAMP_USER": "me"}
    status, findings = doctor(env)
    assert status == 1
    assert levels(findings, "home") == {"warning"}
    assert levels(findings, "credentials") == {"error"}
    assert levels(findings, "certificate") == {"error"}
    assert "error" in levels(findings, "site")
    assert "error" in levels(findings, "port")
    assert levels(findings, "environment") == {"note", "warning"}
    assert "error" in levels(findings, "router")
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")


def test_files_of_the_future_are_a_clock_that_is_wrong(tmp_path):
    (tmp_path / ".crossbar").mkdir()
    users = tmp_path / ".crossbar" / "users.json"
    users.write_text("{}")
    users.chmod(0o600)
    os.utime(users, (time.time() + 86400,) * 2)
    status, findings = doctor({**os.environ, "SISOCK_HOME": str(tmp_path)})
    assert status == 1
    assert levels(findings, "clock") == {"error"}


def test_the_trace_prints_calls_and_answers_with_their_times_and_no_secret(site):
    secret = site.run["consumer"]["secret"]
    done = subprocess.run([SISOCK, "ls"], env={**site.env, "SISOCK_TRACE": "1"}, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    assert any("> Call" in line and "get_data_node" in line for line in lines)
    assert any("< Result" in line and "apex_archive" in line for line in lines)
    assert secret not in done.stderr
    assert site.sisock("ls").stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_get_a_script(site, shell):
    assert "_SISOCK_COMPLETE" in site.sisock("completion", shell).stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sisock get ap", "apex_archive"),
        ("sisock get apex_archive apex_w", "apex_windspeed"),
        ("sisock get apex_archive apex_windspeed apex_t", "apex_temperature"),
        ("sisock fields se", "sensors"),
        ("sisock run se", "sensors"),
        ("sisock doc", "doctor"),
    ],
)
def test_names_are_completed(site, words, found):
    env = {**site.env, "_SISOCK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([SISOCK], env=env, capture_output=True, text=True, timeout=60)
    assert found in done.stdout


def test_what_a_node_says_of_itself_is_told(site, tmp_path):
    # Of a node that runs, in the form in which it tells it; changed in a home of its own, where nobody writes it anew.
    told = next(path.read_text() for path in (site.home / "nodes").glob("sensors*.health.json"))
    assert json.loads(told)["trouble"] is None
    home = Home(tmp_path)
    home.make()
    home.health("mast").write_text(json.dumps({**json.loads(told), "trouble": "the mast has no power"}))
    found = [one for one in sampling(Settings.read({}, home), "mast") if "the mast has no power" in one.what]
    assert [(one.level, one.about, bool(one.remedy)) for one in found] == [("warning", "nodes", True)]


def test_what_is_wrong_with_access_is_found_with_what_to_do(tmp_path):
    home = Home(tmp_path)
    home.users.ensure("anna", "consumer")
    home.users.ensure("node:roof", "node", "roof")
    home.users.add(User("gone", "consumer", secret="x" * 30, expires=time.time() - 1))
    certificates = Certificates(tmp_path)
    certificates.ensure_authority()
    certificates.ensure("router")
    home.rules.path.write_text(
        '[[rule]]\nwho = ["anna", "anne"]\nnodes = ["*", "roof", "rooof"]\nverbs = ["see"]\n'
        '[face.bridge]\nwithout_token = ["0.0.0.0/0"]\n'
        '[[issuer]]\nname = "lab"\nissuer = "https://x.example"\naudience = "sisock"\njwks = "none.json"\n'
    )
    env = {**os.environ, "SISOCK_HOME": str(tmp_path)}
    status, findings = doctor(env)
    assert status == 1
    told = {finding["what"]: finding for finding in findings if finding["about"] in ("rules", "credentials")}
    wrong = [what for what, finding in told.items() if finding["level"] != "ok"]
    assert len(wrong) == 5
    for word in ("'anne'", "'rooof'", "0.0.0.0/0", "none.json", "gone"):
        assert [what for what in wrong if word in what], word
    assert all(told[what]["remedy"] for what in wrong)
    assert levels(findings, "certificate") == {"ok"}

    home.rules.path.write_text("rule = 5")
    status, findings = doctor(env)
    assert status == 1
    assert levels(findings, "rules") == {"error"}


@pytest.mark.parametrize(("hours", "level"), [(-1, "error"), (24 * 20, "warning"), (24 * 100, "warning"), (24 * 300, "ok")])
def test_an_authority_near_its_end_is_told_in_time(tmp_path, monkeypatch, hours, level):
    monkeypatch.setattr("sisock.certificates.AUTHORITY_VALID", timedelta(hours=hours))
    Certificates(tmp_path).ensure_authority()
    found = [one for one in look(Settings.read({}, Home(tmp_path))) if one.about == "certificate"]
    assert [one.level for one in found] == [level]
    assert level == "ok" or "renew" in found[0].remedy
