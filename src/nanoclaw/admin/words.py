"""What an agent types after `ncl` in its box, taken apart by the table of verbs; and the help it gets.

Only words are told apart here; whether they are right is checked as for everybody (call.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanoclaw.admin.call import TRUE, shown
from nanoclaw.admin.catalog import MOST_SHOWN, NOUNS, find_noun, find_verb
from nanoclaw.admin.request import Given, Request
from nanoclaw.admin.verb import Kind, Noun, Verb
from nanoclaw.errors import Refused

HELP = ("help", "--help", "-h")
JSON = "--json"
MOST_WORDS = 64


@dataclass(frozen=True, slots=True)
class Typed:
    """A request, and whether its answer is wanted as JSON."""

    request: Request
    as_json: bool


def parse_words(words: Sequence[str]) -> Typed | str:
    """Return what was typed, or help when that was asked for. Raises Refused with words."""
    if len(words) > MOST_WORDS:
        raise Refused(f"That is too much: at most {MOST_WORDS} words.")
    if not words or words[0] in HELP:
        return help_all()
    noun = find_noun(words[0])
    if len(words) == 1 or words[1] in HELP:
        return help_noun(noun)
    two = " ".join(words[1:3])
    verb = find_verb(noun.name, two if any(verb.name == two for verb in noun.verbs) else words[1])
    rest = list(words[1 + len(verb.name.split()) :])
    if any(word in HELP[1:] for word in rest):
        return help_verb(noun, verb)
    as_json = JSON in rest
    return Typed(_collect(noun, verb, [word for word in rest if word != JSON]), as_json)


def _collect(noun: Noun, verb: Verb, words: list[str]) -> Request:
    target: str | None = None
    flags: dict[str, Given] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if target is not None:
                raise Refused(
                    f"`ncl {noun.name} {verb.name}` takes one thing without a name; {word[:MOST_SHOWN]!r} is more."
                )
            target = word
            continue
        name, has_value, given = word[2:].partition("=")
        value = next((value for value in verb.values if value.name == name), None)
        if value is not None and value.kind is Kind.FLAG and not has_value:
            given = TRUE
        elif not has_value:
            if not words:
                raise Refused(f"--{name[:MOST_SHOWN]} needs a value.")
            given = words.pop(0)
        before = flags.get(name)
        flags[name] = given if before is None else [*([before] if isinstance(before, str) else before), given]
    return Request(noun.name, verb.name, target, flags)


def help_all() -> str:
    """Return what there is."""
    width = max(len(noun.name) for noun in NOUNS)
    lines = [f"  {noun.name.ljust(width)}  {noun.words}" for noun in NOUNS]
    end = "`ncl RESOURCE help` says more. A change is put to a person first."
    return "\n".join(["ncl RESOURCE VERB [ID] [--option VALUE] [--json]", "", *lines, "", end])


def help_noun(noun: Noun) -> str:
    """Return the verbs of a noun."""
    return "\n".join([noun.words, "", *(f"  {usage(noun, verb)}\n      {verb.words}" for verb in noun.verbs)])


def help_verb(noun: Noun, verb: Verb) -> str:
    """Return what a verb is given."""
    lines = [usage(noun, verb), verb.words]
    lines += [verb.details] if verb.details else []
    for value in verb.values:
        choices = f" One of: {', '.join(value.choices)}." if value.choices else ""
        lines.append(f"  {shown(value, verb)}  {value.words}{choices}")
    return "\n".join(lines)


def usage(noun: Noun, verb: Verb) -> str:
    """Return how a verb is written."""
    parts = [f"ncl {noun.name} {verb.name}"]
    for value in verb.values:
        written = shown(value, verb)
        if value is not verb.target and value.kind is not Kind.FLAG:
            written += f" {value.name.upper()}"
        parts.append(written if value.required else f"[{written}]")
    return " ".join(parts)
