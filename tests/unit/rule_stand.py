"""A rulebook on a folder, on a Monday at noon."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.rules import Rulebook
from nanoclaw.gateway.target import Authority, Target, parse_target

BY = "uid 0"


class Noon:
    """Monday 2026-01-05, 12:30 UTC."""

    def now_ms(self) -> int:
        return 1_767_616_200_000

    def monotonic(self) -> float:
        return 0.0


def opened(directory: Path, secrets: dict[str, tuple[str, ...]] | None = None) -> Rulebook:
    book = Rulebook(directory, Noon(), secret_hosts=(secrets if secrets is not None else {}).get)
    book.open()
    return book


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def names(book: Rulebook, folder: str = "") -> list[str]:
    return [found.rule.name for found in book.sourced_for(folder) if found.source != "built-in"]


def allow(host: str, **more: Any) -> RuleWords:
    return RuleWords(host, **more)


def call(host: str, path: str = "/", method: str = "GET") -> Target:
    return parse_target(method, path, host, Authority(host, 443))
