"""The blocking client in a program of its own, whose reactor it runs in a thread."""

from __future__ import annotations

import re
import signal

import pytest_twisted

from tests.client.conftest import T, token
from tests.client.programs import Program
from tests.plain import until


@pytest_twisted.ensureDeferred
async def test_a_script_reads_and_ends_without_being_told_to(node, router):
    node.count(0, 10).result()
    code = """
import sys, threading, sisock
hub = sisock.connect(*sys.argv[1:])
assert sisock.connect(*sys.argv[1:]).nodes()[0].name == "counter"
# A name that is looked up makes threads, which must not keep the program from ending.
print(len(hub["counter"].get("n", start=1)), [t.name for t in threading.enumerate() if not t.daemon])
"""
    program = Program(code, router.ws, token(router.consumer))
    assert await program.done() == "10 ['MainThread']\n"
    assert program.err == ""


@pytest_twisted.ensureDeferred
async def test_ctrl_c_ends_whatever_waits(node, router):
    code = """
import sys, sisock
hub = sisock.connect(*sys.argv[1:])
try:
    for block in hub["counter"].follow("n", start=1):
        print("block", len(block), flush=True)
except KeyboardInterrupt:
    print("interrupted", hub.nodes()[0].name)
"""
    program = Program(code, router.ws, token(router.consumer))
    await until(lambda: node.on_kept.__self__._watched.includes("t"), 60)
    await until(lambda: [node.count(10, 11).result()] and program.out, 60)
    program.transport.signalProcess("INT")
    assert (await program.done()).endswith("interrupted counter\n")
    await until(lambda: not node.on_kept.__self__._watched.includes("t"))
    lonely = Program("import sisock; print('go', flush=True); sisock.connect('ws://localhost:1/ws', 'a:b', patience=1e3)")
    await until(lambda: lonely.out, 60)
    lonely.transport.signalProcess("INT")
    await until(lambda: lonely.code is not None, 60)
    assert lonely.code in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in lonely.err


@pytest_twisted.ensureDeferred
async def test_a_fork_connects_anew_or_is_told_so(node, router):
    code = """
import os, sys, sisock
hub = sisock.connect(*sys.argv[1:])
if os.fork() == 0:
    try:
        hub.nodes()
    except sisock.SisockError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(hub.nodes()[0].name)
"""
    out = await Program(code, router.ws, token(router.consumer)).done()
    assert re.match(r"this process was forked .*\ncounter\n$", out)


@pytest_twisted.ensureDeferred
async def test_a_reactor_that_has_ended_cannot_be_used_again(router):
    code = """
import sys, sisock
from twisted.internet import reactor
reactor.callWhenRunning(reactor.stop)
reactor.run()
try:
    sisock.connect(*sys.argv[1:])
except sisock.SisockError as error:
    print(error)
"""
    out = await Program(code, router.ws, token(router.consumer)).done()
    assert "cannot run again" in out


@pytest_twisted.ensureDeferred
async def test_a_program_that_runs_the_reactor_calls_it_from_threads(node, router):
    node.append("t", T, {"n": 7.0}).result()
    code = """
import sys, sisock
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

def waits():
    hub = sisock.connect(*sys.argv[1:])
    print(hub["counter"].get("n", start=1)["n"])
    following = hub["counter"].follow("n")
    reactor.callFromThread(reactor.callLater, 0.1, reactor.stop)
    try:
        following.next()
    except sisock.SisockError as error:
        print(error)

def begin():
    try:
        sisock.connect(*sys.argv[1:])
    except sisock.errors.WouldBlock as error:
        print(type(error).__name__)
    deferToThread(waits).addErrback(print)

reactor.callWhenRunning(begin)
reactor.run()
"""
    out = await Program(code, router.ws, token(router.consumer)).done()
    assert out == "WouldBlock\n[7.]\nTwisted's reactor has been stopped, and with it all connections.\n"


@pytest_twisted.ensureDeferred
async def test_without_a_site_it_says_what_to_do(tmp_path):
    code = "import sisock; sisock.connect()"
    program = Program(code, env={"SISOCK_HOME": str(tmp_path / "none")})
    await program.done(1)
    assert "Start one with `sisock up`" in program.err.splitlines()[-1]


@pytest_twisted.ensureDeferred
async def test_help_teaches_it():
    code = """
import pydoc, sisock
for thing in (sisock, sisock.connect, sisock.aio):
    print(pydoc.render_doc(thing, renderer=pydoc.plaintext))
from sisock.client import blocking, data
for thing in (blocking.Hub, blocking.Node, blocking.Following, data.Data, data.Gap):
    print(pydoc.render_doc(thing, renderer=pydoc.plaintext))
"""
    out = await Program(code).done()
    for said in (
        'hub["sensors"].follow(["cpu_load"], start="-10m")',
        ".to_pandas()",
        "block.revises",
        "on_gap",
        'token="USER:SECRET"',
    ):
        assert said in out
