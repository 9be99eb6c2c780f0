"""Ways to the network, to the host and to other boxes that do not lead through the gateway."""

from __future__ import annotations

import os
import socket
import struct

from tests.wall.probes.frame import Facts, Probe, Seen, all_of, broken, held, probe, read_some

SECONDS = 0.5
Address = tuple[str, int]


def family(name: str, number: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Probe:
    def run(_: Facts) -> Seen:
        try:
            socket.socket(number, kind, protocol).close()
        except PermissionError:
            return held("not permitted")
        except OSError as error:  # the filter was passed, the kernel knows no such family
            return held(error.strerror)
        return broken(f"a {name} socket")

    return Probe(f"{name} sockets", f"open a {name} socket", run, kernel=True)


FAMILIES = (
    family("packet", 17, socket.SOCK_RAW, 0x300),
    family("packet datagram", 17, socket.SOCK_DGRAM, 0x300),
    family("vsock", 40),
    family("vsock datagram", 40, socket.SOCK_DGRAM),
    family("kernel crypto", 38, socket.SOCK_SEQPACKET),
    family("express data path", 44, socket.SOCK_RAW),
    family("bluetooth", 31, socket.SOCK_RAW, 1),
    family("car bus", 29, socket.SOCK_RAW, 1),
    family("reliable datagram", 21, socket.SOCK_SEQPACKET),
    family("cluster", 30, socket.SOCK_SEQPACKET),
    family("key management", 15, socket.SOCK_RAW, 2),
    family("raw internet", socket.AF_INET, socket.SOCK_RAW, 255),
    family("raw echo", socket.AF_INET, socket.SOCK_RAW, 1),
    family("raw tcp", socket.AF_INET, socket.SOCK_RAW, 6),
    family("raw internet 6", socket.AF_INET6, socket.SOCK_RAW, 58),
    family("audit", 16, socket.SOCK_RAW, 9999),
)


def connects(address: Address, kind: int = socket.AF_INET) -> bool:
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as line:
            line.settimeout(SECONDS)
            line.connect(address)
    except OSError:
        return False
    return True


def says_token(address: object, kind: int, sort: int, token: bytes) -> bool:
    """Whether a server of the host answers there: it says the planted token to whoever comes."""
    try:
        with socket.socket(kind, sort) as line:
            line.settimeout(SECONDS)
            line.connect(address)  # pyright: ignore[reportArgumentType]
            line.send(b"hello")
            return token in line.recv(200)
    except OSError:
        return False


def reaches(facts: Facts, addresses: list[str], port: int, sort: int) -> Seen:
    token = facts["token"].encode()
    found: list[str] = []
    for address in addresses:
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        if says_token((address, port), kind, sort, token):
            found.append(f"{address} port {port}")
    return all_of(found)


@probe("reach a server on the host's own loopback by TCP")
def loopback_of_the_host(facts: Facts) -> Seen:
    return reaches(facts, ["127.0.0.1", "127.0.0.2", "localhost"], facts["tcp_loopback"], socket.SOCK_STREAM)


@probe("reach it by UDP")
def loopback_of_the_host_by_datagram(facts: Facts) -> Seen:
    return reaches(facts, ["127.0.0.1"], facts["udp_loopback"], socket.SOCK_DGRAM)


@probe("reach it by IPv6")
def loopback_of_the_host_by_ipv6(facts: Facts) -> Seen:
    return reaches(facts, ["::1"], facts["tcp_loopback6"], socket.SOCK_STREAM) if facts["tcp_loopback6"] else held()


@probe("reach a server of the host that listens everywhere, by each address of the host")
def addresses_of_the_host(facts: Facts) -> Seen:
    return reaches(facts, [*facts["addresses"], "0.0.0.0", "127.0.0.1"], facts["tcp_everywhere"], socket.SOCK_STREAM)


@probe("reach such a server by UDP")
def addresses_of_the_host_by_datagram(facts: Facts) -> Seen:
    return reaches(facts, [*facts["addresses"], "127.0.0.1"], facts["udp_everywhere"], socket.SOCK_DGRAM)


@probe("reach the host by the usual addresses of bridges")
def bridges(facts: Facts) -> Seen:
    usual = ["172.17.0.1", "172.18.0.1", "10.88.0.1", "192.168.65.2", "192.168.122.1", "10.0.2.2"]
    return reaches(facts, usual, facts["tcp_everywhere"], socket.SOCK_STREAM)


@probe("talk to a socket of the host in a folder, as to an engine's")
def socket_in_a_folder(facts: Facts) -> Seen:
    token = facts["token"].encode()
    usual = ["/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"]
    usual += ["/run/dbus/system_bus_socket", "/run/systemd/private"]
    found = [path for path in usual if os.path.exists(path)]
    found += [path for path in [facts["unix"]] if says_token(path, socket.AF_UNIX, socket.SOCK_STREAM, token)]
    return all_of(found)


@probe("talk to a socket of the host that has a name and no file")
def abstract_socket(facts: Facts) -> Seen:
    name = "\0" + facts["abstract"]
    there = says_token(name, socket.AF_UNIX, socket.SOCK_STREAM, facts["token"].encode())
    return broken(facts["abstract"]) if there else held()


@probe("see sockets of the host in /proc/net/unix")
def list_of_unix_sockets(facts: Facts) -> Seen:
    shown = read_some("/proc/net/unix", 1 << 20) or b""
    return broken("the planted socket") if facts["abstract"].encode() in shown else held()


@probe("see the host's listeners in /proc/net/tcp")
def list_of_listeners(facts: Facts) -> Seen:
    shown = (read_some("/proc/net/tcp", 1 << 20) or b"").decode()
    return broken("the planted listener") if f":{facts['tcp_everywhere']:04X} " in shown else held()


@probe("have a network beside its loopback")
def interfaces(_: Facts) -> Seen:
    return all_of(name for _number, name in socket.if_nameindex() if name != "lo" and not is_idle(name))


def is_idle(name: str) -> bool:
    """Tunnels that the kernel gives every namespace (sit0, tunl0), down and without an address."""
    return name.endswith("0") and (read_some(f"/sys/class/net/{name}/operstate") or b"down").strip() == b"down"


@probe("have a route that leads away")
def routes(_: Facts) -> Seen:
    lines = (read_some("/proc/net/route", 1 << 16) or b"").decode().splitlines()[1:]
    return all_of(line.split()[0] for line in lines if line.split() and line.split()[0] != "lo")


@probe("connect to an address of the internet")
def internet(_: Facts) -> Seen:
    return all_of(name for name in ("1.1.1.1", "8.8.8.8", "93.184.216.34") if connects((name, 443)))


@probe("connect to an IPv6 address of the internet")
def internet_by_ipv6(_: Facts) -> Seen:
    return broken("connected") if connects(("2606:4700:4700::1111", 443), socket.AF_INET6) else held()


@probe("send a datagram to the internet")
def datagrams(_: Facts) -> Seen:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"wall", ("8.8.8.8", 9999))
    except OSError as error:
        return held(error.strerror)
    return broken("it was sent")


@probe("read the cloud's metadata")
def metadata(_: Facts) -> Seen:
    found = [name for name in ("169.254.169.254", "169.254.170.2", "100.100.100.200") if connects((name, 80))]
    return all_of([*found, connects(("fd00:ec2::254", 80), socket.AF_INET6)])


@probe("reach the local network's usual addresses")
def local_network(_: Facts) -> Seen:
    return all_of(name for name in ("10.0.0.1", "192.168.0.1", "192.168.1.1", "172.16.0.1") if connects((name, 80)))


@probe("ask a name server of the internet")
def name_server(_: Facts) -> Seen:
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"\7example\3org\0" + struct.pack(">2H", 1, 1)
    servers = ["8.8.8.8", "1.1.1.1", "127.0.0.53", "127.0.0.11", "127.0.0.1"]
    lines = (read_some("/etc/resolv.conf") or b"").decode().splitlines()
    servers += [line.split()[1] for line in lines if line.startswith("nameserver ") and ":" not in line]
    found: list[str] = []
    for server in dict.fromkeys(servers):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.settimeout(0.3)
                line.connect((server, 53))
                line.send(query)
                if not server.startswith("127.") or line.recv(512):
                    found.append(server)  # it was sent away, answered or not
        except OSError:
            continue
    return all_of(found)


@probe("have a name looked up")
def look_up_of_names(_: Facts) -> Seen:
    try:
        return broken(socket.getaddrinfo("nanoclaw-wall.example.net", 443)[0][4])
    except OSError as error:
        return held(error.strerror)


@probe("speak to everybody on the local network")
def broadcasts(_: Facts) -> Seen:
    found: list[str] = []
    for address in ("255.255.255.255", "224.0.0.251"):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                line.sendto(b"wall", (address, 5353))
        except OSError:
            continue
        found.append(address)
    return all_of(found)


@probe("mark its packets for another route, or give them a priority", kernel=True)
def marks(_: Facts) -> Seen:
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for name, number, value in (("mark", 36, 1), ("priority", 12, 7)):
            try:
                line.setsockopt(socket.SOL_SOCKET, number, value)
            except OSError:
                continue
            found.append(name)
    return all_of(found)


@probe("give itself an address or a device of the network")
def devices_of_the_network(_: Facts) -> Seen:
    header = struct.pack("=IHHII", 32, 16, 0x605, 1, 0) + struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as line:
            line.settimeout(SECONDS)
            line.send(header)
            answer = line.recv(4096)
    except OSError as error:
        return held(error.strerror)
    code = struct.unpack_from("=i", answer, 16)[0] if len(answer) >= 20 else 0
    return held(os.strerror(-code)) if code in (-1, -95, -13) else broken(f"the kernel looked at it: {code}")


@probe("take the place of the gateway's listener")
def place_of_the_gateway(facts: Facts) -> Seen:
    found: list[str] = []
    for port in facts["ports"]:
        for address in ("127.0.0.1", "0.0.0.0"):
            with socket.socket() as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                try:
                    line.bind((address, port))
                    line.listen()
                except OSError:
                    continue
                found.append(f"{address}:{port}")
    return all_of(found)


@probe("be answered by another box's listener on its own loopback")
def other_boxes(facts: Facts) -> Seen:
    found = [port for port in facts["other_ports"] if connects(("127.0.0.1", port))]
    return all_of(found)
