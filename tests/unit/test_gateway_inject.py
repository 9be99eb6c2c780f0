"""An agent's credentials come off, the real key goes on, and only for the host it is bound to."""

from __future__ import annotations

import pytest

from nanoclaw.errors import Refused
from nanoclaw.gateway.inject import inject, strip_request, strip_response, upstream_headers
from nanoclaw.gateway.vault import Kind, Secret, StoredSecret

HOST = "api.anthropic.com"
VALUE = "sk-ant-real-key"


def stored(kind: Kind) -> StoredSecret:
    return StoredSecret("anthropic", kind, (HOST,), 0, b"", b"")


def test_credentials_and_hop_by_hop_headers_of_the_agent_are_stripped() -> None:
    kept = strip_request(
        [
            (b"authorization", b"Bearer x"),
            (b"x-api-key", b"sk-ant-placeholder"),
            (b"cookie", b"a=b"),
            (b"proxy-authorization", b"Basic x"),
            (b"proxy-anything", b"x"),
            (b"connection", b"keep-alive, X-Trick"),
            (b"x-trick", b"1"),
            (b"te", b"trailers"),
            (b"transfer-encoding", b"chunked"),
            (b"upgrade", b"websocket"),
            (b"host", b"127.0.0.1"),
            (b"expect", b"100-continue"),
            (b"accept-encoding", b"gzip"),
            (b"content-length", b"3"),
            (b"x-forwarded-for", b"10.0.0.1"),
            (b"anthropic-version", b"2023-06-01"),
        ]
    )
    assert kept == [(b"anthropic-version", b"2023-06-01")]


def test_the_answer_loses_cookies_and_connection_headers() -> None:
    kept = strip_response(
        [
            (b"set-cookie", b"a=b"),
            (b"connection", b"close, content-length, x-hop"),
            (b"x-hop", b"1"),
            (b"proxy-authenticate", b"Basic"),
            (b"content-length", b"3"),
            (b"request-id", b"r1"),
        ]
    )
    assert kept == [(b"content-length", b"3"), (b"request-id", b"r1")]


def test_a_length_beside_chunks_is_dropped() -> None:
    assert strip_response([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")]) == []


def test_the_gateway_writes_host_framing_and_encoding_itself() -> None:
    assert upstream_headers([(b"a", b"b")], HOST, 3) == [
        (b"host", HOST.encode()),
        (b"a", b"b"),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"3"),
    ]
    assert (b"transfer-encoding", b"chunked") in upstream_headers([], HOST, None)


def test_an_api_key_is_sent_as_x_api_key() -> None:
    assert inject([], stored(Kind.ANTHROPIC_KEY), Secret(VALUE), HOST) == [(b"x-api-key", VALUE.encode())]


def test_an_oauth_token_is_sent_as_bearer_with_the_beta_it_needs() -> None:
    sent = inject([(b"anthropic-beta", b"one, two"), (b"a", b"b")], stored(Kind.ANTHROPIC_OAUTH), Secret(VALUE), HOST)
    assert sent == [
        (b"a", b"b"),
        (b"anthropic-beta", b"one,two,oauth-2025-04-20"),
        (b"authorization", b"Bearer " + VALUE.encode()),
    ]
    again = inject([(b"anthropic-beta", b"oauth-2025-04-20")], stored(Kind.ANTHROPIC_OAUTH), Secret(VALUE), HOST)
    assert again[0] == (b"anthropic-beta", b"oauth-2025-04-20")


def test_a_secret_is_refused_for_a_host_that_it_is_not_bound_to() -> None:
    with pytest.raises(Refused, match=r"may not be sent to evil.test") as refused:
        inject([], stored(Kind.ANTHROPIC_KEY), Secret(VALUE), "evil.test")
    assert VALUE not in str(refused.value)


def test_a_generic_secret_is_not_sent_by_any_rule_yet() -> None:
    with pytest.raises(Refused, match=r"No rule says how"):
        inject([], stored(Kind.GENERIC), Secret(VALUE), HOST)
