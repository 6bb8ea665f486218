"""Nodes written for the old package (contract A4, design 3), as programs of their own: over wss with the pin, and over ws."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from tests.site.conftest import PATIENCE, SISOCK, wait

# Written in the old style from the contract: the author knows Autobahn, Twisted and the old names, and nothing else.
BLOCKING = """
import time
import six
from OpenSSL import crypto
from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from twisted.internet._sslverify import OpenSSLCertificateAuthorities
from twisted.internet.ssl import CertificateOptions
import sisock

class old_blocking(sisock.base.DataNodeServer):
    def __init__(self, config):
        ApplicationSession.__init__(self, config)
        self.name = "old_blocking"
        self.description = six.u("An old node that blocks.")

    def get_fields_blocking(self, start, end):
        assert 0 < start <= end
        field = {"x": {"description": None, "timeline": "line", "type": "number", "units": "m"}}
        return field, {"line": {"interval": 1.0, "field": ["x"]}}

    def get_data_blocking(self, field, start, end, min_stride=None):
        time.sleep(0.01)
        t = [float(n) for n in range(1, 1001) if start <= n < end]
        if "x" not in field or not t:
            return {"data": {name: [] for name in field}, "timeline": {}}
        return {"data": {"x": [2 * at for at in t]}, "timeline": {"line": {"t": t, "finalized_until": None}}}

if __name__ == "__main__":
    options = {}
    if sisock.WAMP_URI.startswith("wss"):
        with open(u".crossbar/server_cert.pem") as pem:
            cert = crypto.load_certificate(crypto.FILETYPE_PEM, six.u(pem.read()))
        options = {"ssl": CertificateOptions(trustRoot=OpenSSLCertificateAuthorities([cert]))}
    runner = ApplicationRunner(sisock.base.WAMP_URI, sisock.base.REALM, **options)
    runner.run(old_blocking)
"""

DIRECT = """
from autobahn.twisted.wamp import ApplicationRunner
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks, returnValue
from sisock import DataNodeServer, sisock_to_unix_time, uri, REALM, WAMP_URI
import sisock

class Direct(DataNodeServer):
    name = "old_direct"
    description = "An old node that does not block."
    heard = []

    @inlineCallbacks
    def after_onJoin(self, details):
        yield self.subscribe(self.heard.append, uri("consumer.data_node_added"))

    def get_fields(self, start, end):
        return {"joins": {"description": "Joins that were heard", "timeline": "t", "type": "number", "units": None}}, {
            "t": {"interval": None, "field": ["joins"]}
        }

    @inlineCallbacks
    def get_data(self, field, start, end, min_stride=None):
        now = yield sisock_to_unix_time(0)
        returnValue({"data": {"joins": [len(self.heard)]}, "timeline": {"t": {"t": [now], "finalized_until": now}}})

    def onDisconnect(self):
        if reactor.running:
            reactor.stop()

if __name__ == "__main__":
    import os, ssl
    from twisted.internet.ssl import CertificateOptions, Certificate, trustRootFromCertificates
    options = {}
    if WAMP_URI.startswith("wss"):
        pem = Certificate.loadPEM(open(os.path.join(".crossbar", "server_cert.pem")).read())
        options = {"ssl": CertificateOptions(trustRoot=trustRootFromCertificates([pem]))}
    ApplicationRunner(WAMP_URI, REALM, **options).run(Direct)
"""


# Its instrument has hung, so a thread of it never comes back.
HUNG = """
import threading
from twisted.internet import reactor, threads
from autobahn.twisted.wamp import ApplicationRunner
import sisock

reactor.callWhenRunning(threads.deferToThread, threading.Event().wait)
ApplicationRunner(sisock.WAMP_URI, sisock.REALM).run(sisock.DataNodeServer)
"""


class Script:
    """`sisock run --script` with a program, and what it prints."""

    def __init__(self, folder, name, text, env):
        file = folder / f"{name}.py"
        file.write_text(text)
        self.log = folder / f"{name}.{len(list(folder.glob(f'{name}.*')))}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([SISOCK, "run", "--script", str(file)], env=env, stdout=log, stderr=log)

    def said(self, text):
        return self.log.read_text().count(text)

    def end(self):
        """Ends it, and sees that its program ended with it."""
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children()
            self.process.terminate()
            self.process.wait()
            assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def names(up):
    return {node["name"] for node in json.loads(up.sisock("ls", "--json").stdout)}


ALL = {"sensors", "old_blocking", "old_direct"}


@pytest.fixture(scope="module", params=["secure", "site"], ids=["wss", "ws"])
def old(request, tmp_path_factory):
    """A site, and two old nodes beside it: (site, programs)."""
    up = request.getfixturevalue(request.param)
    assert up.run["ws"].startswith("wss:" if request.param == "secure" else "ws:")
    folder = tmp_path_factory.mktemp("old")
    programs = [Script(folder, name, text, up.env) for name, text in (("old_blocking", BLOCKING), ("old_direct", DIRECT))]
    yield up, programs
    for program in programs:
        program.end()


def test_old_nodes_run_unmodified(old):
    up, _ = old
    wait(lambda: up.whole_for(ALL))
    listed = {node["name"]: node["description"] for node in json.loads(up.sisock("ls", "--json").stdout)}
    assert listed["old_blocking"] == "An old node that blocks."
    answer = json.loads(up.sisock("get", "old_blocking", "x", "--start", "1", "--end", "11", "--format", "json").stdout)
    assert answer["data"]["x"] == [2.0 * t for t in range(1, 11)]
    # What the old node never heard of is done for it.
    answer = json.loads(up.sisock("get", "old_blocking", "x", "--start", "1", "--max-points", "10", "--format", "json").stdout)
    assert len(answer["data"]["x"]) == 10
    assert answer["data"]["x"][-1] == 2000.0
    assert json.loads(up.sisock("fields", "old_direct", "--json").stdout)["timelines"]["t"]["interval"] is None
    wait(lambda: up.sisock("get", "old_direct", "joins", "--format", "csv", check=False).returncode == 0)


def test_they_end_with_their_connection_and_are_started_again(old):
    # One of them sees to its end itself, the other does not; Autobahn's runner does not either.
    up, programs = old
    wait(lambda: up.whole_for(ALL))
    times = [program.said("is on the air") for program in programs]
    psutil.Process(up.pid("router")).kill()
    wait(lambda: all(program.said("is on the air") > before for program, before in zip(programs, times, strict=True)))
    wait(lambda: up.whole_for(ALL))


def test_a_program_whose_router_goes_before_the_handshake_is_over_ends_even_if_it_hangs(tmp_path):
    router = closing(socket.create_server(("127.0.0.1", 0)))
    with router as listening:
        listening.settimeout(PATIENCE)
        address = f"ws://localhost:{listening.getsockname()[1]}/ws"
        run = {"ws": address, "realm": "sisock", "base_uri": "", "page": "", "bridge": None, "local": "", "certificate": None}
        user = {"authid": "server", "secret": "x"}
        (tmp_path / "run.json").write_text(json.dumps({**run, "consumer": user, "server": user}))
        program = Script(tmp_path, "hung", HUNG, {"SISOCK_HOME": str(tmp_path)})
        try:
            # Another connection is another start of it.
            for _ in range(2):
                listening.accept()[0].close()
        finally:
            program.end()


def test_of_two_that_supervise_the_same_node_the_newer_stays(site, tmp_path):
    text = DIRECT.replace("old_direct", "twice")
    first = Script(tmp_path, "twice", text, site.env)
    second = None
    try:
        wait(lambda: first.said("is on the air"))
        second = Script(tmp_path, "twice", text, site.env)
        wait(lambda: first.process.poll() is not None)
        assert first.process.returncode == 1
        assert first.said("leaves")
        wait(lambda: second.said("is on the air") and "twice" in names(site))
        assert second.process.poll() is None
    finally:
        for program in filter(None, (first, second)):
            program.end()


def test_whatever_a_program_prints_is_passed_on(tmp_path):
    text = r"""
import signal, sys
sys.stdout.buffer.write(b"x" * 200_000 + b"\xff\n")
print("said")
sys.stderr.write("ended\n")
signal.pause()
"""
    program = Script(tmp_path, "prints", text, {"SISOCK_HOME": str(tmp_path / "home")})
    try:
        wait(lambda: program.said("ended"))
        assert program.said("x") == 200_001
        assert program.said("\\xff\nsaid\n")
    finally:
        program.end()


def test_a_script_or_a_node_but_not_both():
    for args in ([], ["sensors", "--script", sys.executable]):
        done = subprocess.run([SISOCK, "run", *args], capture_output=True, text=True)
        assert done.returncode == 2
        assert "--script" in done.stderr
