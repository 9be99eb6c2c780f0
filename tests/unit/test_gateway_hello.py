"""The server name of a TLS handshake, read from bytes of real clients and of hostile ones."""

from __future__ import annotations

import ssl

from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.hello import HELLO_BYTES, find_server_name, is_complete


def hello_for(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


def test_the_name_a_real_client_asks_for_is_found() -> None:
    hello = hello_for("api.example.org")
    assert is_complete(hello)
    assert find_server_name(hello) == "api.example.org"


def test_a_client_that_names_no_host_gives_none() -> None:
    assert find_server_name(hello_for(None)) is None


def test_a_record_that_is_not_here_in_whole_is_waited_for() -> None:
    hello = hello_for("api.example.org")
    assert not any(is_complete(hello[:length]) for length in range(len(hello)))
    assert is_complete(b"\x16\x03\x01\xff\xff" + b"x" * HELLO_BYTES)


def test_another_handshake_message_has_no_name() -> None:
    assert find_server_name(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00") is None


def test_every_cut_of_a_handshake_gives_a_name_or_none_and_never_raises() -> None:
    hello = hello_for("api.example.org")
    assert {find_server_name(hello[:length]) for length in range(len(hello) + 1)} == {None, "api.example.org"}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_survived(data: bytes) -> None:
    find_server_name(b"\x16\x03\x01\x00\xff\x01" + data)
