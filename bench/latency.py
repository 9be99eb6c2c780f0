"""How much time and memory NanoClaw itself costs: `.venv/bin/python bench/latency.py [--rounds N] [--no-save]`.

The real CLI, our own model that answers at once, a real host in a home of its own; ours and the bare CLI alternately
in one run, medians. Budgets: ARCHITECTURE.md, "Latency". Exit 0 when all are kept, 1 when one is not.
- warm overhead: a message sent on the terminal's socket -> its reply there, minus the model's time;
- cold start: a message in a new chat -> the request of its new box at the model;
- bare: the CLI alone with the same flags, from the start of its process (cold), from the push (warm).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bare_cli import BareCli, find_cli, measure_bare_start
from bench_host import NANOCLAW, BenchHost, Chat
from fake_model import FakeModel
from memory import Size, measure_parts
from report import ROOT, Figure, exit_code, median, percentile, save, show

WARM_UP_ROUNDS = 5
PAUSE_SECONDS = 0.05
SETTLE_SECONDS = 2.0
COLD_FACTOR, COLD_EXTRA_MS = 1.25, 80.0


@dataclass
class Samples:
    """Everything measured, in milliseconds and kilobytes."""

    warm: list[float] = field(default_factory=list)
    warm_to_request: list[float] = field(default_factory=list)
    warm_bare: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    cold_bare: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    version: list[float] = field(default_factory=list)
    idle_parts: dict[str, Size] = field(default_factory=dict)
    parts: dict[str, Size] = field(default_factory=dict)


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(description="Measure latency and memory against their budgets.")
    parser.add_argument("--rounds", type=int, default=100, help="warm messages (default 100)")
    parser.add_argument("--cold-rounds", type=int, default=10, help="cold starts (default 10)")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args()
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="nanoclaw-bench-") as name, FakeModel() as model:
        folder = Path(name)
        folder.chmod(0o755)
        measure_commands(folder, model, samples)
        host = BenchHost(folder / "home", model.port)
        try:
            host.set_key()
            time.sleep(SETTLE_SECONDS)
            samples.idle_parts = measure_parts(host.pid)
            measure_warm(host, model, folder, samples, options.rounds)
            measure_cold(host, model, folder, samples, options.cold_rounds)
        finally:
            host.close()
    figures = judge(samples)
    show(figures)
    if not options.no_save:
        version = subprocess.run([find_cli(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"\nsaved: {save(figures, ROOT / 'bench' / 'results', version).relative_to(ROOT)}")
    return exit_code(figures)


def measure_commands(folder: Path, model: FakeModel, samples: Samples) -> None:
    """Time `nanoclaw --version` and how soon a host is ready; a home's first start is left out."""
    for _ in range(20):
        began = time.monotonic()
        subprocess.run([NANOCLAW, "--version"], check=True, stdout=subprocess.DEVNULL)
        samples.version.append((time.monotonic() - began) * 1000)
    for number in range(6):
        host = BenchHost(folder / "home", model.port)
        host.close()
        if number:
            samples.ready.append(host.ready_seconds * 1000)


def measure_warm(host: BenchHost, model: FakeModel, folder: Path, samples: Samples, rounds: int) -> None:
    """Ask the same question many times, in a chat and of the bare CLI alternately; then weigh the idle session."""
    bare = BareCli(folder / "bare-warm", model)
    try:
        with host.chat("warm") as chat:
            for number in range(WARM_UP_ROUNDS + rounds):
                overhead, to_request = ask_chat(chat, model, f"message {number}")
                bare_overhead = ask_bare(bare, model, f"message {number}")
                if number >= WARM_UP_ROUNDS:
                    samples.warm.append(overhead)
                    samples.warm_to_request.append(to_request)
                    samples.warm_bare.append(bare_overhead)
            time.sleep(SETTLE_SECONDS)
            samples.parts = measure_parts(host.pid)
    finally:
        bare.close()


def ask_chat(chat: Chat, model: FakeModel, text: str) -> tuple[float, float]:
    """Return a turn's overhead and its time to the model's request, in milliseconds."""
    time.sleep(PAUSE_SECONDS)
    sent_at = chat.say(text)
    replied_at = chat.wait_for_reply()
    call = model.wait_for_call()
    return (replied_at - sent_at - call.took_seconds) * 1000, (call.received_at - sent_at) * 1000


def ask_bare(cli: BareCli, model: FakeModel, text: str) -> float:
    """Return the bare CLI's own overhead, in milliseconds."""
    time.sleep(PAUSE_SECONDS)
    began = time.monotonic()
    cli.push(text)
    cli.wait_for_result()
    took = time.monotonic() - began
    return (took - model.wait_for_call().took_seconds) * 1000


def measure_cold(host: BenchHost, model: FakeModel, folder: Path, samples: Samples, rounds: int) -> None:
    """Start a box for a new chat, and the bare CLI in a new home, alternately; the first of each is left out."""
    for number in range(rounds + 1):
        bare = measure_bare_start(folder / f"bare-{number}", model)
        with host.chat(f"cold {number}") as chat:
            sent_at = chat.say("hello")
            call = model.wait_for_call()
            chat.wait_for_reply()
        if number:
            samples.cold_bare.append(bare * 1000)
            samples.cold.append((call.received_at - sent_at) * 1000)
        time.sleep(SETTLE_SECONDS / 2)


def judge(samples: Samples) -> list[Figure]:
    """Turn the samples into figures with their budgets."""
    cold_budget = COLD_FACTOR * median(samples.cold_bare) + COLD_EXTRA_MS
    session = sum((samples.parts.get(part, Size()) for part in ("runner", "bubblewrap")), Size())
    host, gateway = samples.idle_parts["host"], samples.idle_parts.get("gateway", Size())
    helper, agent = samples.parts.get("helper", Size()), samples.parts.get("agent", Size())
    return [
        timed("warm overhead p50", samples.warm, 40.0),
        Figure("warm overhead p95", "ms", percentile(samples.warm, 0.95), (), 80.0),
        timed("warm to model request p50", samples.warm_to_request),
        timed("bare CLI warm p50", samples.warm_bare),
        Figure("warm beyond the bare CLI", "ms", median(samples.warm) - median(samples.warm_bare), ()),
        timed("cold start to model request p50", samples.cold, cold_budget, "1.25 x bare + 80 ms"),
        timed("bare CLI start to model request p50", samples.cold_bare),
        timed("host ready p50", samples.ready, 700.0),
        timed("nanoclaw --version p50", samples.version, 60.0),
        weighed("host idle RSS", host.rss_kb, 60.0, f"PSS {host.pss_kb / 1024:.1f} MB"),
        weighed("gateway RSS", gateway.rss_kb, None, f"PSS {gateway.pss_kb / 1024:.1f} MB"),
        weighed("namespace helper RSS", helper.rss_kb, None, f"PSS {helper.pss_kb / 1024:.1f} MB"),
        weighed("idle session beside the CLI, RSS", session.rss_kb, 28.0, f"PSS {session.pss_kb / 1024:.1f} MB"),
        weighed("agent CLI RSS", agent.rss_kb, None, f"PSS {agent.pss_kb / 1024:.1f} MB"),
    ]


def timed(name: str, raw: Sequence[float], budget: float | None = None, note: str = "") -> Figure:
    """Build a figure of a median in milliseconds."""
    return Figure(name, "ms", median(raw), tuple(raw), budget, note)


def weighed(name: str, kilobytes: int, budget: float | None, note: str) -> Figure:
    """Build a figure of a size in megabytes."""
    return Figure(name, "MB", kilobytes / 1024, (kilobytes / 1024,), budget, note)


if __name__ == "__main__":
    sys.exit(main())
