"""Autobahn's log lines: their values are not coloured for nobody."""

from autobahn.wamp.websocket import WampWebSocketProtocol

from sisock import plainlog, session


def test_whoever_speaks_wamp_colours_nothing(monkeypatch):
    assert session.plainlog is plainlog
    for module, names in plainlog.COLOURED.items():
        for name in names:
            assert getattr(module, name) is plainlog.plain


def test_a_line_still_says_what_was_sent():
    lines = []

    class Log:
        def trace(self, text, **values):
            lines.append(text.format(**values))

    class Sent(WampWebSocketProtocol):
        log = Log()

        class _session:  # noqa: N801
            _authid, _session_id = "bench", 7

        class _serializer:  # noqa: N801
            @staticmethod
            def serialize(message):
                return message, True

        def sendMessage(self, payload, *_):
            self.sent = payload

    protocol = Sent()
    protocol.send(b"message")
    assert protocol.sent == b"message"
    assert "WAMP-Transmit(7, bench" in lines[0]


def test_the_names_are_still_autobahns_own():
    # Where an upgrade renames them, taking the colours out would do nothing.
    from autobahn import util

    for names in plainlog.COLOURED.values():
        assert all(callable(getattr(util, name)) for name in names)
    from importlib.util import find_spec
    from pathlib import Path

    for module, names in plainlog.COLOURED.items():
        text = Path(find_spec(module.__name__).origin).read_text()
        assert all(f"{name}(" in text for name in names)
