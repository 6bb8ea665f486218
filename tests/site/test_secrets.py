"""A site with TLS, its bridge on the network: who has no token gets nothing, and no secret is where others may read it."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from tests.site.conftest import SISOCK, wait


def ask(up, authorization=None, path="/search", address=None):
    """Status and body of a request to the bridge that trusts the site's authority alone."""
    trust = ssl.create_default_context(cafile=str(up.home / ".crossbar" / "server_cert.pem"))
    request = urllib.request.Request((address or up.run["bridge"]) + path)
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_bridge_beyond_this_machine_speaks_https_and_asks_for_a_token(secure):
    user = secure.run["consumer"]
    token = f"Bearer {user['authid']}:{user['secret']}"
    basic = "Basic " + base64.b64encode(f"{user['authid']}:{user['secret']}".encode()).decode()
    assert secure.run["bridge"].startswith("https://localhost:")
    wait(lambda: "sensors::" in ask(secure, token)[1])
    assert ask(secure, basic)[0] == 200
    for nobody in (None, token + "x", "Bearer x", "Basic x", "Digest x"):
        status, body = ask(secure, nobody)
        assert status == 401, nobody
        assert "sensors" not in body
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(secure.run["bridge"], timeout=10)
    # In the clear nothing is served at all.
    clear = "http" + secure.run["bridge"].removeprefix("https")
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(clear, timeout=10)


def test_no_secret_is_where_others_may_read_it(secure):
    home, run = secure.home, secure.run
    made = {}
    for method in ("wampcra", "scram", "ticket", "cryptosign"):
        told = json.loads(secure.sisock("user", "add", f"told.{method}", "--method", method, "--json").stdout)
        made[told["user"]] = told
    env = {"SISOCK_TRACE": "1"}
    # Right, wrong, and mistaken for each other: what is said of each is read below.
    said = []
    for name, told in made.items():
        method = name.removeprefix("told.")
        secret = secret_of(told)
        for given in (secret, secret[::-1], "wrong"):
            who = {"WAMP_USER": name, "WAMP_SECRET": given, "WAMP_AUTHMETHOD": method}
            done = subprocess.run([SISOCK, "ls"], env={**secure.env, **env, **who}, capture_output=True, text=True, timeout=60)
            said.append(done.stdout + done.stderr)
            assert (done.returncode == 0) == (given == secret), (name, done.stderr)
        ask(secure, f"Bearer {name}:{secret}")
        ask(secure, f"Bearer {secret}")
        ask(secure, f"Bearer {secret}:{name}")
        ask(secure, path=f"/search?token={secret}")
    code = "import sisock, sys; sisock.connect(sys.argv[1], token=sys.stdin.read(), certificate=sys.argv[2])"
    given = f"{run['consumer']['authid']}:{run['consumer']['secret'][::-1]}"
    done = subprocess.run(
        [sys.executable, "-c", code, run["ws"], run["certificate"]],
        input=given,
        env=secure.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "not accepted" in done.stderr
    said.append(done.stderr)

    users = json.loads((home / ".crossbar" / "users.json").read_text())
    secrets = {value for user in users.values() for key, value in user.items() if key in ("secret", "ticket")}
    secrets |= {secret_of(told) for told in made.values()}
    secrets |= {secret[::-1] for secret in secrets} | {value for user in users.values() for value in scram_keys(user)}
    assert len(secrets) > 12
    for secret in secrets:
        assert len(secret) > 20
        assert not any(secret in text for text in said)
    own = {"users.json", "run.json"}
    for file in home.rglob("*"):
        if not file.is_file() or file.suffix == ".key" or file.name.endswith("key.pem"):
            continue
        content = file.read_bytes()
        found = [secret for secret in secrets if secret.encode() in content]
        assert not found or file.name in own, file
        assert not found or file.stat().st_mode & 0o077 == 0, file
    for process in [secure.process.pid, *run["pids"].values()]:
        for one in (psutil.Process(process), *psutil.Process(process).children(recursive=True)):
            line = " ".join(one.cmdline())
            assert not any(secret in line for secret in secrets), line
    for name in made:
        secure.sisock("user", "revoke", name)


def secret_of(told):
    return told.get("secret") or told.get("private_key") or told.get("ticket")


def scram_keys(user):
    return [value for key, value in (user.get("scram") or {}).items() if key.endswith("key")]
