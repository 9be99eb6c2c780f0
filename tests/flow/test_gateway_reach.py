"""Where an allowed call may go and whom the gateway takes for the right one: addresses, connections, certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.gateway.addresses import Resolver, SocketAddress
from nanoclaw.gateway.exchange import Route
from nanoclaw.gateway.upstream import Endpoint, UpstreamPool
from tests.flow.certificates import Authority, make_authority
from tests.flow.gateway_bench import SMALL, Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import HELLO_BODY

PATIENT = replace(SMALL, connect_seconds=5.0, answer_seconds=5.0)


class Names:
    """A name server with a script; a name's answers are taken in turn, the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    async def look_up(self, host: str, port: int) -> list[SocketAddress]:
        self.asked.append(host)
        script = self.answers[host]
        return [(address, port) for address in (script.pop(0) if len(script) > 1 else script[0])]


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "certificates")


@pytest.fixture
async def bench(tmp_path: Path, names: Names, authority: Authority) -> AsyncIterator[Bench]:
    pool = UpstreamPool(authority.trusting, Resolver(names.look_up))
    async with running(tmp_path, PATIENT, pool) as started:
        started.upstream.answer = answers(whole("200 OK", b"ok"))
        yield started


def send_to(bench: Bench, host: str, port: int, *, tls: bool = False, allow_private: bool = True) -> None:
    """From now on the one allowed call goes there, with a key bound to the model's host."""
    assert bench.route[0] is not None
    bench.route.append(Route(Endpoint(host, port, tls, allow_private), bench.route[0].secret))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (["127.0.0.1"], "this machine itself"),
        (["10.1.2.3"], "a private network"),
        (["1.1.1.1", "127.0.0.1"], "this machine itself"),
        (["169.254.169.254"], "metadata"),
        (["::ffff:127.0.0.1"], "in disguise"),
    ],
)
async def test_a_name_that_leads_inwards_is_refused_and_written_down(
    bench: Bench, names: Names, answer: list[str], said: str
) -> None:
    names.answers["inwards.test"] = [answer]
    send_to(bench, "inwards.test", bench.upstream.port, allow_private=False)
    reply = await bench.call()
    assert (reply.status, said in reply.message) == (403, True)
    row = bench.rows()[-1]
    assert (row.event, row.rule, row.status) == ("refused", "address", 403)
    assert said in row.reason
    assert bench.upstream.connections == 0


async def test_a_name_that_rebinds_after_the_check_is_called_where_it_was_checked(bench: Bench, names: Names) -> None:
    names.answers["rebinds.test"] = [["127.0.0.1"], ["127.0.0.9"]]
    send_to(bench, "rebinds.test", bench.upstream.port)
    assert (await bench.call()).body == b"ok"
    assert names.asked == ["rebinds.test"]


async def test_a_connection_that_one_rule_opened_inwards_serves_no_other_rule(bench: Bench, names: Names) -> None:
    names.answers["inside.test"] = [["127.0.0.1"]]
    send_to(bench, "inside.test", bench.upstream.port)
    assert (await bench.call()).status == 200
    assert (await bench.call()).status == 200
    assert bench.upstream.connections == 1
    send_to(bench, "inside.test", bench.upstream.port, allow_private=False)
    assert (await bench.call()).status == 403
    assert bench.upstream.connections == 1


async def test_the_next_address_is_tried_when_one_does_not_answer(bench: Bench, names: Names) -> None:
    with socket.create_server(("127.0.0.2", bench.upstream.port), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        names.answers["two.test"] = [["127.0.0.2", "127.0.0.3", "127.0.0.1"]]  # one hangs, one refuses, one answers
        send_to(bench, "two.test", bench.upstream.port)
        assert (await bench.call()).body == b"ok"


async def test_a_host_none_of_whose_addresses_accepts_is_an_api_error(bench: Bench, names: Names) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    names.answers["dead.test"] = [["127.0.0.1", "127.0.0.2"]]
    send_to(bench, "dead.test", port)
    reply = await bench.call()
    assert (reply.status, "cannot be reached: Connection refused" in reply.message) == (502, True)


async def test_the_name_and_not_the_address_is_what_tls_and_host_go_by(
    bench: Bench, names: Names, authority: Authority
) -> None:
    names.answers["api.test"] = [["127.0.0.1"]]
    async with bench.upstream.listening(authority.server("api.test")) as port:
        send_to(bench, "api.test", port, tls=True)
        for _ in range(2):
            assert (await bench.call()).body == b"ok"
        assert bench.upstream.connections == 1
        assert bench.upstream.seen[0].headers["host"] == f"api.test:{port}"
        assert bench.upstream.seen[0].body == HELLO_BODY


def old_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("wrong", ["expired", "not valid yet", "for another name", "self-signed", "TLS 1.2"])
async def test_a_server_that_is_not_the_right_one_is_told_in_plain_words(
    bench: Bench, names: Names, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    names.answers["api.test"] = [["127.0.0.1"]]
    match wrong:
        case "expired":
            context = authority.server("api.test", days=(-9, -1))
        case "not valid yet":
            context = authority.server("api.test", days=(1, 9))
        case "for another name":
            context = authority.server("other.test", "test", "*.api.test")
        case "self-signed":
            context = authority.server("api.test", self_signed=True)
        case _:
            context = old_tls(authority.server("api.test"))
    async with bench.upstream.listening(context) as port:
        send_to(bench, "api.test", port, tls=True)
        reply = await bench.call()
        assert (reply.status, wrong in reply.message) == (502, True), reply.message
        assert bench.upstream.seen == []
        row = await until_finished(bench)
        assert (row.status, wrong in row.reason) == (502, True)


async def test_an_authority_that_this_machine_does_not_know_is_told(bench: Bench, names: Names, tmp_path: Path) -> None:
    names.answers["api.test"] = [["127.0.0.1"]]
    async with bench.upstream.listening(make_authority(tmp_path / "strangers").server("api.test")) as port:
        send_to(bench, "api.test", port, tls=True)
        reply = await bench.call()
        assert (reply.status, "authority that this machine does not trust" in reply.message) == (502, True)


async def test_a_server_that_speaks_no_tls_is_told(bench: Bench, names: Names) -> None:
    names.answers["plain.test"] = [["127.0.0.1"]]
    send_to(bench, "plain.test", bench.upstream.port, tls=True)
    reply = await bench.call()
    assert (reply.status, "encrypted" in reply.message) == (502, True)
    assert bench.upstream.seen == []
