"""The router's configuration, as it is written at a start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from autobahn.util import wildcards2patterns
from autobahn.websocket.protocol import _is_same_origin, _url_to_origin

from sisock.home import Home
from sisock.router.config import Listeners, render, template

PLAIN = Listeners("127.0.0.1", 8080, Path("/srv/site/.crossbar/router.sock"))
TLS = Listeners(
    "0.0.0.0",
    18080,
    Path("/srv/site/.crossbar/router.sock"),
    "test_realm",
    18001,
    Path("/srv/cert.pem"),
    Path("/srv/key.pem"),
    ("router.example", "localhost"),
)


def rendered(listeners):
    return json.loads(render(listeners, Path("/srv"), Path("/srv/page")))


def transports(config):
    [worker] = config["workers"]
    return {transport["id"]: transport for transport in worker["transports"]}


@pytest.mark.parametrize("listeners", [PLAIN, TLS], ids=["plain", "tls"])
def test_every_name_of_the_template_has_its_value(listeners):
    assert "$" in template()
    assert "$" not in render(listeners, Path("/srv"), Path("/srv/page"))


def test_a_value_is_not_taken_for_a_name():
    config = json.loads(render(PLAIN, Path("/srv/$PAGE"), Path("$HOST")))
    assert transports(config)["public"]["paths"]["/"]["directory"] == "$HOST"
    assert {component["extra"]["home"] for component in config["workers"][0]["components"]} == {"/srv/$PAGE"}


def test_what_is_switched_off_is_gone():
    config = rendered(PLAIN)
    assert set(transports(config)) == {"public", "local"}
    assert transports(config)["public"]["endpoint"] == {"type": "tcp", "interface": "127.0.0.1", "port": 8080, "backlog": 1024}
    assert "8001" not in json.dumps(config)


def test_what_is_switched_on_is_there():
    config = rendered(TLS)
    listening = transports(config)
    assert set(listening) == {"public", "local", "plain"}
    assert listening["public"]["endpoint"]["port"] == 18080
    assert listening["public"]["endpoint"]["tls"] == {"certificate": "/srv/cert.pem", "key": "/srv/key.pem"}
    assert listening["plain"]["endpoint"]["port"] == 18001
    assert listening["plain"]["paths"]["ws"]["auth"] == {"anonymous": {"type": "static", "role": "anonymous"}}
    assert listening["local"]["endpoint"]["path"] == "/srv/site/.crossbar/router.sock"
    [realm] = config["workers"][0]["realms"]
    assert realm["name"] == "test_realm"
    assert {component["realm"] for component in config["workers"][0]["components"]} == {"test_realm"}


NAMED = replace(TLS, names=("router.example", "localhost", "Upper.Example", "[fd00::7]", "*.wild.example"))


@pytest.mark.parametrize(
    ("listeners", "origin", "may"),
    [
        *((PLAIN, f"http://{host}:8080", True) for host in ("localhost", "127.0.0.1", "[::1]")),
        (PLAIN, "http://localhost:8081", False),
        (PLAIN, "https://localhost:8080", False),
        (PLAIN, "http://localhost", False),
        (PLAIN, "http://evil.example:8080", False),
        (PLAIN, "http://localhost.evil.example:8080", False),
        (PLAIN, "null", False),
        *((NAMED, f"https://{host}:18080", True) for host in ("router.example", "[::1]", "[fd00::7]", "a.wild.example")),
        (NAMED, "https://upper.example:18080", True),
        (NAMED, "http://router.example:18080", False),
        (NAMED, "https://[fd00::8]:18080", False),
        (NAMED, "https://wild.example:18080", False),
        (NAMED, "https://routerxexample:18080", False),
    ],
    ids=str,
)
def test_only_pages_of_its_own_may_open_a_socket(listeners, origin, may):
    """As Autobahn compares them, which takes an origin apart before."""
    allowed = transports(rendered(listeners))["public"]["paths"]["ws"]["options"]["allowed_origins"]
    port = listeners.port
    assert _is_same_origin(_url_to_origin(origin), "any", port, wildcards2patterns(allowed)) is may


@pytest.mark.parametrize("listeners", [PLAIN, TLS], ids=["plain", "tls"])
def test_every_way_in_asks_who_comes_and_every_role_what_it_may(listeners):
    config = rendered(listeners)
    for name, transport in transports(config).items():
        ways = transport["auth"] if "auth" in transport else transport["paths"]["ws"]["auth"]
        assert ways.keys() == ({"anonymous"} if name == "plain" else {"wampcra", "scram", "ticket", "cryptosign"})
        if name != "plain":
            assert ways["wampcra"]["type"] == "dynamic"
            assert ways["wampcra"]["authenticator-realm"] == listeners.realm
            assert "anonymous" not in json.dumps(transport)
    roles = {role.pop("name"): role for role in config["workers"][0]["realms"][0]["roles"]}
    assert set(roles) == {"hub", "node", "consumer", "server", "anonymous"}
    for name, role in roles.items():
        assert name == "hub" or role == {"authorizer": "sisock.hub.authorize"}
    with_hub = [component["id"] for component in config["workers"][0]["components"] if component["role"] == "hub"]
    assert sorted(with_hub) == ["authenticator", "authorizer", "hub", "warden"]


def test_no_secret_stands_in_it(tmp_path):
    home = Home(tmp_path)
    home.make()
    secrets = [home.users.ensure(name, role).secret for name, role in (("server", "server"), ("simonsobs", "consumer"))]
    text = render(PLAIN, home.path, Path("/srv/page"))
    assert not any(secret in text for secret in secrets)
    assert '"secret"' not in text
    assert str(home.path) in text
