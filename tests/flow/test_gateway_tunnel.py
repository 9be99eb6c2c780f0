"""TLS that ends in the gateway: by CONNECT, or straight to a listener; who may open it, and what is judged inside."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.gateway.policy import DEFAULT_RULES, Rule
from tests.flow.gateway_bench import SMALL, Bench, answers, running, whole
from tests.flow.gateway_stand import HELLO_BODY, KEY
from tests.unit.test_gateway_hello import hello_for

RULES = (
    Rule("docs", "docs.example.org", methods=frozenset({"GET", "POST", "HEAD"}), paths=("/open/**",)),
    Rule("wide", "*.example.net"),
    Rule("odd-port", "docs.example.org", port=8443),
    Rule("address", "192.0.2.7"),
    Rule("plain", "plain.example.org", port=80, tls=False),
    *DEFAULT_RULES,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path, replace(SMALL, header_seconds=1.0)) as started:
        started.rules.rules = RULES
        started.upstream.answer = answers(whole("200 OK", b"ok"))
        yield started


def without_key(bench: Bench) -> None:
    assert bench.route[0] is not None
    bench.route.append(replace(bench.route[0], secret=None))


async def test_calls_in_a_tunnel_are_forwarded_one_after_the_other_on_one_connection(bench: Bench) -> None:
    without_key(bench)
    async with bench.tunnel("docs.example.org") as line:
        for path in ("/open/a", "/open/b?c=d"):
            reply = await line.call(path, host="docs.example.org")
            assert (reply.status, reply.body) == (200, b"ok")
    assert [seen.target for seen in bench.upstream.seen] == ["/open/a", "/open/b?c=d"]
    assert [seen.body for seen in bench.upstream.seen] == [HELLO_BODY] * 2
    assert [row.host for row in bench.rows() if row.event == "allowed"] == ["docs.example.org"] * 2


async def test_the_key_is_put_on_inside_a_tunnel_to_its_host(bench: Bench) -> None:
    async with bench.tunnel("api.anthropic.com") as line:
        reply = await line.call("/v1/messages", host="api.anthropic.com", headers="x-api-key: placeholder\r\n")
        assert reply.status == 200
    assert bench.upstream.seen[0].headers["x-api-key"] == KEY


async def test_tls_straight_to_the_listener_is_a_tunnel_to_its_server_name(bench: Bench) -> None:
    without_key(bench)
    async with bench.open() as line, asyncio.timeout(5):
        await line.writer.start_tls(bench.trusting(), server_hostname="docs.example.org")
        assert (await line.call("/open/a", host="docs.example.org")).status == 200
        refused = await line.call("/closed", host="docs.example.org")
        assert (refused.status, "docs.example.org/closed" in refused.message) == (403, True)
        assert (await line.call("/open/a", host="docs.example.org:443")).status == 200


@pytest.mark.parametrize(
    "authority",
    [
        "other.example.org:443",
        "docs.example.org:80",
        "docs.example.org:22",
        "plain.example.org:80",
        "a.b.example.net:443",
        "127.0.0.1:443",
        "[::1]:443",
        "2130706433:443",
        "0x7f.1:443",
        "docs.example.org.:443",
        "DOCS.example.org:443",
        "docs.example.org@evil.test:443",
        "evil.test@docs.example.org:443",
        "docs.example.org:443:443",
        "docs.example.org:0443",
        "docs.example.org%00.evil.test:443",
        "docs.example.org/:443",
        "169.254.169.254:443",
        "localhost:443",
        "gateway:443",
    ],
)
async def test_a_tunnel_that_no_rule_could_use_is_refused_at_once(bench: Bench, authority: str) -> None:
    async with bench.open() as line:
        line.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        reply = await line.reply()
    assert (reply.status, reply.headers["content-type"]) == (403, "application/json")
    row = bench.rows()[-1]
    assert (row.event, row.method, row.reason) == ("refused", "CONNECT", reply.message)
    assert bench.upstream.connections == 0


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /closed HTTP/1.1\r\nHost: docs.example.org\r\n\r\n", 403),
        ("DELETE /open/a HTTP/1.1\r\nHost: docs.example.org\r\n\r\n", 403),
        ("GET /open/../closed HTTP/1.1\r\nHost: docs.example.org\r\n\r\n", 403),
        ("GET /open/a HTTP/1.1\r\nHost: other.example.org\r\n\r\n", 403),
        ("GET /open/a HTTP/1.1\r\nHost: docs.example.org:8443\r\n\r\n", 403),
        ("GET https://docs.example.org/open/a HTTP/1.1\r\nHost: docs.example.org\r\n\r\n", 403),
        ("CONNECT docs.example.org:443 HTTP/1.1\r\nHost: docs.example.org:443\r\n\r\n", 403),
        ("GET /open/a HTTP/1.1\r\nHost: docs.example.org\r\nHost: other.example.org\r\n\r\n", 400),
        ("GET /open/a HTTP/1.1\r\n\r\n", 400),
        ("GET /open/a HTTP/1.0\r\n\r\n", 403),
        ("GET /anthropic/v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
async def test_what_is_not_allowed_is_refused_inside_a_tunnel_too(bench: Bench, request_text: str, status: int) -> None:
    async with bench.tunnel("docs.example.org") as line:
        line.send(request_text.encode())
        assert (await line.reply()).status == status
    row = bench.rows()[-1]
    assert (row.event, row.status, row.host) == ("refused", status, "docs.example.org")
    assert bench.upstream.connections == 0


async def test_a_server_name_that_is_not_the_tunnels_host_is_ended_and_written_down(bench: Bench) -> None:
    with pytest.raises(ssl.SSLError):
        async with bench.tunnel("docs.example.org", name="api.anthropic.com"):
            pass
    row = bench.rows()[-1]
    assert (row.event, row.method, row.host, row.rule) == ("refused", "TLS", "docs.example.org", "tunnel")
    assert "is for api.anthropic.com" in row.reason


@pytest.mark.parametrize("name", ["other.example.org", "a.b.example.net", "127.0.0.1", "evil"])
async def test_tls_to_a_name_that_no_rule_could_use_is_ended_before_it_begins(bench: Bench, name: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with bench.open() as line, asyncio.timeout(5):
            await line.writer.start_tls(bench.trusting(), server_hostname=name)
    row = bench.rows()[-1]
    assert (row.event, row.method, row.rule) == ("refused", "TLS", "default")


async def test_a_handshake_without_a_name_goes_nowhere_except_to_an_address_a_rule_names(bench: Bench) -> None:
    without_key(bench)
    with pytest.raises(ssl.SSLError):
        async with bench.tunnel("docs.example.org", name="192.0.2.7"):
            pass
    assert "is for no name" in bench.rows()[-1].reason
    async with bench.tunnel("192.0.2.7") as line:  # the client checks that the certificate is for the address
        assert (await line.call("/x", host="192.0.2.7")).status == 200


@pytest.mark.parametrize(
    "early", [b"\x16\x03\x01", hello_for("docs.example.org"), b"GET /open/a HTTP/1.1\r\nHost: docs.example.org\r\n\r\n"]
)
async def test_bytes_before_the_tunnel_is_open_refuse_it(bench: Bench, early: bytes) -> None:
    async with bench.open() as line:
        line.send(b"CONNECT docs.example.org:443 HTTP/1.1\r\nHost: docs.example.org:443\r\n\r\n" + early)
        reply = await line.reply()
    assert (reply.status, "before the tunnel was open" in reply.message) == (403, True)
    assert bench.rows()[0].rule == "tunnel"
    assert bench.upstream.connections == 0


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_connect_with_a_body_is_refused(bench: Bench, framing: str) -> None:
    async with bench.open() as line:
        line.send(f"CONNECT docs.example.org:443 HTTP/1.1\r\nHost: docs.example.org:443\r\n{framing}\r\n\r\n".encode())
        assert (await line.reply()).status == 403
    assert bench.rows()[0].rule == "tunnel"


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9\r\n", b"GET / HTTP/1.1\r\nHost: docs.example.org\r\n\r\n", b"\x17"]
)
async def test_what_is_not_tls_in_a_tunnel_is_dropped_and_written_down(bench: Bench, data: bytes) -> None:
    async with bench.open() as line, asyncio.timeout(5):
        line.send(b"CONNECT docs.example.org:443 HTTP/1.1\r\nHost: docs.example.org:443\r\n\r\n")
        assert (await line.reply()).status == 200
        line.send(data)
        assert (await line.reader.read())[:1] in (b"", b"\x15")
    row = bench.rows()[-1]
    assert (row.event, row.rule, "not TLS" in row.reason) == ("refused", "tunnel", True)
    assert bench.upstream.connections == 0


async def test_a_client_that_does_not_trust_the_gateway_is_told_of_in_the_audit(bench: Bench) -> None:
    async with bench.open() as line, asyncio.timeout(5):
        with pytest.raises(ssl.SSLError):
            await line.writer.start_tls(ssl.create_default_context(), server_hostname="docs.example.org")
    async with asyncio.timeout(5):
        while not bench.rows():
            await asyncio.sleep(0.01)
    row = bench.rows()[-1]
    assert (row.rule, "Does the client trust" in row.reason) == ("tls", True)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_and_http2_are_not_spoken(bench: Bench) -> None:
    context = bench.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with bench.open() as line, asyncio.timeout(5):
        await line.writer.start_tls(context, server_hostname="docs.example.org")
        tls = line.writer.get_extra_info("ssl_object")
        assert (tls.selected_alpn_protocol(), tls.version()) == ("http/1.1", "TLSv1.3")
    old = bench.trusting()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with bench.open() as line, asyncio.timeout(5):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await line.writer.start_tls(old, server_hostname="docs.example.org")


@pytest.mark.parametrize("sent", [b"\x16", hello_for("docs.example.org")[:60], hello_for("docs.example.org")])
async def test_a_handshake_that_stalls_loses_its_connection(tmp_path: Path, sent: bytes) -> None:
    async with running(tmp_path, replace(SMALL, header_seconds=0.1)) as bench:
        bench.rules.rules = RULES
        async with bench.open() as line, asyncio.timeout(5):
            line.send(sent)
            with contextlib.suppress(ConnectionError):
                while await line.reader.read(65536):
                    pass


async def test_a_name_in_capitals_is_the_same_name(bench: Bench) -> None:
    without_key(bench)
    context = bench.trusting()
    context.check_hostname = False
    async with bench.open() as line, asyncio.timeout(5):
        await line.writer.start_tls(context, server_hostname="Docs.Example.ORG")
        assert (await line.call("/open/a", host="docs.example.org")).status == 200


async def test_without_its_authority_the_gateway_ends_a_handshake_and_says_why(bench: Bench) -> None:
    bench.certificates.close()
    async with bench.open() as line, asyncio.timeout(5):
        line.send(hello_for("docs.example.org"))
        assert (await line.reader.read())[:1] == b"\x15"
    assert "nanoclaw vault unlock" in bench.rows()[-1].reason


async def test_a_large_body_and_a_stream_pass_through_a_tunnel_whole(bench: Bench) -> None:
    without_key(bench)
    bench.upstream.answer = answers(whole("200 OK", b"y" * 3_000_000))
    async with bench.tunnel("docs.example.org") as line:
        reply = await line.call("/open/a", host="docs.example.org", body=b"x" * 1_000_000)
        assert (reply.status, len(reply.body), reply.body[-1:]) == (200, 3_000_000, b"y")
    assert bench.upstream.seen[0].body == b"x" * 1_000_000
