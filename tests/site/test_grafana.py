"""Everything that Grafana is provisioned with, asked as Grafana asks it: of a real site with every node and its simulators."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import yaml

import sisock.grafana_bridge.provisioning
from sisock.grafana_bridge.units import grafana_unit
from tests.grafana import Failed, Shown, Source
from tests.site.conftest import SISOCK, Up, wait

FOLDER = Path(sisock.grafana_bridge.provisioning.__file__).parent
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards" / "sisock").glob("*.json"))}
NODES = ("weather", "hub", "telemetry", "sensorhub", "streams", "geom")
# What there has to be before somebody looks.
NEEDED = (
    "count(load_1)",
    'calls{node="hub"}',
    'count({quantity="cpu"})',
    'count({robot!=""})',
    'count({sensor!=""})',
    'count({topic!=""})',
    'count(last_over_time({environment!=""}[1h]))',
)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A site with every built-in node, each of which is fed."""
    home = tmp_path_factory.mktemp("grafana")
    (home / "sensorhub.toml").write_text('channel = ""\n[sensors.temperature]\nunits = "degC"\n')
    faces = {f"SISOCK_{name}_PORT": "0" for name in ("TELEMETRY", "SENSORHUB", "STREAMS", "GEOM")}
    up = Up(home, "--nodes", ",".join(NODES), env=faces)
    started = []
    try:
        up.ready()
        # By itself, so that a test can end it and nobody starts it again.
        up.sensors = begin(up, "run", "sensors")
        started += [up.sensors, begin(up, "simulate", "robots", "--count", "3", "--rate", "5", "--connections", "1")]
        for sensor in ("temperature", "hall (north).1"):
            stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
            post(f"{up.run['http']['sensorhub']}/add_rawdata/", {"sensor": sensor, "value": 21.5, "timestamp": stamp})
        for site, topic in (("dome", "weather"), ("dome", "jobs"), ("a/b", "weather")):
            post(f"{up.run['http']['streams']}/prod", {"site": site, "topic": topic, "data": {"n": 1}})
        walk(up, home / "inputs")
        up.folder = home / "provisioning"
        up.sisock("grafana", str(up.folder))
        source = provisioned(up)
        for needed in NEEDED:
            wait(lambda needed=needed: source.instant(needed, seen_until()))
        yield up
    finally:
        stop(*started)
        up.stop()


def seen_until():
    """The newest time that all panels see: steps stand on multiples of their length."""
    now = time.time()
    return min(now // step * step for step in (5, 10, 15))


def walk(up, folder):
    """Somebody walks before a camera, in the minute before the last."""
    start, end = (time.time() // 60 * 60 - ago for ago in (120, 60))
    rows = [
        f"{start + n / 2},camera-1,anna,{point},{100 + n},{50 + n}\n"
        for n in range(20)
        for point in ("left_shoulder", "right_shoulder")
    ]
    folder.mkdir()
    (folder / "keypoints.csv").write_text("timestamp,device_id,object_id,keypoint,x,y\n" + "".join(rows))
    (folder / "cameras.csv").write_text("device_id,width,height\ncamera-1,640,480\n")
    times = [f"{datetime.fromtimestamp(one, UTC):%Y-%m-%dT%H:%M}" for one in (start, end)]
    when = ("--start", times[0], "--end", times[1])
    up.sisock("geom", "prepare", "--environment", "lab", "--source", "pose", *when, "--input", str(folder))


def begin(up, *command):
    return subprocess.Popen([SISOCK, *command], env=up.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stop(*processes):
    for one in processes:
        one.send_signal(signal.SIGINT)
    for one in processes:
        one.wait(30)


def post(url, body):
    urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10).close()


def provisioned(up):
    return Source.provisioned(up.folder / "datasources" / "sisock-prometheus.yaml")


@pytest.fixture
def source(full):
    return provisioned(full)


def lacks(text):
    """Whether this machine cannot have what a query asks for: chips are seldom seen from inside a virtual machine."""
    chips = {"temperature": "sensors_temperatures", "fan": "sensors_fans"}
    return any(f'quantity="{kind}"' in text and not getattr(psutil, name)() for kind, name in chips.items())


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_shows_something(source, name):
    board = BOARDS[name]
    shown = Shown(board, source)
    for panel in board["panels"]:
        for target, answer in shown.answers(panel):
            if not lacks(target["expr"]):
                assert answer, f"{panel['title']}: {shown.filled(target['expr'], 60.0)} gives nothing"
            # Series whose names in the plot are the same could not be told apart.
            if not target["instant"]:
                legends = [legend(target["legendFormat"], one["metric"]) for one in answer]
                assert len(set(legends)) == len(legends), f"{panel['title']}: {legends}"
    for mark in board["annotations"]["list"]:
        if "expr" in mark:
            source.range(shown.filled(mark["expr"], 15.0), shown.start, shown.end, 15.0)


def legend(text, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), text)


def test_a_choice_with_what_regular_expressions_mean_is_that_one_alone(source):
    shown = Shown(BOARDS["readings"], source)
    assert "hall (north).1" in shown.label_values('label_values({sensor!=""}, sensor)')
    shown.chosen["sensor"] = ("hall (north).1", True)
    plot = next(panel for panel in BOARDS["readings"]["panels"] if panel["title"] == "Readings")
    ((_, answer),) = shown.answers(plot)
    assert [one["metric"]["sensor"] for one in answer] == ["hall (north).1"]
    assert {value for _, value in answer[0]["values"]} == {"21.5"}


def test_units_are_those_of_what_is_plotted(source):
    told = source.ask("/metadata")
    compared = 0
    for board in BOARDS.values():
        shown = Shown(board, source)
        for panel in board["panels"]:
            for target in panel["targets"]:
                if re.search(r"\bcount|__name__|last_over_time\(\{node=\"\$node\"\}", target["expr"]):
                    continue
                selectors = re.findall(r"(\w*\{[^}]*\})", target["expr"])
                series = source.ask("/series", {"match[]": [shown.filled(one) for one in selectors]})
                names = {one["__name__"] for one in series if shown.board["uid"] != "sisock-readings"}
                units = {grafana_unit(said["unit"]) for name in names for said in told[name]}
                plotted = panel["fieldConfig"]["defaults"].get("unit")
                if panel["type"] == "table":
                    column = panel["transformations"][1]["options"]["renameByName"][f"Value #{target['refId']}"]
                    plotted = {one["matcher"]["options"]: one["properties"][0]["value"]
                               for one in panel["fieldConfig"]["overrides"]}.get(column)  # fmt: skip
                if names:
                    compared += 1
                    assert units == {plotted}, f"{board['uid']}, {panel['title']}: {target['expr']}"
    assert compared > 40


def rules():
    return yaml.safe_load((FOLDER / "alerting" / "sisock.yaml").read_text())["groups"][0]["rules"]


def firing(source, rule):
    """The series for which an alert fires, as Grafana finds out: one time, and a comparison."""
    first, second = rule["data"]
    try:
        answer = source.instant(first["model"]["expr"], time.time())
    except Failed:
        # A node that has just left is an error for some seconds, which Grafana tells apart; then there is nothing of it.
        return []
    (condition,) = second["model"]["conditions"]
    (bound,) = condition["evaluator"]["params"]
    assert condition["evaluator"]["type"] == "gt"
    if not answer:
        return [{}] if rule["noDataState"] == "Alerting" else []
    return [one["metric"] for one in answer if float(one["value"][1]) > bound]


def test_no_alert_fires_on_a_site_that_is_well_and_two_do_when_a_node_ends(full, source):
    full_disk = psutil.disk_usage("/").percent > 90
    for rule in rules():
        answer = source.instant(rule["data"][0]["model"]["expr"], time.time())
        assert answer or lacks(rule["data"][0]["model"]["expr"]), rule["title"]
        assert not firing(source, rule) or (full_disk and rule["uid"] == "sisock-disk"), rule["title"]
    by_uid = {rule["uid"]: rule for rule in rules()}
    about_nodes = [by_uid["sisock-node-gone"], by_uid["sisock-stale"]]
    stop(full.sensors)
    for rule in about_nodes:
        wait(lambda rule=rule: firing(source, rule))


def test_a_bridge_elsewhere_is_asked_as_a_user_and_known_by_its_certificate(secure, tmp_path):
    """As a Grafana on another machine: it has a file with the secret, one with the certificate, and the folder."""
    wait(lambda: secure.whole_for({"sensors"}))
    secure.sisock("user", "revoke", "grafana", check=False)
    told = json.loads(secure.sisock("user", "add", "grafana", "--json").stdout)
    secret, authority = tmp_path / "secret", tmp_path / "ca.pem"
    secret.write_text(told["secret"] + "\n")
    authority.write_bytes((secure.home / ".crossbar" / "server_cert.pem").read_bytes())
    secure.folder = tmp_path / "provisioning"
    known = ("--user", "grafana", "--secret", str(secret), "--authority", str(authority))
    said = secure.sisock(
        "grafana", str(secure.folder), *known, "--no-alerts", "--source", "prometheus", "--source", "json"
    ).stdout
    assert f"for a bridge at {secure.run['bridge']} are in {secure.folder}" in said
    assert not (secure.folder / "alerting").exists()
    source = provisioned(secure)
    source.check()
    (plugin,) = yaml.safe_load((secure.folder / "datasources" / "sisock-json.yaml").read_text())["datasources"]
    request = urllib.request.Request(plugin["url"], headers=source.headers)
    with urllib.request.urlopen(request, timeout=10, context=source.trust) as answer:
        assert json.load(answer) == {"status": "ok"}
    shown = Shown(BOARDS["sensors"], source)
    (processor,) = [panel for panel in BOARDS["sensors"]["panels"] if panel["title"] == "Processes"]
    wait(lambda: all(answer for _, answer in Shown(BOARDS["sensors"], source).answers(processor)))
    assert shown.label_values("label_values(load_1, node)") == ["sensors"]
    source.headers["Authorization"] = "Bearer grafana:guessed"
    with pytest.raises(Failed, match="401"):
        source.check()
