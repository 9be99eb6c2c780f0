"""Certificates for servers of tests: an authority of their own, and leaves with one thing wrong at a time."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@dataclass
class Authority:
    """A certificate authority; `path` holds its certificate, `directory` gets those of servers."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def path(self) -> Path:
        return self.directory / "authority.pem"

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts nobody but this authority."""
        context = ssl.create_default_context(cafile=str(self.path))
        context.set_alpn_protocols(["http/1.1"])
        return context

    def server(self, *names: str, days: tuple[float, float] = (-2, 1), self_signed: bool = False) -> ssl.SSLContext:
        """Return a server's context for these names, valid from and to in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(names, key, days, None if self_signed else self)
        path = self.directory / f"{len(list(self.directory.iterdir()))}-{names[0]}.pem"
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(certificate.public_bytes(PEM) + secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def make_authority(directory: Path) -> Authority:
    """Return a new authority whose files lie in `directory`, which is made."""
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority(directory, key, _certificate((f"Authority in {directory.name}",), key, (-2, 2), None))
    authority.path.write_bytes(authority.certificate.public_bytes(PEM))
    return authority


def _certificate(
    names: tuple[str, ...], key: ec.EllipticCurvePrivateKey, days: tuple[float, float], issuer: Authority | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None or " " not in names[0]:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())
