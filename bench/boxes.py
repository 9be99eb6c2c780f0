"""How fast boxes start and what they take: `.venv/bin/python bench/boxes.py [--rounds N] [--no-engine] [--no-save]`.

In one run, in turns, so that a busy machine is busy for all: a bare fork and exec, bubblewrap, and containers of an
engine of its own (runc, runsc) where one can be started; as root. Budgets: issue 5.
- first instruction: from the call of `start` to the first byte of the Python that the runner is;
- memory: PSS of everything of a box with the real runner and the echo agent, so all but the agent's own program.
The figure to carry elsewhere is the ratio to the bare start of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from memory import Size, descendants_of, size_of
from report import ROOT, Figure, exit_code, median, percentile, save, show

sys.path.insert(0, str(ROOT))
from nanoclaw.contract.message import ChatIn, to_json
from nanoclaw.sandbox.inbound import InboundRow, RunRow
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.prove import Grounds, prove
from nanoclaw.sandbox.runtimes.base import BoxLabel, Runtime
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.spec import SandboxSpec, build_spec
from tests.engine import Engine, new_engine
from tests.runner_process import SETTINGS
from tests.wall.conftest import BOX_UID, make_inputs

FIRST_INSTRUCTION_MS = 40.0
BOX_MB = 30.0
PROOF_MS = 150.0
CODE = "import os; os.write(1, b'o'); os.read(0, 1)"
BOXES = 10  # at once, for memory
Start = Callable[[], Awaitable[float]]


class Bench:
    """One install's folders, and boxes started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        gid = BOX_UID if os.geteuid() == 0 else -1
        self.mailbox = create_mailbox(root / "run", RunRow(1, "BENCH", to_json(SETTINGS)), BOX_UID, gid)
        self.inputs = make_inputs(root, self.mailbox)
        self.install = secrets.token_hex(4)
        self.count = 0

    def label(self) -> BoxLabel:
        """One that no box had."""
        self.count += 1
        return BoxLabel("BENCH", self.count, self.install)

    def spec(self, image: str = "") -> SandboxSpec:
        """What a run gets."""
        return build_spec(replace(self.inputs, image=image))

    async def bare(self) -> float:
        """Start the same Python with the same code and nothing around it."""
        began = time.perf_counter()
        words = [str(self.inputs.interpreter.program), "-I", "-S", "-c", CODE]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, env={}) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            return (time.perf_counter() - began) * 1000

    async def boxed(self, runtime: Runtime, image: str = "") -> float:
        """Start a box and wait for its first byte."""
        spec = self.spec(image)
        spec = replace(spec, command=(*spec.command[:3], "-c", CODE))
        began = time.perf_counter()
        box = await runtime.start(spec, self.label())
        box.release()
        async for _ in box.bells():
            break
        took = (time.perf_counter() - began) * 1000
        box.kill()
        await box.wait()
        return took

    async def proof(self, runtime: Runtime, image: str = "") -> float:
        """Try the wall."""
        grounds = Grounds(self.root / "proofs", (self.root,), (self.root / "workspace",))
        proof = await prove(runtime, self.spec(image), self.label(), grounds)
        if not proof.passed:
            print(f"{runtime.name} does not hold: {proof.failed}", file=sys.stderr)
        return float(proof.took_ms)

    async def memory(self, runtime: BubblewrapRuntime) -> list[Size]:
        """Start boxes whose echo agents answer once, and weigh each while all are idle."""
        boxes = []
        for number in range(BOXES):
            settings = replace(SETTINGS, workspace="/workspace", home="/home/agent")
            run = RunRow(1, f"MEMORY{number}", to_json(settings))
            gid = BOX_UID if os.geteuid() == 0 else -1
            made = create_mailbox(self.root / f"m{number}", run, BOX_UID, gid)
            chat = ChatIn(text="hello", sender="Alice", sender_id="alice", origin="family", sent_at=0)
            made.project([InboundRow(2, f"row-{number}", 1, "chat", trigger=True, content=to_json(chat))])
            inputs = replace(
                self.inputs, in_directory=made.in_directory, outbound_db=made.outbound_db,
                outbound_journal=made.outbound_journal, outbox=made.outbox,
            )  # fmt: skip
            box = await runtime.start(build_spec(inputs), self.label())
            box.release()
            boxes.append(box)
        for box in boxes:
            async for _ in box.bells():
                break
        sizes = [sum(map(size_of, descendants_of(box.monitor_pid)), Size()) for box in boxes]
        for box in boxes:
            await box.stop(10)
        return sizes


async def measure(bench: Bench, engine: Engine | None, rounds: int) -> list[Figure]:
    """Alternate the ways to start, then the rest."""
    interpreter = find_interpreter()
    bubblewrap = BubblewrapRuntime(bench.root / "boxes", interpreter)
    runtimes: dict[str, tuple[Runtime, str]] = {"bubblewrap": (bubblewrap, "")}
    if engine is not None:
        for oci in ("runc", "runsc"):
            made = DockerRuntime(oci, bench.root / "boxes", interpreter, str(engine.socket))
            made.check()
            runtimes[oci] = (made, engine.image)
    starts: dict[str, Start] = {"bare": bench.bare}
    for name, (runtime, image) in runtimes.items():
        starts[name] = lambda runtime=runtime, image=image: bench.boxed(runtime, image)
    took: dict[str, list[float]] = {name: [] for name in starts}
    for start in starts.values():
        await start()  # caches are warm for all
    for number in range(rounds):
        for name, start in starts.items():
            if name in ("bare", "bubblewrap") or number % 3 == 0:
                took[name].append(await start())
    proofs = {
        name: [await bench.proof(*made) for _ in range(10 if name == "bubblewrap" else 3)]
        for name, made in runtimes.items()
    }
    sizes = await bench.memory(bubblewrap)
    for runtime, _ in runtimes.values():
        await runtime.close()
    return [*start_figures(took), *proof_figures(proofs), *memory_figures(sizes)]


def start_figures(took: dict[str, list[float]]) -> list[Figure]:
    """Times to the first instruction."""
    figures: list[Figure] = []
    base = median(took["bare"])
    for name, values in took.items():
        budget = FIRST_INSTRUCTION_MS if name == "bubblewrap" else None
        note = "" if name == "bare" else f"{median(values) / base:.1f} x bare"
        figures.append(Figure(f"{name}: first instruction p50", "ms", median(values), tuple(values), budget, note))
        figures.append(Figure(f"{name}: first instruction p95", "ms", percentile(values, 0.95), ()))
    return figures


def proof_figures(proofs: dict[str, list[float]]) -> list[Figure]:
    """Times of a whole proof."""
    return [
        Figure(f"{name}: proof p50", "ms", median(values), tuple(values), PROOF_MS if name == "bubblewrap" else None)
        for name, values in proofs.items()
    ]


def memory_figures(sizes: list[Size]) -> list[Figure]:
    """What a box takes beside the agent's program."""
    pss = [size.pss_kb / 1024 for size in sizes]
    rss = [size.rss_kb / 1024 for size in sizes]
    note = f"{BOXES} boxes at once"
    return [
        Figure("bubblewrap: memory of a box, PSS p50", "MB", median(pss), tuple(pss), BOX_MB, note),
        Figure("bubblewrap: memory of a box, RSS p50", "MB", median(rss), tuple(rss), None, "counts shared pages"),
    ]


def start_engine(stack: ExitStack) -> Engine | None:
    """Start an engine of this run's own, which ends with `stack`; None where none can be started."""
    try:
        return stack.enter_context(contextmanager(new_engine)())
    except pytest.skip.Exception as reason:
        print(f"no containers are measured: {reason}", file=sys.stderr)
        return None


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--no-engine", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="nanoclaw-bench-"))
    try:
        with ExitStack() as stack:
            engine = None if options.no_engine else start_engine(stack)
            figures = asyncio.run(measure(Bench(root), engine, options.rounds))
    finally:
        remove_tree(root)
    show(figures)
    if not options.no_save:
        print(f"saved {save(figures, ROOT / 'bench' / 'results', 'none', 'boxes').relative_to(ROOT)}")
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
