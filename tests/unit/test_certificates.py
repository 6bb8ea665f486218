"""A site's authority and its listeners' certificates, as clients that pin one file meet them."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS

from sisock import certificates as module
from sisock.certificates import NAMES, Certificates
from sisock.errors import InvalidArgument, SetupError
from sisock.http import server_context


@pytest.fixture
def made(tmp_path):
    return Certificates(tmp_path / "home")


def contents(*files):
    return [path.read_bytes() for path in files]


def shake_hands(files, host, pinned):
    """A TLS handshake in memory between a listener with these files and a client that pins the other."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*files)
    client_side = ssl.create_default_context(cafile=pinned)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise AssertionError("the handshake did not come to an end")


async def greet(files, host, pinned):
    """The same over a socket and with Twisted, whose clients trust only what is pinned, and that only if it signs itself."""
    from twisted.internet import reactor

    port = reactor.listenSSL(0, Factory.forProtocol(Greeter), server_context(*files), interface="127.0.0.1")
    options = optionsForClientTLS(host, trustRoot=Certificate.loadPEM(pinned.read_bytes()))
    client = Listener()
    try:
        there = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await connectProtocol(wrapClientTLS(options, there), client)
        assert await client.heard == b"hello"
    finally:
        client.transport.abortConnection()
        await port.stopListening()


class Greeter(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")


class Listener(Protocol):
    def __init__(self):
        self.heard = Deferred()

    def dataReceived(self, data):
        self.heard.callback(data)

    def connectionLost(self, reason):
        if not self.heard.called:
            self.heard.errback(reason)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "sisock_crossbar", "sisock-crossbar", "router.example"])
@pytest_twisted.ensureDeferred
async def test_clients_that_pin_the_authority_reach_every_listener_by_its_names(made, host):
    for listener in ("router", "bridge"):
        files = made.ensure(listener, ["router.example"])
        shake_hands(files, host, made.authority)
        # Twisted's own clients reach no host with an underscore, whatever its certificate says.
        if "_" not in host:
            await greet(files, host, made.authority)


@pytest_twisted.ensureDeferred
async def test_by_another_name_and_with_another_authority_they_do_not(made, tmp_path):
    files = made.ensure("router")
    other = Certificates(tmp_path / "other")
    other.ensure("router")
    for host, pinned in (("elsewhere.example", made.authority), ("localhost", other.authority)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(files, host, pinned)
        with pytest.raises((SSL.Error, VerificationError)):
            await greet(files, host, pinned)


@pytest_twisted.ensureDeferred
async def test_what_was_pinned_before_there_was_an_authority_still_holds(made):
    """The certificate that the first releases made of themselves: clients have copies of it, or read it here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sisock")])
    now = datetime.now(UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    made.authority.parent.mkdir(parents=True)
    made.authority.write_bytes(old.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (made.authority.parent / "server_key.pem").write_bytes(text)
    before = contents(made.authority)
    files = made.ensure("router", ["router.example"])
    assert contents(made.authority) == before
    for host in ("localhost", "router.example"):
        shake_hands(files, host, made.authority)
        await greet(files, host, made.authority)
    # Old clients load it with pyOpenSSL.
    assert crypto.load_certificate(crypto.FILETYPE_PEM, made.authority.read_bytes())


def test_its_names(made):
    made.ensure("router", ["router.example", "10.0.0.5", "fe80::5", "localhost"])
    assert set(made.names("router")) == {*NAMES, "router.example", "10.0.0.5", str(ip_address("fe80::5"))}
    for name in ("größe", "a\nb"):
        with pytest.raises(InvalidArgument):
            made.renew("router", [name])


def test_only_its_owner_reads_the_keys(made):
    files = made.ensure("router")
    for key in (files[1], made.authority.parent / "server_key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in key.read_bytes()
    for shown in (files[0], made.authority):
        assert b"PRIVATE KEY" not in shown.read_bytes()


def test_a_second_start_keeps_it_and_a_name_that_it_lacks_makes_a_new_one_beside_the_others(made):
    files = made.ensure("router", ["router.example", "10.0.0.5"])
    before, pinned = contents(*files), contents(made.authority)
    for wanted in (["router.example", "10.0.0.5"], ["10.0.0.5"], []):
        assert contents(*made.ensure("router", wanted)) == before
    made.ensure("router", ["another.example"])
    assert {"router.example", "another.example"} <= set(made.names("router"))
    assert contents(*files)[0] != before[0]
    assert contents(made.authority) == pinned


@pytest.mark.parametrize("gone", [0, 1])
def test_half_of_a_pair_makes_a_new_one(made, gone):
    files = made.ensure("router")
    files[gone].unlink()
    made.ensure("router")
    shake_hands(files, "localhost", made.authority)


def test_a_key_of_another_certificate_makes_a_new_one(made):
    """As a start leaves it that was killed between the two."""
    files, other = made.ensure("router"), made.ensure("bridge")
    files[1].write_bytes(other[1].read_bytes())
    made.ensure("router")
    shake_hands(files, "localhost", made.authority)


def test_a_certificate_of_another_authority_is_made_anew(made):
    files = made.ensure("router", ["router.example"])
    made.renew_authority()
    made.ensure("router")
    shake_hands(files, "router.example", made.authority)


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("broken", ["certificate", "key", "authority", "authority's key"])
def test_a_broken_file_is_named_and_left_alone(made, broken, text):
    files = made.ensure("router")
    files = {
        "certificate": files[0],
        "key": files[1],
        "authority": made.authority,
        "authority's key": made.authority.parent / "server_key.pem",
    }
    files[broken].write_text(text)
    with pytest.raises(SetupError, match=files[broken].name):
        made.ensure("router")
    assert files[broken].read_text() == text


def test_one_that_ends_soon_is_made_anew_and_an_authority_that_does_is_told_of(made, monkeypatch):
    monkeypatch.setattr(module, "VALID", timedelta(days=20))
    monkeypatch.setattr(module, "AUTHORITY_VALID", timedelta(days=100))
    files = made.ensure("router")
    before, pinned = contents(*files), contents(made.authority)
    monkeypatch.undo()
    authority, router = made.all()
    assert authority.ends_soon
    assert router.ends_soon
    assert "--authority" in authority.remedy
    made.ensure("router")
    assert contents(*files) != before
    assert contents(made.authority) == pinned
    assert not list(made.all())[1].ends_soon


def test_an_authority_whose_time_is_over_is_not_replaced_behind_its_clients_backs(made, monkeypatch):
    monkeypatch.setattr(module, "AUTHORITY_VALID", timedelta(hours=-1))
    made.renew_authority()
    monkeypatch.undo()
    with pytest.raises(SetupError, match="--authority"):
        made.ensure("router")
    made.renew_authority()
    shake_hands(made.ensure("router"), "localhost", made.authority)
