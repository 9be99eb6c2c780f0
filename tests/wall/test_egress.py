"""What an agent may try, each from inside a real box: nothing leaves that no rule allows, all is written down.

The gateway lives in a small internet (internet.py) in which every name and address answers, so what is refused is
refused by NanoClaw and not by a wire that is missing. Judged is what reached that world, what came back into the box,
and what the audit says. Slow for its boxes, a third of a second each, and it needs root.
"""

from __future__ import annotations

import asyncio
import base64
import html
import re
import urllib.parse
from collections.abc import Iterator

import pytest

from nanoclaw.gateway.admin_words import AuditVerify, Verification
from nanoclaw.gateway.client import ask_admin
from tests.wall.attempts_direct import DIRECT
from tests.wall.attempts_proxy import CLIENTS, ECHOED, PATHS, PLACES, SMUGGLED, TURNS
from tests.wall.attempts_tunnel import LEAKS, TELEMETRY, TUNNELS
from tests.wall.conftest import Wall
from tests.wall.egress import MODEL_KEY, OTHERS_SECRET, SECRET, Attempt, Town, is_allowed, open_town
from tests.wall.internet import find_obstacle

pytestmark = [
    pytest.mark.ci,  # a hundred boxes, and a namespace that needs root
    pytest.mark.skipif(find_obstacle() is not None, reason=find_obstacle() or ""),
]

ATTEMPTS = (*DIRECT, *PLACES, *ECHOED, *PATHS, *SMUGGLED, *TURNS, *CLIENTS, *TUNNELS, *TELEMETRY, *LEAKS)
MEANT = 60
SENT, COOKIE = "SENT", "of-the-operator"  # what a probe says when it got out, and what a host says of its operator
EDGE = 2  # characters at either end of a secret that base64 may share with what stands around it
ALLOWED = (
    Attempt("curl_by_CONNECT", "curl -sS -m 8 https://api.good.test/public/a >&2", shell=True),
    Attempt("curl_by_the_plain_proxy", "curl -sS -m 8 http://other.good.test/public/a >&2", shell=True),
    Attempt("curl_that_knows_no_proxy", "curl -sS -m 8 --noproxy '*' https://api.good.test/public/a >&2", shell=True),
    Attempt("wget", "wget -q -T 5 -t 1 -O - https://api.good.test/public/a >&2", shell=True),
    Attempt("Python", "say(urllib.request.urlopen('https://api.good.test/public/a', timeout=5).read())"),
    Attempt("a_host_of_IPv6", "curl -sS -m 8 https://six.good.test/public/a >&2", shell=True),
    Attempt(
        "node_by_port_443",
        "node -e \"require('https').get('https://api.good.test/public/a', r => r.pipe(process.stderr))\"",
        shell=True,
    ),
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("town")) as town:
        yield town


def find_told(said: str) -> list[str]:
    """Return what must not be in a text, read as it stands and through every encoding that an echo could wear."""
    readings = [said, urllib.parse.unquote(said), html.unescape(said), said.replace("\\/", "/")]
    readings.append(re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), said))
    for run in re.findall(r"(?:[0-9a-fA-F]{2}){8,}", said):
        readings.append(bytes.fromhex(run).decode("latin-1"))
    for run in re.findall(r"[A-Za-z0-9+/_-]{12,}", said):
        plain = run.replace("-", "+").replace("_", "/")
        for start in range(4):
            whole = plain[start : start + (len(plain) - start) // 4 * 4]
            readings.append(base64.b64decode(whole).decode("latin-1"))
    told = (SENT, COOKIE, *(secret[EDGE:-EDGE] for secret in (SECRET, MODEL_KEY)))
    return [word for word in told if any(word in reading for reading in readings)]


def test_what_an_echo_wears_is_seen_through() -> None:
    for secret in (SECRET, MODEL_KEY):
        raw = secret.encode()
        for echo in (
            secret,
            "".join(f"%{byte:02x}" for byte in raw),
            "".join(f"\\u{byte:04x}" for byte in raw),
            raw.hex(),
            *(base64.b64encode(b"x" * shift + raw).decode() for shift in range(3)),
            *(base64.urlsafe_b64encode(b"?" * shift + raw + b"~").decode() for shift in range(3)),
        ):
            assert find_told(f"echo: {echo}.") == [secret[EDGE:-EDGE]], echo
        assert find_told(f"echo: {'*' * len(secret)}") == []


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.says.replace(" ", "_"))
async def test_nothing_leaves_the_box_by(town: Town, wall: Wall, attempt: Attempt) -> None:
    outcome = await town.run(wall, attempt)
    assert [arrived for arrived in outcome.arrived if not is_allowed(arrived)] == []
    assert find_told(outcome.said) == []
    if not attempt.passes:
        assert outcome.arrived == []
        assert "REACHED" not in outcome.said
    if attempt.rule:
        told = [(row.rule, row.host) for row in outcome.refusals]
        assert any(rule == attempt.rule and host.startswith(attempt.host) for rule, host in told), told
    elif not attempt.passes:
        assert outcome.audit == []
    if attempt.ends:
        assert any(row.event == "finished" and attempt.ends in row.reason for row in outcome.audit), outcome.audit
    assert not any(secret in str(outcome.audit) for secret in (SECRET, MODEL_KEY, OTHERS_SECRET))


@pytest.mark.parametrize("attempt", ALLOWED, ids=lambda attempt: attempt.says.replace(" ", "_"))
async def test_what_a_rule_allows_goes_through_with_the_key_that_the_box_never_sees(
    town: Town, wall: Wall, attempt: Attempt
) -> None:
    outcome = await town.run(wall, attempt)
    assert "REACHED" in outcome.said, outcome.said
    assert find_told(outcome.said) == []
    (arrived,) = outcome.arrived
    assert is_allowed(arrived)
    assert (f"authorization: Bearer {SECRET}".encode() in arrived.raw) is (arrived.name == "api.good.test")
    assert [row.event for row in outcome.audit] == ["allowed", "finished"]


async def test_the_model_is_asked_with_the_real_key(town: Town, wall: Wall) -> None:
    body = '{"model":"m","messages":[]}'
    call = Attempt(
        "the model",
        f"talk(b'POST /anthropic/v1/messages HTTP/1.1\\r\\nHost: 127.0.0.1:3128\\r\\nConnection: close\\r\\n"
        f"x-api-key: placeholder\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}')",
    )
    outcome = await town.run(wall, call)
    assert "PONG" in outcome.said
    (arrived,) = outcome.arrived
    assert f"x-api-key: {MODEL_KEY}".encode() in arrived.raw
    assert b"placeholder" not in arrived.raw


async def test_what_was_refused_and_allowed_is_one_unbroken_chain(town: Town) -> None:
    seen = await asyncio.to_thread(ask_admin, town.admin_path, AuditVerify(), Verification)
    assert seen.rows > 0
    assert seen.broken_at is None


def test_at_least_sixty_ways_out_are_tried() -> None:
    assert len({attempt.says for attempt in ATTEMPTS}) == len(ATTEMPTS)
    assert len(ATTEMPTS) >= MEANT
