"""Certificates: a site's own authority, and one certificate for each listener, signed by it.

Clients pin the authority, `<home>/.crossbar/server_cert.pem`, by which they know every listener and every renewed
certificate. A site that began with one self-signed certificate keeps it under that name: it signs the new ones, and whoever
had pinned it need not know.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sisock.errors import InvalidArgument, SetupError
from sisock.users import write_private

# The names under which old clients reach a router.
NAMES = ("localhost", "127.0.0.1", "::1", "sisock_crossbar", "sisock-crossbar")
AUTHORITY_VALID, VALID = timedelta(days=3650), timedelta(days=365)
# A listener's certificate is renewed at a start when it has so much left; whoever has pinned the authority is told early.
RENEW, WARN_AUTHORITY = timedelta(days=30), timedelta(days=180)
MAX_NAMES = 100
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_.-]{1,253}")


AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one certificate says of itself."""

    what: str
    path: Path
    names: tuple[str, ...]
    ends: datetime
    fingerprint: str

    @property
    def left(self) -> timedelta:
        """How long it still holds."""
        return self.ends - datetime.now(UTC)

    @property
    def ends_soon(self) -> bool:
        """Whether somebody should do something about it."""
        return self.left < (WARN_AUTHORITY if self.what == AUTHORITY else RENEW)

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.what == AUTHORITY:
            return "`sisock tls renew --authority`, and every client pins the new one"
        return "restart `sisock up --tls`, which renews it"


class Certificates:
    """The certificates of a home."""

    def __init__(self, home: Path) -> None:
        self.authority = home / ".crossbar" / "server_cert.pem"
        self._authority_key = home / ".crossbar" / "server_key.pem"
        self._folder = home / "tls"

    def files(self, listener: str) -> tuple[Path, Path]:
        """The files of a listener's certificate and its key."""
        return self._folder / f"{listener}.pem", self._folder / f"{listener}.key"

    def ensure_authority(self) -> None:
        """Makes the authority unless it is there; SetupError if its files are not as they should be, or its time is over."""
        if not (self.authority.exists() and self._authority_key.exists()):
            self.renew_authority()
        elif self._signer()[0].not_valid_after_utc <= datetime.now(UTC):
            raise SetupError(
                f"{self.authority} has expired. `sisock tls renew --authority` makes a new one, which every client has to pin."
            )

    def renew_authority(self) -> None:
        """Makes a new authority: whoever has pinned the old one has to pin this one."""
        private = ec.generate_private_key(ec.SECP256R1())
        # Two authorities of one site have different names, so that no client takes one for the other.
        number = x509.random_serial_number()
        name = _name(f"sisock authority {number:x}"[:40])
        made = (
            _begun(name, name, private, AUTHORITY_VALID, number)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .sign(private, hashes.SHA256())
        )
        _write(self.authority, self._authority_key, made, private)

    def ensure(self, listener: str, names: Iterable[str] = ()) -> tuple[Path, Path]:
        """The files of a listener's certificate, made anew if it ends soon, lacks a name or is not the authority's."""
        self.ensure_authority()
        certificate, key = self.files(listener)
        wanted = {*NAMES, *names}
        there = self._look_at(listener, certificate) if certificate.exists() and key.exists() else None
        if there is None or not wanted <= set(there.names) or not self._still_holds(certificate, key):
            self.renew(listener, (*wanted, *(there.names if there else ())))
        return certificate, key

    def renew(self, listener: str, names: Iterable[str] = ()) -> None:
        """Makes a listener's certificate anew, for these names beside those that every listener has."""
        wanted = sorted({*NAMES, *names})
        if len(wanted) > MAX_NAMES:
            raise InvalidArgument(f"a certificate holds up to {MAX_NAMES} names here")
        self.ensure_authority()
        authority, signer = self._signer()
        private = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(_name(f"sisock {listener}"), authority.subject, private, VALID)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        certificate, key = self.files(listener)
        _write(certificate, key, made, private)

    def secrets(self) -> list[Path]:
        """The files of the private keys that are there."""
        keys = [self._authority_key, *(self.files(listener)[1] for listener in self.listeners())]
        return [key for key in keys if key.exists()]

    def listeners(self) -> list[str]:
        """The listeners that have a certificate."""
        return sorted(path.stem for path in self._folder.glob("*.pem")) if self._folder.exists() else []

    def names(self, listener: str) -> tuple[str, ...]:
        """The names that a listener's certificate holds for."""
        return self._look_at(listener, self.files(listener)[0]).names

    def all(self) -> Iterator[Seen]:
        """The authority, then each listener's certificate; SetupError for a file that is none."""
        if self.authority.exists():
            yield self._look_at(AUTHORITY, self.authority)
        for listener in self.listeners():
            yield self._look_at(listener, self.files(listener)[0])

    def _look_at(self, what: str, path: Path) -> Seen:
        made = _load(path)
        try:
            alternative = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = tuple(str(name.value) for name in alternative)
        except x509.ExtensionNotFound:
            names = ()
        digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()
        return Seen(what, path, names, made.not_valid_after_utc, digest)

    def _still_holds(self, certificate: Path, key: Path) -> bool:
        """Whether the two belong together, hold for a while and are the authority's."""
        made, private, (authority, _) = _load(certificate), _load_key(key), self._signer()
        try:
            made.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return made.public_key() == private.public_key() and made.not_valid_after_utc > datetime.now(UTC) + RENEW

    def _signer(self) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
        authority, private = _load(self.authority), _load_key(self._authority_key)
        if authority.public_key() != private.public_key():
            raise SetupError(f"{self.authority} and {self._authority_key} do not belong together. Delete both for new ones.")
        return authority, private


def _begun(
    subject: x509.Name, issuer: x509.Name, private: ec.EllipticCurvePrivateKey, valid: timedelta, number: int | None = None
) -> x509.CertificateBuilder:
    present = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(number or x509.random_serial_number())
        # Clocks of instruments differ.
        .not_valid_before(present - timedelta(days=1))
        .not_valid_after(present + valid)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if not _HOST.fullmatch(name):
        raise InvalidArgument(f"{name!r:.80} is no host's name or address: those hold letters, digits and .-_ only.")
    return x509.DNSName(name)


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} is no certificate: {error}. Delete it for a new one.") from error


def _load_key(path: Path) -> CertificateIssuerPrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{path} is no private key: {error}. Delete it and its certificate for new ones.") from error


def _write(certificate: Path, key: Path, made: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> None:
    text = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(key, text.decode())
        write_private(certificate, made.public_bytes(serialization.Encoding.PEM).decode())
        # What is shown to everybody need not be kept from anybody.
        certificate.chmod(0o644)
    except OSError as error:
        raise SetupError(f"{certificate} cannot be written: {error.strerror}. Choose another home with --home.") from error
