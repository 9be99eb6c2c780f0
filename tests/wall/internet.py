"""A small internet for tests: a network namespace with public addresses, servers that note what reaches them, and DNS.

`open_internet` makes two namespaces joined by a cable: the world, and the machine on which the gateway runs (with
services of its own on loopback). The gateway in it is the real process with a resolver and certificates of this world;
the product has no hook for any of it. Boxes stay real boxes: their listeners are handed over as always.

It needs root, `ip`, `nsenter` and `unshare`. Run as a program (`internet.py ROLE DIRECTORY`) it is the servers of one
of the two namespaces, with the standard library alone.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DNS_ADDRESS = "9.9.9.9"
MACHINE, WORLD = "172.31.255.2", "172.31.255.1"
MACHINE_SIX, WORLD_SIX = "fd99::2", "fd99::1"
OWN_PORTS = (80, 443, 8080, 5432)  # services of the machine itself, on all of its addresses

GOOD, EVIL, MODEL, SIX = "93.184.216.34", "45.33.32.156", "93.184.216.40", "2606:2800:220:1::34"
PRIVATE, LINK, METADATA, ROUTER = "10.0.0.5", "169.254.7.7", "169.254.169.254", "192.168.1.1"
IN_THE_WORLD = (DNS_ADDRESS, GOOD, EVIL, MODEL, PRIVATE, LINK, METADATA, ROUTER)

# Names of this world; a name with several lists answers with one after the other, each good for no time at all.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "api.good.test": ((GOOD,),),
    "other.good.test": ((GOOD,),),
    "cdn.evil.test": ((GOOD,),),  # behind the same front as api.good.test
    "evil.test": ((EVIL,),),
    "six.good.test": ((SIX,),),
    "api.anthropic.com": ((MODEL,),),
    "expired.good.test": ((GOOD,),),
    "wrongname.good.test": ((GOOD,),),
    "stranger.good.test": ((GOOD,),),
    "private.good.test": ((PRIVATE,),),
    "router.good.test": ((ROUTER,),),
    "loopback.good.test": (("127.0.0.1",),),
    "loopback6.good.test": (("::1",),),
    "link.good.test": ((LINK,),),
    "metadata.good.test": ((METADATA,),),
    "zero.good.test": (("0.0.0.0",),),
    "mapped.good.test": (("::ffff:127.0.0.1",),),
    "nat64.good.test": (("64:ff9b::7f00:1",),),
    "own.good.test": ((MACHINE,),),
    "mixed.good.test": ((GOOD, "127.0.0.1"),),
    "mixed6.good.test": ((GOOD, "::1"),),
    "rebind.good.test": ((GOOD,), ("127.0.0.1",)),
    "rebind-to-private.good.test": (("127.0.0.1",), (GOOD,)),
    "flip.good.test": ((GOOD,), (METADATA,), (GOOD,), (PRIVATE,)),
}


@dataclass
class Arrived:
    """A request that reached a server: where, under which server name, and all of its bytes."""

    place: str  # address:port
    name: str  # server name of its TLS, "" without
    raw: bytes

    @property
    def line(self) -> str:
        """Return the request line."""
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1")


@dataclass
class Internet:
    """The two namespaces while they live."""

    directory: Path
    world: int
    machine: int
    ca_path: Path
    read_to: dict[str, int] = field(default_factory=dict)

    def command_on_machine(self, command: list[str]) -> list[str]:
        """Return the argv of a command on the machine, with its network, resolver and certificates; the pid stays."""
        script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 9; shift 2; done; shift; exec "$@"'
        mounts = [str(part) for pair in self._mounts() for part in pair]
        enter = ["nsenter", f"--net=/proc/{self.machine}/ns/net", "unshare", "--mount", "--propagation", "private"]
        return [*enter, "sh", "-c", script, "sh", *mounts, "--", *command]

    def arrived(self) -> list[Arrived]:
        """Return what has reached any server, the machine's own ones too, since this was asked last."""
        found: list[Arrived] = []
        for role in ("world", "machine"):
            path = self.directory / f"{role}.jsonl"
            with path.open("rb") as lines:
                lines.seek(self.read_to.get(role, 0))
                for line in lines:
                    noted = json.loads(line)
                    found.append(Arrived(noted["place"], noted["name"], base64.b64decode(noted["raw"])))
                self.read_to[role] = lines.tell()
        return found

    def asked_names(self) -> list[str]:
        """Return every name that was looked up, in order."""
        return (self.directory / "names.log").read_text().split()

    def _mounts(self) -> Iterator[tuple[Path, Path]]:
        yield self.directory / "resolv.conf", Path("/etc/resolv.conf").resolve()
        yield self.directory / "hosts", Path("/etc/hosts").resolve()
        known = ssl.get_default_verify_paths()
        places = {known.cafile, known.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"}
        yield from ((self.ca_path, Path(place).resolve()) for place in places if place and Path(place).exists())


def find_obstacle() -> str | None:
    """Return why no internet can be made here, None when it can."""
    if os.geteuid() != 0:
        return "network namespaces with addresses of choice need root: run as root `./nanoclaw.sh test --ci tests/wall`"
    missing = [name for name in ("ip", "nsenter", "unshare", "mount") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed: install iproute2 and util-linux"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "cable", "type", "veth", "peer", "name", "end"], capture_output=True
    )
    return None if tried.returncode == 0 else "this kernel gives no veth pair: run it on a machine of your own"


@contextlib.contextmanager
def open_internet(directory: Path, contexts: dict[str, Path], ca_path: Path) -> Iterator[Internet]:
    """Make the two namespaces and their servers; `contexts` has a certificate with its key for each name."""
    directory.mkdir()
    (directory / "certificates.json").write_text(json.dumps({name: str(path) for name, path in contexts.items()}))
    (directory / "resolv.conf").write_text(f"nameserver {DNS_ADDRESS}\noptions timeout:2 attempts:1\n")
    (directory / "hosts").write_text("127.0.0.1 localhost\n")
    (directory / "names.log").touch()
    with contextlib.ExitStack() as stack:
        world, machine = (stack.enter_context(_namespace(directory, role)) for role in ("world", "machine"))
        _join(world.pid, machine.pid)
        for role, process in (("world", world), ("machine", machine)):
            process.stdin.write(b"go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            if process.stdout.readline() != b"ready\n":  # type: ignore[union-attr]
                raise OSError(f"the servers of {role} did not start")
        yield Internet(directory, world.pid, machine.pid, ca_path)


@contextlib.contextmanager
def _namespace(directory: Path, role: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the servers of a role in a new network namespace; they wait for its addresses."""
    command = ["unshare", "--net", sys.executable, "-I", "-S", __file__, role, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout.readline() != b"inside\n":  # type: ignore[union-attr]
                raise OSError(f"no namespace for {role}")
            yield process
        finally:
            process.kill()


def _join(world: int, machine: int) -> None:
    _ip(world, "link add cable type veth peer name cable netns", str(machine))
    for pid, four, six, gateway in (
        (world, WORLD, WORLD_SIX, None),
        (machine, MACHINE, MACHINE_SIX, (WORLD, WORLD_SIX)),
    ):
        _ip(pid, "link set lo up")
        _ip(pid, "link set cable up")
        _ip(pid, "addr add", f"{four}/30", "dev cable")
        _ip(pid, "-6 addr add", f"{six}/64", "dev cable nodad")
        for via in gateway or ():
            _ip(pid, "-6" if ":" in via else "-4", "route add default via", via)
    for address in IN_THE_WORLD:
        _ip(world, "addr add", f"{address}/32", "dev lo")
    _ip(world, "-6 addr add", f"{SIX}/128", "dev lo nodad")


def _ip(pid: int, *words: str) -> None:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *" ".join(words).split()]
    subprocess.run(command, check=True, capture_output=True)


# From here on: the servers, in a process of their own in one of the namespaces.


class _Notes:
    """What reached the servers, a line each, written before the answer."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def add(self, place: str, name: str, raw: bytes) -> None:
        noted = {"place": place, "name": name, "raw": base64.b64encode(raw).decode()}
        with self._lock:
            self._file.write(json.dumps(noted).encode() + b"\n")


class _Site(socketserver.ThreadingTCPServer):
    """One address and port. Speaks HTTP, or TLS when a client begins with it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, port: int, notes: _Notes, tls: dict[str, ssl.SSLContext]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.place = f"{address}:{port}"
        self.notes = notes
        self.tls = tls
        super().__init__((address, port), _Visit)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that break off are what the tests are about."""


class _Visit(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Site

    def handle(self) -> None:
        """Note and answer requests until the client goes."""
        line: socket.socket = self.request
        line.settimeout(10)
        self._name = ""
        if line.recv(1, socket.MSG_PEEK) == b"\x16" and self.server.tls:
            line = self._end_tls(line)
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = line.recv(65536)
                if not more:
                    return
                data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            body, data = self._take_body(line, head, rest)
            self.server.notes.add(self.server.place, self._name, head + b"\r\n\r\n" + body)
            line.sendall(_answer(self._name, head, body))
            if b" /public/bye" in head.split(b"\r\n", 1)[0]:
                return  # so that the next call has to look the name up again

    def _end_tls(self, line: socket.socket) -> socket.socket:
        default = next(iter(self.server.tls.values()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])

        def choose(asked: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            self._name = name or ""
            asked.context = self.server.tls.get(self._name, default)

        context.sni_callback = choose
        return context.wrap_socket(line, server_side=True)

    def _take_body(self, line: socket.socket, head: bytes, rest: bytes) -> tuple[bytes, bytes]:
        fields = dict(_fields(head))
        if fields.get("transfer-encoding") == "chunked":
            while b"0\r\n\r\n" not in rest and (more := line.recv(65536)):
                rest += more
            body, end, after = rest.partition(b"0\r\n\r\n")
            return body + end, after
        length = int(fields.get("content-length", "0"))
        while len(rest) < length and (more := line.recv(65536)):
            rest += more
        return rest[:length], rest[length:]


def _fields(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        yield name.strip().lower(), value.strip()


def _answer(name: str, head: bytes, body: bytes) -> bytes:
    """Return what the path asks for; every answer says that the world was reached."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    fields = dict(_fields(head))
    host = fields.get("host", "")
    path = target if target.startswith("/") else "/" + target.partition("://")[2].partition("/")[2]
    sent = f"REACHED {host} {json.dumps(fields)} ".encode() + body
    extra = "content-type: text/plain\r\n"
    status = "200 OK"
    if name == "api.anthropic.com":
        good = fields.get("x-api-key") == "sk-ant-api03-REAL-KEY-OF-THE-VAULT-0123456789"
        status, sent = ("200 OK", b"PONG") if good else ("401 Unauthorized", b"no key")
    elif path.startswith("/public/echo/head"):
        extra += f"x-echo: {fields.get('x-secret', '')} {fields.get('authorization', '')}\r\n"
    elif path.startswith("/public/echo/base64"):
        sent = base64.b64encode(b"?" + sent)
    elif path.startswith("/public/echo/hex"):
        sent = sent.hex().encode()
    elif path.startswith("/public/echo/chunks"):
        cut = sent.find(b"Bearer ") + 15
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(p), p) for p in (sent[:cut], sent[cut : cut + 3], sent[cut + 3 :]) if p
        )
        return f"HTTP/1.1 200 OK\r\n{extra}transfer-encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n"
    elif path.startswith("/public/moved?to="):
        status, extra = "302 Found", f"location: {path.removeprefix('/public/moved?to=')}\r\n"
    elif path.startswith("/public/bye"):
        extra += "connection: close\r\n"
    elif path.startswith("/public/cookie"):
        extra += "set-cookie: session=of-the-operator\r\n"
    sent = b"" if method == "HEAD" else sent
    return f"HTTP/1.1 {status}\r\n{extra}content-length: {len(sent)}\r\n\r\n".encode() + sent


class _NameServer(socketserver.BaseRequestHandler):
    """DNS over UDP (RFC 1035): A and AAAA of `NAMES`, with no time to live."""

    def handle(self) -> None:
        """Answer one query."""
        query, line = self.request
        labels: list[str] = []
        at = 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        name = ".".join(labels).lower()
        addresses = self.server.find(name, kind)  # type: ignore[attr-defined]
        known = name in NAMES
        answers = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(address)) + address for address in addresses
        )
        flags = 0x8180 if known else 0x8183
        counts = struct.pack("!HHHH", 1, len(addresses), 0, 0)
        line.sendto(query[:2] + struct.pack("!H", flags) + counts + query[12 : at + 5] + answers, self.client_address)


class _NameServers(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, address: str, log: Path) -> None:
        self._log = log.open("a", buffering=1)
        self._asked: dict[str, int] = {}
        self._lock = threading.Lock()
        super().__init__((address, 53), _NameServer)

    def find(self, name: str, kind: int) -> list[bytes]:
        """Return the addresses of a name as bytes; a name with several answers takes turns, each after both kinds."""
        with self._lock:
            self._log.write(name + "\n")
            lists = NAMES.get(name, ((),))
            turn = self._asked.get(name, 0)
            if kind == 1:
                self._asked[name] = turn + 1
        family = socket.AF_INET if kind == 1 else socket.AF_INET6
        wanted = [text for text in lists[turn % len(lists)] if (":" in text) is (kind == 28)]
        return [socket.inet_pton(family, text) for text in wanted]


def _serve(role: str, directory: Path) -> None:
    sys.stdout.write("inside\n")
    sys.stdout.flush()
    sys.stdin.readline()
    notes = _Notes(directory / f"{role}.jsonl")
    servers: list[Any] = []
    if role == "world":
        tls: dict[str, ssl.SSLContext] = {}
        for name, path in json.loads((directory / "certificates.json").read_text()).items():
            tls[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls[name].load_cert_chain(path)
        servers += [
            _Site(address, port, notes, tls) for address in (*IN_THE_WORLD[1:], SIX) for port in (80, 443, 8443)
        ]
        servers.append(_NameServers(DNS_ADDRESS, directory / "names.log"))
    else:
        servers += [_Site("0.0.0.0", port, notes, {}) for port in OWN_PORTS]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while os.getppid() != 1:
        time.sleep(0.5)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
