"""An agent's credentials come off, the real key goes on, and only for the host it is bound to."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.errors import Refused
from nanoclaw.gateway.inject import Headers, inject, strip_request, strip_response, upstream_headers
from nanoclaw.gateway.oauth_grant import OAuthGrant
from nanoclaw.gateway.vault import Kind, Secret, StoredSecret
from nanoclaw.gateway.vault_file import Way
from nanoclaw.gateway.wire_form import wire_forms

HOST = "api.anthropic.com"
VALUE = "sk-ant-real-key"


def stored(kind: Kind, field: str = "") -> StoredSecret:
    return StoredSecret("anthropic", kind, (HOST,), 0, b"", b"", field)


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


def test_headers_that_would_make_another_call_of_it_than_was_judged_are_stripped() -> None:
    names = (b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url")
    assert strip_request([(name, b"DELETE") for name in names]) == []
    assert strip_request([(name.replace(b"-", b"_"), b"DELETE") for name in (*names, b"x-api-key")]) == []


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


def put_on(stored: StoredSecret, *headers: tuple[bytes, bytes], path: str = "/x", host: str = HOST) -> Headers:
    """Return the headers of a call whose path stays as it is."""
    sent, sent_path = inject(list(headers), path, stored, Secret(VALUE), host)
    assert sent_path == path
    return sent


def test_an_api_key_is_sent_as_x_api_key() -> None:
    assert put_on(stored(Kind.ANTHROPIC_KEY)) == [(b"x-api-key", VALUE.encode())]


def test_an_oauth_token_is_sent_as_bearer_with_the_beta_it_needs() -> None:
    sent = put_on(stored(Kind.ANTHROPIC_OAUTH), (b"anthropic-beta", b"one, two"), (b"a", b"b"))
    assert sent == [
        (b"a", b"b"),
        (b"anthropic-beta", b"one,two,oauth-2025-04-20"),
        (b"authorization", b"Bearer " + VALUE.encode()),
    ]
    again = put_on(stored(Kind.ANTHROPIC_OAUTH), (b"anthropic-beta", b"oauth-2025-04-20"))
    assert again[0] == (b"anthropic-beta", b"oauth-2025-04-20")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PATH])
@pytest.mark.parametrize("host", ["evil.test", f"x.{HOST}", HOST + ".evil.test", HOST.upper(), "", HOST + "."])
def test_a_secret_is_refused_for_a_host_that_it_is_not_bound_to(kind: Kind, host: str) -> None:
    with pytest.raises(Refused, match=r"may not be sent to") as refused:
        inject([], "/x", stored(kind), Secret(VALUE), host)
    assert VALUE not in str(refused.value)


def test_a_secret_that_is_bound_to_no_host_goes_to_none() -> None:
    with pytest.raises(Refused, match="it is bound to no host"):
        inject([], "/x", msgspec.structs.replace(stored(Kind.BEARER), hosts=()), Secret(VALUE), HOST)


@pytest.mark.parametrize("kind", [Kind.GENERIC, Kind.CHANNEL])
def test_what_is_for_the_host_or_has_no_way_is_never_sent(kind: Kind) -> None:
    with pytest.raises(Refused, match=r"Nothing says how"):
        inject([], "/x", stored(kind), Secret(VALUE), HOST)


def test_each_kind_takes_the_place_of_what_the_agent_put_there() -> None:
    agents = ((b"authorization", b"Bearer mine"), (b"x-own", b"mine"), (b"x-api-key", b"mine"), (b"a", b"b"))
    assert put_on(stored(Kind.BEARER), *agents)[1:] == [(b"a", b"b"), (b"authorization", b"Bearer " + VALUE.encode())]
    assert put_on(stored(Kind.HEADER, "x-own"), *agents) == [(b"a", b"b"), (b"x-own", VALUE.encode())]
    basic = b"Basic " + base64.b64encode(VALUE.encode())
    assert put_on(stored(Kind.BASIC), *agents)[-1] == (b"authorization", basic)
    for kind, field in ((Kind.BEARER, ""), (Kind.BASIC, ""), (Kind.ANTHROPIC_KEY, ""), (Kind.HEADER, "authorization")):
        names = [name for name, _ in put_on(stored(kind, field), *agents)]
        assert len(names) == len(set(names))
        assert sum(name in (b"authorization", b"x-api-key") for name in names) == 1


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1", "/v1?key=sk-ant-real-key"),
        ("/v1?a=1", "/v1?a=1&key=sk-ant-real-key"),
        ("/v1?key=mine", "/v1?key=sk-ant-real-key"),
        ("/v1?k%65y=mine&a=1&key", "/v1?a=1&key=sk-ant-real-key"),
        ("/v1?a=1;key=mine&&", "/v1?a=1&key=sk-ant-real-key"),
        ("/v1?key=1&key=2&keys=3", "/v1?keys=3&key=sk-ant-real-key"),
    ],
)
def test_a_parameter_is_there_once_however_the_agent_spelt_its_own(path: str, sent: str) -> None:
    assert inject([], path, stored(Kind.QUERY, "key"), Secret(VALUE), HOST) == ([], sent)


def test_a_value_is_encoded_for_the_query() -> None:
    assert inject([], "/", stored(Kind.QUERY, "k"), Secret("a&b=c%#d"), HOST)[1] == "/?k=a%26b%3Dc%25%23d"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/bot/getMe", "/botsk-ant-real-key/getMe"),
        ("/bot123:placeholder/getMe?a=/bot/", "/botsk-ant-real-key/getMe?a=/bot/"),
        ("/file/bot/photos/bot.jpg", "/file/botsk-ant-real-key/photos/bot.jpg"),
    ],
)
def test_a_token_in_the_path_takes_the_place_of_the_placeholder(path: str, sent: str) -> None:
    assert inject([], path, stored(Kind.PATH, "bot"), Secret(VALUE), HOST) == ([], sent)


def test_a_path_without_a_place_for_the_token_is_refused() -> None:
    with pytest.raises(Refused, match="write /bot/ there") as refused:
        inject([], "/getMe?x=/bot/", stored(Kind.PATH, "bot"), Secret(VALUE), HOST)
    assert VALUE not in str(refused.value)


def test_one_secret_goes_to_each_host_in_the_way_it_wants() -> None:
    ways = (Way("git.test", "/", Kind.BASIC, "x-access-token"), Way(HOST, "/api/", Kind.HEADER, "private-token"))
    token = StoredSecret("t", Kind.BEARER, (HOST, "git.test"), 0, b"", b"", ways=ways)
    assert put_on(token) == [(b"authorization", b"Bearer " + VALUE.encode())]
    assert put_on(token, path="/api/v4") == [(b"private-token", VALUE.encode())]
    basic = base64.b64encode(b"x-access-token:" + VALUE.encode())
    assert put_on(token, host="git.test") == [(b"authorization", b"Basic " + basic)]
    assert set(wire_forms(token, Secret(VALUE))) == {VALUE.encode(), basic}


def test_what_is_sent_of_a_pair_is_redacted_in_each_form() -> None:
    pair = "user:long-password"
    forms = wire_forms(stored(Kind.BASIC), Secret(pair))
    assert set(forms) == {pair.encode(), b"long-password", base64.b64encode(pair.encode())}
    assert b"" not in wire_forms(stored(Kind.BASIC), Secret("username:"))


def test_of_an_oauth_grant_the_secret_parts_are_redacted_not_the_addresses() -> None:
    grant = OAuthGrant("client-id-1", "refresh-token-1", "https://a.test/token", "client-secret-1")
    assert set(wire_forms(stored(Kind.OAUTH2), Secret(grant.encode()))) == {b"refresh-token-1", b"client-secret-1"}


@given(
    value=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=40),
    query=st.text(st.sampled_from("kK=&%;e6579y+#a"), max_size=30),
)
def test_of_any_query_the_server_reads_the_secret_as_the_one_parameter(value: str, query: str) -> None:
    _, sent = inject([], f"/p?{query}", stored(Kind.QUERY, "key"), Secret(value), HOST)
    assert [got for name, got in parse_qsl(sent.partition("?")[2], separator="&") if name == "key"] == [value]
