"""Services whose secrets are kept by name alone: where each may be sent, how, and what it looks like.

Data, with where it comes from; nothing here decides what an agent may call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanoclaw.gateway.policy import MODEL_SECRET
from nanoclaw.gateway.target import MODEL_HOST
from nanoclaw.gateway.vault_file import Kind, Way


@dataclass(frozen=True, slots=True)
class Preset:
    """One service. `begins`: how its secrets begin, () where that is not known; `env`: what .env files call it."""

    name: str
    title: str
    kind: Kind
    hosts: tuple[str, ...]
    field: str = ""
    ways: tuple[Way, ...] = ()
    begins: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    for_host: bool = False
    token_url: str = ""  # oauth2: used when the pasted JSON names none


PRESETS = (
    Preset(
        name=MODEL_SECRET,
        title="Anthropic: API key, or subscription token of `claude setup-token`",
        kind=Kind.ANTHROPIC_KEY,  # or ANTHROPIC_OAUTH, by how it begins
        hosts=(MODEL_HOST,),
        begins=("sk-ant-",),
        env=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
    ),
    Preset(
        name="openai",
        title="OpenAI API key",
        kind=Kind.BEARER,
        hosts=("api.openai.com",),
        begins=("sk-",),
        env=("OPENAI_API_KEY",),
    ),
    Preset(
        name="openrouter",
        title="OpenRouter API key",
        kind=Kind.BEARER,
        hosts=("openrouter.ai",),
        begins=("sk-or-",),
        env=("OPENROUTER_API_KEY",),
    ),
    Preset(
        name="github",
        title="GitHub token: API, and git over https",
        kind=Kind.BEARER,
        hosts=("api.github.com", "uploads.github.com", "github.com"),
        ways=(Way("github.com", "/", Kind.BASIC, "x-access-token"),),  # docs.github.com: git takes Basic alone
        begins=("ghp_", "github_pat_", "gho_", "ghu_", "ghs_"),
        env=("GITHUB_TOKEN", "GH_TOKEN", "GITHUB_PERSONAL_ACCESS_TOKEN", "GITHUB_PAT"),
    ),
    Preset(
        name="gitlab",
        title="GitLab token of gitlab.com: API, and git over https",
        kind=Kind.BASIC,  # docs.gitlab.com: any user name, the token as the password
        field="oauth2",
        hosts=("gitlab.com",),
        ways=(Way("gitlab.com", "/api/", Kind.HEADER, "private-token"),),
        begins=("glpat-",),
        env=("GITLAB_TOKEN", "GITLAB_PERSONAL_ACCESS_TOKEN", "GITLAB_PRIVATE_TOKEN"),
    ),
    Preset(
        name="google",
        title="Google: Gmail and Calendar, as JSON with client_id, client_secret and refresh_token",
        kind=Kind.OAUTH2,
        hosts=("gmail.googleapis.com", "www.googleapis.com"),
        token_url="https://oauth2.googleapis.com/token",
    ),
    Preset(
        name="slack",
        title="Slack bot or user token (also handed to the host's Slack channel)",
        kind=Kind.BEARER,
        hosts=("slack.com", "files.slack.com"),
        begins=("xoxb-", "xoxp-"),
        env=("SLACK_BOT_TOKEN", "SLACK_TOKEN"),
        for_host=True,
    ),
    Preset(
        name="slack-app",
        title="Slack app-level token, for the host's Slack channel alone",
        kind=Kind.CHANNEL,
        hosts=(),
        begins=("xapp-",),
        env=("SLACK_APP_TOKEN",),
        for_host=True,
    ),
    Preset(
        name="telegram",
        title="Telegram bot token (also handed to the host's Telegram channel)",
        kind=Kind.PATH,  # core.telegram.org/bots/api: /bot<token>/method, /file/bot<token>/path
        field="bot",
        hosts=("api.telegram.org",),
        env=("TELEGRAM_BOT_TOKEN", "TELEGRAM_TOKEN"),
        for_host=True,
    ),
    Preset(
        name="discord",
        title="Discord bot token, for the host's Discord channel alone",
        kind=Kind.CHANNEL,
        hosts=(),
        env=("DISCORD_BOT_TOKEN", "DISCORD_TOKEN"),
        for_host=True,
    ),
    Preset(
        name="linear",
        title="Linear personal API key",
        kind=Kind.HEADER,  # linear.app/developers: a personal key has no `Bearer` before it
        field="authorization",
        hosts=("api.linear.app",),
        begins=("lin_api_",),
        env=("LINEAR_API_KEY",),
    ),
    Preset(
        name="notion",
        title="Notion integration token",
        kind=Kind.BEARER,
        hosts=("api.notion.com",),
        begins=("ntn_", "secret_"),
        env=("NOTION_TOKEN", "NOTION_API_KEY"),
    ),
    Preset(
        name="brave",
        title="Brave Search API key",
        kind=Kind.HEADER,
        field="x-subscription-token",
        hosts=("api.search.brave.com",),
        env=("BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY"),
    ),
    Preset(
        name="tavily",
        title="Tavily API key",
        kind=Kind.BEARER,
        hosts=("api.tavily.com",),
        begins=("tvly-",),
        env=("TAVILY_API_KEY",),
    ),
)


def find_preset(name: str) -> Preset | None:
    """Return the preset of that name."""
    return next((preset for preset in PRESETS if preset.name == name), None)


def find_owner(value: str, presets: Sequence[Preset] = PRESETS) -> Preset | None:
    """Return whose secret this is by how it begins, the longest beginning first (sk-ant- before sk-)."""
    known = [(begins, preset) for preset in presets for begins in preset.begins if value.startswith(begins)]
    return max(known, key=lambda pair: len(pair[0]))[1] if known else None
