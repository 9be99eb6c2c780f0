"""The control socket: order, descriptors, a slow or broken other side; and parsing of the operator's upstream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.upstream import Endpoint, open_trust, parse_endpoint


class Ends:
    """A channel whose other end is a plain socket, and what the channel said."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.messages: list[tuple[control.HostMessage, list[socket.socket]]] = []
        self.closed: list[str] = []
        self.channel = control.ControlChannel[control.HostMessage](
            ours,
            control.parse_host_message,
            lambda message, sockets: self.messages.append((message, sockets)),
            self.closed.append,
        )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_messages_and_descriptors_arrive_in_order() -> None:
    receiver = Ends()
    sender = control.ControlChannel[control.HostMessage](
        receiver.other, control.parse_host_message, lambda *_: None, lambda _: None
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender.send(control.Listen("s", 1, "g"), [listener])
        sender.send(control.TurnOpened("s", 1, "me"))
        await until(lambda: len(receiver.messages) == 2)
        passed = receiver.messages[0][1][0]
        assert passed.getsockname() == listener.getsockname()
        passed.close()
    assert [type(message) for message, _ in receiver.messages] == [control.Listen, control.TurnOpened]
    sender.close()
    await until(lambda: receiver.closed)
    assert receiver.closed == ["the other side closed the connection"]


async def test_what_cannot_be_sent_at_once_waits_in_order_with_its_descriptors() -> None:
    receiver = Ends()
    sender = control.ControlChannel[control.HostMessage](
        receiver.other, control.parse_host_message, lambda *_: None, lambda _: None
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for number in range(2000):
            sender.send(control.TurnOpened("s" * 500, number, "me"))
        sender.send(control.Listen("s", 1, "g"), [listener])
    await until(lambda: len(receiver.messages) == 2001)
    assert [message.fence for message, _ in receiver.messages[:-1]] == list(range(2000))  # type: ignore[union-attr]
    passed = receiver.messages[-1][1][0]
    assert passed.getsockname()[1] > 0
    passed.close()
    sender.close()
    receiver.channel.close()


async def test_an_other_side_that_never_reads_is_given_up() -> None:
    ends = Ends()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends.channel.send(control.Listen("s", 1, "g"), [listener])
        for _ in range(control.QUEUE_LIMIT + 2000):
            ends.channel.send(control.TurnOpened("s" * 500, 1, "me"))
    await until(lambda: ends.closed)
    assert ends.closed == ["the other side reads no messages"]
    ends.channel.send(control.TurnClosed("s", 1))
    ends.other.close()


@pytest.mark.parametrize(
    ("packet", "said"),
    [(b"{", "not understood"), (b'{"type":"Nope"}', "not understood"), (b"x" * 70_000, "longer than its limit")],
)
async def test_a_packet_that_is_no_message_closes_the_channel(packet: bytes, said: str) -> None:
    ends = Ends()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.send_fds(ends.other, [packet], [listener.fileno()])
    await until(lambda: ends.closed)
    assert said in ends.closed[0]
    ends.other.close()


async def test_sending_to_a_side_that_is_gone_is_reported_once() -> None:
    ends = Ends()
    ends.other.close()
    ends.channel.send(control.TurnClosed("s", 1))
    ends.channel.send(control.TurnClosed("s", 1))
    await until(lambda: ends.closed)
    assert len(ends.closed) == 1


def test_a_request_that_sets_a_secret_does_not_print_it() -> None:
    assert "sk-ant" not in repr(admin_words.VaultSet("anthropic", "sk-ant-real"))


@pytest.mark.parametrize(
    ("url", "endpoint", "authority"),
    [
        ("http://127.0.0.1:8099", Endpoint("127.0.0.1", 8099, tls=False, allow_private=True), "127.0.0.1:8099"),
        ("https://proxy.test/", Endpoint("proxy.test", 443, tls=True, allow_private=True), "proxy.test"),
        ("https://proxy.test:8443", Endpoint("proxy.test", 8443, tls=True, allow_private=True), "proxy.test:8443"),
    ],
)
def test_an_upstream_is_read_from_its_address(url: str, endpoint: Endpoint, authority: str) -> None:
    assert parse_endpoint(url) == endpoint
    assert parse_endpoint(url).authority == authority


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://proxy.test", "unencrypted"),
        ("ftp://127.0.0.1", "no upstream"),
        ("127.0.0.1:80", "no upstream"),
        ("https://a.test/path", "no upstream"),
        ("https://a.test:port", "no upstream"),
    ],
)
def test_an_upstream_that_would_leak_the_key_or_is_none_is_refused(url: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        parse_endpoint(url)


def test_the_systems_certificates_are_trusted_and_names_are_checked() -> None:
    context = open_trust()
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 0
