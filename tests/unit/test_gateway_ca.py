"""The install's certificate authority: what it signs, for how long, and what it does with an authority not its own."""

from __future__ import annotations

import contextlib
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.ca import HOSTS_KEPT, Certificates, make_authority
from nanoclaw.gateway.tls import PEM
from nanoclaw.testing.fakes import ManualClock

DAY_SECONDS = 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000_000)


@pytest.fixture
def certificates(clock: ManualClock) -> Certificates:
    opened = Certificates(clock)
    opened.open(make_authority("home.example", clock))
    return opened


def leaf_of(context: ssl.SSLContext, certificates: Certificates, host: str) -> x509.Certificate:
    """The certificate a client gets that trusts the authority; raises ssl.SSLError when it does not fit the host."""
    trusting = ssl.create_default_context(cadata=certificates.pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    der = client.getpeercert(True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_the_authority_names_the_install_lasts_ten_years_and_may_sign_servers_only(certificates: Certificates) -> None:
    authority = x509.load_pem_x509_certificate(certificates.pem.encode())
    assert authority.subject.rfc4514_string().startswith("CN=NanoClaw home.example ")
    assert authority.issuer == authority.subject
    lasts = authority.not_valid_after_utc - authority.not_valid_before_utc
    assert datetime.timedelta(days=3652) < lasts < datetime.timedelta(days=3656)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)


def test_no_two_installs_have_one_authority(clock: ManualClock) -> None:
    first, second = Certificates(clock), Certificates(clock)
    first.open(make_authority("home", clock))
    second.open(make_authority("home", clock))
    assert first.pem != second.pem
    assert (
        x509.load_pem_x509_certificate(first.pem.encode()).subject
        != x509.load_pem_x509_certificate(second.pem.encode()).subject
    )


@pytest.mark.parametrize("host", ["docs.example.org", "192.0.2.7", "[2001:db8::7]", "a" * 63 + ".example.org"])
def test_a_leaf_is_for_its_host_alone_and_lasts_a_week(host: str) -> None:
    clock = ManualClock(int(datetime.datetime.now(datetime.UTC).timestamp() * 1000))  # OpenSSL asks the machine's clock
    certificates = Certificates(clock)
    certificates.open(make_authority("home", clock))
    context = certificates.context_for(host)
    assert context is not None
    leaf = leaf_of(context, certificates, host.strip("[]"))
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == datetime.timedelta(days=8)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len(list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)) == 1


def test_a_context_is_kept_until_its_last_day(certificates: Certificates, clock: ManualClock) -> None:
    first = certificates.context_for("docs.example.org")
    clock.advance(5.9 * DAY_SECONDS)
    assert certificates.context_for("docs.example.org") is first
    clock.advance(0.2 * DAY_SECONDS)
    assert certificates.context_for("docs.example.org") is not first


def test_only_so_many_hosts_are_kept_and_the_one_used_longest_ago_goes(certificates: Certificates) -> None:
    first, second = certificates.context_for("h0.test"), certificates.context_for("h1.test")
    for number in range(2, HOSTS_KEPT):
        certificates.context_for(f"h{number}.test")
    assert certificates.context_for("h0.test") is first
    certificates.context_for("one-more.test")
    assert certificates.context_for("h0.test") is first
    assert certificates.context_for("h1.test") is not second


def test_nothing_is_signed_before_the_authority_is_open_and_after_it_was_closed(clock: ManualClock) -> None:
    certificates = Certificates(clock)
    assert (certificates.pem, certificates.context_for("a.test")) == ("", None)
    certificates.open(make_authority("home", clock))
    assert certificates.context_for("a.test") is not None
    certificates.close()
    assert (certificates.pem, certificates.context_for("a.test")) == ("", None)


def test_what_is_no_authority_of_ours_is_refused_in_words(clock: ManualClock) -> None:
    sealed = make_authority("home", clock)
    other = make_authority("home", clock)
    foreign = rsa.generate_private_key(65537, 2048).private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key, certificate = sealed.split(b"-----END PRIVATE KEY-----\n")
    key += b"-----END PRIVATE KEY-----\n"
    certificates = Certificates(clock)
    for wrong in (
        b"",
        b"nonsense",
        key,
        certificate,
        sealed[:-100],
        foreign + certificate,
        key + other.split(b"KEY-----\n")[2],
    ):
        with pytest.raises(OperatorError, match="certificate authority"):
            certificates.open(wrong)
        assert certificates.pem == ""
