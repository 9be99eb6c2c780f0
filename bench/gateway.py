"""What the gateway costs a call: `.venv/bin/python bench/gateway.py [--calls N] [--memory-calls N] [--no-save]`.

A real gateway process, its vault with a key, its ledger on disk; an upstream that answers at once over TLS; a client
that calls it directly, by the route /anthropic and through CONNECT, by turns in one run. Budgets: issue 4.
- added latency: a call over a kept connection, p50 through the gateway less p50 directly;
- an event of a stream: from its sending to its arrival, the same difference;
- calls a second at 50 connections; memory after 100,000 calls.
The limits of pace are the real ones: a box makes 1,000 calls at once and then 10 a second, so the client goes through
as many boxes as its calls need. Exit 0 when all budgets are kept, 1 when one is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import resource
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_load import CALLS_A_BOX, HOST
from report import ROOT, Figure, exit_code, median, percentile, save, show

from nanoclaw.gateway import admin_words
from nanoclaw.gateway.client import (
    GatewayClient,
    GatewayFds,
    Grant,
    ask_admin,
    gateway_command,
    open_admin_socket,
)

CONNECTIONS, ROUNDS = 50, 5
REVERSE_MS, CONNECT_MS, EVENT_MS, CALLS_PER_SECOND, MEMORY_MB = 1.0, 1.5, 1.0, 1500.0, 80.0
LOAD = str(Path(__file__).with_name("gateway_load.py"))
KINDS = ("direct", "reverse", "connect")


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(description="Measure what the gateway costs a call.")
    parser.add_argument("--calls", type=int, default=400, help="calls a way and round, one by one (default 400)")
    parser.add_argument("--load-calls", type=int, default=8_000, help="calls at 50 connections (default 8000)")
    parser.add_argument("--memory-calls", type=int, default=100_000, help="calls before memory is read (100000)")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="nanoclaw-bench-", dir=ROOT) as name:
        figures = asyncio.run(measure(Path(name), options))
    show(figures)
    if not options.no_save:
        path = save(figures, Path(tempfile.mkdtemp()), "")
        record = json.loads(path.read_text())
        for figure in record["figures"].values():
            figure.pop("raw")
        kept = ROOT / "bench" / "results" / f"gateway-{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.json"
        kept.write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nsaved: {kept.relative_to(ROOT)}")
    return exit_code(figures)


@dataclass
class Bench:
    """A running gateway as its host sees it, and the two ends beside it."""

    client: GatewayClient
    upstream_port: int
    upstream_ca: str
    load: asyncio.subprocess.Process
    boxes: int = 0
    took: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    async def ask(self, kind: str, calls: int, connections: int = 1) -> object:
        """Let the client do a job, through fresh boxes; return its result."""
        ports = [self.upstream_port]
        if kind != "direct":
            ports = await self.open_boxes(calls // CALLS_A_BOX + connections + 2)
        ca_pem = self.upstream_ca if kind == "direct" else self.client.outside.ca_pem
        job = {"kind": kind, "ports": ports, "ca_pem": ca_pem, "calls": calls, "connections": connections}
        if self.load.stdin is None or self.load.stdout is None:
            raise TypeError("the client's pipes are missing")
        self.load.stdin.write(json.dumps(job).encode() + b"\n")
        answer = await self.load.stdout.readline()
        if not answer:
            raise SystemExit("the client gave up, see above")
        for number in range(self.boxes - len(ports) if kind != "direct" else self.boxes, self.boxes):
            await self.client.unlisten(f"s{number}", 1)
        return json.loads(answer)

    async def open_boxes(self, count: int) -> list[int]:
        """Return the ports of as many boxes, each in an open turn."""
        ports: list[int] = []
        for number in range(self.boxes, self.boxes + count):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                await self.client.listen(Grant(f"s{number}", 1, "group", "bench"), [listener])
                ports.append(listener.getsockname()[1])
            self.client.open_turn(f"s{number}", 1, "owner")
        self.boxes += count
        return ports

    def cpu_ms(self) -> float:
        """Return the processor time of the gateway's process so far."""
        fields = Path(f"/proc/{self.client.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return the resident memory of the gateway's process."""
        status = Path(f"/proc/{self.client.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def measure(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Measure everything in one run."""
    async with running(folder) as bench:
        kinds = KINDS if bench.client.outside.ca_pem else KINDS[:2]
        idle, load = bench.memory_mb(), os.getloadavg()[0]
        latencies = {kind: list[float]() for kind in kinds}
        events = {kind: list[float]() for kind in kinds}
        for _ in range(ROUNDS):
            for kind in kinds:
                latencies[kind] += floats(await bench.ask(kind, options.calls))
                events[kind] += floats(await bench.ask(kind, 0))
        rates, costs = dict[str, float](), dict[str, float]()
        for kind in kinds:
            before = bench.cpu_ms()
            rates[kind] = float(str(await bench.ask(kind, options.load_calls, CONNECTIONS)))
            costs[kind] = (bench.cpu_ms() - before) / options.load_calls
        left = options.memory_calls
        while left > 0:
            await bench.ask("reverse", min(left, 10_000), CONNECTIONS)
            left -= 10_000
        after = bench.memory_mb()
    return [
        Figure("others' load on the machine (1 minute)", "", load, (), note="figures are the machine's own below 0.5"),
        *added("call", latencies, {"reverse": REVERSE_MS, "connect": CONNECT_MS}),
        *added("event of a stream", events, {"reverse": EVENT_MS, "connect": EVENT_MS}),
        Figure("direct, calls a second", "/s", rates["direct"], ()),
        *(
            Figure(f"{kind}, time for a call at {CONNECTIONS} connections", "ms", 1000 / rates[kind], (), budget, note)
            for kind, budget in (("reverse", 1000 / CALLS_PER_SECOND), ("connect", 1000 / CALLS_PER_SECOND))
            if kind in rates
            for note in (f"{rates[kind]:.0f} a second, {costs[kind]:.2f} ms of the gateway's processor each",)
        ),
        Figure("memory of a gateway that did nothing", "MB", idle, ()),
        Figure(f"memory after {options.memory_calls} calls", "MB", after, (), MEMORY_MB),
    ]


def added(what: str, took: dict[str, list[float]], budgets: dict[str, float]) -> list[Figure]:
    """Return p50 and p95 directly, and what each way adds to them."""
    direct = took["direct"]
    figures = [Figure(f"direct {what} p50", "ms", median(direct), tuple(direct))]
    for kind in (kind for kind in budgets if kind in took):
        at_50 = median(took[kind]) - median(direct)
        at_95 = percentile(took[kind], 0.95) - percentile(direct, 0.95)
        figures.append(Figure(f"{kind} {what} added p50", "ms", at_50, tuple(took[kind]), budgets[kind]))
        figures.append(Figure(f"{kind} {what} added p95", "ms", at_95, tuple(took[kind])))
    return figures


def floats(found: object) -> Sequence[float]:
    """Return a list of measurements as what it is."""
    if not isinstance(found, list):
        raise TypeError(f"no measurements: {found!r}")
    return [float(str(value)) for value in found]  # type: ignore[misc]


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Bench]:
    """Start upstream, gateway and client; end them all."""
    certificate = make_certificate(folder / "upstream.pem")
    upstream = await start(LOAD, "upstream", str(folder / "upstream.pem"))
    load = await start(LOAD, "client")
    port = int(await upstream.stdout.readline()) if upstream.stdout else 0
    (folder / "gateway").mkdir()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        with open_admin_socket(folder / "sock") as admin:
            client = GatewayClient(
                lambda fds: spawn_gateway(folder, fds, f"https://localhost:{port}"),
                admin,
                on_event=lambda event: None,
                on_log=lambda line: print(line, file=sys.stderr) if "error" in line else None,
                on_model_key=lambda present: None,
            )
            service = tasks.create_task(client.run(stop))
            await client.wait_ready()
            key = admin_words.VaultSet("anthropic", "sk-ant-api03-BENCH-0123456789")
            await asyncio.to_thread(ask_admin, folder / "sock", key, admin_words.SecretLine)
            yield Bench(client, port, certificate, load)
            stop.set()
            await service
    for process in (upstream, load):
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


async def start(*argv: str) -> asyncio.subprocess.Process:
    """Start one of the ends."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *argv, stdin=pipe, stdout=pipe, limit=2**24)


def spawn_gateway(folder: Path, fds: GatewayFds, upstream: str) -> subprocess.Popen[bytes]:
    """Start a gateway that trusts the upstream: OpenSSL itself reads the variable, the gateway reads none."""
    sys_path = [str(ROOT / "src"), sysconfig.get_paths()["purelib"]]
    command = gateway_command(
        sys.executable, sys_path, folder / "gateway", fds, admin_uid=os.getuid(), upstream=upstream
    )
    return subprocess.Popen(
        command,
        env={"SSL_CERT_FILE": str(folder / "upstream.pem")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(fds.control.fileno(), fds.admin.fileno()),
    )


def make_certificate(path: Path) -> str:
    """Write a certificate of the model's host and 127.0.0.1 that is its own authority; return it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST), x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + secret)
    return certificate.public_bytes(pem).decode("ascii")


if __name__ == "__main__":
    sys.exit(main())
