"""A queue's endpoint for producers that cannot be changed: GetQueueUrl, SendMessage and SendMessageBatch, as SQS has them.

Both of its protocols are spoken: JSON (x-amz-json-1.0), as boto3 does since 2023, and the query protocol of older programs. A
message is answered when it is stored and handed on; one that is none is refused, as here its sender can hear it.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import struct
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET

from sisock.errors import Busy, InvalidArgument, NotAuthorized, SisockError, TooManyLogins
from sisock.http import headers_of, reply_error
from sisock.nodes.streams.message import MAX_ID, MAX_MESSAGE, Message, make, parse

if TYPE_CHECKING:
    from sisock.nodes.streams.node import Streams

log = Logger()

QUEUE = "datastreamIncomingQueue-"
ACCOUNT = "000000000000"
MAX_ENTRIES = 10
_TARGET = "AmazonSQS."
_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"


class QueueError(Exception):
    """What a queue's client is told: the error's name in the JSON and in the query protocol, and a sentence."""

    def __init__(self, name: str, message: str, query: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.name, self.query, self.status = name, query or name, status

    @property
    def fault(self) -> str:
        """Whose fault it is."""
        return "Sender" if self.status < 500 else "Receiver"


class Endpoint:
    """Answers a queue's clients."""

    def __init__(self, node: Streams) -> None:
        self._node = node
        self._actions = {"GetQueueUrl": self._url, "SendMessage": self._send, "SendMessageBatch": self._batch}

    def means(self, request: Any) -> bool:
        """Whether a request is a queue client's: it comes to the root, or to a queue's own address."""
        return bool(request.path == b"/") or bool(request.path.startswith(f"/{ACCOUNT}/".encode()))

    def render(self, request: Any, refused: SisockError | None = None) -> Any:
        """Answers one; `refused` is why its sender may not do anything."""
        gone: list[Any] = []
        request.notifyFinish().addBoth(gone.append)
        answered = Deferred.fromCoroutine(self._answer(request, refused))

        def finish(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        def failed(failure: Any) -> bytes:
            log.failure("a queue's client could not be answered", failure)
            return reply_error(request, 500, "internal", "this should not have happened; the node's log says more")

        answered.addErrback(failed).addCallback(finish)
        return NOT_DONE_YET

    async def _answer(self, request: Any, refused: SisockError | None) -> bytes:
        speech: _Speech = _Json(request) if headers_of(request, b"x-amz-target") else _Query(request)
        try:
            if refused is not None:
                raise _denied(refused)
            try:
                action, told = speech.read()
                act = self._actions.get(action)
                if act is None:
                    raise QueueError("UnsupportedOperation", f"{action!r:.60} is not done here: a producer sends.")
                return speech.reply(action, await act(told, request))
            except Busy as error:
                raise QueueError("ServiceUnavailable", str(error), status=503) from None
        except QueueError as error:
            self._node.errors.say("sqs", str(error))
            return speech.error(error)
        except SisockError as error:
            self._node.errors.say("sqs", str(error))
            return speech.error(QueueError("InternalFailure", str(error), status=error.status))

    async def _url(self, told: Mapping[str, Any], request: Any) -> dict[str, Any]:
        name = _text(told, "QueueName")
        self._stage(name)
        host = headers_of(request, b"host")[0]
        return {"QueueUrl": f"{'https' if request.isSecure() else 'http'}://{host}/{ACCOUNT}/{name}"}

    async def _send(self, told: Mapping[str, Any], request: Any) -> dict[str, Any]:
        message = self._message(self._stage_of(told, request), told)
        # Before it is stored: what is wrong with its attributes is said then.
        answer = _sent(told)
        await self._node.send(message)
        return answer

    async def _batch(self, told: Mapping[str, Any], request: Any) -> dict[str, Any]:
        stage, entries = self._stage_of(told, request), told.get("Entries")
        if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
            raise QueueError("EmptyBatchRequest", "Entries has at least one entry.", "AWS.SimpleQueueService.EmptyBatchRequest")
        if len(entries) > MAX_ENTRIES:
            code = "TooManyEntriesInBatchRequest"
            raise QueueError(code, f"Entries has {MAX_ENTRIES} at most.", f"AWS.SimpleQueueService.{code}")
        ids = [_text(one, "Id") for one in entries]
        if len(set(ids)) < len(ids):
            code = "BatchEntryIdsNotDistinct"
            raise QueueError(code, "each entry's Id is its own.", f"AWS.SimpleQueueService.{code}")
        if sum(len(str(one.get("MessageBody", ""))) for one in entries) > MAX_MESSAGE:
            code = "BatchRequestTooLong"
            raise QueueError(code, f"a batch has {MAX_MESSAGE} bytes at most.", f"AWS.SimpleQueueService.{code}")
        done = await DeferredList([Deferred.fromCoroutine(self._entry(stage, one)) for one in entries])
        successful, failed = [], []
        for id_, (_, (result, error)) in zip(ids, done, strict=True):
            if error is None:
                successful.append({"Id": id_, **result})
            else:
                failed.append({"Id": id_, "SenderFault": error.status < 500, "Code": error.name, "Message": str(error)})
        return {"Successful": successful, "Failed": failed}

    async def _entry(self, stage: str, told: Mapping[str, Any]) -> tuple[dict[str, Any], QueueError | None]:
        try:
            message, answer = self._message(stage, told), _sent(told)
            await self._node.send(message)
            return answer, None
        except QueueError as error:
            self._node.errors.say("sqs", str(error))
            return {}, error
        except SisockError as error:
            return {}, QueueError("ServiceUnavailable", str(error), status=503)

    def _message(self, stage: str, told: Mapping[str, Any]) -> Message:
        if str(told.get("DelaySeconds") or 0) != "0":
            raise QueueError("UnsupportedOperation", "messages go out at once here: DelaySeconds is 0.")
        try:
            message = parse(_text(told, "MessageBody"), stage)
            once = told.get("MessageDeduplicationId")
            if once is None or not isinstance(once, str):
                return message
            return make(message.site, message.topic, message.data, stage, once[:MAX_ID])
        except InvalidArgument as error:
            raise QueueError("InvalidMessageContents", str(error)) from None

    def _stage_of(self, told: Mapping[str, Any], request: Any) -> str:
        url = told.get("QueueUrl")
        path = urlsplit(url).path if isinstance(url, str) else request.path.decode("latin-1")
        return self._stage(path.rpartition("/")[2])

    def _stage(self, queue: str) -> str:
        stages = self._node.settings.stages
        stage = queue.removeprefix(QUEUE)
        if stage == queue or stage not in stages:
            there = ", ".join(QUEUE + one for one in stages)
            message = f"The specified queue does not exist. There are {there}."
            raise QueueError("QueueDoesNotExist", message, "AWS.SimpleQueueService.NonExistentQueue")
        return stage


def _denied(error: SisockError) -> QueueError:
    """What a client is told who may not send, by the names that queues have for it."""
    if isinstance(error, NotAuthorized):
        return QueueError("AccessDeniedException", str(error), "AccessDenied", 403)
    if isinstance(error, TooManyLogins):
        return QueueError("RequestThrottled", str(error), "AWS.SimpleQueueService.RequestThrottled", error.status)
    return QueueError("InvalidSignatureException", str(error), "SignatureDoesNotMatch", 403)


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise QueueError("MissingParameter", f"{name} is a text.")
    return value


def _sent(told: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"MessageId": str(uuid4()), "MD5OfMessageBody": _md5(told["MessageBody"].encode("utf-8", "surrogatepass"))}
    attributes = told.get("MessageAttributes")
    if attributes:
        answer["MD5OfMessageAttributes"] = _md5_of_attributes(attributes)
    return answer


def _md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _md5_of_attributes(attributes: Any) -> str:
    """The digest that clients compare: of each attribute, by name, its name, type and value with their lengths."""
    try:
        found = b""
        for name in sorted(attributes):
            one = attributes[name]
            binary = one["DataType"].startswith("Binary")
            value = b64decode(one["BinaryValue"]) if binary else one["StringValue"].encode()
            found += _with_length(name.encode()) + _with_length(one["DataType"].encode())
            found += (b"\x02" if binary else b"\x01") + _with_length(value)
    except (TypeError, KeyError, AttributeError, ValueError, binascii.Error):
        raise QueueError("InvalidParameterValue", "MessageAttributes have a DataType and a value each.") from None
    return _md5(found)


def _with_length(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


class _Speech:
    """One of the two protocols."""

    kind = b""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.id = str(uuid4())

    def read(self) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def reply(self, action: str, told: Mapping[str, Any]) -> bytes:
        raise NotImplementedError

    def error(self, error: QueueError) -> bytes:
        raise NotImplementedError

    def _body(self, body: bytes, status: int = 200) -> bytes:
        self.request.setResponseCode(status)
        self.request.setHeader(b"Content-Type", self.kind)
        self.request.setHeader(b"Content-Length", b"%d" % len(body))
        self.request.setHeader(b"x-amzn-RequestId", self.id.encode())
        return body


class _Json(_Speech):
    kind = b"application/x-amz-json-1.0"

    def read(self) -> tuple[str, dict[str, Any]]:
        target = headers_of(self.request, b"x-amz-target")[0]
        try:
            told = json.loads(self.request.content.read() or b"{}")
        except (ValueError, RecursionError):
            told = None
        if not target.startswith(_TARGET) or not isinstance(told, dict):
            raise QueueError("SerializationException", "the request is not understood")
        return target.removeprefix(_TARGET), told

    def reply(self, action: str, told: Mapping[str, Any]) -> bytes:
        return self._body(json.dumps(told).encode())

    def error(self, error: QueueError) -> bytes:
        self.request.setHeader(b"x-amzn-query-error", f"{error.query};{error.fault}".encode())
        told = {"__type": f"com.amazonaws.sqs#{error.name}", "message": str(error)}
        return self._body(json.dumps(told).encode(), error.status)


class _Query(_Speech):
    kind = b"text/xml"

    def read(self) -> tuple[str, dict[str, Any]]:
        try:
            flat = dict(parse_qsl(self.request.content.read().decode(), keep_blank_values=True, max_num_fields=2000))
        except ValueError:
            raise QueueError("MalformedQueryString", "the request is not understood") from None
        action = flat.pop("Action", "")
        told: dict[str, Any] = {name: value for name, value in flat.items() if "." not in name}
        attributes = _attributes(flat, "MessageAttribute")
        if attributes:
            told["MessageAttributes"] = attributes
        if action == "SendMessageBatch":
            told["Entries"] = [_entry_of(one) for one in _numbered(flat, "SendMessageBatchRequestEntry")]
        return action, told

    def reply(self, action: str, told: Mapping[str, Any]) -> bytes:
        if action == "SendMessageBatch":
            inner = "".join(_element("SendMessageBatchResultEntry", one) for one in told["Successful"])
            inner += "".join(_element("BatchResultErrorEntry", one) for one in told["Failed"])
        else:
            inner = "".join(_element(name, value) for name, value in told.items())
        answer = (
            f"<{action}Result>{inner}</{action}Result><ResponseMetadata><RequestId>{self.id}</RequestId></ResponseMetadata>"
        )
        return self._body(f'<{action}Response xmlns="{_NAMESPACE}">{answer}</{action}Response>'.encode())

    def error(self, error: QueueError) -> bytes:
        told = _element("Error", {"Type": error.fault, "Code": error.query, "Message": str(error)})
        return self._body(
            f'<ErrorResponse xmlns="{_NAMESPACE}">{told}<RequestId>{self.id}</RequestId></ErrorResponse>'.encode(), error.status
        )


def _element(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"<{name}>{''.join(_element(inner, one) for inner, one in value.items())}</{name}>"
    return f"<{name}>{escape(str(value).lower() if isinstance(value, bool) else str(value))}</{name}>"


def _numbered(flat: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """The entries `<name>.1.<key>`, `<name>.2.<key>` and so on, in their order."""
    found: dict[int, dict[str, str]] = {}
    for key, value in flat.items():
        head, _, rest = key.removeprefix(f"{name}.").partition(".")
        if key.startswith(f"{name}.") and head.isdecimal():
            found.setdefault(int(head), {})[rest] = value
    return [found[number] for number in sorted(found)]


def _attributes(flat: Mapping[str, str], name: str) -> dict[str, dict[str, str]]:
    entries = _numbered(flat, name)
    return {one.get("Name", ""): {key.removeprefix("Value."): value for key, value in one.items()} for one in entries}


def _entry_of(flat: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {name: value for name, value in flat.items() if "." not in name}
    attributes = _attributes(flat, "MessageAttribute")
    if attributes:
        told["MessageAttributes"] = attributes
    return told
