"""Calls of the CLI that are not the conversation: titles, summaries, quota checks, searches.

Recognised by their structure: no tools of its own, a structured answer, the API's own web search, or the CLI's
request to summarise the conversation. They get something harmless.
"""

from __future__ import annotations

from nanoclaw.rehearsal.conversation import Said, parse_conversation, text_of
from nanoclaw.rehearsal.json_value import Json, dump_json, get_list, get_object, get_text

_SUMMARISE = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."


def find_side_answer(body: Json) -> str | None:
    """Return the answer to a side call; None when the request is the conversation itself."""
    messages = get_list(body, "messages")
    last = messages[-1] if messages else None
    last_text = text_of(last.get("content") if isinstance(last, dict) else None)
    if last_text.lstrip().startswith(_SUMMARISE):
        return _summary(body)
    schema = get_object(get_object(get_object(body, "output_config"), "format"), "schema")
    if schema:
        return dump_json(_example(schema))
    tools = get_list(body, "tools")
    if all(get_text(tool, "type").startswith("web_") for tool in tools) and not _is_spoken_to(body, bool(tools)):
        return "Rehearsal"
    return None


def _is_spoken_to(body: Json, has_tools: bool) -> bool:
    """Tell a person with no tools (curl, a library) from the CLI: the CLI names itself in its system prompt."""
    system = text_of(body.get("system") if isinstance(body, dict) else None)
    return not has_tools and "x-anthropic-billing-header" not in system


def _summary(body: Json) -> str:
    said = [entry.text for entry in parse_conversation(body).entries if isinstance(entry, Said)]
    lines = "\n".join(f"- {text}" for text in said if not text.startswith(_SUMMARISE))
    return f"<analysis>A rehearsal.</analysis>\n<summary>\nThe user wrote:\n{lines}\n</summary>"


def _example(schema: Json) -> Json:
    """Return the smallest value a JSON schema allows."""
    if not isinstance(schema, dict):
        return None
    if choices := get_list(schema, "enum"):
        return choices[0]
    match schema.get("type"):
        case "object":
            properties = get_object(schema, "properties")
            names = [name for name in get_list(schema, "required") if isinstance(name, str)]
            return {name: _example(properties.get(name)) for name in names}
        case "array":
            return []
        case "boolean":
            return False
        case "integer" | "number":
            return 0
        case _:
            return "Rehearsal"
