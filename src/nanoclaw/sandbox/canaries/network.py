"""Canaries that look for a way out: networks, names, sockets of the host."""

from __future__ import annotations

import errno
import socket

from nanoclaw.sandbox.canaries.probe import Question, Reached, read

UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL)
VSOCK = 40
ANSWER_SECONDS = 0.05
HOST_SOCKETS = (
    "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/socket", "/run/snapd.socket",
)  # fmt: skip


def _connect(family: int, address: str, port: int, kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(family, kind) as probe:
        probe.setblocking(False)
        return probe.connect_ex((address, port))


def _no_route(*addresses: str, port: int = 443) -> str:
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                code = _connect(family, address, port, kind)
            except OSError as error:  # no such family here
                code = error.errno or errno.EPERM
            if code not in UNREACHABLE and code != errno.EAFNOSUPPORT:
                raise Reached(f"there is a way to {address} ({errno.errorcode.get(code, 'connected')})")
    return f"no way to {', '.join(addresses)}"


def raw_ip(_: Question) -> str:
    """The internet, without the gateway."""
    return _no_route("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111")


def metadata(_: Question) -> str:
    """The metadata service of a cloud."""
    return _no_route("169.254.169.254", "169.254.170.2", "fd00:ec2::254", port=80)


def local_network(_: Question) -> str:
    """The networks a machine usually has beside it."""
    return _no_route("10.0.0.1", "192.168.0.1", "192.168.1.1", "172.17.0.1", "224.0.0.251")


def host_addresses(question: Question) -> str:
    """This machine by its own addresses."""
    return _no_route(*question["addresses"]) if question["addresses"] else "the host has none"


def host_loopback(question: Question) -> str:
    """A listener of the host on its own loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(("127.0.0.1", question["port"])) == 0:
            raise Reached("the host's loopback answers")
    return "refused"


def dns(_: Question) -> str:
    """Resolvers, by the names file and on loopback."""
    _no_route("1.1.1.1", "9.9.9.9", port=53)
    for address in ("127.0.0.53", "127.0.0.11", "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(ANSWER_SECONDS)
            try:
                probe.connect((address, 53))
                probe.send(b"\x13\x37\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01")
                probe.recv(512)
            except OSError:
                continue
        raise Reached(f"{address} resolves names")
    return "nobody resolves names"


def interfaces(_: Question) -> str:
    """Nothing but the box's own loopback."""
    found = [name for _, name in socket.if_nameindex() if name != "lo"]
    if found:
        raise Reached(f"there is {', '.join(found)}")
    return "lo alone"


def raw_sockets(_: Question) -> str:
    """Packets written by hand."""
    for family, kind, number in ((socket.AF_INET, socket.SOCK_RAW, 255), (17, socket.SOCK_RAW, 768)):
        try:
            socket.socket(family, kind, number).close()
        except OSError:
            continue
        raise Reached(f"a raw socket of family {family}")
    return "refused"


def vsock(_: Question) -> str:
    """The channel from a virtual machine to its hypervisor."""
    try:
        socket.socket(VSOCK, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.strerror or "refused"
    raise Reached("a vsock socket can be made")


def host_sockets(question: Question) -> str:
    """Daemons and the host itself, by their sockets' files."""
    for path in (*question["sockets"], *HOST_SOCKETS):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except (OSError, ValueError):
                continue
        raise Reached(f"{path} answers")
    return f"{len(question['sockets']) + len(HOST_SOCKETS)} tried"


def abstract_sockets(question: Question) -> str:
    """Sockets without a file, which only a network namespace keeps apart."""
    names = ["\0" + question["abstract"]]
    try:
        lines = read("/proc/net/unix").decode(errors="replace").splitlines()
        names += ["\0" + line.rpartition(" @")[2] for line in lines if " @" in line]
    except FileNotFoundError:
        pass  # a kernel without that list
    for name in names[:50]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(name) == 0:
                raise Reached(f"@{name[1:]} answers")
    return f"{len(names)} tried"
