"""The geoms as their old clients meet them: a plain WebSocket client asks, and is answered."""

# ruff: noqa: F811  fixtures are imported by their names
import json
import time

import numpy as np
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sisock.nodes.geom.sources.cuwb import cuwb
from tests.nodes.geoms import connect, event, home, inputs, leave, node, refused, sample, task  # noqa: F401
from tests.plain import until
from tests.test_tokens import KEYS, OTHER, token


@pytest_twisted.ensureDeferred
async def test_an_old_client_gets_shapes_in_both_spellings(node, sample, inputs):
    client = await connect(node.faces.address)
    geoms, coordinates = {"environment_id": "lab", "date": "2026-07-14"}, {"sample_id": sample, "device_id": "camera-1"}
    assert await client.ask({"event": "ping"}, event("ping", a=[1]), {"ping": {"a": 1}}, {"ping": None}) == [
        {"event": "pong"},
        {"event": "pong", "data": {"a": [1]}},
        {"pong": {"a": 1}},
        {"pong": None},
    ]
    (answer,) = await client.ask(event("getGeoms", **geoms))
    assert answer == {"event": "error", "data": {"message": "Unauthorized", "code": 4401}}
    assert await client.ask(event("auth", Authorization=f"Bearer {token()}")) == [{"event": "authorized", "data": {}}]
    (listed,) = await client.ask(event("getGeoms", **geoms))
    assert listed["event"] == "geoms"
    assert listed["data"]["sample"] == {
        "id": sample,
        "start_time": "2026-07-14T09:00:00.000Z",
        "end_time": "2026-07-14T09:01:00.000Z",
        "frames_per_second": 10,
        "num_frames": 600,
        "frame_width": 1296,
        "frame_height": 972,
        "source_type": "cuwb",
        "source_name": inputs.name,
    }
    shapes = listed["data"]["geoms"]
    assert [one["type"] for one in shapes] == ["Point2D", "Text2D"] * 4
    assert set(shapes[0]) == {"id", "attributes", "type", "object_id", "object_type", "object_name"}
    assert {one["object_type"]: one["attributes"]["color"] for one in shapes} == {"person": "#ff0000", "tray": "#00ff00"}
    (plain,) = await client.ask({"getGeoms": geoms})
    assert plain == {"geoms": listed["data"]}

    asked = {**coordinates, "from": "2026-07-14T09:00:10"}
    (answer,) = await client.ask(event("getCoordinates", **asked))
    assert answer["event"] == "coordinates"
    found = answer["data"]
    assert list(found) == [str(one["id"]) for one in shapes]
    frames = found[str(shapes[0]["id"])]
    assert len(frames) == 251, "both ends are included"
    assert list(frames) == [str(1_784_019_610_000 + 100 * n) for n in range(251)]
    for key, frame in frames.items():
        assert frame["geom_id"] == shapes[0]["id"]
        assert frame["time"] == int(key)
        assert len(frame["coordinates"]) == 2
    (plain,) = await client.ask({"getCoordinates": asked})
    assert plain == {"coordinates": {n: {t: one["coordinates"] for t, one in rows.items()} for n, rows in found.items()}}
    # What is said is what the source made, to a thousandth of a pixel.
    made = cuwb(task(inputs)).collect(0, 600)["camera-1"]
    for number in range(4):
        pixels = [rows["coordinates"] for rows in found[str(shapes[2 * number]["id"])].values()]
        expected = np.round(made[100:351, number], 3)
        assert np.array_equal(np.array(pixels, float), expected, equal_nan=True)
    assert await client.ask({"getCoordinates": {**asked, "device_id": "nobody"}}) == [{"coordinates": {}}]
    assert await client.ask({"getCoordinates": {**asked, "from": "2026-07-14T10:00:00"}}) == [{"coordinates": {}}]
    (answer,) = await client.ask(event("getCoordinates", **{**asked, "seconds": 0}))
    assert [len(rows) for rows in answer["data"].values()] == [1] * 8
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_bad_requests_get_their_code_and_the_socket_stays(node, sample):
    client = await connect(node.faces.address)
    good = {"sample_id": sample, "device_id": "camera-1", "from": "2026-07-14T09:00:00"}
    for frame in (
        "",
        "{",
        "[]",
        "1",
        "null",
        '"ping"',
        b"\xff\xfe",
        b'{"event":"ping"}',
    ):
        (answer,) = await client.ask(frame)
        assert refused(4400, answer), frame
    unknown = ({"event": "x"}, {"event": 7}, {"x": {}}, {})
    for frame in unknown:
        (answer,) = await client.ask(frame)
        assert refused(4401, answer), frame
    for credentials in (None, {}, {"Authorization": 7}, {"Authorization": ""}, {"Authorization": "Bearer"}, "x"):
        (answer,) = await client.ask({"auth": credentials})
        assert refused(4401, answer), credentials
    (answer,) = await client.ask({"auth": {"Authorization": token()}})
    assert answer == {"authorized": {}}
    for frame in unknown:
        (answer,) = await client.ask(frame)
        assert refused(4400, answer), frame
    for more in (
        {"sample_id": "1"},
        {"sample_id": True},
        {"sample_id": 1.5},
        {"sample_id": -1},
        {"sample_id": None},
        {"device_id": 1},
        {"device_id": ""},
        {"device_id": "a\0"},
        {"from": "yesterday"},
        {"from": "2026-13-01T00:00:00"},
        {"from": 0},
        {"seconds": "25"},
        {"seconds": -1},
        {"seconds": None},
        {"seconds": True},
    ):
        (answer,) = await client.ask({"getCoordinates": {**good, **more}})
        assert refused(4400, answer), more
    for data in ({"environment_id": "lab"}, {"date": "2026-07-14"}, {"environment_id": 1, "date": "2026-07-14"}, [], None, 5):
        (answer,) = await client.ask({"getGeoms": data})
        assert refused(4400, answer), data
    for day in ("2026-7-14", "2026-02-30", "14.07.2026", "2026-07-14'; DROP TABLE geom_samples; --"):
        (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": day}})
        assert refused(4400, answer), day
    sql = "lab' OR '1'='1"
    for frame in (
        {"getGeoms": {"environment_id": sql, "date": "2026-07-14"}},
        {"getGeoms": {"environment_id": "lab", "date": "2026-07-15"}},
        {"getCoordinates": {**good, "sample_id": 2**62}},
    ):
        (answer,) = await client.ask(frame)
        assert refused(4404, answer), frame
    (answer,) = await client.ask({"getCoordinates": {**good, "device_id": sql}})
    assert answer == {"coordinates": {}}
    (answer,) = await client.ask(event("getCoordinates", **good, seconds=300.1))
    assert refused(4413, answer)
    answers = await client.ask(
        {"getCoordinates": good}, {"ping": 1}, "{", {"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}}
    )
    assert [next(iter(one)) for one in answers] == ["coordinates", "pong", "event", "geoms"], "in the order they were asked"
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_what_a_ping_holds_comes_back_as_it_was_written_and_what_is_too_long_is_told_so(node):
    client = await connect(node.faces.address)
    payloads = []
    client.onMessage = lambda payload, _binary: payloads.append(payload)
    deep = b"[" * 400 + b"]" * 400
    for data in (deep, b"123456789012345678901234567890", b"1.0", b'{"a":1,"a":2}', b'"\\u00e4\\/"', b" [ 1 ] "):
        client.sendMessage(b'{"ping":%b}' % data)
        client.sendMessage(b'{"event":"ping","data":%b}' % data)
        await until(lambda: len(payloads) >= 2)
        assert payloads == [b'{"pong":%b}' % data.strip(), b'{"event":"pong","data":%b}' % data.strip()]
        payloads.clear()
    # Deeper than anybody decodes; longer than a message is, in one piece and in many: each is answered, and the socket lives.
    client.sendMessage(b'{"ping":%b}' % (b"[" * 30_000 + b"]" * 30_000))
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 5_000_000))
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 100_000), fragmentSize=1000)
    client.sendMessage(b'{"ping":"%b"}' % (b"." * 60_000), fragmentSize=1000)
    await until(lambda: len(payloads) >= 4)
    assert [json.loads(one)["data"]["code"] for one in payloads[:3]] == [4400, 4413, 4413]
    assert json.loads(payloads[3]) == {"pong": "." * 60_000}
    await leave(client)


@pytest_twisted.ensureDeferred
async def test_only_good_tokens_authorize(node):
    client = await connect(node.faces.address)
    public = KEYS["RS256"].public_key()
    from cryptography.hazmat.primitives import serialization

    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import base64
    import hmac

    def forged(header, key=None):
        parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, json.loads(_claims()))]
        text = b".".join(parts)
        mac = b"" if key is None else base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=")
        return (text + b"." + mac).decode()

    def _claims():
        now = time.time()
        return json.dumps({"iss": "https://login.example.org/", "aud": "sisock", "sub": "alice", "exp": now + 60})

    bad = {
        "expired": token(exp=time.time() - 5),
        "another audience": token(aud="other"),
        "another issuer": token(iss="https://elsewhere.example.org/"),
        "another key": token(key=OTHER),
        "an unknown key": token(kid="nobody"),
        "none": forged({"alg": "none", "typ": "JWT"}),
        "HS256 with the public key": forged({"alg": "HS256", "typ": "JWT", "kid": "RS256"}, pem),
        "another algorithm": token("ES256"),
        "EdDSA": token("EdDSA"),
        "rubbish": "a.b.c",
        "long": "a" * 20_000,
    }
    for name, one in bad.items():
        (answer,) = await client.ask(event("auth", Authorization=one))
        assert answer == {"event": "error", "data": {"message": "Unauthorized", "code": 4401}}, name
        (answer,) = await client.ask({"getGeoms": {"environment_id": "lab", "date": "2026-07-14"}})
        assert refused(4401, answer), name
        # Somebody who fails so often would be answered late.
        node.faces.connections.door._throttle.__init__()
    assert await client.ask(event("auth", Authorization="Bearer " + token())) == [{"event": "authorized", "data": {}}]
    await leave(client)


_texts = st.one_of(
    st.text(max_size=30), st.sampled_from(["lab", "2026-07-14", "camera-1", "2026-07-14T09:00:00", "' OR 1=1; --"])
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_texts, inner, max_size=4)),
    max_leaves=12,
)
_names = st.sampled_from(["ping", "auth", "getGeoms", "getCoordinates"])
_keys = st.sampled_from(["Authorization", "environment_id", "date", "sample_id", "device_id", "from", "seconds"])
_data = st.one_of(_json, st.dictionaries(_keys, _json, max_size=7))
_frames = st.one_of(
    st.binary(max_size=60),
    _json.map(lambda told: json.dumps(told).encode()),
    st.builds(lambda name, data: json.dumps({"event": name, "data": data}).encode(), st.one_of(_names, _json), _data),
    st.builds(lambda name, data: json.dumps({name: data}).encode(), _names, _data),
    st.builds(lambda name, data, more: json.dumps({"event": name, "data": data, "x": more}).encode(), _names, _data, _json),
)


@pytest_twisted.ensureDeferred
async def test_whatever_is_sent_is_answered_and_the_socket_lives(node):
    batches = []

    @given(st.lists(st.tuples(_frames, st.booleans()), min_size=20, max_size=40))
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def gather(batch):
        batches.append(batch)

    gather()
    client = await connect(node.faces.address)
    await client.ask({"auth": {"Authorization": token()}})
    for batch in batches:
        before = len(client.answers)
        for payload, binary in batch:
            # Text that is no UTF-8 goes out as it is, too.
            client.sendFrame(opcode=2 if binary else 1, payload=payload)
        await until(lambda: len(client.answers) >= before + len(batch))  # noqa: B023  it is awaited here
        for (payload, _), told in zip(batch, client.answers[before:], strict=True):
            kind = told.get("event") or next(iter(told))
            assert kind in {"pong", "authorized", "error", "geoms", "coordinates"}, (payload, told)
            if kind == "error":
                error = told.get("error") or told["data"]
                assert error["code"] in {4400, 4401, 4404, 4413}, (payload, told)
        node.faces.connections.door._throttle.__init__()
    assert (await client.ask({"ping": 1})) == [{"pong": 1}]
    await leave(client)
