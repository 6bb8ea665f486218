"""What reaches into the router, tried on a router that only keeps what it is given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from autobahn.wamp import message

from sisock.router.inside import Inside

SAID = [{"session": 1, "authid": "server", "authrole": "server"}]
MESSAGES = [
    message.Call(1, "a.b", forward_for=SAID),
    message.Cancel(1, forward_for=SAID),
    message.Yield(1, forward_for=SAID),
    message.Error(message.Invocation.MESSAGE_TYPE, 1, "a.error", forward_for=SAID),
    message.Publish(1, "a.b", forward_for=SAID),
    message.Subscribe(1, "a.b", forward_for=SAID),
    message.Unsubscribe(1, 2, forward_for=SAID),
    message.Register(1, "a.b", forward_for=SAID),
    message.Unregister(1, 2, forward_for=SAID),
]


@pytest.mark.parametrize("msg", MESSAGES, ids=lambda msg: type(msg).__name__)
@pytest.mark.parametrize("role", ["node", "consumer", "server", "anonymous"])
def test_nobody_from_outside_says_for_whom_it_asks(msg, role):
    """Whatever the router makes of it, with a message of each kind that can say it."""
    came = []
    router = SimpleNamespace(process=lambda session, msg: came.append(msg.forward_for), send=None)
    inside = Inside(SimpleNamespace(_transport=SimpleNamespace(_router=router)))
    inside.guard(lambda joined, uri: False, lambda joined, msg: True)
    sent = type(msg).parse(msg.marshal())
    assert sent.forward_for == SAID
    router.process(SimpleNamespace(_session_id=7, _authid="x", _authrole=role), sent)
    assert came == [None]
