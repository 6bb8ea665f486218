"""A client that trusts another certificate, or meets what is no router, is told that, and not that nobody is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from urllib.parse import urlsplit

from sisock.certificates import Certificates
from tests.site.conftest import SISOCK


def far(up, home, **more):
    """The environment of a program elsewhere, whose home is `home`."""
    run = up.run
    user = {"WAMP_USER": run["consumer"]["authid"], "WAMP_SECRET": run["consumer"]["secret"]}
    port = str(urlsplit(run["ws"]).port)
    return {"SISOCK_HOME": str(home), "CROSSBAR_HOST": "localhost", "CROSSBAR_TLS_PORT": port, **user, **more}


def sisock(env, *args):
    return subprocess.run([SISOCK, *args], env=env, capture_output=True, text=True, timeout=60)


def test_the_pinned_certificate_lets_in_and_another_one_is_named(secure, tmp_path):
    pinned = tmp_path / ".crossbar" / "server_cert.pem"
    pinned.parent.mkdir()
    shutil.copy(secure.home / ".crossbar" / "server_cert.pem", pinned)
    env = far(secure, tmp_path)
    assert "sensors" in sisock(env, "ls").stdout

    Certificates(tmp_path).renew_authority()
    done = sisock(env, "ls")
    assert done.returncode == 1
    assert "certificate" in done.stderr
    assert str(pinned) in done.stderr
    assert "no router answers" not in done.stderr
    found = [one for one in json.loads(sisock(env, "doctor", "--json").stdout) if one["about"] == "router"]
    assert [one["level"] for one in found] == ["error"]
    assert "certificate" in found[0]["what"]
    assert str(pinned) in found[0]["remedy"]


def test_a_router_that_nobody_vouches_for_and_a_port_that_is_none(secure, tmp_path, site):
    done = sisock(far(secure, tmp_path), "ls")
    assert "one that this machine trusts" in done.stderr
    done = sisock(far(secure, tmp_path, CROSSBAR_TLS_PORT=str(urlsplit(site.run["ws"]).port)), "ls")
    assert done.returncode == 1
    assert "Is the port the router's?" in done.stderr


def test_the_doctor_sees_a_router_that_shows_another_certificate_than_the_home_has(secure):
    certificates = Certificates(secure.home)
    shown, _ = certificates.files("router")
    good = shown.read_bytes()
    try:
        certificates.renew("another")
        shown.write_bytes(certificates.files("another")[0].read_bytes())
        found = json.loads(secure.sisock("doctor", "--json", check=False).stdout)
        (wrong,) = [one for one in found if one["about"] == "certificate" and one["level"] == "error"]
        assert "another certificate" in wrong["what"]
    finally:
        shown.write_bytes(good)
    found = json.loads(secure.sisock("doctor", "--json").stdout)
    assert {one["level"] for one in found if one["about"] == "certificate"} == {"ok"}
