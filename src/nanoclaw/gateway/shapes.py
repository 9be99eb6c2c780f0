"""What tokens of well-known services look like, so that one which is in no vault is noticed as well.

Out: where one lies in a piece of data, and what it looks like. Never: matches a word, an id or a hash: each shape has
a prefix that its service made for this purpose, and a length. Not among them: JSON web tokens (many services publish
them in their pages), an AWS secret key without its id (any 40 characters of base64), passwords.

Sources: each service's manual on its tokens; github.blog/2021-04-05 (prefixes of GitHub), docs.gitlab.com
("Token overview"), docs.slack.dev ("Tokens"), IAM's "Unique identifiers", RFC 7468 (PEM), core.telegram.org/bots/api,
and the rules of gitleaks for lengths.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nanoclaw.gateway.needles import Span

LONGEST = 9 * 1024  # bytes that one match may have: a private key of 8192 bits
_WORD = r"[A-Za-z0-9_-]"
_END = r"(?![A-Za-z0-9+/_-])"
_RARE = "-_.:I"  # characters of which every prefix has one, and text has few


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of token: `what` in words that follow "what looks like", its literal prefixes, a pattern of the rest.

    `alone`: the prefix is so short that base64 holds it by chance; it counts where no such character stands before it.
    """

    what: str
    prefixes: tuple[str, ...]
    rest: str
    alone: bool = False


SHAPES = (
    Shape("an Anthropic key", ("sk-ant-",), rf"[a-z]{{2,12}}[0-9]{{2}}-{_WORD}{{20,255}}"),
    Shape("an OpenAI key", ("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-None-"), rf"{_WORD}{{40,255}}"),
    Shape("an OpenAI key", ("sk-",), r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    Shape("an OpenRouter key", ("sk-or-v1-",), r"[0-9a-f]{64}"),
    Shape("a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"[A-Za-z0-9]{36,255}"),
    Shape("a GitHub token", ("github_pat_",), r"[A-Za-z0-9_]{22,255}"),
    Shape("a GitLab token", ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "gloas-"), rf"{_WORD}{{20,255}}"),
    Shape("a Slack token", ("xoxb-", "xoxp-", "xoxa-", "xoxe-", "xoxr-", "xoxs-"), r"[0-9A-Za-z-]{20,255}"),
    Shape("a Slack token", ("xapp-",), r"[0-9]-[A-Z0-9]{6,32}-[0-9]{6,32}-[0-9a-f]{32,128}"),
    Shape("a Slack webhook", ("hooks.slack.com/",), r"(?:services|workflows|triggers)/[A-Za-z0-9/]{40,80}"),
    Shape("an AWS key", ("AKIA", "ASIA"), rf"[A-Z2-7]{{16}}{_END}", alone=True),
    Shape("a Google key", ("AIza",), rf"{_WORD}{{35}}{_END}", alone=True),
    Shape("a Google token", ("ya29.",), rf"{_WORD}{{20,1024}}"),
    Shape("a Google client secret", ("GOCSPX-",), rf"{_WORD}{{28}}"),
    Shape("a Telegram bot token", (":AA",), rf"(?<=[0-9]{{8}}:AA){_WORD}{{33}}{_END}"),
    Shape("a Stripe key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[A-Za-z0-9]{16,255}"),
    Shape("a Stripe webhook secret", ("whsec_",), r"[A-Za-z0-9+/]{32,64}"),
    Shape("an npm token", ("npm_",), r"[A-Za-z0-9]{36}"),
    Shape("a PyPI token", ("pypi-AgE",), rf"{_WORD}{{50,1024}}"),
    Shape("a SendGrid key", ("SG.",), rf"{_WORD}{{22}}\.{_WORD}{{43}}"),
    Shape("a Hugging Face token", ("hf_",), r"[A-Za-z]{34}"),
    Shape("a Linear key", ("lin_api_", "lin_oauth_"), r"[A-Za-z0-9]{32,64}"),
    Shape("a Notion token", ("ntn_",), r"[A-Za-z0-9]{40,50}"),
    Shape("a Tavily key", ("tvly-",), rf"{_WORD}{{30,64}}"),
    Shape("a DigitalOcean token", ("dop_v1_", "doo_v1_", "dor_v1_"), r"[0-9a-f]{64}"),
    Shape("a Shopify token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"[0-9a-fA-F]{32}"),
    Shape("a token of HashiCorp's Vault", ("hvs.", "hvb."), rf"{_WORD}{{90,255}}"),
    Shape("a Docker token", ("dckr_pat_", "dckr_oat_"), rf"{_WORD}{{27,64}}"),
    Shape("a key of age", ("AGE-SECRET-KEY-1",), r"[0-9A-Z]{58}"),
    Shape(
        "a private key",
        ("-----BEGIN ",),
        r"[A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\\\s:,-]{64,9000}",
    ),
)


class Shapes:
    """The shapes, ready to be searched for: in one pass, whatever their number."""

    def __init__(self, shapes: tuple[Shape, ...] = SHAPES) -> None:
        self._any = re.compile(_join(shapes))
        self._each = tuple(
            (shape.what, prefix.encode("ascii"), re.compile(f"{re.escape(prefix)}{shape.rest}".encode("ascii")))
            for shape in shapes
            for prefix in shape.prefixes
        )

    def find(self, data: bytes) -> Iterator[tuple[Span, str]]:
        """Yield where a token lies and what it looks like, in order."""
        for match in self._any.finditer(data):
            yield self._describe(data, match.start(), match.end())

    def _describe(self, data: bytes, anchor: int, end: int) -> tuple[Span, str]:
        """Return the whole token to which a match from its rare character on belongs."""
        for what, prefix, one in self._each:
            start = anchor - _find_rare(prefix.decode("ascii"))
            if start >= 0 and (whole := one.match(data, start)) is not None and whole.end() == end:
                return (start, end), what
        raise AssertionError("a match of all shapes is one of one shape")


def _find_rare(prefix: str) -> int:
    return min(at for at, character in enumerate(prefix) if character in _RARE)


def _join(shapes: Iterable[Shape]) -> bytes:
    """Return one pattern of all shapes that begins at the rare character of each prefix, what is before it looked back.

    It has no groups and begins with one of few characters: else the search takes a hundred times as long.
    """
    by_rare: dict[str, list[str]] = defaultdict(list)
    for shape in shapes:
        for prefix in shape.prefixes:
            at = _find_rare(prefix)
            before, after = re.escape(prefix[: at + 1]), re.escape(prefix[at + 1 :])
            by_rare[prefix[at]].append(f"(?<={before}){_alone(before) if shape.alone else ''}{after}{shape.rest}")
    return "|".join(f"{re.escape(rare)}(?:{'|'.join(rests)})" for rare, rests in by_rare.items()).encode("ascii")


def _alone(before: str) -> str:
    """Return that nothing of base64 stands before a prefix; the letter of a JSON string's escape (`\\n`) is nothing."""
    return rf"(?:(?<![A-Za-z0-9+/_-]{before})|(?<=\\[nrt]{before}))"
