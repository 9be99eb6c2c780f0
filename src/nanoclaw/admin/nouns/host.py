"""What `ncl` can do with the host: host, audit."""

from __future__ import annotations

from nanoclaw.admin.verb import LIMIT, Access, Kind, Noun, Value, Verb

AUDIT = Noun(
    "audit",
    "What the host decided. `nanoclaw audit` shows the gateway's part too.",
    (
        Verb(
            "list",
            "List the newest entries, oldest first.",
            options=(
                Value("event", "Only this event, e.g. role.granted."),
                Value("actor", "Only by this actor."),
                Value("subject", "Only about this."),
                LIMIT,
            ),
        ),
        Verb("head", "Show the end of the hash chain: how many entries, the hash of the last.", single=True),
        Verb(
            "rows",
            "List entries in the order of the chain, with their hashes.",
            options=(
                Value("after", "Only after this one, by number.", Kind.INTEGER, default=0, most=10**9),
                LIMIT,
            ),
        ),
        Verb("verify", "Check the hash chain.", single=True),
    ),
)

HOST = Noun(
    "host",
    "The host itself.",
    (
        Verb("status", "Show how it is.", single=True),
        Verb("stop", "Ask it to stop, without waiting for it (`nanoclaw stop` waits).", Access.PROCESS, single=True),
    ),
)
