"""What to do next, worked out from the conversation alone.

In:     a Conversation.
Out:    one Action: a tool call, the final answer, or a failure; each with the delay the lines asked for.
Rules:  the lines of every message since the last final answer are obeyed in order, one tool call at a time. A message
        id that comes twice is one message (a resumed attempt repeats it), in its later place. After a broken turn
        only what is said again counts; a call already made for it is not made again. Which line a call was made
        for is written in the call's id, which the CLI keeps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nanoclaw.rehearsal.conversation import INTERRUPTED_CALL, Answered, Broken, Called, Conversation, Returned, Said
from nanoclaw.rehearsal.json_value import JsonObject
from nanoclaw.rehearsal.language import Command, Verb, parse_commands
from nanoclaw.rehearsal.toolwork import Done, ToolResult, decide_call

LONGEST_SLEEP_SECONDS = 900.0
_HINT = (
    "This is the rehearsal model: no model key is set, so nobody is thinking here. To talk to a real model, "
    "add your key:\n\n    ./nanoclaw.sh vault set anthropic\n\n"
    "Until then I obey lines like `run: date`, `write notes.txt: hello`, `read notes.txt`, `say: hi`, "
    "`remember: the cat is called Tom`, `recall` and `history`."
)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a tool; `id` names the line it is for."""

    id: str
    tool: str
    arguments: JsonObject
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The final text of the turn; may be empty."""

    text: str
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Fail as a model API can: an HTTP status, `garbage`, or `nothing` (the connection is closed)."""

    kind: str
    delay_seconds: float = 0.0


Action: TypeAlias = Call | Answer | Failure


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to do: a command, or (None) words that are none. `results` are those of the calls made for it."""

    key: str
    said: Said
    command: Command | None
    results: tuple[ToolResult, ...]


def decide_action(conversation: Conversation, nonce: str) -> Action:
    """Return what the model does next; `nonce` makes the ids of calls unique."""
    lines = _drop_failed(_open_lines(conversation))
    if (collected := _collect(conversation, lines)) is not None:
        return Answer(collected)
    parts: list[str] = []
    letters: dict[str, list[str]] = {}
    delay = 0.0
    hinted = False
    for number, line in enumerate(lines):
        later_begun = any(later.results for later in lines[number + 1 :])
        match line.command:
            case None if line.said.is_answer:
                parts.append(_passed_on(line.said))
            case None:
                parts.append(_friendly(line.said.text, hinted or bool(line.said.agent)))
                hinted = True
            case Command(verb=Verb.TO, name=name, text=text):
                letters.setdefault(name, []).append(text)
            case Command(verb=Verb.SAY | Verb.RECALL | Verb.HISTORY | Verb.COLLECT) as command:
                parts.append(_words(command, conversation))
            case Command(verb=Verb.SLEEP, text=text):
                delay += 0.0 if later_begun else _seconds(text)
            case Command(verb=Verb.FAIL, text=text):
                return Failure(text.lower(), delay)
            case command:
                step = decide_call(command, line.results, conversation)
                if not isinstance(step, Done):
                    return Call(f"toolu_{line.key}_{nonce}", step.tool, step.arguments, delay)
                parts.append(step.text)
    parts += ["\n".join((f'<message to="{name}">', *texts, "</message>")) for name, texts in letters.items()]
    text = "\n".join(part for part in parts if part)
    # An empty answer leaves no trace in the conversation, and the sleep would be asked for again.
    return Answer(text or (f"Slept {delay:g} s." if delay else ""), delay)


def _open_lines(conversation: Conversation) -> list[Line]:
    said: list[Said] = []
    tools: dict[str, str] = {}
    results: dict[str, list[ToolResult]] = {}
    broken = False
    for entry in conversation.entries:
        match entry:
            case Answered():
                said, results, broken = [], {}, False
            case Broken():
                broken = True
            case Called():
                tools[entry.id] = entry.tool
            case Returned() if not entry.text.startswith(INTERRUPTED_CALL):
                result = ToolResult(tools.get(entry.id, ""), entry.text, entry.failed)
                results.setdefault(_key_of(entry.id), []).append(result)
            case Said():
                said = [entry] if broken else [*said, entry]
                broken = False
            case _:
                pass
    return [line for one in _last_of_each(said) for line in _lines_of(one, said, results)]


def _collect(conversation: Conversation, lines: Sequence[Line]) -> str | None:
    """Return the answer to a `collect`: all that was asked, or that it waits; None: there is nothing to collect now."""
    said = _last_of_each([entry for entry in conversation.entries if isinstance(entry, Said)])
    asking = [
        n for n, one in enumerate(said) if not one.is_answer and Command(Verb.COLLECT) in parse_commands(one.text)
    ]
    if not asking or any(not line.said.is_answer for line in lines):
        return None
    asked = {command.name for command in parse_commands(said[asking[-1]].text) if command.verb is Verb.TO}
    answers = {one.agent: one for one in said[asking[-1] :] if one.is_answer}
    before = {one.agent for one in said[asking[-1] :] if one.is_answer and one not in [line.said for line in lines]}
    if asked <= before:
        return None  # it was given
    if missing := sorted(asked - answers.keys()):
        return f"<internal>Waiting for {', '.join(missing)}.</internal>"
    return "\n".join(_passed_on(answers[name]) for name in sorted(asked))


def _words(command: Command, conversation: Conversation) -> str:
    """Return what a command that needs no tool says."""
    match command.verb:
        case Verb.RECALL:
            return conversation.memory or "The memory in my prompt is empty (it is read when a box starts)."
        case Verb.HISTORY:
            return _history(conversation)
        case _:
            return command.text


def _passed_on(said: Said) -> str:
    return said.text if said.text.startswith(f"{said.agent} ") else f"{said.agent}: {said.text}"


def _lines_of(one: Said, said: Sequence[Said], results: dict[str, list[ToolResult]]) -> list[Line]:
    # what an agent answers is passed on, not obeyed: a command in it would be its word, not a person's
    commands: Sequence[Command | None] = () if one.is_answer else parse_commands(one.text)
    commands = commands or (None,)
    twins = [other for other in said if other.text == one.text]
    name = one.id or f"bare {twins.index(one)}"
    lines: list[Line] = []
    for number, command in enumerate(commands):
        key = hashlib.sha256(f"{name}\n{number}\n{one.text}".encode()).hexdigest()[:16]
        lines.append(Line(key, one, command, tuple(results.get(key, ()))))
    return lines


def _drop_failed(lines: list[Line]) -> list[Line]:
    """Leave out what a failed turn already answered with its failure: a later turn has begun since."""
    turns = [line.said.block for line in lines if not line.said.pushed]
    last_turn = max(turns, default=0)
    for number in range(len(lines) - 1, -1, -1):
        command = lines[number].command
        if command and command.verb is Verb.FAIL and lines[number].said.block < last_turn:
            return lines[number + 1 :]
    return lines


def _last_of_each(said: Sequence[Said]) -> list[Said]:
    last = {one.id: one for one in said if one.id}
    return [one for one in said if not one.id or last[one.id] is one]


def _key_of(call_id: str) -> str:
    return call_id.removeprefix("toolu_").partition("_")[0]


def _history(conversation: Conversation) -> str:
    said: list[Said] = []
    for entry in conversation.entries:
        if isinstance(entry, Said) and not any(entry.id and entry.id == other.id for other in said):
            said.append(entry)
    return "\n".join(f"- {one.text}" for one in said)


def _seconds(text: str) -> float:
    try:
        return max(0.0, min(float(text), LONGEST_SLEEP_SECONDS))
    except ValueError:
        return 0.0


def _friendly(text: str, hinted: bool) -> str:
    first_line = text.strip().split("\n", 1)[0]
    brief = first_line if len(first_line) <= 120 else first_line[:117] + "..."
    return f"You said: {brief}" if hinted else f"You said: {brief}\n\n{_HINT}"
