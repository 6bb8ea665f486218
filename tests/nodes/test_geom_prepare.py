"""Preparing on both engines: what it keeps, what it leaves behind when it is stopped or killed, and what cannot be prepared."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sisock.errors import InvalidArgument, SisockError, StoreAway
from sisock.nodes.geom import dump, importer
from sisock.nodes.geom.generator import Day, Room, write
from sisock.nodes.geom.importer import bring
from sisock.nodes.geom.keeping import TABLES, NoSample, Plan, Samples
from sisock.nodes.geom.library import FRESH, Library
from sisock.nodes.geom.messages import CoordinatesAsked, GeomsAsked, Refused
from sisock.nodes.geom.prepare import prepare
from sisock.nodes.geom.shapes import Frames, Geom, Shapes, Task
from sisock.nodes.geom.sources.cuwb import cuwb
from sisock.nodes.geom.sources.detection import detection
from sisock.nodes.geom.sources.files import InputError
from sisock.nodes.geom.sources.pose import pose
from sisock.store import Store

SISOCK = str(Path(sys.executable).with_name("sisock"))
START = 1_784_019_600_000_000  # 2026-07-14T09:00:00Z
SOURCES = {"cuwb": cuwb, "pose": pose, "detection": detection}


def frames(seconds, rate=10.0):
    return Frames.between(START, START + round(seconds * 1e6), rate)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Inputs of a source, made once."""
    made = {}

    def of(source, seconds=40, ending=".parquet"):
        if (source, seconds, ending) not in made:
            folder = tmp_path_factory.mktemp(source)
            write(Day(Room(3, 2, 2, 1), START, seconds, seed=1), folder, source, ending)
            made[source, seconds, ending] = folder
        return made[source, seconds, ending]

    return of


@pytest.fixture
def samples(address):
    with Store.open(address, tables=TABLES) as store:
        yield Samples(store)


def address_of(samples):
    database = samples.store.database
    return str(database.path or database.url.render_as_string(hide_password=False))


def ask(samples, number, device="camera-1", seconds=20, start=START):
    library = Library(address_of(samples))
    try:
        asked = CoordinatesAsked(number, device, start, start + round(seconds * 1e6))
        return json.loads(library.coordinates(asked, "plain"))
    finally:
        library.close()


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_what_is_kept_is_what_the_source_made(samples, inputs, source):
    task = Task(inputs(source), frames(40))
    heard = []
    summary = prepare(samples, "lab", SOURCES[source], source, task, lambda done, whole: heard.append((done, whole)))
    assert summary.frames == 400
    assert heard[-1] == (400, 400)
    shapes = SOURCES[source](task)
    made = shapes.collect(0, 400)
    assert set(made) == {"camera-1", "camera-2"}
    assert any(np.isfinite(collection).any() for collection in made.values())
    geoms = samples.geoms(summary.sample)
    assert len(geoms) == len(shapes.geoms) == summary.geoms
    for device, collection in made.items():
        found = ask(samples, summary.sample, device, seconds=39.9)
        assert len(found) == len(geoms)
        for kept, geom in zip(geoms, shapes.geoms, strict=True):
            assert kept.geom.uuid == geom.uuid
            pixels = np.array(list(found[str(kept.id)].values()), float)
            expected = np.round(collection[:, list(geom.indices)].reshape(400, -1), 3)
            assert np.allclose(pixels, expected, rtol=0, atol=1e-9, equal_nan=True)


def test_sources_read_all_kinds_of_files_alike(inputs, tmp_path):
    import orjson
    import pyarrow.parquet as parquet

    folder = inputs("cuwb")
    made = cuwb(Task(folder, frames(40))).collect(0, 400)
    rows = parquet.read_table(folder / "positions.parquet").to_pylist()
    for row in rows:
        row["timestamp"] = row["timestamp"].isoformat()
    for ending in (".csv", ".json", ".jsonl"):
        other = tmp_path / ending[1:]
        other.mkdir()
        (other / "objects.json").write_bytes((folder / "objects.json").read_bytes())
        (other / "cameras.jsonl").write_bytes(
            b"\n".join(map(orjson.dumps, orjson.loads((folder / "cameras.json").read_bytes())))
        )
        path = other / f"positions{ending}"
        if ending == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_bytes(orjson.dumps(rows) if ending == ".json" else b"\n".join(map(orjson.dumps, rows)))
        again = cuwb(Task(other, frames(40))).collect(0, 400)
        for device, collection in made.items():
            assert np.allclose(again[device], collection, atol=1e-6, equal_nan=True), ending


def test_what_a_column_holds_is_not_guessed_from_its_first_rows(tmp_path):
    (tmp_path / "cameras.csv").write_text(
        "device_id,width,height,camera_matrix,rvec,tvec,note\n"
        '01,1280,960,"[[700, 0, 640], [0, 700, 480], [0, 0, 1]]",0 0 0,0 0 5,\n'
    )
    (tmp_path / "objects.csv").write_text("object_id,object_name\n007,Ada\n")
    # For megabytes whole numbers and empty notes; then fractions, and texts.
    rows = [f"{START // 1_000_000 + n // 1000},007,1,1,,\n" for n in range(300_000)]
    rows += [f"{START / 1e6 + 300 + n / 10},007,1.5,1,0.5,lost\n" for n in range(10)]
    (tmp_path / "positions.csv").write_text("timestamp,object_id,x,y,z,note\n" + "".join(rows))
    shapes = cuwb(Task(tmp_path, frames(301)))
    assert set(shapes.sizes) == {"01"}
    assert [geom.object_name for geom in shapes.geoms] == ["Ada", "Ada"]
    seen = shapes.collect(0, 3010)["01"][:, 0]
    assert np.isnan(seen[:3000]).all(), "without z it is nowhere"
    assert np.allclose(seen[3000:], [640 + 700 * 1.5 / 5.5, 480 + 700 / 5.5])
    (tmp_path / "positions.csv").unlink()
    lines = [{"timestamp": "2026-07-14 09:00:00+00", "object_id": 7}, {"timestamp": "2026-07-14 09:00:00.2+00", "object_id": 7}]
    lines += [{"timestamp": f"2026-07-14 11:00:0{n}+02:00", "object_id": 7, "x": n, "y": 1, "z": 0.5} for n in range(1, 4)]
    (tmp_path / "positions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    seen = cuwb(Task(tmp_path, frames(4))).collect(0, 40)["01"][:, 0]
    assert np.isfinite(seen[:, 0]).nonzero()[0].tolist() == list(range(10, 31)), "a name that the first rows lack"


def test_positions_lie_on_a_line_between_reports_that_are_not_far_apart(tmp_path):
    (tmp_path / "cameras.json").write_bytes(Path(__file__).with_name("geom_camera.json").read_bytes())
    at = START / 1e6
    rows = [
        (at, "a", 0, 0, 0),
        (at + 1, "a", 1, 0, 0),
        (at + 1.05, "b", 5, 5, 5),
        (at + 9, "a", 9, 0, 0),
        (at + 9.1, "a", 10, 0, 0),
    ]
    (tmp_path / "positions.csv").write_text(
        "timestamp,object_id,x,y,z\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    )
    from sisock.nodes.geom.sources.cuwb import Track

    whole = Track(tmp_path / "positions.csv", frames(10), ["a", "b"]).between(0, 100)
    assert np.allclose(whole[:11, 0, 0], np.linspace(0, 1, 11), atol=1e-6)
    assert np.isnan(whole[11:90, 0]).all(), "eight seconds without a report are no straight line"
    assert np.allclose(whole[90:92, 0, 0], [9, 10], atol=1e-5)
    assert np.isnan(whole[:, 1]).all(), "a single report between two frames is at none of them"
    track = Track(tmp_path / "positions.csv", frames(10), ["a", "b"])
    parts = [track.between(low, min(low + 7, 100)) for low in range(0, 100, 7)]
    assert np.array_equal(np.concatenate(parts), whole, equal_nan=True), "in whatever portions"


def test_the_newest_sample_counts_and_failures_are_never_seen(samples, inputs):
    task = Task(inputs("cuwb"), frames(10))
    first = prepare(samples, "lab", cuwb, "cuwb", task).sample
    second = prepare(samples, "lab", cuwb, "cuwb", task).sample
    assert second > first
    assert samples.newest("lab", "2026-07-14").id == second

    def broken(_task):
        def collect(low, high):
            assert samples.newest("lab", "2026-07-14").id == second
            if low:
                raise ArithmeticError("it breaks in the middle")
            return {"c": np.zeros((high - low, 1, 2))}

        return Shapes([Geom("u", "Point2D", (0,))], {"c": (10, 10)}, 1, collect)

    nodes = samples.store.nodes()
    with pytest.raises(ArithmeticError):
        prepare(samples, "lab", broken, "broken", Task(task.folder, frames(2000)))
    assert [sample.id for sample in samples.all()] == [first, second]
    assert samples.store.nodes() == nodes
    samples.forget(second)
    assert samples.newest("lab", "2026-07-14").id == first
    third = prepare(samples, "lab", cuwb, "cuwb", task).sample
    assert third > second + 1, "a number is never given twice"
    with pytest.raises(NoSample):
        samples.forget(second)


def test_what_a_library_knew_of_a_deleted_sample_is_gone(samples, inputs):
    number = prepare(samples, "lab", cuwb, "cuwb", Task(inputs("cuwb"), frames(10))).sample
    clock = [0.0]
    library = Library(address_of(samples), lambda: clock[0])
    asked = CoordinatesAsked(number, "camera-1", START, START + 1_000_000)
    assert len(json.loads(library.coordinates(asked, "event"))) == 10
    assert json.loads(library.geoms(GeomsAsked("lab", "2026-07-14")))["sample"]["id"] == number
    samples.forget(number)
    with pytest.raises(Refused):
        library.geoms(GeomsAsked("lab", "2026-07-14"))
    assert json.loads(library.coordinates(asked, "event")) == {}, "for a moment it is only empty"
    clock[0] = FRESH
    with pytest.raises(Refused) as refused:
        library.coordinates(asked, "event")
    assert refused.value.code == 4404
    library.close()


TABLES_OF_SAMPLES = ("geom_samples", "geom_geoms", "chunks", "chunk_values", "pyramid", "blocks", "timelines")


def rows_left(samples):
    with samples.store.database.reading() as tx:
        return {table: tx.known(f"SELECT count(*) FROM {table}")[0] for table in TABLES_OF_SAMPLES}


# The command, with a source that waits in the middle.
WAITING = """
import sys, time
from dataclasses import replace
from sisock.cli import main
from sisock.nodes.geom import commands
from sisock.nodes.geom.sources.cuwb import cuwb

def waiting(task):
    shapes = cuwb(task)

    def collect(low, high):
        if low >= 3 * 8192:
            print("waits", flush=True)
            time.sleep(600)
        return shapes.collect(low, high)

    return replace(shapes, collect=collect)

commands.source_of = lambda name: waiting
main()
"""


def preparing(address, home, folder, program=(SISOCK,)):
    """A preparation in a process of its own."""
    command = [*program, "geom", "prepare", "--environment", "lab", "--start", "2026-07-14T09:00", "--end", "2026-07-15T09:00"]
    return subprocess.Popen(
        [*command, "--input", str(folder), "--store", str(address), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SISOCK_HOME": str(home)},
    )


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_seen_and_nothing_stays_of_one_that_was_stopped(address, samples, tmp_path, inputs, killed):
    with preparing(address, tmp_path, inputs("cuwb", 3600), (sys.executable, "-c", WAITING)) as process:
        assert process.stdout.readline() == b"waits\n", process.stderr.read()
        (found,) = samples.all()
        deadline = time.monotonic() + 60
        while (reader := samples.reader(found)) is None or not reader.newest("camera-1"):
            # The store's thread is not done yet.
            assert time.monotonic() < deadline
        assert samples.newest("lab", "2026-07-14") is None
        samples.sweep()
        assert len(samples.all()) == 1, "one that goes on is left alone"
        asked = signal.SIGTERM if samples.store.database.engine == "postgresql" else signal.SIGINT
        process.send_signal(signal.SIGKILL if killed else asked)
        said, why = process.communicate(timeout=30)
        assert process.returncode != 0
        assert said == b""
    if killed:
        (lost,) = samples.all()
        assert lost.status == "started"
        number = prepare(samples, "lab", cuwb, "cuwb", Task(inputs("cuwb"), frames(10))).sample
        assert [(sample.id, sample.status) for sample in samples.all()] == [(number, "success")]
        samples.forget(number)
    else:
        assert b"nothing of the sample is kept" in why
        assert b"Traceback" not in why
    assert samples.store.nodes() == []
    assert set(rows_left(samples).values()) == {0}


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_whenever_it_is_stopped_nothing_stays(address, samples, tmp_path, inputs):
    chance = np.random.default_rng(0)
    for n in range(24):
        how = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[n % 3]
        with preparing(address, tmp_path, inputs("cuwb", 3600)) as process:
            # Before it begins, while it does, and when it is nearly done.
            time.sleep(chance.uniform(0.3, 6))
            process.send_signal(how)
            if chance.random() < 0.5 and how != signal.SIGKILL:
                time.sleep(chance.uniform(0, 0.3))
                process.send_signal(how)
            said, _ = process.communicate(timeout=30)
        samples.sweep()
        for sample in samples.all("success"):
            assert said, "what is there was told"
            samples.forget(sample.id)
        assert set(rows_left(samples).values()) == {0}, (n, how)


def test_bad_inputs_are_told_by_file_and_reason(samples, inputs, tmp_path):
    good = inputs("cuwb", 40, ".csv")

    def spoilt(name, text):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for path in good.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
        return folder

    head = "timestamp,object_id,x,y,z\n"
    cases = [
        ("positions.csv", None, "missing"),
        ("cameras.json", "[", "cannot be read"),
        ("cameras.json", "{}", "no list"),
        ("positions.csv", "", "no column|cannot be read"),
        ("positions.csv", head + '"', "cannot be read|no timestamp|no object_id"),
        ("cameras.json", "[]", "no camera"),
        ("cameras.json", '[{"device_id": "c"}]', "lacks"),
        ("objects.json", '[{"object_id": 1}, {"object_id": 1}]', "twice"),
        ("positions.csv", f"timestamp,object_id,x,y\n{START / 1e6},a,0,0\n", "no column z"),
        ("positions.csv", head + f"{START / 1e6 + 2},a,0,0,0\n{START / 1e6},a,0,0,0\n", "ascend"),
        ("positions.csv", head + "yesterday,a,0,0,0\n", "timestamp"),
        ("positions.csv", head + f"{START / 1e6},a,left,0,0\n", "invalid value 'left'"),
        ("positions.csv", head + f"{START / 1e6 - 1e6},a,0,0,0\n", "nothing to draw"),
        ("positions.parquet", "no parquet", "more than once"),
    ]
    for name, text, said in cases:
        with pytest.raises((InputError, InvalidArgument), match=said):
            prepare(samples, "lab", cuwb, "cuwb", Task(spoilt(name, text), frames(10)))
    assert samples.all() == []
    with pytest.raises(InvalidArgument, match="before the start"):
        prepare(samples, "lab", cuwb, "cuwb", Task(good, Frames.between(START, START, 10)))


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (Shapes([], {"c": (1, 1)}, 0, dict), "nothing to draw"),
        (Shapes([Geom("u", "Point2D", (0,))], {}, 1, dict), "no camera"),
        (Shapes([Geom("u", "Point2D", (1,))], {"c": (1, 1)}, 1, dict), "names an index"),
        (Shapes([Geom("u", "Cube", (0,))], {"c": (1, 1)}, 1, dict), "a geom is one of"),
        (Shapes([Geom("u", "Point2D", (0,))] * 2, {"c": (1, 1)}, 1, dict), "same uuid"),
        (Shapes([Geom("u", "Point2D", (0,))], {"c": (1, 1)}, 1, lambda low, high: {"c": np.zeros((1, 1, 2))}), "answered"),
    ],
)
def test_a_source_that_is_wrong_is_told_so(samples, tmp_path, shapes, said):
    with pytest.raises(InvalidArgument, match=said):
        prepare(samples, "lab", lambda _task: shapes, "mine", Task(tmp_path, frames(10)))
    assert samples.all() == []


def test_a_geom_that_a_camera_never_sees_is_there_with_nulls(samples, tmp_path):
    nan = np.nan

    def seen_once(low, high):
        full = np.ones((high - low, 2, 2))
        return {"c": full, "d": full * [[1.5, 1.5], [nan, nan]]}

    shapes = Shapes([Geom("u", "Point2D", (0,)), Geom("v", "Line2D", (0, 1))], {"c": (1, 1), "d": (1, 1)}, 2, seen_once)
    number = prepare(samples, "lab", lambda _task: shapes, "mine", Task(tmp_path, frames(1))).sample
    point, line = (str(one.id) for one in samples.geoms(number))
    found = ask(samples, number, "d", 0)
    assert list(found[point].values()) == [[1.5, 1.5]]
    assert list(found[line].values()) == [[1.5, 1.5, None, None]]


def test_what_draws_nothing_is_refused_and_hides_nothing(samples, inputs, tmp_path):
    good = prepare(samples, "lab", cuwb, "cuwb", Task(inputs("cuwb"), frames(10)))
    assert 0 < good.drawn < good.values
    (tmp_path / "cameras.json").write_text(json.dumps([{"device_id": 1, "width": 10, "height": 10}]))
    (tmp_path / "boxes.csv").write_text(f"timestamp,device_id,object_id,x,y,width,height\n{START / 1e6},01,tray,1,1,2,2\n")
    with pytest.raises(InvalidArgument, match=r"match those of the cameras \(1\)"):
        prepare(samples, "lab", detection, "detection", Task(tmp_path, frames(1)))
    assert [sample.id for sample in samples.all()] == [good.sample]


def test_shown_are_the_newest_of_each_day_and_those_on_their_way(samples):
    def begun(environment, day):
        start = START + day * 86_400_000_000
        return samples.begin(Plan(environment, start, start + 1_000_000, 10.0, 10, (1, 1), "cuwb", ["c"]))

    made = [begun(*one) for one in (("lab", 0), ("lab", 0), ("lab", 1), ("hall", 0), ("lab", 0), ("lab", 0))]
    for one in made[:4]:
        samples.finish(one)
    with samples.store.database.writing() as tx:
        # One that is being deleted.
        tx.run("UPDATE geom_samples SET holder = '' WHERE id = ?", made[5].id)
    assert [one.id for one in samples.shown(9)] == [made[n].id for n in (1, 2, 3, 4)]
    assert [one.id for one in samples.shown(2)] == [made[n].id for n in (3, 4)]


def test_a_store_that_is_away_is_waited_for_once_in_a_moment(tmp_path, monkeypatch):
    opened, clock = [], [0.0]

    def away(address, **_):
        opened.append(address)
        raise StoreAway("after a long time")

    monkeypatch.setattr(Store, "open", away)
    library = Library("nowhere", lambda: clock[0])
    for at, times in ((0.0, 1), (1.9, 1), (2.0, 2), (3.9, 2)):
        clock[0] = at
        with pytest.raises(StoreAway, match="after a long time"):
            library.coordinates(CoordinatesAsked(1, "c", 0, 1), "event")
        with pytest.raises(StoreAway, match="after a long time"):
            library.geoms(GeomsAsked("lab", "2026-07-14"))
        assert len(opened) == times


def test_frames_stand_at_whole_milliseconds_whatever_the_rate():
    thirds = Frames.between(START, START + 1_000_000, 3)
    assert (thirds.times(0, 3) - START).tolist() == [0, 333_000, 667_000]
    assert thirds.nearest(thirds.times(0, 3)).tolist() == [0, 1, 2]
    assert Frames.between(START, START + 86_400_000_000, 10).count == 864_000
    assert Frames.between(START, START - 1, 10).count == 0


def test_the_old_database_is_brought_over_with_its_numbers(samples, tmp_path):
    head = "id,start_time,end_time,frames_per_second,num_frames,frame_width,frame_height,environment_id,source_type,source_name"
    (tmp_path / "samples.csv").write_text(
        head
        + ",status\n71,2026-07-14 13:00:00+00,2026-07-14 22:00:00+00,10,324000,1296,972,lab,cuwb,old,success\n"
        + "72,2026-07-14 13:00:00+00,2026-07-14 22:00:00+00,10,324000,1296,972,lab,cuwb,old,started\n"
    )
    with (tmp_path / "geoms.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "uuid", "attributes", "type", "object_id", "object_type", "object_name", "sample_id"])
        writer.writerow([900, "u1", '{"color": "#ff0000"}', "Point2D", "t1", "person", "Ada", 71])
        writer.writerow([901, "u2", "{}", "Line2D", "t1", "person", "Ada", 71])
        writer.writerow([902, "u3", "{}", "Point2D", "t2", "person", "Ben", 72])
    rows = ["time,device_id,assignment_id,geom_id,coordinates"]
    for n in range(30):
        for device in ("cam-b", "cam-a"):
            stamp = f"2026-07-14 13:00:{n // 10:02d}.{n % 10}+00"
            rows.append(f'{stamp},{device},x,900,"{{{n}.125,{n + 0.5}}}"')
            rows.append(f'{stamp},{device},x,901,"{{{n},1,NULL,NULL}}"')
            rows.append(f'{stamp},{device},x,902,"{{1,2}}"')
    rows.append('2026-07-14 13:00:09+00,cam-a,x,900,"{1}"')
    rows.append("2026-07-14 13:00:09+00,cam-a,x,900,rubbish")
    (tmp_path / "coordinates.csv").write_text("\n".join(rows) + "\n")
    brought = bring(samples, tmp_path)
    assert brought.samples == [71]
    assert brought.rows == 120
    assert brought.wrong == 2
    assert ["pairs of x and y" in brought.reasons[0], "no array" in brought.reasons[1]] == [True, True]
    sample = samples.newest("lab", "2026-07-14")
    assert (sample.id, sample.devices, sample.num_frames) == (71, ("cam-a", "cam-b"), 324_000)
    start = sample.start_time
    found = ask(samples, 71, "cam-a", 2.9, start)
    assert list(found) == ["900", "901"]
    assert found["900"][str(start // 1000 + 1500)] == [15.125, 15.5]
    assert found["901"][str(start // 1000 + 1500)] == [15, 1, None, None]
    assert len(found["900"]) == 30
    again = bring(samples, tmp_path)
    assert (again.samples, again.there, again.rows, again.late) == ([], [71], 0, 122), "what is left out is not looked at"
    (tmp_path / "geoms.csv").write_text("id\n")
    with pytest.raises(InputError, match="has no column"):
        bring(samples, tmp_path)
    new = prepare(
        samples,
        "lab",
        lambda _t: Shapes([Geom("u", "Point2D", (0,))], {"c": (1, 1)}, 1, _dot),
        "dot",
        Task(tmp_path, frames(1)),
    )
    assert new.sample > 71
    assert samples.geoms(new.sample)[0].id > 901


def _dot(low, high):
    return {"c": np.full((high - low, 1, 2), 0.25)}


def old(folder, samples_, geoms, rows):
    """A dump: samples by number and hour, geoms by number and sample, rows as they are."""
    folder.mkdir()
    told = [f"{n},2026-07-14 {hour}:00:00+00,2026-07-14 {hour}:30:00+00,lab,success\n" for n, hour in samples_]
    (folder / "samples.csv").write_text("id,start_time,end_time,environment_id,status\n" + "".join(told))
    told = [f'{n},u{n},"{{}}",Line2D,{sample}\n' for n, sample in geoms]
    (folder / "geoms.csv").write_text("id,uuid,attributes,type,sample_id\n" + "".join(told))
    (folder / "coordinates.csv").write_text("time,device_id,assignment_id,geom_id,coordinates\n" + "".join(rows))
    return folder


def test_rows_of_a_dump_come_in_any_order_twice_and_of_any_length(samples, tmp_path, monkeypatch):
    chance = np.random.default_rng(1)
    expected, rows = {}, []
    for geom in (900, 901, 950):
        for n in range(200):
            length = int(chance.choice([0, 2, 4])) if geom == 901 else 4
            values = [None if chance.random() < 0.2 else round(float(chance.uniform(-5, 2000)), 3) for _ in range(length)]
            text = ",".join("NULL" if one is None else str(one) for one in values)
            rows.append(f'2026-07-14 13:00:{n / 10:06.3f}+00,c,,{geom},"{{{text}}}"\n')
            if length:
                expected.setdefault(geom, {})[n] = values + [None] * (4 - length)
    chance.shuffle(rows)
    rows += ['2026-07-14 13:00:00+00,c,,900,"{7,7,7,7}"\n', "2026-07-14 13:00:00+00,c,,77,rubbish of no sample\n"]
    rows.append('2026-07-14 13:00:05+00,d,,900,"{1,2}"\n')
    expected[900][0] = [7] * 4
    rows[100:100] = [
        "yesterday,c,,900,{}\n",
        "2026-07-14 13:00:00+00,c,,x,{}\n",
        '2026-07-14 13:00:00+00,c,,900,"{1,a}"\n',
        "short\n",
    ]
    folder = old(tmp_path / "dump", [(71, 13), (72, 14), (73, 15)], [(900, 71), (901, 71), (950, 72)], rows)
    heard = []
    # Each minute other machines are told that it goes on.
    monkeypatch.setattr(importer, "RENEW", 0.0)
    renewed = []
    monkeypatch.setattr(Samples, "renew", lambda _, sample: renewed.append(sample.id))
    brought = bring(samples, folder, lambda done, size: heard.append((done, size)))
    assert renewed[:3] == [71, 72, 73]
    assert (brought.samples, brought.empty, brought.rows, brought.wrong) == ([71, 72], [73], 602, 4)
    assert heard[-1] == ((folder / "coordinates.csv").stat().st_size,) * 2
    start = samples.get(71).start_time
    found = ask(samples, 71, "c", 30, start)
    for geom, of in ((900, found), (901, found)):
        there = {(int(t) - start // 1000) // 100: values for t, values in of[str(geom)].items()}
        assert {n: there[n] for n in expected[geom]} == expected[geom]
        assert all(values == [None] * 4 for n, values in there.items() if n not in expected[geom])
    assert ask(samples, 71, "d", 30, start) == {"900": {str(start // 1000 + 5000): [1, 2, None, None]}}, "of 901 it has nothing"
    assert samples.get(73) is None, "what this dump has no coordinates of may come with another"


def test_numbers_that_are_taken_are_told_and_nothing_is_imported(samples, tmp_path, inputs, monkeypatch):
    monkeypatch.setattr(dump, "MAX_WRONG", 100)
    mine = prepare(samples, "lab", cuwb, "cuwb", Task(inputs("cuwb"), frames(10))).sample
    geom = samples.geoms(mine)[0].id
    row = f'2026-07-14 13:00:00+00,c,,{geom},"{{1,2}}"\n'
    with pytest.raises(InputError, match=f"sisock geom forget {mine}"):
        bring(samples, old(tmp_path / "a", [(mine, 13)], [(9000, mine)], [row]))
    with pytest.raises(InputError, match=f"geom {geom} of sample 72"):
        bring(samples, old(tmp_path / "b", [(71, 12), (72, 13)], [(9000, 71), (geom, 72)], [row]))
    with pytest.raises(InputError, match="no dump of coordinates"):
        bring(samples, old(tmp_path / "c", [(71, 12)], [(9000, 71)], ["2026-07-14 13:00:00+00,c,,9000,x\n"] * 101))
    assert [sample.id for sample in samples.all()] == [mine]


def test_importing_stops_whole_or_not_at_all(samples, tmp_path):
    (tmp_path / "samples.csv").write_text(
        "id,start_time,end_time,environment_id,status\n5,2026-07-14 13:00:00+00,2026-07-14 22:00:00+00,lab,success\n"
    )
    (tmp_path / "geoms.csv").write_text('id,uuid,attributes,type,sample_id\n9,u,"{}",Point2D,5\n')
    with pytest.raises(SisockError, match="cannot be read"):
        bring(samples, tmp_path)
    assert samples.all() == []
    assert samples.store.nodes() == []
