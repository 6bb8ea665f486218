"""Producers behind a queue: SQS, or what speaks as it does, read with boto3.

A message is deleted after it was stored and handed on. One that is none is left to be read again, five times in all, and then
goes to the dead-letter queue: by the queue itself where it has a redrive policy, else by us.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from sisock.errors import Busy, InvalidArgument, NotInstalled, SisockError
from sisock.nodes.streams.message import MAX_ID, make

if TYPE_CHECKING:
    from sisock.nodes.streams.node import Streams
    from sisock.nodes.streams.settings import Settings

log = logging.getLogger(__name__)

TRIES = 5
BATCH = 10
# Seconds: a long poll; until what is no message is read again; until a commit counts as failed; after an error.
POLL = 20
AGAIN = 2
STORED_WITHIN = 25.0
PAUSE = 1.0
LONGEST_PAUSE = 30.0

_INCOMING, _DEAD = "IncomingQueue", "IncomingDLQ"


class Queues:
    """All queues that are read, each by some threads."""

    def __init__(self, node: Streams, settings: Settings) -> None:
        self._readers = [
            Reader(node, queue, stage, number) for queue, stage in settings.queues.items() for number in range(settings.readers)
        ]

    def start(self) -> None:
        """Begins to read; NotInstalled without boto3."""
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Reads no more; what is in hand and not stored stays in the queue."""
        for reader in self._readers:
            reader.stop()


class Reader:
    """One thread that reads one queue."""

    def __init__(self, node: Streams, queue: str, stage: str, number: int) -> None:
        self._node, self._queue, self._stage = node, queue, stage
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"streams-queue-{number}", daemon=True)
        self._client: Any = None
        self._url = self._dead = ""
        self._redrives = False

    def start(self) -> None:
        """Begins to read."""
        try:
            import boto3  # noqa: F401
        except ImportError:
            raise NotInstalled("reading a queue needs boto3: pip install 'sisock[queue]'") from None
        self._thread.start()

    def stop(self) -> None:
        """Ends; a long poll that runs is not waited for."""
        self._ends.set()

    def _work(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        pause = PAUSE
        while not self._ends.is_set():
            try:
                if self._client is None:
                    self._open()
                self._read()
                pause = PAUSE
            except Exception as error:
                # The queue is away, or not there yet, or answers what nobody expects; nothing of it is lost.
                self._client = None
                self._node.errors.say("queue", f"{self._queue}: {error}")
                known = isinstance(error, (BotoCoreError, ClientError, OSError))
                log.warning(
                    "the queue %s cannot be read, trying again in %g s: %s",
                    *(self._queue, pause, error),
                    exc_info=None if known else error,
                )
                self._ends.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _open(self) -> None:
        import boto3
        from botocore.config import Config

        # A session of its own: boto3's default one is not to be shared by threads while clients are made.
        made = boto3.session.Session().client("sqs", config=Config(retries={"mode": "standard"}, read_timeout=POLL + 20))
        self._url = self._queue if "://" in self._queue else made.get_queue_url(QueueName=self._queue)["QueueUrl"]
        told = made.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
        self._redrives = "deadLetterTargetArn" in json.loads(told.get("RedrivePolicy") or "{}")
        self._dead = self._url.rpartition("/")[2].replace(_INCOMING, _DEAD)
        self._client = made

    def _read(self) -> None:
        # What is received and cannot be kept counts as tried, and the queue's own policy would call it dead.
        if self._node.intake.full or self._node.trouble() is not None:
            self._ends.wait(PAUSE)
            return
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=POLL,
            AttributeNames=["ApproximateReceiveCount"],
        )
        stored: list[tuple[Mapping[str, Any], threading.Event]] = []
        for received in answer.get("Messages", []):
            done = threading.Event()
            if self._take(received, done.set):
                stored.append((received, done))
        until = monotonic() + STORED_WITHIN
        finished = [received for received, done in stored if done.wait(max(0.0, until - monotonic()))]
        if finished:
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(finished)]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _take(self, received: Mapping[str, Any], done: Callable[[], None]) -> bool:
        """Hands a message to the node; False if it is to stay in the queue for now."""
        try:
            message = self._node.parse(received["Body"], self._stage, "queue")
            # A queue delivers at least once; its own id tells what it delivers again. That by which a FIFO queue knows what
            # was sent twice does not: it may come from the body, and counts for five minutes, while ours count for a day.
            once = message.id or received["MessageId"]
            self._node.accept([make(message.site, message.topic, message.data, self._stage, once[:MAX_ID])], done)
        except InvalidArgument as error:
            self._put_back(received, error)
            return False
        except Busy:
            return False
        except SisockError as error:
            self._node.errors.say("queue", str(error))
            self._put_back(received, error)
            return False
        return True

    def _put_back(self, received: Mapping[str, Any], error: SisockError) -> None:
        tries = int(received.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        handle = received["ReceiptHandle"]
        if tries < TRIES or self._redrives:
            self._client.change_message_visibility(QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=AGAIN)
            return
        log.warning("a message of %s is none after %d tries and goes to %s: %s", self._queue, tries, self._dead, error)
        dead = self._client.get_queue_url(QueueName=self._dead)["QueueUrl"]
        self._client.send_message(QueueUrl=dead, MessageBody=received["Body"])
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=handle)
