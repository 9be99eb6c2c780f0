"""Every noun of `ncl`, and where a verb is found by its words."""

from __future__ import annotations

from difflib import get_close_matches

from nanoclaw.admin.nouns.agents import DESTINATIONS, GROUPS, SESSIONS, TASKS
from nanoclaw.admin.nouns.chats import DROPPED_MESSAGES, MESSAGES, MESSAGING_GROUPS, USER_DMS, WIRINGS
from nanoclaw.admin.nouns.host import AUDIT, HOST
from nanoclaw.admin.nouns.people import APPROVALS, MEMBERS, ROLES, USERS
from nanoclaw.admin.verb import Noun, Verb
from nanoclaw.errors import Refused

NOUNS = (
    GROUPS,
    MESSAGING_GROUPS,
    WIRINGS,
    USERS,
    ROLES,
    MEMBERS,
    DESTINATIONS,
    SESSIONS,
    USER_DMS,
    DROPPED_MESSAGES,
    APPROVALS,
    TASKS,
    MESSAGES,
    AUDIT,
    HOST,
)
MOST_SHOWN = 40  # characters of a word that is said back


def find_verb(resource: str, verb: str) -> Verb:
    """Return a verb. Raises Refused with words that say what there is."""
    noun = find_noun(resource)
    for known in noun.verbs:
        if known.name == verb:
            return known
    near = get_close_matches(verb[:MOST_SHOWN], [known.name for known in noun.verbs], 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There is: {', '.join(known.name for known in noun.verbs)}."
    raise Refused(f"There is no `ncl {noun.name} {verb[:MOST_SHOWN]}`. {hint}")


def find_noun(resource: str) -> Noun:
    """Return a noun. Raises Refused with words that say what there is."""
    for noun in NOUNS:
        if noun.name == resource:
            return noun
    near = get_close_matches(resource[:MOST_SHOWN], [noun.name for noun in NOUNS], 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There is: {', '.join(noun.name for noun in NOUNS)}."
    raise Refused(f"There is no `ncl {resource[:MOST_SHOWN]}`. {hint}")
