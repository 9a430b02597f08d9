"""Certificates for the tests of TLS: an authority, and what it signs, as PEM files.

What lives here: making them. What does not: any connection (test_tls.py).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(path: Path, data: bytes, mode: int) -> Path:
    """Replaces a file in one step, as certificate tools do."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)
    return path


class Authority:
    """Signs certificates and keeps everything in one folder."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        """Make a new one."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._name = _subject(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        own = (
            x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
            .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()),
                           critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = _write(folder / "ca.pem", _pem(own), 0o644)

    def server(self, stem: str = "server", days: int = 20) -> tuple[Path, Path]:
        """A certificate for this machine and its key."""
        return self._sign(stem, "potager", days, ExtendedKeyUsageOID.SERVER_AUTH, [
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])

    def client(self, name: str, days: int = 20, stem: str = "") -> tuple[Path, Path]:
        """A certificate for a user and its key; expired with negative `days`."""
        return self._sign(stem or f"client-{name}", name, days, ExtendedKeyUsageOID.CLIENT_AUTH,
                          [x509.RFC822Name(f"{name}@garden.example")])

    def _sign(self, stem, name, days, usage, names) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder().subject_name(_subject(name)).issuer_name(self._name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY).not_valid_after(now + days * DAY)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        return (_write(self.folder / f"{stem}.pem", _pem(certificate), 0o644),
                _write(self.folder / f"{stem}.key", private, 0o600))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
