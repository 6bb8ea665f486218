"""Nodes written for the old package (contract A4, design 3), as programs of their own: over wss with the pin, and over ws."""

from __future__ import annotations

import json
import subprocess

import psutil
import pytest

from tests.site.conftest import SISOCK, Up, wait

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


@pytest.mark.parametrize("tls", [["--tls"], []], ids=["wss", "ws"])
def test_old_nodes_run_unmodified_and_are_started_again(tmp_path, tls):
    up = Up(tmp_path / "home", *tls, "--nodes", "sensors").ready()
    programs = []
    try:
        for name, text in (("old_blocking", BLOCKING), ("old_direct", DIRECT)):
            script = tmp_path / f"{name}.py"
            script.write_text(text)
            with (tmp_path / f"{name}.log").open("w") as log:
                command = [SISOCK, "run", "--script", str(script)]
                programs.append(subprocess.Popen(command, env=up.env, stdout=log, stderr=log))

        def names():
            return {node["name"] for node in json.loads(up.sisock("ls", "--json").stdout)}

        wait(lambda: names() == {"sensors", "old_blocking", "old_direct"})
        listed = {node["name"]: node["description"] for node in json.loads(up.sisock("ls", "--json").stdout)}
        assert listed["old_blocking"] == "An old node that blocks."
        answer = json.loads(up.sisock("get", "old_blocking", "x", "--start", "1", "--end", "11", "--format", "json").stdout)
        assert answer["data"]["x"] == [2.0 * t for t in range(1, 11)]
        # What the old node never heard of is done for it.
        answer = json.loads(
            up.sisock("get", "old_blocking", "x", "--start", "1", "--max-points", "10", "--format", "json").stdout
        )
        assert len(answer["data"]["x"]) == 10
        assert answer["data"]["x"][-1] == 2000.0
        assert json.loads(up.sisock("fields", "old_direct", "--json").stdout)["timelines"]["t"]["interval"] is None
        wait(lambda: up.sisock("get", "old_direct", "joins", "--format", "csv", check=False).returncode == 0)
    finally:
        for program in programs:
            children = psutil.Process(program.pid).children()
            program.terminate()
            program.wait()
            assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        up.stop()
