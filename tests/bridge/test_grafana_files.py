"""What Grafana is provisioned with: the files are current, hang together, and are what Grafana's own models know."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

import sisock.grafana_bridge.provisioning
from sisock.cli import sisock as sisock_command
from sisock.errors import InvalidArgument, SetupError
from sisock.grafana_bridge.provisioning import Place, files
from sisock.grafana_bridge.provisioning.alerts import RULES
from sisock.grafana_bridge.provisioning.boards import BOARDS
from sisock.grafana_bridge.provisioning.files import DIALECTS, committed
from sisock.grafana_bridge.provisioning.writing import write
from sisock.grafana_bridge.units import KNOWN
from tests.bridge.prometheus import promtool

FOLDER = Path(sisock.grafana_bridge.provisioning.__file__).parent
JS = Path(__file__).parents[2] / "js"
BOARD_FILES = sorted((FOLDER / "dashboards" / "sisock").glob("*.json"))
# What Grafana makes of itself.
BUILT_IN = {"-- Grafana --", "__expr__", "${source}"}


def load(name):
    text = (FOLDER / name).read_text()
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def test_the_files_are_current():
    """`python -m sisock.grafana_bridge.provisioning` writes them anew."""
    there = {str(path.relative_to(FOLDER)) for kind in ("y*ml", "json") for path in FOLDER.rglob(f"*.{kind}")}
    made = committed()
    assert there == set(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, f"{name} is not what is written now"


def test_there_is_a_dashboard_for_each_and_no_angular():
    assert {"weather", "sensors", "robots", "readings", "sites", "geoms", "hub"} <= {one.name for one in BOARDS}
    assert [path.stem for path in BOARD_FILES] == sorted(one.name for one in BOARDS)
    kinds = {panel["type"] for path in BOARD_FILES for panel in json.loads(path.read_text())["panels"]}
    # Each of these is in Grafana 10 to 13; graph, singlestat, table-old and such went with Angular.
    assert kinds == {"timeseries", "stat", "gauge", "table", "xychart"}


def sources():
    return [one for path in FOLDER.rglob("sisock-*.yaml") for one in yaml.safe_load(path.read_text())["datasources"]]


def test_uids_are_unique_and_every_source_is_there():
    boards = [json.loads(path.read_text()) for path in BOARD_FILES]
    uids = [board["uid"] for board in boards]
    rules = [rule for group in load("alerting/sisock.yaml")["groups"] for rule in group["rules"]]
    uids += [rule["uid"] for rule in rules] + [source["uid"] for source in sources()]
    assert len(uids) == len(set(uids))
    assert all(len(uid) <= 40 for uid in uids)
    assert {source["type"] for source in sources()} == {
        "prometheus",
        "simpod-json-datasource",
        "grafana-simple-json-datasource",
    }
    known = {source["uid"] for source in sources() if source["type"] == "prometheus"}
    for board in boards:
        assert asked(board) <= BUILT_IN
        (choice,) = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
        assert choice["name"] == "source"
        assert choice["current"]["value"] in known
        numbers = [panel["id"] for panel in board["panels"]]
        assert len(numbers) == len(set(numbers))
        assert all(panel["description"] for panel in board["panels"])
    assert {query["datasourceUid"] for rule in rules for query in rule["data"]} == known | {"__expr__"}


def asked(part):
    """The uids of all data sources that a part of a dashboard names."""
    if isinstance(part, list):
        return set().union(*(asked(one) for one in part))
    if not isinstance(part, dict):
        return set()
    own = {part["datasource"]["uid"]} if "datasource" in part else set()
    return own.union(*(asked(one) for one in part.values()))


@pytest.mark.parametrize("path", BOARD_FILES, ids=lambda path: path.stem)
def test_panels_lie_side_by_side(path):
    taken = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    for y in {y for _, y in taken}:
        assert len([x for x, at in taken if at == y]) == 24, f"{path.stem} has a hole at {y}"


# Grafana writes these and reads them again, though its models leave them out: the queries of variables and annotations.
BESIDE_MODELS = {"definition", "builtIn", "titleFormat", "textFormat", "step", "useValueForTime", "expr"}


def lost(given, read, path=""):
    """Where a model did not keep what was given."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            if name not in read:
                yield f"{path}/{name}"
            else:
                yield from lost(value, read[name], f"{path}/{name}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for place, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from lost(one, other, f"{path}/{place}")
    elif given != read:
        yield path


@pytest.mark.parametrize("path", BOARD_FILES, ids=lambda path: path.stem)
def test_the_models_of_grafana_10_know_every_word(path):
    plugins.register_default_plugins()
    given = json.loads(path.read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    strange = [where for where in lost(given, read) if where.split("/")[1] == "panels"]
    strange += [where for where in lost(given, read) if where.rsplit("/", 1)[1] not in BESIDE_MODELS]
    assert not strange


# Values of enumerations are texts in JSON, and whatever a version fills in by itself may be missing.
LOOSE = """type Loose<T> = T extends string ? T | `${T}`
    : T extends number ? T | (`${T}` extends `${infer N extends number}` ? N : never)
    : T extends (infer U)[] ? Loose<U>[] : T extends object ? { [K in keyof T]?: Loose<T[K]> } : T;"""


def test_the_types_of_grafana_13_know_every_word(tmp_path):
    """By its own TypeScript: what it does not know is an error."""
    schema = JS / "node_modules" / "@grafana" / "schema"
    assert schema.exists(), "`make setup` brings what is locked in js/package-lock.json"
    raw = schema / "dist" / "types" / "raw" / "composable"
    lines = ['import type { Dashboard, Panel } from "@grafana/schema";', LOOSE]
    kinds = ("timeseries", "stat", "gauge", "table")
    lines += [f'import type * as {kind} from "{raw}/{kind}/panelcfg/x/types.gen";' for kind in kinds]
    told = 0

    def tell(value, kind):
        nonlocal told
        told += 1
        lines.append(f"export const it{told} = {json.dumps(value)} satisfies Loose<{kind}>;")

    for path in BOARD_FILES:
        board = json.loads(path.read_text())
        for panel in board.pop("panels"):
            kind, options = panel["type"], panel.pop("options")
            custom = panel["fieldConfig"]["defaults"].pop("custom", {})
            tell(panel, "Panel")
            # The map is written as Grafana 10 has it, which later ones bring into their form when they read it.
            if kind != "xychart":
                tell(options, f"{kind}.Options")
                tell(custom, f"{kind}.FieldConfig") if custom else None
        for one in (*board["templating"]["list"], *board["annotations"]["list"]):
            for name in BESIDE_MODELS - {"builtIn"}:
                one.pop(name, None)
        tell(board, "Dashboard")
    assert told > 100
    (tmp_path / "check.ts").write_text("\n".join(lines))
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    options = "--noEmit --strict --skipLibCheck --module esnext --moduleResolution bundler --target es2022 --typeRoots none"
    tsc = [str(JS / "node_modules" / ".bin" / "tsc"), *options.split(), "check.ts"]
    done = subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[:3000]
    # It can fail.
    (tmp_path / "check.ts").write_text("\n".join([*lines, 'export const bad = { titel: "no" } satisfies Loose<Panel>;']))
    assert "titel" in subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout


def test_rules_for_a_prometheus_are_right(tmp_path):
    assert "6 rules found" in promtool("check", "rules", str(FOLDER / "prometheus" / "rules.yml"))
    assert "SUCCESS" in promtool("check", "config", str(FOLDER / "prometheus" / "prometheus.yml"))


def test_a_real_prometheus_reads_every_query(tmp_path):
    """Ours is not the only reader of PromQL: what is provisioned may be asked of another one."""
    asked = [rule["data"][0]["model"]["expr"] for rule in load("alerting/sisock.yaml")["groups"][0]["rules"]]
    for path in BOARD_FILES:
        board = json.loads(path.read_text())
        asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        asked += [one["expr"] for one in board["annotations"]["list"] if "expr" in one]
    filled = [re.sub(r"\$\w+", lambda one: {"$__interval_ms": "60000"}.get(one[0], "1m"), expr) for expr in asked]
    rules = [{"record": f"query_{number}", "expr": expr} for number, expr in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert len(rules) > 80
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_alert_rules_are_of_the_form_that_grafana_reads():
    (group,) = load("alerting/sisock.yaml")["groups"]
    assert (group["folder"], group["interval"]) == ("sisock", "1m")
    for rule in group["rules"]:
        first, second = rule["data"]
        assert rule["condition"] == second["refId"] == second["model"]["refId"] == "B"
        assert second["model"]["type"] == "threshold"
        assert second["model"]["expression"] == first["refId"] == first["model"]["refId"]
        assert first["model"]["instant"] is True
        assert rule["noDataState"] in ("OK", "NoData", "Alerting")
        assert rule["execErrState"] in ("OK", "Error", "Alerting")
        assert "$" not in rule["annotations"]["summary"] + first["model"]["expr"]


def test_a_folder_for_another_place_is_filled_in():
    place = Place("https://obs.example.org:5000/", "/srv/grafana", 'gra$"fänä😀', "/etc/secret", "/etc/ca.pem")
    made = files(place, DIALECTS, alerts=False)
    assert "alerting/sisock.yaml" not in made
    (source,) = yaml.safe_load(made["datasources/sisock-prometheus.yaml"])["datasources"]
    assert source["url"] == "https://obs.example.org:5000/prom"
    # Grafana writes $$ as $, and $__file{...} as what the file holds.
    assert (source["basicAuth"], source["basicAuthUser"]) == (True, 'gra$$"fänä😀')
    assert source["jsonData"]["tlsAuthWithCACert"] is True
    assert source["secureJsonData"] == {"basicAuthPassword": "$__file{/etc/secret}", "tlsCACert": "$__file{/etc/ca.pem}"}
    for dialect in DIALECTS[1:]:
        (source,) = yaml.safe_load(made[f"datasources/sisock-{dialect}.yaml"])["datasources"]
        assert source["url"] == "https://obs.example.org:5000"
        assert source["basicAuthUser"] == 'gra$$"fänä😀'
    (provider,) = yaml.safe_load(made["dashboards/sisock.yaml"])["providers"]
    assert provider["options"]["path"] == "/srv/grafana/dashboards/sisock"


def test_files_are_replaced_and_others_left_alone(tmp_path):
    (tmp_path / "datasources").mkdir()
    for name in ("own.yaml", "sisock-prometheus.yaml"):
        (tmp_path / "datasources" / name).write_text("# mine")
    write(tmp_path, files())
    assert (tmp_path / "datasources" / "own.yaml").read_text() == "# mine"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == {*files(), "datasources/own.yaml"}
    assert (tmp_path / "datasources" / "sisock-prometheus.yaml").read_text() == files()["datasources/sisock-prometheus.yaml"]
    with pytest.raises(SetupError, match="Name another folder"):
        write(tmp_path / "datasources" / "own.yaml", files())


def test_the_command_writes_them_and_tells_programs_which(tmp_path):
    def call(*args):
        return CliRunner().invoke(sisock_command, ["grafana", str(tmp_path / "made"), "--home", str(tmp_path / "none"), *args])

    told = json.loads(call("--json", "--source", "json", "--source", "json", "--no-alerts").output)
    there = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*.*")}
    assert set(told["files"]) == there == set(files(dialects=["json"], alerts=False))
    assert told["url"] == "http://localhost:5000"
    known = ("--url", "https://obs.example.org:5000", "--user", "grafana", "--secret", "/etc/secret")
    said = call(*known).output
    assert "`sisock user add grafana` prints one" in said
    assert "say --authority" in said
    assert isinstance(call("--user", "grafana").exception, InvalidArgument)


def test_the_how_to_names_every_rule_and_file():
    text = (FOLDER.parents[1] / "docs" / "how-to" / "grafana.md").read_text()
    assert all(rule.title in text for rule in RULES)
    assert all(f"`{folder}`" in (FOLDER / "README.md").read_text() for folder in {name.split("/")[0] for name in committed()})


@pytest.mark.parametrize(
    "wrong",
    [{"user": "grafana"}, {"secret": "/etc/secret"}, {"authority": "ca.pem"}, {"authority": "/etc/}"},
     {"url": "localhost:5000"}, {"url": "http://"}, {"folder": "provisioning"}],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidArgument):
        Place(**wrong)


def test_every_unit_is_one_that_grafana_knows():
    ids = {value for name, value in vars(units).items() if isinstance(value, str) and name[0] != "_"}
    assert len(ids) > 250
    assert set(KNOWN.values()) <= ids
