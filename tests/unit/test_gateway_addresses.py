"""Which addresses a call may go to: every kind of address, names with several, and what is looked up how often."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.gateway.addresses import (
    FRESH_SECONDS,
    AddressRefused,
    LookupFailed,
    Reach,
    Resolver,
    SocketAddress,
    find_fault,
    find_reach,
    is_local_name,
    is_own,
    read_blocks,
)

BLOCKS = read_blocks()
PUBLIC = ("93.184.216.34", "1.1.1.1", "8.8.8.8", "223.255.255.1", "2606:2800:220:1::1", "2a00:1450:4001::1")
PRIVATE = (
    "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1",
    "100.64.0.1", "::1", "fe80::1", "fc00::1", "fd12::1",
)  # fmt: skip
CLOSED = (
    "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1", "192.0.2.1", "198.51.100.7",
    "203.0.113.9", "198.18.0.1", "198.19.255.1", "192.0.0.1", "192.88.99.1", "::", "::2", "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::1",
    "2001::1", "2001:0:53aa:64c::1", "2001:db8::1", "3fff::1", "fec0::1", "ff02::1", "5f00::1", "4000::1", "100::1",
)  # fmt: skip
METADATA = (
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "fd00:ec2::254", "fd20:ce::254",
)  # fmt: skip


class Names:
    """A name server with a script: each look-up of a name takes the next answer, the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def look_up(self, host: str, port: int) -> list[SocketAddress]:
        self.asked.append(host)
        script = self.answers.get(host)
        if script is None:
            return []
        given = script.pop(0) if len(script) > 1 else script[0]
        return [(address, port, 0, 0) if ":" in address else (address, port) for address in given]


def reach_of(address: str) -> Reach:
    return find_reach(ipaddress.ip_address(address), BLOCKS)[0]


@pytest.mark.parametrize(
    ("addresses", "reach"),
    [(PUBLIC, Reach.PUBLIC), (PRIVATE, Reach.PRIVATE), (CLOSED, Reach.CLOSED), (METADATA, Reach.CLOSED)],
)
def test_an_address_is_public_or_private_or_closed(addresses: tuple[str, ...], reach: Reach) -> None:
    assert {address: reach_of(address) for address in addresses} == dict.fromkeys(addresses, reach)


@given(st.ip_addresses())
def test_what_the_library_does_not_call_global_is_never_public(address: ipaddress.IPv4Address) -> None:
    if find_reach(address, BLOCKS)[0] is Reach.PUBLIC:
        assert address.is_global
        assert not (address.is_multicast or address.is_reserved or address.is_unspecified)


@given(st.ip_addresses(v=4))
def test_no_ipv6_form_of_an_ipv4_address_is_open(address: ipaddress.IPv4Address) -> None:
    packed = int(address)
    forms = [packed, 0xFFFF << 32 | packed, 0x64FF9B << 96 | packed, 0x2002 << 112 | packed << 80]
    for form in forms:
        assert find_reach(ipaddress.IPv6Address(form), BLOCKS)[0] is not Reach.PUBLIC


def test_a_refusal_names_the_kind_of_place_and_never_the_address() -> None:
    fault = find_fault("db.example.com", [find_reach(ipaddress.ip_address("10.1.2.3"), BLOCKS)], allow_private=False)
    assert fault is not None
    assert "db.example.com leads to a private network" in fault
    assert "allow_private" in fault
    assert "10.1" not in fault


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_private_address_is_opened_by_the_rule_alone(address: str) -> None:
    names = Names(inside_test=[[address]])
    with pytest.raises(AddressRefused, match="allow_private"):
        await Resolver(names.look_up).find_addresses("inside.test", 443, allow_private=False)
    found = await Resolver(names.look_up).find_addresses("inside.test", 443, allow_private=True)
    assert [place[0] for place in found] == [address]


@pytest.mark.parametrize("address", [*CLOSED, *METADATA])
async def test_a_closed_address_is_opened_by_nothing(address: str) -> None:
    names = Names(cloud_test=[[address]])
    for allow_private in (False, True):
        with pytest.raises(AddressRefused, match="no rule can open that"):
            await Resolver(names.look_up).find_addresses("cloud.test", 80, allow_private=allow_private)


async def test_one_private_address_among_public_ones_closes_the_whole_name() -> None:
    for answer in (["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:2800:220:1::1", "1.1.1.1", "::1"]):
        names = Names(mixed_test=[answer])
        with pytest.raises(AddressRefused):
            await Resolver(names.look_up).find_addresses("mixed.test", 443, allow_private=False)


async def test_a_name_that_rebinds_is_connected_to_where_it_was_checked() -> None:
    names = Names(rebinds_test=[["1.1.1.1"], ["127.0.0.1"]])
    resolver = Resolver(names.look_up)
    for _ in range(2):  # the check, then the connection
        assert await resolver.find_addresses("rebinds.test", 443, allow_private=False) == [("1.1.1.1", 443)]
    assert names.asked == ["rebinds.test"]
    assert FRESH_SECONDS <= 10


async def test_what_was_found_under_allow_private_serves_no_other_rule() -> None:
    resolver = Resolver(Names(inside_test=[["10.0.0.1"]]).look_up)
    await resolver.find_addresses("inside.test", 443, allow_private=True)
    with pytest.raises(AddressRefused):
        await resolver.find_addresses("inside.test", 443, allow_private=False)


async def test_a_name_without_an_address_is_said_to_have_none() -> None:
    with pytest.raises(LookupFailed, match=r"no address for the name gone\.test"):
        await Resolver(Names().look_up).find_addresses("gone.test", 443, allow_private=False)


@pytest.mark.parametrize("name", ["localhost", "intranet", "printer.local", "router.home.arpa", "a.b.internal"])
async def test_a_name_of_the_local_network_is_not_even_looked_up_without_the_rule(name: str) -> None:
    names = Names(**{name.replace(".", "_"): [["1.1.1.1"]]})
    with pytest.raises(AddressRefused, match="local network"):
        await Resolver(names.look_up).find_addresses(name, 443, allow_private=False)
    assert names.asked == []
    assert await Resolver(names.look_up).find_addresses(name, 443, allow_private=True) == [("1.1.1.1", 443)]


def test_an_address_written_out_is_no_local_name() -> None:
    assert [is_local_name(host) for host in ("1.2.3.4", "[::1]", "a.example.com")] == [False, False, False]


async def test_an_address_written_out_is_judged_like_a_name() -> None:
    for host in ("127.0.0.1", "[::1]", "[fd00:ec2::254]", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            await Resolver().find_addresses(host, 80, allow_private=False)
    assert await Resolver().find_addresses("127.0.0.1", 80, allow_private=True) == [("127.0.0.1", 80)]


def test_an_address_of_this_machine_is_known_as_its_own() -> None:
    assert is_own(("127.0.0.1", 80))
    assert not is_own(("192.0.2.1", 80))
    assert not is_own(("2001:db8::1", 80, 0, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        outward = probe.getsockname()[0]
    assert is_own((outward, 443))


async def test_a_public_address_of_this_machine_is_opened_by_the_rule_alone() -> None:
    resolver = Resolver(Names(home_test=[["1.1.1.1"]]).look_up, owns=lambda address: address == ("1.1.1.1", 443))
    with pytest.raises(AddressRefused, match="the machine that NanoClaw runs on"):
        await resolver.find_addresses("home.test", 443, allow_private=False)
    assert await resolver.find_addresses("home.test", 443, allow_private=True) == [("1.1.1.1", 443)]


async def test_whoever_asks_for_names_that_never_answer_holds_up_nobody_else() -> None:
    answered = threading.Event()

    def ask_system(host: str, port: int) -> list[SocketAddress]:
        if host.startswith("slow"):
            answered.wait(10)
        return [("1.1.1.1", port)]

    resolver = Resolver(ask_system=ask_system)

    async def give_up(number: int) -> None:
        async with asyncio.timeout(0.05):
            await resolver.find_addresses(f"slow{number}.test", 443, allow_private=False, whose="hostile")

    try:
        left = await asyncio.gather(*(give_up(number) for number in range(200)), return_exceptions=True)
        assert all(isinstance(error, TimeoutError) for error in left)
        async with asyncio.timeout(2):
            found = await resolver.find_addresses("good.test", 443, allow_private=False, whose="good")
        assert found == [("1.1.1.1", 443)]
    finally:
        answered.set()
    async with asyncio.timeout(5):
        await resolver.find_addresses("late.test", 443, allow_private=False, whose="hostile")
    resolver.close()
