"""Which addresses a call may go to: a name is looked up once, every answer is judged, and only those are connected to.

In: host, port, whether the rule opens private addresses. Out: checked addresses. Never: connects; lets a name through
of which one answer is closed (a name that rebinds would show the other one next); asks for the same name twice where
once is enough. Fails: AddressRefused, the address is closed to this rule; LookupFailed, the name has no answer.

Beside the registries' special addresses, an address of this machine's own is closed even where it is public: what
listens there (the host's services, an admin page) was never meant for an agent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.errors import NanoClawError, Refused

LOOKUPS_AT_ONCE = 32
LOOKUPS_OF_ONE = 6  # at once: whose names never answer holds up nobody else
FRESH_SECONDS = 5.0  # checked answers serve the connections that are opened together
KNOWN_MAX = 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SocketAddress = tuple[str, int] | tuple[str, int, int, int]
LookUp = Callable[[str, int], Awaitable[list[SocketAddress]]]
AskSystem = Callable[[str, int], list[SocketAddress]]


class LookupFailed(NanoClawError):
    """A name has no address, or its resolver does not answer."""


class AddressRefused(Refused):
    """A host lies where this call may not go; `reason` does not tell the agent the address."""


class Reach(StrEnum):
    """Who gets to an address."""

    PUBLIC = "public"
    PRIVATE = "private"  # with `allow_private` in the rule
    CLOSED = "closed"  # nobody, whatever a rule says


@dataclass(frozen=True, slots=True)
class Block:
    """A block of addresses that is not public, and what it is in plain words."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    reach: Reach
    what: str


METADATA = "a cloud's metadata service"
# First match. Metadata: AWS, ECS, EKS, Azure, Oracle, Alibaba, Google, as their manuals give them. The rest: IANA's
# special-purpose registries (RFC 6890 and after), written out because `is_global` differs between Python versions.
BLOCKS = (
    ("169.254.169.254", Reach.CLOSED, METADATA),
    ("169.254.170.2", Reach.CLOSED, METADATA),
    ("169.254.170.23", Reach.CLOSED, METADATA),
    ("168.63.129.16", Reach.CLOSED, METADATA),
    ("192.0.0.192", Reach.CLOSED, METADATA),
    ("100.100.100.200", Reach.CLOSED, METADATA),
    ("fd00:ec2::254", Reach.CLOSED, METADATA),
    ("fd00:ec2::23", Reach.CLOSED, METADATA),
    ("fd20:ce::254", Reach.CLOSED, METADATA),
    ("127.0.0.0/8", Reach.PRIVATE, "this machine itself"),
    ("::1", Reach.PRIVATE, "this machine itself"),
    ("10.0.0.0/8", Reach.PRIVATE, "a private network"),
    ("172.16.0.0/12", Reach.PRIVATE, "a private network"),
    ("192.168.0.0/16", Reach.PRIVATE, "a private network"),
    ("100.64.0.0/10", Reach.PRIVATE, "a shared network behind one address (also Tailscale's)"),
    ("fc00::/7", Reach.PRIVATE, "a private network"),
    ("169.254.0.0/16", Reach.PRIVATE, "the local link"),
    ("fe80::/10", Reach.PRIVATE, "the local link"),
    ("192.88.99.0/24", Reach.CLOSED, "a 6to4 relay"),
    ("0.0.0.0/8", Reach.CLOSED, "no host's address"),
    ("192.0.0.0/24", Reach.CLOSED, "a protocol's own block"),
    ("192.0.2.0/24", Reach.CLOSED, "an example in documents"),
    ("198.51.100.0/24", Reach.CLOSED, "an example in documents"),
    ("203.0.113.0/24", Reach.CLOSED, "an example in documents"),
    ("198.18.0.0/15", Reach.CLOSED, "a block for benchmarks"),
    ("224.0.0.0/3", Reach.CLOSED, "multicast or reserved"),
    ("::ffff:0:0/96", Reach.CLOSED, "an IPv4 address in disguise"),
    ("64:ff9b::/96", Reach.CLOSED, "an IPv4 address behind NAT64"),
    ("2002::/16", Reach.CLOSED, "an IPv4 address behind 6to4"),
    ("2001::/23", Reach.CLOSED, "Teredo or another protocol's own block"),
    ("2001:db8::/32", Reach.CLOSED, "an example in documents"),
    ("3fff::/20", Reach.CLOSED, "an example in documents"),
    ("ff00::/8", Reach.CLOSED, "multicast"),
)  # fmt: skip
GLOBAL_UNICAST = 0b001  # the first three bits of all that IANA has given out of IPv6
OWN = "an address of the machine that NanoClaw runs on"
LOCAL_ENDINGS = (".local", ".localhost", ".localdomain", ".internal", ".home.arpa", ".lan", ".home", ".corp")


def read_blocks() -> tuple[Block, ...]:
    """Return the blocks that are not public, in the order in which they are tried."""
    return tuple(Block(ipaddress.ip_network(network), reach, what) for network, reach, what in BLOCKS)


def find_reach(address: Address, blocks: tuple[Block, ...]) -> tuple[Reach, str]:
    """Return who gets to an address and, unless everybody does, what it is."""
    for block in blocks:
        if address.version == block.network.version and address in block.network:
            return block.reach, block.what
    if not address.is_global or (address.version == 6 and int(address) >> 125 != GLOBAL_UNICAST):
        return Reach.CLOSED, "no public address"
    return Reach.PUBLIC, ""


def find_fault(host: str, places: list[tuple[Reach, str]], *, allow_private: bool) -> str | None:
    """Return why a host with these addresses may not be called, None when every one of them is open."""
    for reach, what in places:
        if reach is Reach.CLOSED:
            return f"{host} leads to {what}; no rule can open that."
        if reach is Reach.PRIVATE and not allow_private:
            return f"{host} leads to {what}, which is not public; only a rule with `allow_private` reaches it."
    return None


def is_local_name(host: str) -> bool:
    """Whether a name means something else in every network: one label, or an ending that is kept for local use."""
    literal = host.startswith("[") or host.replace(".", "").isdecimal()
    return not literal and ("." not in host or host.endswith(LOCAL_ENDINGS))


def is_own(address: SocketAddress) -> bool:
    """Whether an address is this machine's: the kernel would call it from itself. Sends nothing, takes 20 us."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False  # no way there, so it is not here either
        return probe.getsockname()[0] == address[0]


class Resolver:
    """Looks names up beside the loop, in threads of its own: a slow name server holds up no other work."""

    def __init__(
        self,
        look_up: LookUp | None = None,
        owns: Callable[[SocketAddress], bool] = is_own,
        ask_system: AskSystem | None = None,
    ) -> None:
        self._look_up = look_up
        self._owns = owns
        self._ask_system = ask_system or _getaddrinfo
        self._places: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(LOOKUPS_OF_ONE))
        self._blocks = read_blocks()
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, "resolver")
        self._known: dict[tuple[str, int, bool], tuple[float, list[SocketAddress]]] = {}

    async def find_addresses(
        self, host: str, port: int, *, allow_private: bool, whose: str = ""
    ) -> list[SocketAddress]:
        """Return the addresses of a host, all of them checked. Raises AddressRefused or LookupFailed.

        May wait while too much is looked up already for `whose` it is.
        """
        key, now = (host, port, allow_private), asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and now - known[0] < FRESH_SECONDS:
            return known[1]
        if is_local_name(host) and not allow_private:
            raise AddressRefused(
                f"{host} is a name of the local network; only a rule for it with `allow_private` reaches it."
            )
        bare = host.strip("[]")
        addresses = await (self._look_up(bare, port) if self._look_up else self._ask(bare, port, self._places[whose]))
        if not addresses:
            raise LookupFailed(f"there is no address for the name {host}")
        if fault := find_fault(host, [self._place(address) for address in addresses], allow_private=allow_private):
            raise AddressRefused(fault)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[key] = (asyncio.get_running_loop().time(), addresses)
        return addresses

    def close(self) -> None:
        """Look nothing up any more; a look-up under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _place(self, address: SocketAddress) -> tuple[Reach, str]:
        reach, what = find_reach(ipaddress.ip_address(address[0]), self._blocks)
        return (Reach.PRIVATE, OWN) if reach is Reach.PUBLIC and self._owns(address) else (reach, what)

    async def _ask(self, host: str, port: int, places: asyncio.Semaphore) -> list[SocketAddress]:
        """Ask the system in a thread; its place is free when that ends, not when nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        await places.acquire()
        asked = self._threads.submit(self._ask_system, host, port)
        asked.add_done_callback(lambda _: _release(loop, places))
        try:
            return await asyncio.wrap_future(asked)
        except socket.gaierror as error:
            if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
                raise LookupFailed(f"there is no address for the name {host}") from None
            raise LookupFailed(f"the name {host} could not be looked up: this machine's DNS does not answer") from None
        except (OSError, UnicodeError) as error:
            raise LookupFailed(f"the name {host} could not be looked up: {error}") from None


def _release(loop: asyncio.AbstractEventLoop, places: asyncio.Semaphore) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(places.release)


def _getaddrinfo(host: str, port: int) -> list[SocketAddress]:
    """Return each address once, in the system's order of preference. Blocks for seconds when the resolver is slow."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(_typed(address) for *_, address in found))


def _typed(address: tuple[object, ...]) -> SocketAddress:
    match address:
        case (str(host), int(port)):
            return host, port
        case (str(host), int(port), int(flow), int(scope)):
            return host, port, flow, scope
        case _:
            raise OSError("an address of another family")
