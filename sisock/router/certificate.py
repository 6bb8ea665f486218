"""A self-signed certificate for the router, made at the first start with TLS. Clients pin it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sisock.errors import SetupError
from sisock.users import write_private

# The names under which old clients reach a router.
NAMES = ("localhost", "127.0.0.1", "::1", "sisock_crossbar", "sisock-crossbar")
VALID = timedelta(days=3650)


def ensure(certificate: Path, key: Path, names: Iterable[str] = ()) -> None:
    """Makes the certificate and its key for these names, unless both are there and the certificate still holds for them."""
    wanted = list(dict.fromkeys([*NAMES, *names]))
    if certificate.exists() and key.exists() and _still_hold(certificate, key, wanted):
        return
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sisock")])
    present = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(present - timedelta(days=1))
        .not_valid_after(present + VALID)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(key, text.decode())
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _still_hold(certificate: Path, key: Path, names: Iterable[str]) -> bool:
    """Whether the two belong together, are valid for a while and stand for these names."""
    try:
        made = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise SetupError(f"{certificate} or {key} is not as it should be: {error}. Delete both for new ones.") from error
    if made.public_key() != private.public_key() or made.not_valid_after_utc < datetime.now(UTC) + timedelta(days=30):
        return False
    try:
        there = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return all(_general(name) in there for name in names)
