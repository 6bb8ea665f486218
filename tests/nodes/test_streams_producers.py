"""Those who send to site streams: boto3 and older programs, a queue, programs on the router."""

# ruff: noqa: F811  fixtures are imported by their names
import urllib.error
import urllib.request

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from sisock.certificates import Certificates
from sisock.home import Home
from sisock.nodes.streams import Streams
from sisock.nodes.streams.simulator import Producers
from tests.nodes.streams import any_port, client, connect, form, moto, node  # noqa: F401
from tests.plain import until

ATTRIBUTES = {
    "a": {"DataType": "String", "StringValue": "x"},
    "b": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    "c": {"DataType": "Number", "StringValue": "1"},
}


@pytest.fixture
def aws(moto):
    return client(moto)


@pytest_twisted.ensureDeferred
async def test_an_unmodified_boto3_program_sends_to_our_own_endpoint(node, aws):
    dome = await connect(node.faces.address, "/prod?site=dome")

    def program():
        sqs = client(node.faces.address)
        url = sqs.get_queue_url(QueueName="datastreamIncomingQueue-prod")["QueueUrl"]
        one = sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 1).decode(), MessageAttributes=ATTRIBUTES)
        entries = [{"Id": str(n), "MessageBody": form("dome", "jobs", n).decode()} for n in (2, 3)]
        many = sqs.send_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "MessageBody": "{}"}])
        errors, nine = [], form("dome", "jobs", 9).decode()
        for wrong in (
            lambda: sqs.get_queue_url(QueueName="other"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody="no message"),
            lambda: sqs.send_message(QueueUrl=url, MessageBody=nine, DelaySeconds=5),
            lambda: sqs.receive_message(QueueUrl=url),
            lambda: sqs.send_message(QueueUrl=url, MessageBody=nine, MessageAttributes={"a": {"DataType": "String"}}),
            lambda: sqs.send_message_batch(QueueUrl=url, Entries=[entries[0], entries[0]]),
        ):
            with pytest.raises(sqs.exceptions.ClientError) as told:
                wrong()
            errors.append(told.value.response["Error"]["Code"])
        return one, many, errors

    one, many, errors = await deferToThread(program)
    url = await deferToThread(lambda: aws.create_queue(QueueName="digests")["QueueUrl"])
    other = await deferToThread(
        lambda: aws.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", 1).decode(), MessageAttributes=ATTRIBUTES)
    )
    assert all(one[name] == other[name] for name in ("MD5OfMessageBody", "MD5OfMessageAttributes"))
    assert [entry["Id"] for entry in many["Successful"]] == ["2", "3"]
    assert [(entry["Id"], entry["SenderFault"], entry["Code"]) for entry in many["Failed"]] == [
        ("bad", True, "InvalidMessageContents")
    ]
    assert errors == [
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidMessageContents",
        "UnsupportedOperation",
        "UnsupportedOperation",
        "InvalidParameterValue",
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    ]
    await until(lambda: sorted(dome.said) == [1, 2, 3])
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_a_program_of_the_older_query_protocol(node):
    from urllib.parse import urlencode
    from xml.etree import ElementTree

    dome = await connect(node.faces.address, "/dev?site=dome")
    space = "{http://queue.amazonaws.com/doc/2012-11-05/}"

    def ask(path, **told):
        request = urllib.request.Request(node.faces.address + path, urlencode(told).encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, ElementTree.fromstring(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, ElementTree.fromstring(error.read())

    def program():
        _, told = ask("/", Action="GetQueueUrl", QueueName="datastreamIncomingQueue-dev")
        url = told.find(f".//{space}QueueUrl").text
        path = url.removeprefix(node.faces.address)
        _, one = ask(path, Action="SendMessage", MessageBody=form("dome", "t", 1).decode())
        entry = "SendMessageBatchRequestEntry"
        many = {f"{entry}.{n}.Id": f"<{n}>" for n in (1, 2)}
        many |= {f"{entry}.1.MessageBody": form("dome", "t", 2).decode(), f"{entry}.2.MessageBody": "[]"}
        many |= {f"{entry}.1.MessageAttribute.1.{key}": value for key, value in (("Name", "a"), ("Value.DataType", "String"))}
        many[f"{entry}.1.MessageAttribute.1.Value.StringValue"] = "x"
        return one, ask("/", Action="SendMessageBatch", QueueUrl=url, **many)[1], ask("/", Action="GetQueueUrl", QueueName="x")

    one, many, (code, refused) = await deferToThread(program)
    assert len(one.find(f".//{space}MD5OfMessageBody").text) == 32
    assert [entry.text for entry in many.iterfind(f".//{space}SendMessageBatchResultEntry/{space}Id")] == ["<1>"]
    assert many.find(f".//{space}MD5OfMessageAttributes") is not None
    assert [entry.text for entry in many.iterfind(f".//{space}BatchResultErrorEntry/{space}Id")] == ["<2>"]
    assert (code, refused.find(f".//{space}Code").text) == (400, "AWS.SimpleQueueService.NonExistentQueue")
    await until(lambda: sorted(dome.said) == [1, 2])
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_a_queue_is_read_and_what_is_no_message_goes_to_the_dead_letters(router, moto, aws, monkeypatch):
    from sisock.nodes.streams.producers import queue as module

    monkeypatch.setattr(module, "AGAIN", 0)
    monkeypatch.setattr(module, "POLL", 1)
    monkeypatch.setattr(module, "PAUSE", 0.05)
    read, wrong = module.Reader._read, [RuntimeError("an answer that nobody expects")]

    def read_or_fail(self):
        if wrong:
            raise wrong.pop()
        read(self)

    monkeypatch.setattr(module.Reader, "_read", read_or_fail)
    names = {"AWS_ENDPOINT_URL_SQS": moto, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SISOCK_STREAMS_QUEUES", "prod=datastreamIncomingQueue-prod")
    made = Streams()
    service = await router.serve(made)
    dome = await connect(made.faces.address, "/prod?site=dome")

    def left(url):
        told = aws.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessages"]) + int(told["ApproximateNumberOfMessagesNotVisible"])

    def program():
        # The queue comes up after its reader.
        url, dead = (aws.create_queue(QueueName=f"datastreamIncoming{name}-prod")["QueueUrl"] for name in ("Queue", "DLQ"))
        aws.send_message(QueueUrl=url, MessageBody='{"site": "dome"}')
        for n in range(12):
            aws.send_message(QueueUrl=url, MessageBody=form("dome", "weather", n).decode())
        return url, dead

    try:
        url, dead = await deferToThread(program)
        await until(lambda: sorted(dome.said) == list(range(12)))
        await until(lambda: deferToThread(lambda: left(url) == 0 and left(dead) == 1), 20)
        told = await deferToThread(lambda: aws.receive_message(QueueUrl=dead)["Messages"][0])
        assert told["Body"] == '{"site": "dome"}'
        assert made.errors.counts["queue"] >= 5
        assert "topic" in made.errors.newest["queue"]
    finally:
        await dome.leave()
        await service.stop()


@pytest_twisted.ensureDeferred
async def test_what_a_queue_delivers_again_is_known_by_its_own_id_and_not_by_what_it_holds(node):
    from sisock.nodes.streams.producers.queue import Reader

    dome = await connect(node.faces.address, "/prod?site=dome")
    reader = Reader(node, "jobs.fifo", "prod", 0)
    for queued in ("1", "1", "2"):
        # A FIFO queue that reads its ids off the bodies gives equal messages, days apart, the same.
        told = {"MessageDeduplicationId": "digest"}
        assert reader._take({"Body": form("dome", "jobs", 5).decode(), "MessageId": queued, "Attributes": told}, lambda: None)
    await node.post(form("dome", "jobs", "last"))
    await until(lambda: dome.said[-1:] == ["last"])
    assert dome.said == [5, 5, "last"]
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_a_program_on_the_router_sends(router, node, guests, rules):
    from autobahn.wamp.exception import ApplicationError

    dome = await connect(node.faces.address, "/prod?site=dome")
    send = "org.simonsobservatory.consumer.streams.send"
    camera = await guests(router.user("camera", "camera"))
    trusted = await guests("server")
    assert await camera.call(send, "dome", "imagedata", {"b": 1, "a": [None, "é"]})
    assert await trusted.call(send, "dome", "jobs", 2, id="x")
    assert await trusted.call(send, "dome", "jobs", 2, id="x")
    await until(lambda: dome.said == [{"b": 1, "a": [None, "é"]}, 2])
    for wrong in (("", "t", 1), ("dome", "t"), (1, "t", 1), ("dome", "t", float("nan")), ("dome", "t", 1, None, "test")):
        with pytest.raises(ApplicationError) as told:
            await trusted.call(send, *wrong)
        assert told.value.error.startswith("sisock.error."), wrong
    reader = await guests("consumer")
    with pytest.raises(ApplicationError) as told:
        await reader.call(send, "dome", "jobs", 1)
    assert told.value.error == "wamp.error.not_authorized"
    await rules(([reader.user[0]], ["streams"], ["see", "send"]))
    assert await reader.call(send, "dome", "jobs", 3)
    with pytest.raises(ApplicationError):
        await camera.call(send, "dome", "jobs", 1)
    await dome.leave()


@pytest_twisted.ensureDeferred
async def test_over_tls_boto3_programs_sign_with_the_secret_of_a_user(router, monkeypatch):
    """The access key is a user of the site: beyond the networks that are named, that is who a program is."""
    from datetime import UTC, datetime, timedelta

    from botocore import auth
    from botocore.config import Config

    monkeypatch.setenv("SISOCK_STREAMS_TLS", "1")
    home = Home.default()
    home.make()
    sender, reader = home.users.ensure("camera", "node", "camera"), home.users.ensure("reader", "consumer")
    home.rules.path.write_text("[face.streams]\nwithout_token = []\n[face.streams_producers]\nwithout_token = []\n")
    made = Streams()
    service = await router.serve(made)
    address, authority = made.faces.address, Certificates(home.path).authority
    assert address.startswith("https://")

    def send(name, secret, n, change=None):
        sqs = client(address, name, secret, verify=str(authority), config=Config(retries={"total_max_attempts": 1}))
        if change is not None:
            sqs.meta.events.register("before-send.sqs.*", change)
        try:
            url = sqs.get_queue_url(QueueName="datastreamIncomingQueue-prod")["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody=form("dome", "jobs", n).decode())
        except sqs.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    def other_body(request, **_):
        request.body = request.body.replace(b"prod", b"dev ")

    def other_target(request, **_):
        request.headers["X-Amz-Target"] = "AmazonSQS.SendMessage"

    def no_target(request, **_):
        request.headers["Authorization"] = request.headers["Authorization"].replace(b";x-amz-target", b"")

    def other_digest(request, **_):
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"

    try:
        page = await connect(address, f"/prod?site=dome&token=reader:{reader.secret}", authority=authority)
        with pytest.raises(ConnectionError, match="401"):
            await connect(address, "/prod?site=dome", authority=authority)
        assert await deferToThread(send, "camera", sender.secret, 1) is None
        await until(lambda: page.said == [1])
        assert await deferToThread(send, "camera", "wrong", 2) == "SignatureDoesNotMatch"
        assert await deferToThread(send, "nobody", sender.secret, 2) == "SignatureDoesNotMatch"
        assert await deferToThread(send, "reader", reader.secret, 2) == "AccessDenied"
        for change in (other_body, other_target, no_target, other_digest):
            assert await deferToThread(send, "camera", sender.secret, 2, change) == "SignatureDoesNotMatch", change
        with monkeypatch.context() as clock:
            clock.setattr(auth, "get_current_datetime", lambda: datetime.now(UTC) - timedelta(minutes=6))
            assert await deferToThread(send, "camera", sender.secret, 2) == "SignatureDoesNotMatch"
        producers = Producers(address, "prod", 1, 50.0, 200, f"camera:{sender.secret}", 1, authority)
        producers.start()
        await until(lambda: producers.stored >= 5)
        await producers.stop()
        assert not producers.trouble
        home.users.remove("camera")
        assert await deferToThread(send, "camera", sender.secret, 2) == "SignatureDoesNotMatch"
        assert page.said == [1]
        await page.leave()
    finally:
        await service.stop()
