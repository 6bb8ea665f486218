"""`sisock record`: whatever ends it, what is read back is what the node has."""

import random
import resource
import subprocess

import pytest
import pytest_twisted
from autobahn.twisted.util import sleep
from twisted.internet.task import LoopingCall

from sisock.blocks import Block, concat, merge
from sisock.errors import SetupError
from sisock.recording import Recording
from tests.commands.conftest import Roof, T, filled, whole
from tests.plain import until


def read_back(folder, timeline="t"):
    return concat(Recording.find(folder).rows(timeline))


def same(one, other):
    columns = {**one.columns, **other.columns}
    return one.t.tolist() == other.t.tolist() and all(
        (one.columns[name].to_list() if name in one.columns else [None] * len(one))
        == (other.columns[name].to_list() if name in other.columns else [None] * len(other))
        for name in columns
    )


class Busy:
    """Appends all the time: new rows, late ones, corrections and nulls."""

    def __init__(self, node, seed=0):
        self.node, self.chance, self.count = node, random.Random(seed), 0
        self.loop = LoopingCall(self.once)

    def once(self):
        node, chance = self.node, self.chance
        for _ in range(chance.randrange(1, 20)):
            self.count += 1
            node.append("t", T + self.count * 0.1, {"n": float(self.count), "note": f"row {self.count}"})
        if chance.random() < 0.3:
            node.append("t", T + self.count * 0.1 - 1.03, {"n": -1.0})
        if chance.random() < 0.2:
            t = T + chance.randrange(1, self.count) * 0.1
            node.append("t", t, chance.choice([{"n": -2.0}, {"note": None}, {"n": None, "note": None}]), correct=True)
        if chance.random() < 0.05:
            node.append("hour/1", T + self.count, {"slow": float(self.count)})


async def killed_again_and_again(commands, roof, consumer, folder, times, seed=0):
    filled(roof, 100_000, 0.001, T - 1000)
    busy = Busy(roof, seed)
    busy.loop.start(0.02)
    args = ("record", "roof", "-o", str(folder), "--start", "1", "--every", "50ms", "--size", "20k")
    try:
        for _ in range(times):
            recording = await commands.begin(*args).says("record")
            await sleep(busy.chance.random() * 1.5)
            await recording.killed()
    finally:
        busy.loop.stop()
    recording = await commands.begin(*args).says("going on with the recording")
    expected = await whole(consumer, "roof", list(Roof.fields))

    def all_there():
        try:
            return same(read_back(folder / "roof"), expected)
        except SetupError:
            # Parts are composed while they are read.
            return False

    await until(all_there, 60)
    assert await recording.interrupted() == 0, recording.complained
    assert same(read_back(folder / "roof"), expected)
    assert same(read_back(folder / "roof", "hour/1"), await whole(consumer, "roof", ["slow"], "hour/1"))
    assert Recording.find(folder).gaps("t") == []


@pytest_twisted.ensureDeferred
async def test_killed_at_random_it_goes_on_without_hole_or_repeat(commands, roof, consumer, tmp_path):
    await killed_again_and_again(commands, roof, consumer, tmp_path / "rec", 4)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
@pytest_twisted.ensureDeferred
async def test_killed_forty_times(commands, roof, consumer, tmp_path, seed):
    await killed_again_and_again(commands, roof, consumer, tmp_path / "rec", 40, seed)


@pytest_twisted.ensureDeferred
async def test_a_node_that_begins_a_new_life_is_a_gap_by_name(commands, router, roof, consumer, tmp_path):
    filled(roof)
    recording = await commands.begin("record", "roof", "-o", str(tmp_path), "--start", "1", "--every", "50ms").says("recording")
    await until(lambda: (tmp_path / "roof" / "t").exists() and any((tmp_path / "roof" / "t").glob("*.parquet")), 30)
    service, roof.service = roof.service, None
    await service.stop()
    again = Roof()
    filled(again, 10, start=T + 1000)
    service = await router.serve(again)
    try:
        await recording.says("gap in roof t: the node's history is another one")
        await until(lambda: len(read_back(tmp_path)) == 1010, 30)
        assert await recording.interrupted() == 0
        said = await commands("recording", str(tmp_path))
        assert "gap in t" in said.said
        assert "1010" in said.said
    finally:
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_a_field_that_is_new_is_read_from_the_beginning(commands, roof, consumer, tmp_path):
    filled(roof, 100)
    args = ("record", "roof", "-o", str(tmp_path), "--start", "1", "--every", "50ms")
    recording = await commands.begin(*args).says("recording")
    await until(lambda: (tmp_path / "roof" / "t").exists() and any((tmp_path / "roof" / "t").glob("*.parquet")), 30)
    assert await recording.interrupted() == 0
    from sisock import Field

    roof.declare({"wind": Field("Wind", "m/s")})
    expected = await whole(consumer, "roof", list(roof.fields))
    # What the node keeps no more stays in the recording.
    roof.history.max_rows = 60
    roof.append("t", T + 9.9, {"wind": 3.0}, correct=True).result()
    expected = merge(expected, Block.of([T + 9.9], {"wind": [3.0]}))
    recording = await commands.begin(*args).says("going on")
    await until(lambda: same(read_back(tmp_path), expected), 30)
    assert await recording.interrupted() == 0
    assert Recording.find(tmp_path).fields("t")["wind"].units == "m/s"


@pytest_twisted.ensureDeferred
async def test_what_it_cannot_do_is_one_line(commands, roof, tmp_path):
    filled(roof, 10)
    folder = tmp_path / "rec"
    (tmp_path / "file").write_text("")
    for args, said in (
        (["roof", "-o", str(tmp_path / "file" / "rec")], "cannot be written"),
        (["nobody", "-o", str(folder)], "there is no node 'nobody'"),
    ):
        command = await commands("record", *args, status=1)
        assert said in command.complained
        assert len(command.complained.splitlines()) == 1, command.complained
    first = await commands.begin("record", "roof", "-o", str(folder)).says("recording")
    second = await commands("record", "roof", "-o", str(folder), status=1)
    assert f"process {first.process.pid} records into" in second.complained
    assert await first.interrupted() == 0


@pytest_twisted.ensureDeferred
async def test_a_full_disk_ends_it_and_loses_nothing(commands, roof, consumer, tmp_path):
    filled(roof, 200_000)

    def small():
        # A file of this process may not grow beyond it, which is as close to a full disk as a test can come without root.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    args = ("record", "roof", "-o", str(tmp_path), "--start", "1")
    command = await commands("record", *args[1:], status=1, stdout=subprocess.DEVNULL, preexec_fn=small)
    assert "make room, and run it again" in command.complained
    assert "Traceback" not in command.complained
    recording = await commands.begin(*args).says("going on")
    expected = await whole(consumer, "roof", list(Roof.fields))
    await until(lambda: same(read_back(tmp_path), expected), 60)
    assert await recording.interrupted() == 0
