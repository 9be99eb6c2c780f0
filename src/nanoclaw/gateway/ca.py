"""The install's own certificate authority: boxes trust it, so TLS ends in the gateway and each call can be judged.

In: names of hosts that a rule allows. Out: a server's TLS context for one of them. Writes: nothing (`make_authority`
returns what the vault seals). Never: lets a key out of this process, or signs for longer than a week.
Fails: there is no context until `open`, which raises OperatorError for a sealed authority that cannot be read.
"""

from __future__ import annotations

import datetime
import secrets
import ssl
from collections import OrderedDict
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nanoclaw.clock import Clock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway.tls import PEM, general_name, private_pem, server_context

SEALED_NAME = "ca"  # under which the vault keeps it
AUTHORITY_LASTS = timedelta(days=3653)
LEAF_LASTS = timedelta(days=7)
RENEWED_BEFORE = timedelta(days=1)
BACKDATED = timedelta(days=1)  # a clock that is put right must not make a certificate one of the future
HOSTS_KEPT = 256


class Certificates:
    """Signs for hosts, once `open`; `pem` is the authority's certificate, "" before."""

    def __init__(self, clock: Clock) -> None:
        self.pem = ""
        self._clock = clock
        self._authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, datetime.datetime]] = OrderedDict()

    def open(self, sealed: bytes) -> None:
        """Use the authority that `make_authority` made. Raises OperatorError."""
        try:
            key = serialization.load_pem_private_key(sealed, None)
            certificate = x509.load_pem_x509_certificate(sealed)
        except ValueError:
            raise OperatorError("The certificate authority in the vault is damaged.") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise OperatorError("The certificate authority in the vault is not one of ours.")
        self._contexts.clear()
        self._authority = key, certificate
        self.pem = certificate.public_bytes(PEM).decode("ascii")

    def close(self) -> None:
        """Sign for nobody any more: the vault was locked."""
        self._authority, self.pem = None, ""
        self._contexts.clear()

    def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return what a TLS handshake for this host (a name or an address) is answered with; None before `open`."""
        now = _now(self._clock)
        known = self._contexts.pop(host, None)
        if known is None or known[1] < now + RENEWED_BEFORE:
            if self._authority is None:
                return None
            known = server_context(host, self._sign(host, now, *self._authority)), now + LEAF_LASTS
        self._contexts[host] = known
        if len(self._contexts) > HOSTS_KEPT:
            self._contexts.popitem(last=False)
        return known[0]

    def _sign(
        self, host: str, now: datetime.datetime, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
    ) -> bytes:
        """Return a certificate for a host with its key, as PEM."""
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        certificate = (
            _begin(_name(host), authority.subject, self._leaf_key, now, now + LEAF_LASTS)
            .add_extension(x509.SubjectAlternativeName([general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return private_pem(self._leaf_key) + certificate.public_bytes(PEM)


def make_authority(install: str, clock: Clock) -> bytes:
    """Return a new authority, key and certificate, for the vault to seal; `install` is named in its certificate."""
    key, now = ec.generate_private_key(ec.SECP256R1()), _now(clock)
    name = _name(f"NanoClaw {install[:40]} {secrets.token_hex(4)}")
    certificate = (
        _begin(name, name, key, now, now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, False, False, False), critical=True)
        .sign(key, hashes.SHA256())
    )
    return private_pem(key) + certificate.public_bytes(PEM)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(identifier, critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])  # the most X.520 allows


def _now(clock: Clock) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(clock.now_ms() / 1000, datetime.UTC)
