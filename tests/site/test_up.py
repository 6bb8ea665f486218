"""`sisock up` as its operator meets it: ready in one line, whole again after every kill, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request

import psutil
import pytest

from tests.site.conftest import SISOCK, Up, wait


def test_it_says_in_one_line_that_it_is_ready_and_has_written_run_json(site):
    run = site.run
    assert site.line.startswith("sisock is ready")
    for what in (run["page"], run["ws"], run["bridge"], "apex_archive", "sensors"):
        assert what in site.line
    assert set(run) >= {"ws", "realm", "base_uri", "page", "bridge", "consumer", "server", "http", "pids"}
    assert set(run["consumer"]) == set(run["server"]) == {"authid", "secret"}
    assert (run["realm"], run["base_uri"]) == ("sisock", "org.simonsobservatory")
    assert set(run["pids"]) == {"router", "weather", "sensors", "hub", "bridge"}
    assert all(psutil.pid_exists(pid) for pid in run["pids"].values())
    assert (site.home / "run.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("part", ["weather", "sensors", "bridge", "router", "router worker"])
def test_a_part_that_is_killed_comes_back_and_the_site_is_whole(site, part):
    wait(site.whole)
    old = psutil.Process(site.pid(part))
    old.kill()
    wait(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
    wait(lambda: site.whole() and psutil.pid_exists(site.pid(part)) and site.pid(part) != old.pid)
    listed = [node["name"] for node in _ls(site)]
    assert sorted(listed) == ["apex_archive", "hub", "sensors"]


def _ls(site):
    import json

    return json.loads(site.sisock("ls", "--json").stdout)


def test_a_stopped_node_is_taken_over_by_its_twin_and_one_of_them_leaves(site):
    wait(site.whole)
    first = psutil.Process(site.pid("sensors"))
    first.suspend()
    # The supervisor's own environment: the twin is another start of the same node in the same home.
    twin = subprocess.Popen([SISOCK, "run", "sensors"], env=site.env, stderr=subprocess.PIPE, text=True)
    try:
        wait(lambda: "sensors" in [node["name"] for node in _ls(site)] and site.get("/search") and _serves(site))
        first.resume()
        # The first is told to leave; its supervisor starts it anew, as the newest, and then the twin is told so.
        wait(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE or twin.poll() is not None)
        wait(lambda: twin.poll() is not None)
        # It hears it from the hub, or from the store, whichever it speaks to first.
        said = twin.stderr.read()
        assert "and leaves" in said or "another process writes" in said
        assert "Traceback" not in said
        assert [node["name"] for node in _ls(site)].count("sensors") == 1
        wait(site.whole)
    finally:
        if twin.poll() is None:
            twin.kill()
        twin.wait()
        twin.stderr.close()


def _serves(site):
    return site.sisock("get", "sensors", "memory_percent", "--start", "-1h", "--format", "csv", check=False).returncode == 0


def test_a_second_site_in_the_same_home_is_refused(site):
    second = site.sisock("up", "--ports", "auto", check=False)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert str(site.process.pid) in second.stderr
    assert "--home" in second.stderr


def test_a_taken_port_is_one_line_that_names_the_port_and_the_option(site, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--bridge-port"):
            done = site.sisock("up", "--home", str(tmp_path), "--ports", "auto", option, port, check=False)
            assert done.returncode == 1
            assert done.stderr.count("\n") == 1
            assert port in done.stderr
            assert option in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--tls"),
        (["--host", "0.0.0.0", "--tls", "--ocs"], "--insecure ocs"),
        (["--insecure", "door"], "door"),
        (["--nodes", "weather,nobody"], "nobody"),
        (["--nodes", "no.such:Node"], "no module"),
        (["--realm", "x"], "realm"),
    ],
)
def test_what_would_not_be_safe_or_cannot_be_is_one_line(tmp_path, options, said):
    env = {**os.environ, "SISOCK_HOME": str(tmp_path)}
    done = subprocess.run([SISOCK, "up", "--ports", "auto", *options], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


def test_ctrl_c_ends_everything_and_kill_9_of_up_does_too_and_a_second_up_starts_clean(tmp_path):
    first = Up(tmp_path, "--tls", env={"WAMP_USER": "server", "WAMP_SECRET": "compiled in"}).ready()
    assert first.run["ws"].startswith("wss://")
    assert first.run["server"] == {"authid": "server", "secret": "compiled in"}
    assert first.run["certificate"] == str(tmp_path / ".crossbar" / "server_cert.pem")
    port = first.run["ws"].split(":")[2].split("/")[0]
    remote = {"CROSSBAR_HOST": "localhost", "CROSSBAR_TLS_PORT": port, "WAMP_USER": "simonsobs"}
    env = {**first.env, **remote, "WAMP_SECRET": first.run["consumer"]["secret"]}
    listed = subprocess.run([SISOCK, "ls"], env=env, capture_output=True, text=True, timeout=60)
    assert "apex_archive" in listed.stdout, listed.stderr
    wrong = subprocess.run([SISOCK, "ls"], env={**env, "WAMP_SECRET": "wrong"}, capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 1
    assert "refused" in wrong.stderr
    first.process.kill()
    first.process.communicate()
    wait(lambda: not [part for part in first.tree if part.is_running() and part.status() != psutil.STATUS_ZOMBIE])
    second = Up(tmp_path).ready()
    assert sorted(node["name"] for node in _ls(second)) == ["apex_archive", "hub", "sensors"]
    assert second.stop() == 0
    assert second.err == "", "a start prints no foreign warnings"
    assert not [part for part in second.tree if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "run.json").exists()


def test_sigterm_is_ctrl_c_and_until_then_run_json_tells_where_nodes_speak_http(tmp_path):
    env = {"SISOCK_TELEMETRY_PORT": "0"}
    up = Up(tmp_path, "--nodes", "sensors,telemetry", env=env).ready()
    assert list(up.run["http"]) == ["telemetry"]
    first = up.run["http"]["telemetry"]
    with urllib.request.urlopen(f"{first}/healthz", timeout=10) as answer:
        assert answer.status == 200
    psutil.Process(up.pid("telemetry")).kill()
    wait(lambda: up.run["http"].get("telemetry") not in (None, first))
    # One signal: at a second one it does not wait for its parts.
    assert up.stop(signal.SIGTERM) == 0
    assert not [part for part in up.tree if part.is_running() and part.status() != psutil.STATUS_ZOMBIE]
