"""sisock.http: what all HTTP faces share."""

import json
import socket

import hypothesis.strategies as st
import pytest
import pytest_twisted
from hypothesis import given
from twisted.internet.threads import deferToThread
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from sisock.errors import Busy, InvalidArgument, PortTaken, SetupError
from sisock.http import Policy, application, json_body, listen, reply, to_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_never_holds_what_json_has_not(value):
    def refuse(name):
        raise AssertionError(name)

    json.loads(to_json(value), parse_constant=refuse)


def test_no_number_is_null():
    assert to_json([1.5, float("nan"), {"a": (float("inf"), -float("inf"))}]) == b'[1.5,null,{"a":[null,null]}]'


def app():
    app = application()

    def echo(request):
        return reply(request, {"body": json_body(request)})

    def busy(request):
        raise Busy("later")

    async def broken(request):
        raise RuntimeError("the password is 1234")

    app.route("/echo", methods=["GET", "POST"])(echo)
    app.route("/busy", methods=["GET"])(busy)
    app.route("/broken", methods=["GET"])(broken)
    return app


@pytest_twisted.ensureDeferred
async def test_answers_are_json(serve):
    client = serve(app())
    answer = await client.post("/echo", {"a": [1, None, "ü"]})
    assert (answer.status, answer.json) == (200, {"body": {"a": [1, None, "ü"]}})
    assert (await client.get("/echo")).json == {"body": None}
    assert (await client.post("/echo/", b" \n")).json == {"body": None}
    assert (await client.get("//echo")).json == {"body": None}


@pytest_twisted.ensureDeferred
async def test_a_head_has_the_headers_alone(serve):
    answer = await serve(app()).request("HEAD", "/echo")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(b'{"body":null}'))


@pytest_twisted.ensureDeferred
async def test_errors_have_one_shape(serve):
    client = serve(app())
    assert (await client.get("/busy")).error == (503, "sisock.error.busy", "later")
    assert (await client.get("/nowhere")).error == (404, "not_found", "there is nothing at /nowhere")
    assert (await client.get("/nowhere//echo")).error[:2] == (404, "not_found")
    assert (await client.get("/%ff")).error[:2] == (400, "bad_path")
    refused = await client.request("DELETE", "/echo")
    assert refused.error[:2] == (405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, POST"


@pytest_twisted.ensureDeferred
async def test_an_unexpected_error_shows_nothing_of_the_inside(serve, logged):
    status, code, message = (await serve(app()).get("/broken")).error
    assert (status, code) == (500, "internal")
    assert "1234" not in message
    assert "1234" in str(logged.pop()["log_failure"])


@pytest.mark.parametrize(
    "body", [b"{", b"[1,]", b"NaN", b'{"a": -Infinity}', b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"\x00"]
)
@pytest_twisted.ensureDeferred
async def test_bad_json_is_refused(serve, body):
    assert (await serve(app()).post("/echo", body)).error[:2] == (400, "sisock.error.invalid_argument")


@pytest_twisted.ensureDeferred
async def test_a_body_has_a_limit(serve):
    client = serve(app(), max_body=1000)
    assert (await client.post("/echo", b"[" + b" " * 998 + b"]")).status == 200
    assert (await client.post("/echo", b"[" + b" " * 999 + b"]")).error[:2] == (413, "too_large")
    with pytest.raises((ResponseNeverReceived, RequestTransmissionFailed)):
        await client.post("/echo", b" " * 1_000_000)
    assert (await client.get("/echo")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_body_of_unknown_length_has_the_same_limit(serve):
    client = serve(app(), max_body=1000)
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await deferToThread(talk, client.port, head + b"400\r\n" + b" " * 0x400 + b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest_twisted.ensureDeferred
async def test_a_form_is_not_taken_apart(serve):
    client = serve(app())
    answer = await client.post("/echo", b"null", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.json == {"body": None}


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:5000", "[::1]:80", "bridge", "Bridge:5000", "[fd00::1]"]
)
@pytest_twisted.ensureDeferred
async def test_its_names_are_answered(serve, host):
    client = serve(app(), hosts=["bridge", "fd00::1"])
    assert (await client.get("/echo", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5000", "localhost.evil.example", "x@localhost", "", "localhost:x", "bridge"]
)
@pytest_twisted.ensureDeferred
async def test_other_names_are_refused(serve, host):
    client = serve(app())
    assert (await client.get("/echo", headers={"Host": host})).error[:2] == (403, "bad_host")
    assert (await client.post("/nowhere", {}, headers={"Host": host})).error[:2] == (403, "bad_host")


@pytest.mark.parametrize("headers", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_request_has_one_host(serve, headers):
    client = serve(app())
    answer = await deferToThread(talk, client.port, b"GET /echo HTTP/1.0\r\n" + headers + b"\r\n")
    assert b" 403 " in answer.splitlines()[0]


@pytest_twisted.ensureDeferred
async def test_other_sites_may_not_post(serve):
    client = serve(app(), origins=["https://grafana.example/"])

    async def post(origin):
        return (await client.post("/echo", {}, headers={"Origin": origin})).status

    assert await post(f"http://127.0.0.1:{client.port}") == 200
    assert await post("https://grafana.example") == 200
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost:{client.port}",
        "http://127.0.0.1",
        "",
        "http://127.0.0.1:1",
    ):
        assert await post(origin) == 403
    refused = await client.post("/echo", {}, headers={"Origin": "http://evil.example"})
    assert refused.error[:2] == (403, "bad_origin")
    assert "access-control-allow-origin" not in refused.headers
    assert (await client.get("/echo", headers={"Origin": "http://evil.example"})).status == 200
    assert (await client.request("OPTIONS", "/echo", headers={"Origin": "http://evil.example"})).status == 403


def test_a_star_in_a_name_is_one_label():
    policy = Policy.of(["*.x.example", "bridge"])
    assert all(map(policy.names_us, ("a.x.example", "A.X.example:5000", "bridge", "localhost:5000", "[::1]", "127.0.0.1")))
    for other in (
        "x.example",
        ".x.example",
        "a.b.x.example",
        "ax.example",
        "a.x.example.evil.example",
        "a.bridge",
        "127.1.0.0.1",
    ):
        assert not policy.names_us(other), other


@pytest.mark.parametrize("hosts", [["http://bridge"], ["bridge:5000"], ["a b"], [""]])
def test_a_name_that_is_none_is_refused_at_the_start(hosts):
    with pytest.raises(InvalidArgument):
        Policy.of(hosts)


@pytest.mark.parametrize("origin", ["*", "grafana.example", "https://", "https://a/b", "null"])
def test_an_origin_that_is_none_is_refused_at_the_start(origin):
    with pytest.raises(InvalidArgument):
        Policy.of((), [origin])


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_is_named(serve):
    client = serve(app())
    with pytest.raises(PortTaken, match=str(client.port)):
        listen(app(), "127.0.0.1", client.port)
    with pytest.raises(SetupError, match=r"192\.0\.2\.1"):
        listen(app(), "192.0.2.1", 0)


def talk(port, request):
    """What a server answers to these bytes until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
