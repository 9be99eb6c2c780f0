"""What the agent reads: rows of the mailbox as tagged text. Pure.

Shape: `<context timezone="..."/>`, then `<message id from sender time reply_to by>`, several inside `<messages>`;
`<system_response>` for the host's notes; `<resume>` when an earlier attempt at this message broke off.
Source: architecture section 8; names and attributes are NanoClaw v2's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanoclaw.contract.message import ChatIn, InKind, chat_from_json, system_from_json
from nanoclaw.runner.mailbox import Destination, Row

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Control characters no text needs; NUL among them would end an argument or a C string on the way.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff\ufffe\uffff]")
REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """Replace control characters and lone surrogates by U+FFFD; line ends become newlines."""
    return CONTROL.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\r", "\n"))


def escape(text: str) -> str:
    """Make text safe between tags and in a quoted attribute: cleaned, then `& < > "` escaped."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def attribute(text: str) -> str:
    """Make text safe as an attribute: escaped, and on one line."""
    return escape(text).replace("\n", " ").replace("\t", " ")


def find_timezone(name: str) -> tzinfo:
    """Return the IANA zone, or UTC when the name or the zone data is missing (a box may have no tzdata)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def local_time(at_milliseconds: int, zone: tzinfo) -> str:
    """Say a time the way the original does: `Nov 20, 2026, 7:05 PM`, in the box's zone."""
    try:
        at = datetime.fromtimestamp(at_milliseconds / 1000, zone)
    except (ValueError, OverflowError, OSError):
        return "unknown"
    hour = at.hour % 12 or 12
    return f"{MONTHS[at.month - 1]} {at.day}, {at.year}, {hour}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"


def build_prompt(rows: tuple[Row, ...], zone_name: str, zone: tzinfo) -> str:
    """Return the text of one push. `rows` are in order of time; the last is the one that asks for an answer."""
    parts = [f'<context timezone="{attribute(zone_name)}"/>']
    sent = [line for row in rows for line in already_sent(row)]
    if any(row.attempt > 1 for row in rows):
        parts.append(resume_note(sent))
    elements = [build_element(row, zone) for row in rows]
    if len(elements) > 1:
        elements = ["<messages>", *elements, "</messages>"]
    return "\n".join([*parts, *elements])


def build_element(row: Row, zone: tzinfo) -> str:
    """Return the element of one row. A kind this runner does not know is passed on as escaped text."""
    if row.kind == InKind.CHAT:
        return chat_element(row.seq, chat_from_json(row.content), zone)
    if row.kind == InKind.SYSTEM:
        note = system_from_json(row.content)
        attributes = f'action="{attribute(note.action)}" status="{attribute(note.status)}"'
        return f"<system_response {attributes}>{escape(note.text)}</system_response>"
    return f'<{row.kind} id="{row.seq}">{escape(row.content)}</{row.kind}>'


def chat_element(seq: int, chat: ChatIn, zone: tzinfo) -> str:
    """Return one `<message>`."""
    attributes = [f'id="{seq}"', f'from="{attribute(chat.origin)}"', f'sender="{attribute(chat.sender)}"']
    attributes.append(f'time="{attribute(local_time(chat.sent_at, zone))}"')
    if chat.reply_to is not None:
        attributes.append(f'reply_to="{chat.reply_to}"')
    if chat.by_agent:
        attributes.append('by="agent"')  # no person's words
    files = "".join(f"\n[file: {escape(a.name)}, {a.bytes} bytes, saved at {escape(a.path)}]" for a in chat.attachments)
    quote = ""
    if chat.quote is not None:
        sender, text = attribute(chat.quote.sender), escape(chat.quote.text)
        quote = f'\n  <quoted_message from="{sender}">{text}</quoted_message>\n'
    return f"<message {' '.join(attributes)}>{quote}{escape(chat.text)}{files}</message>"


def command_of(row: Row) -> str:
    """Return the text of a row that the host marked as a command of the provider's own; '' for any other row."""
    chat = read_chat(row)
    return chat.text.strip() if chat is not None and chat.command and row.trigger else ""


def origin_of(row: Row) -> str:
    """Return the name of the place a row came from, '' when it has none."""
    chat = read_chat(row)
    return chat.origin if chat is not None else ""


def agent_of(row: Row) -> str:
    """Return the name of the agent that wrote a row; '' when a person or the host did."""
    chat = read_chat(row)
    return chat.origin if chat is not None and chat.by_agent else ""


def read_chat(row: Row) -> ChatIn | None:
    """Return a row's chat message; None when it is none, or none that can be read."""
    try:
        return chat_from_json(row.content) if row.kind == InKind.CHAT else None
    except (ValueError, KeyError, TypeError):
        return None


def already_sent(row: Row) -> tuple[str, ...]:
    """What a broken attempt at this row has already sent."""
    if row.kind != InKind.CHAT or row.attempt < 2:
        return ()
    return chat_from_json(row.content).already_sent


def resume_note(sent: list[str]) -> str:
    """Tell the agent that this is another try and what must not be sent again."""
    lines = ["Work on the message below broke off before it was finished; this is another try."]
    if sent:
        lines.append("These were already sent to the chat, do not send them again:")
        lines += [f"- {escape(line)}" for line in sent]
    else:
        lines.append("Nothing was sent to the chat yet.")
    return "<resume>\n" + "\n".join(lines) + "\n</resume>"


def nudge() -> str:
    """What the harness says when a turn ended and nothing was sent."""
    return (
        "<system>Your turn ended and nothing was sent: there was no text outside &lt;internal&gt;. "
        "If the person should get an answer, write it now. If no answer is right, end again without text.</system>"
    )


def unknown_destinations(names: tuple[str, ...], known: tuple[Destination, ...]) -> str:
    """What the harness says about `<message to="...">` with a name that is none."""
    listed = ", ".join(attribute(name) for name in names)
    options = ", ".join(attribute(place.name) for place in known) or "none"
    return (
        f"<system>Not sent: there is no destination named {listed}. Destinations: {options}. Send it again to one of "
        "them, or write it as plain text for the chat the message came from. The rest of your answer was sent.</system>"
    )


def new_conversation() -> str:
    """What the agent is told when its earlier conversation could not be loaded."""
    return (
        "<system>Your earlier conversation could not be loaded, so this is a new one. "
        "Your files and your memory file are as you left them.</system>\n"
    )
