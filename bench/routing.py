"""How fast messages are routed and taken: `.venv/bin/python bench/routing.py [--messages N] [--no-save]`.

A store on disk with 10,000 users and 500 chats with 1,000 wirings; nothing behind the store runs. Budgets: issue 3.
- decision: find the chat, its wirings, the sender's standing to each agent and decide, on the writer's connection;
- intake: messages that two agents each get, in batches of 50, each batch one commit that is on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from report import ROOT, Figure, exit_code, median, percentile, save, show

from nanoclaw.channels.base import Incoming
from nanoclaw.clock import SystemClock
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, Patterns, UnknownSenderPolicy
from nanoclaw.flow.admit import Sender, judge
from nanoclaw.flow.receive import Intake, NobodyAsked, Receiver
from nanoclaw.flow.route import find_chat, find_routes, find_sender
from nanoclaw.ids import UlidSource
from nanoclaw.log import open_log
from nanoclaw.store.chats import WiringRules
from nanoclaw.store.db import Store
from nanoclaw.store.migrate import open_store
from nanoclaw.store.tables import Tables, build_tables

CHANNEL = "bench"
USERS, CHATS, AGENTS, WIRINGS_PER_CHAT = 10_000, 500, 50, 2
DECISIONS, BATCH = 5_000, 50
DECISION_MS, MESSAGES_PER_SECOND = 1.0, 1500.0
RULES = (
    WiringRules(engage=EngageMode.PATTERN, pattern=r"(?i)\bhello\b"),
    WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE),
    WiringRules(engage=EngageMode.MENTION_STICKY),
)
TEXTS = ("hello there, how is the garden?", "@agent 7 look at this", "just talking " * 20)


def main() -> int:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(description="Measure routing and intake against their budgets.")
    parser.add_argument("--messages", type=int, default=10_000, help="messages through the intake (default 10000)")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nanoclaw-bench-", dir=ROOT) as name:
        figures = asyncio.run(measure(Path(name), options.messages))
    show(figures)
    if not options.no_save:
        path = save(figures, Path(tempfile.mkdtemp()), "")
        kept = ROOT / "bench" / "results" / f"routing-{datetime.now(UTC):%Y-%m-%d}.json"
        kept.write_text(json.dumps(without_raw(json.loads(path.read_text())), indent=1) + "\n")
        print(f"\nsaved: {kept.relative_to(ROOT)}")
    return exit_code(figures)


def without_raw(record: dict[str, dict[str, dict[str, object]]]) -> dict[str, dict[str, dict[str, object]]]:
    """Return a record without its thousands of single measurements."""
    for figure in record["figures"].values():
        figure.pop("raw")
    return record


async def measure(folder: Path, messages: int) -> list[Figure]:
    """Fill a store and measure both."""
    clock = SystemClock()
    store, tables = open_store(folder / "bench.db", clock.now_ms()), build_tables(UlidSource(clock))
    try:
        await store.write(lambda connection: populate(connection, tables))
        decisions = await store.write(lambda connection: decide_many(connection, tables))
        rate = await take_many(store, tables, messages)
    finally:
        store.close()
    return [
        Figure("routing decision p50", "ms", median(decisions), tuple(decisions)),
        Figure("routing decision p99", "ms", percentile(decisions, 0.99), tuple(decisions), DECISION_MS),
        Figure("intake, time for a message", "ms", 1000 / rate, (), 1000 / MESSAGES_PER_SECOND, f"{rate:.0f} a second"),
    ]


def populate(connection: sqlite3.Connection, tables: Tables) -> None:
    """Make everybody and everything: half of the users are members of one agent group."""
    groups = [tables.groups.add(connection, f"Agent {number}", f"agent-{number}", 0) for number in range(AGENTS)]
    for number in range(USERS):
        user = tables.people.add(connection, f"User {number}", CHANNEL, f"user-{number}", 0)
        if number % 2:
            tables.people.add_member(connection, user, groups[number % AGENTS], 0)
    policies = list(UnknownSenderPolicy)
    for number in range(CHATS):
        policy = policies[number % len(policies)]
        chat = tables.chats.add(connection, CHANNEL, f"chat-{number}", 0, is_group=True, unknown_senders=policy)
        for place in range(WIRINGS_PER_CHAT):
            group = groups[(number + place * 7) % AGENTS]
            tables.chats.wire(connection, chat, group, 0, RULES[(number + place) % len(RULES)])


def messages_of(count: int) -> list[Incoming]:
    """Return messages of random people in random chats, the same every time."""
    chance = random.Random(3)
    return [
        Incoming(
            platform_id=f"p{number}",
            chat_id=f"chat-{chance.randrange(CHATS)}",
            sender=f"user-{chance.randrange(USERS)}",
            sender_name="Somebody",
            text=chance.choice(TEXTS),
            sent_at=number,
            is_group=True,
            is_mention=chance.random() < 0.5,
            thread_id=chance.choice((None, "t1", "t2")),
        )
        for number in range(count)
    ]


def decide_many(connection: sqlite3.Connection, tables: Tables) -> list[float]:
    """Return how long each decision took, in milliseconds."""
    patterns, took = Patterns(), list[float]()
    for incoming in messages_of(DECISIONS):
        began = time.perf_counter()
        chat = find_chat(connection, tables, CHANNEL, incoming, 0)
        if chat is None:
            continue
        sender = Sender(CHANNEL, incoming.sender, find_sender(connection, tables, CHANNEL, incoming.sender))
        wirings = tables.chats.wirings(connection, chat.id)
        for route in find_routes(connection, tables, patterns, wirings, incoming):
            judge(connection, tables, chat, route.wiring, sender)
        took.append((time.perf_counter() - began) * 1000)
    return took


async def take_many(store: Store, tables: Tables, count: int) -> float:
    """Return messages a second through receive..enqueue; each batch is committed before the next is handed in."""
    log = open_log("error", io.StringIO())
    receiver = Receiver(
        CHANNEL,
        Intake(tables, NobodyAsked(), log),
        store,
        tables,
        SystemClock(),
        log,
        carry=lambda after: None,
        reached=lambda point: None,
    )
    public = [number for number in range(CHATS) if number % 3 == 2]
    messages: Sequence[Incoming] = [
        replace(message, chat_id=f"chat-{public[number % len(public)]}", text=TEXTS[0], is_mention=True)
        for number, message in enumerate(messages_of(count))
    ]
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        accepted = await receiver.accept(messages[start : start + BATCH], cursor=str(start))
        if not all(item.message for item in accepted):
            raise SystemExit("a message was not accepted")
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
