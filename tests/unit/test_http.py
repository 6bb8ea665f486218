"""What every HTTP face shares, without a network."""

from klein import Klein
from twisted.internet.testing import StringTransport

from sisock.doors import TRUSTED
from sisock.http import Policy, site


class Wrong:
    """A door, or an application, with a defect."""

    policy = Policy()

    def __init__(self, where):
        self.where = where

    async def admit_request(self, request):
        if self.where == "door":
            raise RuntimeError("a defect")
        return TRUSTED

    def resource(self):
        return self

    def render(self, request):
        if self.where == "written":
            request.write(b"half")
        raise RuntimeError("a defect")


def ask(application, door):
    transport = StringTransport()
    channel = site(application, door=door).buildProtocol(None)
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return transport


def test_whatever_goes_wrong_is_answered():
    for application, door in ((Klein(), Wrong("door")), (Wrong("application"), Wrong("application"))):
        answer = ask(application, door).value()
        assert answer.startswith(b"HTTP/1.1 500 "), answer
        assert b'"internal"' in answer


def test_an_answer_that_is_broken_off_ends_its_connection():
    transport = ask(Wrong("written"), Wrong("written"))
    assert b"half" in transport.value()
    assert transport.disconnecting
