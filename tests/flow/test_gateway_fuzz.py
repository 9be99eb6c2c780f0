"""Random and mutilated requests through the gateway's real parser: nothing goes out but what an oracle allows.

The oracle knows nothing of the gateway's code: it looks at what arrived upstream, and says whether a rule is for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.line import Failure, Line
from nanoclaw.gateway.policy import Rule
from nanoclaw.gateway.proxy import Requests
from nanoclaw.gateway.target import Authority
from tests.flow.gateway_bench import SMALL, Bench, answers, running
from tests.flow.gateway_stand import KEY, Seen

LIMITS = replace(SMALL, refusals_at_once=10**6, calls_at_once=10**6, answer_seconds=5.0, header_bytes=4096)
RULES = (
    Rule("model", "api.anthropic.com", methods=frozenset({"POST"}), paths=("/v1/messages",), inject="anthropic"),
    Rule("docs", "docs.example.org", methods=frozenset({"GET", "HEAD"}), paths=("/open/**",)),
    Rule("plain", "plain.example.org", port=80, tls=False, methods=frozenset({"GET"}), paths=("/open/*",)),
)
BOUND = (None, Authority("docs.example.org", 443), Authority("api.anthropic.com", 443))
ANSWER = b"HTTP/1.1 200 OK\r\nx-from: outside\r\ncontent-length: 2\r\n\r\nok"

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

METHODS = ("POST", "GET", "HEAD", "CONNECT", "OPTIONS", "PUT", "get", "P OST", "PRI", "")
TARGETS = (
    "/anthropic/v1/messages",
    "/v1/messages",
    "/open/a",
    "http://plain.example.org/open/a",
    "http://plain.example.org/open/a/b",
    "/open/../v1/messages",
    "/open/%2e%2e/x",
    "/open//a",
    "/open/a?q=/../x",
    "/anthropic/v1/messages?beta=true",
    "/anthropic/../v1/messages",
    "/anthropic//v1/messages",
    "/anthropic/v1/messages/..;/x",
    "/closed",
    "*",
    "docs.example.org:443",
    "https://docs.example.org/open/a",
    "http://docs.example.org@evil.test/open/a",
    "//plain.example.org/open/a",
    "/open/\\x",
    "/open/a#b",
    "/open/\xff",
)
HOSTS = (
    "127.0.0.1:3128",
    "localhost",
    "docs.example.org",
    "plain.example.org",
    "api.anthropic.com",
    "evil.test",
    "",
    "a b",
)
HEADERS = (
    "Content-Length: 0",
    "Content-Length: 4",
    "Content-Length: +4",
    "Content-Length: 4, 4",
    "Content-Length: 4\r\nContent-Length: 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: xchunked",
    "Connection: close",
    "Connection: keep-alive, content-length",
    "Connection: transfer-encoding, x-api-key",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Expect: 100-continue",
    "X-Api-Key: sk-ant-agents-own",
    "Authorization: Bearer agents-own",
    "X-Folded: a\r\n b",
    "X-Null: a\x00b",
    "Host: evil.test",
    "X-Http-Method-Override: DELETE",
    "X-Bare: a\nX-Api-Key: smuggled",
)
BODIES = (
    b"",
    b"{}{}",
    b"4\r\n{}{}\r\n0\r\n\r\n",
    b"4;ext=1\r\n{}{}\r\n0\r\nX-Trailer: a\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"-1\r\n\r\n",
    b"0\r\n\r\nGET /open/smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n",
)


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """A request made of likely and unlikely parts, often whole, sometimes cut or changed in some bytes."""
    version = draw(st.sampled_from(("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 x", "")))
    lines = [f"{draw(st.sampled_from(METHODS))} {draw(st.sampled_from(TARGETS))} {version}"]
    lines += [f"Host: {draw(st.sampled_from(HOSTS))}"] if draw(st.integers(0, 9)) else []
    lines += draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    end = draw(st.sampled_from(("\r\n", "\r\n", "\r\n", "\n", "\r")))
    data = bytearray((end.join(lines) + end + end).encode("latin-1") + draw(st.sampled_from(BODIES)))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2, 4)))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(data)


@dataclass(frozen=True)
class Case:
    """What one connection says: some requests after each other, cut into pieces, perhaps inside a tunnel."""

    data: bytes
    cut: int
    bound: Authority | None


cases = st.builds(
    lambda requests, cut, bound: Case(b"".join(requests), cut, bound),
    st.lists(one_request(), min_size=1, max_size=3),
    st.integers(1, 400),
    st.sampled_from(BOUND),
)


@dataclass
class Client:
    """A client in memory: says its case, then is gone; keeps what it hears."""

    case: Case
    heard: bytearray = field(default_factory=bytearray)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    at: int = 0

    async def read(self, count: int, /) -> bytes:
        piece = self.case.data[self.at : self.at + min(self.case.cut, count)]
        self.at += len(piece)
        if not piece:
            await self.answered.wait()  # as a client does that waits for its answer before it goes
        return piece

    def write(self, data: bytes, /) -> None:
        self.heard += data
        asyncio.get_running_loop().call_later(0.005, self.answered.set)

    async def drain(self) -> None:
        """Nothing waits."""

    def write_eof(self) -> None:
        """Nothing more comes."""


async def try_all(directory: Path, tried: list[Case]) -> list[Seen]:
    """Every case on a connection of its own; the oracle looks after each."""
    async with running(directory, LIMITS) as bench:
        bench.rules.rules = RULES
        bench.upstream.answer = answers(ANSWER)
        key = bench.route[0]
        assert key is not None
        open_route = replace(key, secret=None)
        object.__setattr__(bench.desk, "find_route", lambda rule, _: key if rule.inject else open_route)
        box = next(iter(bench.boxes))
        for case in tried:
            client = Client(case)
            before = len(bench.upstream.seen)
            rows = bench.ledger.rows
            with contextlib.suppress(OSError, TimeoutError, Failure):  # a connection that is simply ended
                await Requests(bench.desk, box, Line(client, client, LIMITS), case.bound).serve()
            check_answers(bench, bytes(client.heard), rows)
            for seen in bench.upstream.seen[before:]:
                check_call(seen, case)
        return bench.upstream.seen


def check_call(seen: Seen, case: Case) -> None:
    """What went out is a call that some rule is for, with the key where it belongs and nothing of the agent's."""
    path = seen.target.partition("?")[0]
    has_key = "x-api-key" in seen.headers
    if has_key:
        assert (seen.method, path, seen.headers["x-api-key"]) == ("POST", "/v1/messages", KEY), case
        assert case.bound is None or case.bound.host == "api.anthropic.com"
    else:
        assert seen.method in {"GET", "HEAD"}, case
        assert re.fullmatch(r"/open(/[A-Za-z0-9;]*)*", path), case
        assert case.bound is None or case.bound.host == "docs.example.org"
    assert not {"authorization", "cookie", "x-folded", "x-bare", "upgrade"} & set(seen.headers), case
    assert not ("content-length" in seen.headers and "transfer-encoding" in seen.headers), case
    assert b"smuggled" not in seen.body, case


def check_answers(bench: Bench, heard: bytes, rows_before: int) -> None:
    """Whoever was refused finds it in the audit: no refusal of ours without a row, no row without its reason."""
    rows = bench.ledger.list_newest(50, None)
    new = [row for row in rows if row.seq > rows_before]
    refused = [row for row in new if row.event == "refused"]
    assert all(row.reason for row in refused)
    ours = heard.count(b'{"type":"error","error":')
    heads = len(re.findall(rb"HTTP/1\.1 (?!100|200)\d{3} \r\ncontent-type: application/json", heard))
    broken = [row for row in new if row.event == "allowed"]  # it may have failed on its way, which its end says
    assert max(ours, heads) <= len(refused) + len(broken)
    assert KEY.encode() not in heard


def run_all(tried: list[Case]) -> None:
    memory = Path("/dev/shm")  # the ledger syncs each refusal, and a disk would take most of the time
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        asyncio.run(try_all(Path(directory), tried))


@pytest.mark.ci  # four seconds of random requests; --long has ten thousand
@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.lists(cases, min_size=10, max_size=20))
def test_random_requests_go_nowhere_but_where_the_oracle_allows_and_are_written_down(tried: list[Case]) -> None:
    run_all(tried)


@pytest.mark.long  # more than 10,000 cases take minutes
@settings(max_examples=700, deadline=None, suppress_health_check=SLOW)
@given(st.lists(cases, min_size=20, max_size=30))
def test_ten_thousand_random_requests_go_nowhere_but_where_the_oracle_allows(tried: list[Case]) -> None:
    run_all(tried)


async def test_the_oracle_sees_the_calls_that_may_be_made(tmp_path: Path) -> None:
    """Without this the fuzz could pass because nothing ever goes out."""
    model = b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"
    plain = b"GET http://plain.example.org/open/a HTTP/1.1\r\nHost: plain.example.org\r\n\r\n"
    docs = b"GET /open/a HTTP/1.1\r\nHost: docs.example.org\r\n\r\n"
    seen = await try_all(tmp_path, [Case(model + plain, 500, None), Case(docs * 2, 7, BOUND[1])])
    assert [call.target for call in seen] == ["/v1/messages", "/open/a", "/open/a", "/open/a"]
    with pytest.raises(AssertionError):
        check_call(replace(seen[0], target="/v1/other"), Case(model, 1, None))
    with pytest.raises(AssertionError):
        check_call(replace(seen[1], method="POST"), Case(plain, 1, None))
