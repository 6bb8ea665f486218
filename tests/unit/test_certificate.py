"""The router's certificate, as clients that pin it meet it."""

from __future__ import annotations

import ssl
import stat
from ipaddress import ip_address

import pytest
from cryptography import x509

from sisock.errors import SetupError
from sisock.router import certificate


@pytest.fixture
def files(tmp_path):
    return tmp_path / "home" / "server_cert.pem", tmp_path / "home" / "server_key.pem"


def contents(files):
    return [path.read_bytes() for path in files]


def names(path):
    alternative = x509.load_pem_x509_certificate(path.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in alternative.value}


def shake_hands(files, host, pinned=None):
    """A TLS handshake in memory between the router with these files and a client that pins the certificate."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*files)
    client_side = ssl.create_default_context(cafile=pinned or files[0])
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


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "sisock_crossbar", "sisock-crossbar", "router.example"])
def test_clients_that_pin_it_reach_the_router_by_its_names(files, host):
    certificate.ensure(*files, ["router.example"])
    shake_hands(files, host)


def test_by_another_name_they_do_not(files):
    certificate.ensure(*files)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(files, "elsewhere.example")


def test_another_sites_certificate_is_not_trusted(files, tmp_path):
    other = tmp_path / "other.pem", tmp_path / "other_key.pem"
    certificate.ensure(*files)
    certificate.ensure(*other)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(files, "localhost", pinned=other[0])


def test_its_names(files):
    certificate.ensure(*files, ["router.example", "10.0.0.5", "fe80::5", "localhost"])
    assert names(files[0]) == {*certificate.NAMES, "router.example", "10.0.0.5", str(ip_address("fe80::5"))}


def test_only_its_owner_reads_the_key(files):
    certificate.ensure(*files)
    assert stat.S_IMODE(files[1].stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in files[1].read_bytes()
    assert b"PRIVATE KEY" not in files[0].read_bytes()
    # As one that was copied here may be.
    files[1].chmod(0o644)
    certificate.ensure(*files, ["router.example"])
    assert stat.S_IMODE(files[1].stat().st_mode) == 0o600


def test_a_second_start_keeps_it(files):
    certificate.ensure(*files, ["router.example", "10.0.0.5"])
    before = contents(files)
    for wanted in (["router.example", "10.0.0.5"], ["10.0.0.5"], []):
        certificate.ensure(*files, wanted)
        assert contents(files) == before


def test_a_name_that_it_lacks_makes_a_new_one(files):
    certificate.ensure(*files)
    before = contents(files)
    certificate.ensure(*files, ["router.example"])
    assert contents(files)[0] != before[0]
    assert contents(files)[1] != before[1]
    shake_hands(files, "router.example")


@pytest.mark.parametrize("gone", [0, 1])
def test_half_of_the_pair_makes_a_new_one(files, gone):
    certificate.ensure(*files)
    files[gone].unlink()
    certificate.ensure(*files)
    shake_hands(files, "localhost")


def test_a_key_of_another_certificate_makes_a_new_one(files, tmp_path):
    """As a start leaves it that was killed between the two."""
    certificate.ensure(*files)
    other = tmp_path / "other.pem", tmp_path / "other_key.pem"
    certificate.ensure(*other)
    files[1].write_bytes(other[1].read_bytes())
    certificate.ensure(*files)
    shake_hands(files, "localhost")


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_a_broken_file_is_named_and_left_alone(files, broken, text):
    certificate.ensure(*files)
    files[broken].write_text(text)
    with pytest.raises(SetupError, match=files[broken].name):
        certificate.ensure(*files)
    assert files[broken].read_text() == text


def test_one_that_ends_soon_makes_a_new_one(files, monkeypatch):
    monkeypatch.setattr(certificate, "VALID", certificate.timedelta(days=20))
    certificate.ensure(*files)
    before = contents(files)
    monkeypatch.undo()
    certificate.ensure(*files)
    assert contents(files) != before
