"""kill -9 of the streams under load: what was accepted is delivered or can be replayed, and what has an id, once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from sisock.home import Home
from tests.nodes.streams import client, connect, fetch, form, moto  # noqa: F401
from tests.plain import until

SISOCK = str(Path(sys.executable).with_name("sisock"))
QUEUE = "datastreamIncomingQueue-prod"


def run(log, env):
    with log.open("w") as file:
        return subprocess.Popen([SISOCK, "run", "streams"], env=env, stdout=file, stderr=file)


def of_queue(heard):
    return {text for text in heard if "queued" in text}


@pytest_twisted.ensureDeferred
async def test_what_was_accepted_is_delivered_or_replayable_once(router, moto, tmp_path):  # noqa: F811
    aws = client(moto)

    def make():
        # A name that another test has used is there already.
        url = aws.create_queue(QueueName=QUEUE)["QueueUrl"]
        aws.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
        return url

    url = await deferToThread(make)
    env = {
        "SISOCK_HOME": str(router.home.path),
        "SISOCK_STREAMS_PORT": "0",
        "SISOCK_STREAMS_QUEUES": f"prod={QUEUE}",
        "SISOCK_STORE": str(tmp_path / "h.db"),
        "AWS_ENDPOINT_URL_SQS": moto,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": "/usr/bin:/bin",
    }
    chance = random.Random(9)
    posted, queued, accepted, heard = 0, 0, [], set()

    async def post(address, numbers):
        for number in numbers:
            try:
                code, _ = await deferToThread(fetch, address, "/prod", form("dome", "posted", number, id=str(number)))
            except (OSError, json.JSONDecodeError):
                return
            if code == 201:
                accepted.append(number)

    for start in range(3):
        process = run(tmp_path / f"{start}.log", env)
        try:
            address = await until(lambda pid=process.pid: Home(router.home.path).face("streams", pid), 30)
            live = await connect(address, "/prod?site=dome&topic=posted")
            for number in range(queued, queued + 20):
                await deferToThread(
                    lambda n=number: aws.send_message(QueueUrl=url, MessageBody=form("dome", "queued", n).decode())
                )
            queued += 20
            # What was on its way at the kill is sent again, as a producer does who heard nothing.
            again = [number for number in range(posted) if number not in set(accepted)]
            numbers = [*again, *accepted[-3:], *range(posted, posted + 60)]
            posted += 60
            sending = Deferred.fromCoroutine(post(address, numbers))
            if start < 2:
                wanted = len(accepted) + chance.randrange(10, 40)
                await until(lambda wanted=wanted: len(accepted) >= wanted, 20)
            else:
                await sending
                everything = await connect(address, "/prod?site=dome&since=-1h")
                await until(lambda one=everything, wanted=queued: len(of_queue(one.heard)) >= wanted, 30)
                await everything.leave()
                await live.leave()
        finally:
            process.send_signal(signal.SIGKILL if start < 2 else signal.SIGTERM)
            await deferToThread(process.wait)
        if start < 2:
            await live.factory.gone
            await sending
        heard.update(live.said)
    said = [json.loads(text) for text in everything.heard]
    from_posts = [one["data"] for one in said if one["topic"] == "posted"]
    from_queue = [one["data"] for one in said if one["topic"] == "queued"]
    assert sorted(from_posts) == sorted(set(from_posts)), "each once"
    assert sorted(from_queue) == list(range(queued)), "each once"
    assert set(accepted) <= set(from_posts)
    assert heard <= set(from_posts), "what anybody heard can be replayed"
