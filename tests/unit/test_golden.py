"""The golden files hold what the Python side does; the JavaScript side reads the very same ones."""

import json

import pytest

from sisock.arrow import Reader
from sisock.errors import InvalidArgument
from sisock.live import LiveBlock
from tests.golden import make

FILES = make.files()


def read(name):
    return json.loads((make.FOLDER / name).read_text(encoding="utf-8"))


def of_json(told):
    """Wire forms with their bytes."""
    if isinstance(told, dict) and set(told) == {"base64"}:
        from base64 import b64decode

        return b64decode(told["base64"])
    if isinstance(told, dict):
        return {name: of_json(inner) for name, inner in told.items()}
    return [of_json(inner) for inner in told] if isinstance(told, list) else told


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_those_that_the_code_writes(name):
    assert read(name) == json.loads(make.text(FILES[name])), "`python -m tests.golden` writes them anew; look at the diff"


def test_no_file_is_left_over():
    assert {path.name for path in make.FOLDER.glob("*.json")} == FILES.keys()


@pytest.mark.parametrize("event", read("live.json"), ids=lambda event: str(event["wire"])[:40])
def test_events_are_read(event):
    wire = of_json(event["wire"])
    if event.get("refused"):
        with pytest.raises(InvalidArgument):
            LiveBlock.from_wire(wire)
    else:
        assert make.argument(LiveBlock.from_wire(wire)) == {key: told for key, told in event.items() if key != "wire"}


@pytest.mark.parametrize("stream", read("arrow.json"), ids=lambda stream: stream["timeline"])
def test_streams_are_read(stream):
    reader = Reader()
    blocks = [block for message in stream["messages"] for block in reader.feed(of_json(message["arrow"]))]
    assert [make.block(block) for block in blocks] == stream["blocks"]
    told = {name: {"units": field.units, "description": field.description} for name, field in reader.fields.items()}
    assert {name: told[name] for name in stream["fields"]} == stream["fields"]


def test_the_runs_reach_every_state_and_every_action():
    runs = read("splice.json")["runs"]
    assert any(run["unread"] for run in runs)
    steps = [step for run in runs for step in run["steps"]]
    assert {step["state"] for step in steps} == {"away", "opening", "reading", "asking", "live", "paused"}
    assert {action["do"] for step in steps for action in step["actions"]} == {
        "ask_tail",
        "read_pages",
        "ask_since",
        "deliver",
        "gap",
    }
    assert {step["tell"] for step in steps} >= {"tail", "page", "pages_done", "changed", "position_lost", "too_much", "event"}
