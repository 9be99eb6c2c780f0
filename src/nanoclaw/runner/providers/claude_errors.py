"""What an error of the model API means for the chat: plain words, and whether another try helps. Pure."""

from __future__ import annotations

from nanoclaw.runner.providers.base import Failure

TOO_LONG = ("prompt is too long", "context limit", "request_too_large", "maximum context", "input length and")
NO_CREDIT = ("credit balance", "billing")
SESSION_GONE = ("no conversation found", "session not found", "enoent")
BUDGET = "The budget of "  # how the gateway begins what it says of a budget that is spent (gateway/spending.py)
KEPT_CHARACTERS = 300


def decide_failure(status: int | None, message: str, covers: tuple[str, ...]) -> Failure:
    """Map an error that ended a turn; `status` is the HTTP status when there was one."""
    lowered = message.lower()
    detail = shorten(message)
    if any(mark in lowered for mark in TOO_LONG) or status == 413:
        words = (
            "This conversation has grown too long for the model. Send your message again: it starts a new one. "
            "If that fails too, CLAUDE.local.md in the group's folder has grown too long: shorten it."
        )
        return Failure(words, retryable=False, covers=covers, forget=True)
    if status == 402 and BUDGET in message:
        return Failure(BUDGET + message.partition(BUDGET)[2], retryable=False, covers=covers)
    if any(mark in lowered for mark in NO_CREDIT) or status == 402:
        words = (
            f"The model API says that the account has no credit. Add credit, then send the message again. ({detail})"
        )
        return Failure(words, retryable=False, covers=covers)
    if status == 401 or "authentication" in lowered:
        words = "The model API did not accept the key (401). Set a valid one with: nanoclaw vault set anthropic"
        return Failure(words, retryable=False, covers=covers)
    if status == 403:
        words = f"The call to the model was refused (403). The log of refusals: nanoclaw audit. ({detail})"
        return Failure(words, retryable=False, covers=covers)
    if status == 404:
        words = f"The model API does not know the model or the address (404). Check the group's model. ({detail})"
        return Failure(words, retryable=False, covers=covers)
    if status == 429:
        words = f"The model API's rate limit is reached (429). Wait a while, then send the message again. ({detail})"
        return Failure(words, retryable=False, covers=covers)
    if status is not None and 400 <= status < 500:
        words = f"The model API refused the request ({status}): {detail}"
        return Failure(words, retryable=False, covers=covers)
    named = f"error {status}" if status else "no usable answer"
    return Failure(f"The model API failed ({named}): {detail}", retryable=True, covers=covers)


def shorten(text: str) -> str:
    """One line, bounded, for people."""
    line = " ".join(text.split())
    return line if len(line) <= KEPT_CHARACTERS else line[:KEPT_CHARACTERS] + "…"
