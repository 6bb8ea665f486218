"""Listening: who hears a topic may come and go at any time, whatever of it the router has answered by then."""

import pytest
from autobahn.wamp import message
from autobahn.wamp.types import ComponentConfig
from twisted.internet.defer import CancelledError

from sisock.errors import SisockError
from sisock.session import AskingSession

TOPIC = "observatory.x"
NUMBER = 77


class Router:
    """The router's end: answers what a session sent, when the test says so."""

    def __init__(self):
        self.sent, self.answered = [], 0
        self.session = AskingSession(ComponentConfig(realm="x"))
        self.session._transport, self.session._session_id = self, 1

    transport_details = None

    def send(self, sent):
        self.sent.append(sent)

    def isOpen(self):
        return True

    is_open = isOpen

    @property
    def asked(self):
        """What it was asked and did not answer yet."""
        return [type(one).__name__ for one in self.sent[self.answered :]]

    def answer(self):
        asked = self.sent[self.answered]
        self.answered += 1
        subscribes = isinstance(asked, message.Subscribe)
        self.session.onMessage(message.Subscribed(asked.request, NUMBER) if subscribes else message.Unsubscribed(asked.request))

    def refuse(self):
        asked = self.sent[self.answered]
        self.answered += 1
        self.session.onMessage(message.Error(message.Subscribe.MESSAGE_TYPE, asked.request, "wamp.error.not_authorized"))

    def publish(self, said):
        self.session.onMessage(message.Event(NUMBER, 1, args=[said]))

    def listen(self):
        heard = []
        return self.session.listen(heard.append, TOPIC), heard


@pytest.fixture
def router():
    return Router()


def test_one_who_ends_before_the_answer_is_unsubscribed_when_it_comes(router):
    one, heard = router.listen()
    one.end()
    assert router.asked == ["Subscribe"]
    router.answer()
    assert router.asked == ["Unsubscribe"]
    # The router sent it before it heard of that.
    router.publish("late")
    router.answer()
    assert heard == []


def test_who_gives_up_waiting_for_the_answer_ends_it(router):
    one, _ = router.listen()
    one.begun.addErrback(lambda failure: failure.trap(CancelledError))
    one.begun.cancel()
    router.answer()
    assert router.asked == ["Unsubscribe"]


def test_one_who_comes_while_the_last_one_leaves_hears_the_topic(router):
    first, _ = router.listen()
    router.answer()
    first.end()
    second, heard = router.listen()
    assert router.asked == ["Unsubscribe"], "one after the other"
    router.answer()
    router.answer()
    assert second.begun.called
    router.publish("news")
    assert heard == ["news"]


def test_one_who_leaves_while_another_comes_takes_nothing_from_it(router):
    first, _ = router.listen()
    router.answer()
    second, heard = router.listen()
    first.end()
    assert router.asked == ["Subscribe"]
    router.answer()
    assert router.asked == []
    router.publish("news")
    assert heard == ["news"]
    second.end()
    assert router.asked == ["Unsubscribe"]


def test_a_refusal_is_told(router):
    one, _ = router.listen()
    router.refuse()
    refused = []
    one.begun.addErrback(refused.append)
    assert not isinstance(refused[0].value, SisockError)
    assert refused[0].value.error == "wamp.error.not_authorized"
    one.end()
    assert router.asked == []
