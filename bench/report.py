"""What was measured, against its budget: a table for people, JSON for the record."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `raw` are the single measurements, `budget` the most it may be (None: for information)."""

    name: str
    unit: str
    value: float
    raw: tuple[float, ...]
    budget: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it keeps its budget."""
        return self.budget is None or self.value <= self.budget


def median(values: Sequence[float]) -> float:
    """Return the p50."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    width = max(len(figure.name) for figure in figures)
    print(f"{'figure':<{width}}  {'measured':>10}  {'budget':>10}")
    for figure in figures:
        digits = 0 if figure.budget is None or figure.budget >= 10 else 2
        budget = "" if figure.budget is None else f"{figure.budget:.{digits}f} {figure.unit}"
        verdict = "" if figure.budget is None else "  ok" if figure.passed else "  OVER"
        measured = f"{figure.value:.{2 if abs(figure.value) < 10 else 1}f} {figure.unit}"
        print(f"{figure.name:<{width}}  {measured:>10}  {budget:>10}{verdict}  {figure.note}".rstrip())


def save(figures: Sequence[Figure], folder: Path, cli_version: str, kind: str = "latency") -> Path:
    """Write `<kind>-<date>.json`; return its path."""
    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": _machine(cli_version),
        "passed": all(figure.passed for figure in figures),
        "figures": {
            figure.name: {
                "unit": figure.unit,
                "value": round(figure.value, 2),
                "budget": None if figure.budget is None else round(figure.budget, 2),
                "passed": figure.passed,
                "raw": [round(value, 2) for value in figure.raw],
            }
            for figure in figures
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def _machine(cli_version: str) -> dict[str, object]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int(memory[1]) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "agent_cli": cli_version,
        "root": os.geteuid() == 0,
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def exit_code(figures: Sequence[Figure]) -> int:
    """Return 0 when every budget is kept; say which is not."""
    over = [figure.name for figure in figures if not figure.passed]
    if over:
        print(f"over budget: {', '.join(over)}", file=sys.stderr)
    return 1 if over else 0
