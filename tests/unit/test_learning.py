"""What a node has to know of its history is read again and again until it can be, and an error is said once."""

from __future__ import annotations

import threading

from sisock import learning
from sisock.errors import SisockError, StoreAway
from sisock.learning import Learning


def test_an_error_that_stays_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(learning, "AGAIN", 0.001)
    answers = iter([StoreAway("away"), *[SisockError("broken")] * 3, SisockError("worse"), None])
    read = threading.Event()

    def reads():
        answer = next(answers)
        if answer is not None:
            raise answer
        read.set()

    known = Learning("roof", reads)
    known.start()
    assert read.wait(30)
    known.stop()
    assert caplog.text.count("broken") == caplog.text.count("worse") == 1
