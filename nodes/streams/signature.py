"""Signatures of a queue's clients (AWS's version 4): the access key is a user of the site, the secret key that user's secret.

boto3 signs each request with them, so that a program needs nothing but two variables of its environment to show who it is. What
a signature has to be for a request, botocore says, which made it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sisock.credentials import same
from sisock.errors import NotAuthenticated
from sisock.http import headers_of
from sisock.times import now

SCHEME = "AWS4-HMAC-SHA256 "
# Seconds that a client's clock may be off: so long a request that somebody has overheard can be sent again.
CLOCK = 300.0
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]{1,200})/(\d{8})/([a-z0-9-]{1,40})/sqs/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]{1,1000}), ?Signature=([0-9a-f]{64})"
)
_DATE = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Signed:
    """Who says to have signed a request, and what tells whether that was done with a secret."""

    name: str
    proves: Callable[[str], bool]


def signed_by(request: Any) -> Signed | None:
    """Who has signed an HTTP request; None where it is not signed, NotAuthenticated for what no secret could have signed."""
    sent = headers_of(request, b"authorization")
    if not any(one.startswith(SCHEME) for one in sent):
        return None
    try:
        import botocore.auth  # noqa: F401
    except ImportError:
        raise NotAuthenticated("the node cannot check signatures: it needs `pip install 'sisock[queue]'`") from None
    match = _AUTHORIZATION.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None:
        raise NotAuthenticated("the signature is not understood: it is AWS's version 4, for the service sqs")
    name, day, region, named, signature = match.groups()
    headers = named.split(";")
    if not {"host", "x-amz-date"} <= set(headers) or ("x-amz-target" not in headers and headers_of(request, b"x-amz-target")):
        raise NotAuthenticated("the signature leaves out host, x-amz-date or x-amz-target")
    date = "".join(headers_of(request, b"x-amz-date"))
    _check_date(date, day)
    body = request.content.read()
    request.content.seek(0)
    if any(one != hashlib.sha256(body).hexdigest() for one in headers_of(request, b"x-amz-content-sha256")):
        raise NotAuthenticated("x-amz-content-sha256 is not that of the body")
    shown = {name: headers_of(request, name.encode()) for name in headers}
    what = f"{'https' if request.isSecure() else 'http'}://{shown['host'][0]}{request.uri.decode('latin-1')}"
    return Signed(name, lambda secret: same(signature, _signature(what, shown, body, date, name, secret, region)))


def _check_date(date: str, day: str) -> None:
    try:
        at = datetime.strptime(date, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise NotAuthenticated("x-amz-date is not understood") from None
    if abs(at - now()) > CLOCK or not date.startswith(day):
        raise NotAuthenticated(f"the signature is of {date}, more than {CLOCK:g} s from now. Set the clock.")


def _signature(url: str, headers: dict[str, list[str]], body: bytes, date: str, name: str, secret: str, region: str) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer: Any = SigV4Auth(Credentials(name, secret), "sqs", region)
    request: Any = AWSRequest("POST", url, {key: ",".join(values) for key, values in headers.items()}, body)
    request.context["timestamp"] = date
    made: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return made
