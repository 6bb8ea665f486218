"""The how-tos, run as they stand beside a whole site."""

from __future__ import annotations

import ast
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site.conftest import wait

HOWTO = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.fixture
def run(site, tmp_path):
    wait(site.whole)
    folders = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR")
    env = {**site.env, **dict.fromkeys(folders, str(tmp_path / "private"))}
    started = []

    def begin(*command):
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def done(process, code=0):
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, out + err
    return out, err


def python(name, *args):
    return sys.executable, str(HOWTO / name), *args


def test_the_script_keeps_a_day(run, tmp_path):
    out, _ = done(run(*python("script.py", "apex_archive", "apex_temperature", "2017-07-16", "day.csv")))
    assert out.splitlines()[0] == "24 rows of apex_temperature are in day.csv."
    assert out.splitlines()[1] == "The highest was 2.98 C at 2017-07-16T19:00:00Z."
    lines = (tmp_path / "day.csv").read_text().splitlines()
    assert lines[0] == "time,apex_temperature"
    assert len(lines) == 25
    _, err = done(run(*python("script.py", "apex_archive", "temperature", "2017-07-16", "day.csv")), 1)
    assert err == "apex_archive has no field 'temperature'. There is apex_temperature.\n"


def test_what_comes_is_printed_until_ctrl_c(run):
    process = run(*python("watch.py", "sensors", "load_1"))
    lines = [process.stdout.readline() for _ in range(3)]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+ [\d.]+ .*\n", line) for line in lines), lines
    process.send_signal(signal.SIGINT)
    assert done(process)[1] == ""


def test_the_asyncio_program_follows_both_nodes(run):
    out, err = done(run(*python("asyncio_program.py", "3")))
    assert err == ""
    assert "apex_archive had from -11.07 to 2.98 C\n" in out
    assert "sensors t: " in out


def test_the_twisted_program_reads_and_follows(run):
    out, err = done(run(*python("twisted_program.py", "sensors", "load_1", "2")))
    assert err == ""
    first, *rest = out.splitlines()
    assert re.fullmatch(r"sensors has \d+ rows of load_1\.", first)
    assert len(rest) >= 2
    assert all(re.fullmatch(r"\S+Z [\d.]+", line) for line in rest)


def test_the_notebook_is_executed(run, tmp_path):
    """By nbclient, in a kernel of this environment; its outputs are what it says."""
    copy = tmp_path / "notebook.ipynb"
    copy.write_text((HOWTO / "notebook.ipynb").read_text())
    done(run(str(Path(sys.executable).with_name("jupyter-execute")), "--inplace", str(copy)))
    cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = ["".join(text for output in cell["outputs"] for text in texts(output)) for cell in cells]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    hub, sensors, units, data, plot, described, dataset, schema, live, wrong, _ = outputs
    assert "Archived APEX weather." in hub
    assert "<svg" in sensors
    assert "'C'" in units
    assert "<svg" in data
    assert "image/png" in plot
    assert "apex_windspeed" in described
    assert "long_name" in dataset
    assert "timestamp[us, tz=UTC]" in schema
    assert "cpu_load" in live
    assert wrong.startswith("UnknownField - apex_archive has no field 'apex_temprature'.")


def texts(output):
    if output["output_type"] == "stream":
        yield "".join(output["text"])
    for kind, text in output.get("data", {}).items():
        yield kind
        yield "".join(text)


def test_the_notebook_is_kept_without_outputs_and_all_are_listed():
    cells = json.loads((HOWTO / "notebook.ipynb").read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    readme = (HOWTO / "README.md").read_text()
    for path in HOWTO.iterdir():
        assert path.name == "README.md" or f"[{path.name}]({path.name})" in readme
        if path.suffix == ".py":
            assert len(ast.get_docstring(ast.parse(path.read_text())).splitlines()) > 1
