"""`sisock replay`: what was recorded comes once more, as a live node's."""

import json

import numpy as np
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from sisock.blocks import Block, concat
from sisock.fields import Catalogue, Field, Timeline
from sisock.followed import Missing
from sisock.recording import Tape
from sisock.recording.about import About
from sisock.replaying import NodeSource, Origin, Pace, play, replay_node
from sisock.times import now
from tests.commands.conftest import T, filled
from tests.plain import until


@given(
    steps=st.lists(st.integers(1, 10**9), max_size=50),
    speed=st.floats(1e-3, 1e8),
    newest=st.integers(0, 2 * 10**15),
)
def test_stamps_ascend_whatever_the_speed(steps, speed, newest):
    t = np.cumsum(np.array([10**15, *steps], np.int64))
    stamps = Pace(int(t[0]), speed).stamps(t, newest)
    assert stamps[0] > newest
    assert (np.diff(stamps) > 0).all()
    assert Pace(int(t[0]), speed, keep_times=True).stamps(t, newest).tolist() == t.tolist()


def recorded(folder, rows=200):
    """A recording of two timelines; rows come each 0.1 s."""
    fields = {"n": Field("Counts", "1"), "note": Field(type="string"), "slow": Field(units="mm", timeline="slow")}
    About("roof", 1, "On the roof.", Catalogue(fields, {"t": Timeline(0.1), "slow": Timeline(5.0)})).write(folder)
    tape = Tape(folder / "t", "t", {name: fields[name] for name in ("n", "note")})
    note = [None if i % 3 else f"row {i}" for i in range(rows)]
    tape.add(Block.of(T + np.arange(rows) * 0.1, {"n": np.arange(float(rows)), "note": note}))
    tape.add(Block.of([T + 0.5], {"n": [-1.0]}), ((round((T + 0.5) * 1e6), round((T + 0.5) * 1e6) + 1),))
    tape.commit(tape.take())
    tape = Tape(folder / "slow", "slow", {"slow": fields["slow"]})
    tape.add(Block.of(T + np.arange(4) * 5.0, {"slow": np.arange(4.0)}))
    tape.commit(tape.take())
    return [-1.0 if i == 5 else float(i) for i in range(rows)]


class Heard:
    """What a follower of a node heard."""

    def __init__(self, consumer, node, fields, start=-60.0):
        self.blocks = {}
        self.missing = []
        self.follower = consumer.follow(node, fields, start)
        Deferred.fromCoroutine(self._take())

    async def _take(self):
        async for item in self.follower:
            if isinstance(item, Missing):
                self.missing.append(item)
            else:
                self.blocks.setdefault(item.timeline, []).append(item.block)

    def values(self, timeline, field):
        block = concat(self.blocks.get(timeline, []))
        return block.columns[field].to_list() if field in block.columns else []


@pytest_twisted.ensureDeferred
async def test_a_recording_is_a_live_node_at_the_present_time(commands, consumer, tmp_path):
    (tmp_path / "rec").mkdir()
    values = recorded(tmp_path / "rec")
    began = now()
    replay = commands.begin("replay", str(tmp_path / "rec"), "--speed", "10", "--name", "again")
    await replay.says("again is on the air")
    heard = Heard(consumer, "again", ["n", "note", "slow"])
    catalogue = await consumer.get_fields("again")
    assert catalogue.fields["n"] == Field("Counts", "1")
    assert catalogue.timelines["t"].interval == pytest.approx(0.01)
    # Its node is gone a second after it has ended.
    await until(lambda: heard.values("t", "n") == values and len(heard.values("slow", "slow")) == 4, 60)
    assert await replay.ended() == 0, replay.complained
    assert heard.values("slow", "slow") == [0.0, 1.0, 2.0, 3.0]
    t = concat(heard.blocks["t"]).t / 1e6
    assert began < t[0] < t[-1] < now()
    assert np.diff(t) == pytest.approx(0.01, abs=1e-5)
    assert "again: 204 rows were played." in replay.said
    assert not heard.missing
    heard.follower.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_is_played_with_its_own_times_again_and_again(commands, consumer, tmp_path):
    (tmp_path / "rec").mkdir()
    values = recorded(tmp_path / "rec", 30)
    await commands("recording", str(tmp_path / "rec"), "-o", str(tmp_path / "roof.parquet"))
    file = str(tmp_path / "roof.t.parquet")
    kept = commands.begin("replay", file, "--keep-times", "--name", "kept", "--start", str(T + 1))
    await kept.says("kept is on the air")
    heard = Heard(consumer, "kept", ["n"], T)
    await until(lambda: heard.values("t", "n") == values[10:], 60)
    assert await kept.ended() == 0
    assert "kept: 20 rows were played." in kept.said
    assert concat(heard.blocks["t"]).t.tolist() == [round((T + i / 10) * 1e6) for i in range(10, 30)]
    heard.follower.stop()
    looping = await commands.begin("replay", file, "--speed", "50", "--loop").says("roof_replay is on the air")
    heard = Heard(consumer, "roof_replay", ["n"])
    await until(lambda: len(heard.values("t", "n")) > 45, 30)
    assert heard.values("t", "n")[:45] == (values + values)[:45]
    second = await commands("replay", file, "--name", "roof_replay", status=1)
    assert "a node roof_replay is there already" in second.complained
    assert "node:roof_replay" in (await commands("user", "list")).said
    assert await looping.interrupted() == 0, looping.complained
    assert "Traceback" not in looping.complained
    assert "roof_replay" not in (await commands("user", "list")).said
    heard.follower.stop()


@pytest_twisted.ensureDeferred
async def test_a_nodes_own_history_is_read_ahead_by_pages(router, roof, consumer):
    filled(roof, 200_000, 0.001)
    source = NodeSource(consumer, "roof")
    origin = await source.origin()
    first = await source.first(1, 2**60)
    assert abs(first - round(T * 1e6)) <= 1_000_000
    node = replay_node("roof_again", origin, 1e6, keep_times=False)
    assert await play(source, node, "t", Pace(first, 1e6)) == 200_000
    block, _ = node.history.read("t", ["n"], -(2**60), 2**60)
    assert block.columns["n"].values.tolist() == list(range(200_000))
    assert (np.diff(block.t) > 0).all()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_played_is_one_line(commands, roof, tmp_path):
    (tmp_path / "x.parquet").write_text("not really")
    for args, said in (
        (["nobody"], "there is no node 'nobody'"),
        ([str(tmp_path / "x.parquet")], "is no Parquet file"),
        (["roof"], "has no rows in that time"),
    ):
        command = await commands("replay", *args, status=1)
        assert said in command.complained
        assert "Traceback" not in command.complained


@pytest_twisted.ensureDeferred
async def test_what_is_in_a_recording_is_listed(commands, tmp_path):
    (tmp_path / "rec").mkdir()
    recorded(tmp_path / "rec")
    told = {one["timeline"]: one for one in json.loads((await commands("recording", str(tmp_path / "rec"), "--json")).said)}
    assert (told["t"]["rows"], told["t"]["first"], told["t"]["gaps"]) == (200, T, [])
    assert told["slow"]["fields"]["slow"]["units"] == "mm"


def test_a_replay_says_what_it_is():
    origin = Origin("roof", "On the roof.", Catalogue({"n": Field()}, {"t": Timeline(10.0)}))
    node = replay_node("x", origin, 5.0, keep_times=False)
    assert node.description == "Replay of roof. On the roof."
    assert node.timelines["t"].interval == 2.0
    assert replay_node("x", origin, 5.0, keep_times=True).timelines["t"].interval == 10.0
