"""Long answers by HTTP: as fast as their reader takes them, whole or broken off, never growing the server."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from threading import Event

import pytest
import pytest_twisted
from autobahn.twisted.util import sleep
from twisted.internet.threads import deferToThread

from sisock import streamed
from sisock.errors import SisockError
from sisock.http import application, listen, to_json
from sisock.streamed import reply_pages
from tests.plain import until

PAGE = list(range(20_000))
PAGES = 200


class Pages:
    """Pages of numbers, counted as they are read; `fails_at` is the one that cannot be."""

    def __init__(self, count=PAGES, fails_at=None):
        self.count, self.fails_at, self.read = count, fails_at, 0
        self.closed = Event()

    def __iter__(self):
        try:
            for number in range(self.count):
                if number == self.fails_at:
                    raise SisockError("the disk is gone")
                self.read += 1
                yield PAGE
        finally:
            self.closed.set()


@contextmanager
def serving(pages):
    app = application()

    @app.route("/")
    async def all_of_them(request):
        return await reply_pages(request, iter(pages), lambda page: to_json(page)[1:-1])

    port = listen(app, "127.0.0.1", 0)
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


def reading(port, work):
    """Runs a plain reader in a loop of its own, in a thread."""

    async def open_and_work():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        try:
            return await work(reader)
        finally:
            writer.close()

    return deferToThread(asyncio.run, open_and_work())


async def body_of(reader):
    whole = b""
    while chunk := await reader.read(1 << 20):
        whole += chunk
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest_twisted.ensureDeferred
async def test_a_reader_who_takes_nothing_lets_few_pages_be_read_and_then_gets_all():
    pages, go = Pages(), Event()

    async def late(reader):
        await asyncio.to_thread(go.wait)
        return await body_of(reader)

    with serving(pages) as port:
        answer = reading(port, late)
        await until(lambda: pages.read)
        seen = -1
        while seen != pages.read:
            seen = pages.read
            await sleep(0.3)
        # What the kernel holds of it is some MB; the rest of the 25 waits in the store.
        assert pages.read < PAGES / 2
        go.set()
        status, body = await answer
    assert status == 200 and json.loads(body) == PAGE * PAGES


@pytest_twisted.ensureDeferred
async def test_a_reader_who_takes_nothing_for_long_is_let_go(monkeypatch):
    monkeypatch.setattr(streamed.Streamed.__init__, "__defaults__", (0.2,))
    pages, go = Pages(), Event()

    async def never(reader):
        await asyncio.to_thread(go.wait)
        # What was on its way comes; then the connection is broken.
        return await body_of(reader)

    with serving(pages) as port:
        answer = reading(port, never)
        await deferToThread(pages.closed.wait, 10)
        go.set()
        with pytest.raises((ConnectionError, ValueError)):
            json.loads((await answer)[1])
    assert pages.read < PAGES


@pytest_twisted.ensureDeferred
async def test_who_leaves_ends_the_reading():
    pages = Pages()

    async def glance(reader):
        return await reader.read(10)

    with serving(pages) as port:
        assert await reading(port, glance) == b"HTTP/1.0 2"
        await deferToThread(pages.closed.wait, 10)
    assert pages.closed.is_set() and pages.read < PAGES


@pytest.mark.parametrize(("pages", "status", "told"), [(Pages(0), 200, []), (Pages(1), 200, PAGE), (Pages(3, 0), 500, None)])
@pytest_twisted.ensureDeferred
async def test_short_answers_and_first_errors_are_whole(pages, status, told):
    with serving(pages) as port:
        found, body = await reading(port, body_of)
    assert found == status
    value = json.loads(body)
    assert value == told if status == 200 else value["error"]["message"] == "the disk is gone"


@pytest_twisted.ensureDeferred
async def test_an_error_in_the_middle_breaks_the_connection():
    with serving(Pages(50, 20)) as port, pytest.raises((ConnectionError, ValueError)):
        json.loads((await reading(port, body_of))[1])
