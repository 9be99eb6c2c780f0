"""What `ncl` can do with people: users, roles, members, approvals."""

from __future__ import annotations

from nanoclaw.admin.verb import LIMIT, Access, Kind, Noun, Value, Verb
from nanoclaw.domain.approval import ApprovalKind, ApprovalState
from nanoclaw.domain.people import Role

USER = Value("user", "The user: an id, the beginning of one, a name, or channel:handle.", refers="users", required=True)
THIS_USER = Value(
    "id", "The user: an id, the beginning of one, a name, or channel:handle.", refers="users", required=True
)
OF_USER = Value("user", "Only of this user.", refers="users")
OF_GROUP = Value("group", "Only of this assistant.", refers="groups")
CHANNEL = Value("channel", "A channel, e.g. telegram.", required=True)
HANDLE = Value("handle", "What that channel calls the person.", required=True)

USERS = Noun(
    "users",
    "People, with their identities on the channels.",
    (
        Verb(
            "list",
            "List them.",
            options=(
                Value("name", "Only whose name has this in it."),
                Value("channel", "Only who are on this channel."),
                LIMIT,
            ),
        ),
        Verb("get", "Show one.", target=THIS_USER, single=True),
        Verb(
            "create",
            "Make one, with a first identity or without.",
            Access.WRITE,
            Value("name", "What they are called.", required=True),
            (Value("channel", CHANNEL.words), Value("handle", HANDLE.words)),
            single=True,
        ),
        Verb(
            "update",
            "Change one.",
            Access.WRITE,
            THIS_USER,
            (Value("name", "What they are called."), Value("timezone", "E.g. Europe/Berlin; `none` for the host's.")),
            single=True,
        ),
        Verb("link", "Give a user another identity.", Access.WRITE, THIS_USER, (CHANNEL, HANDLE), single=True),
        Verb("unlink", "Take an identity from a user.", Access.WRITE, THIS_USER, (CHANNEL, HANDLE), single=True),
        Verb(
            "pair",
            "Show a code: whoever sends it in a direct chat within 10 minutes is that user there.",
            Access.WRITE,
            THIS_USER,
            single=True,
        ),
    ),
)

ROLE = Value(
    "role", "owner (of everything), or admin (of one assistant, or of all).", Kind.CHOICE, tuple(Role), required=True
)

ROLES = Noun(
    "roles",
    "Who may decide, for everything or for one assistant.",
    (
        Verb(
            "list",
            "List them.",
            options=(OF_USER, OF_GROUP, Value("role", "Only those.", Kind.CHOICE, tuple(Role)), LIMIT),
        ),
        Verb(
            "grant",
            "Give a role.",
            Access.WRITE,
            USER,
            (ROLE, Value("group", "Only for this assistant.", refers="groups")),
            single=True,
        ),
        Verb(
            "revoke",
            "Take a role.",
            Access.WRITE,
            USER,
            (ROLE, Value("group", "The one for this assistant.", refers="groups")),
            single=True,
        ),
    ),
)

MEMBERS = Noun(
    "members",
    "Whom an assistant knows.",
    (
        Verb("list", "List them.", options=(OF_USER, OF_GROUP, LIMIT)),
        Verb(
            "add",
            "Make somebody known to an assistant.",
            Access.WRITE,
            USER,
            (Value("group", "The assistant.", refers="groups", required=True),),
            single=True,
        ),
        Verb(
            "remove",
            "Make somebody unknown to it.",
            Access.WRITE,
            USER,
            (Value("group", "The assistant.", refers="groups", required=True),),
            single=True,
        ),
    ),
)

APPROVAL = Value(
    "id", "Its id, the beginning of it, or its short code while it is open.", refers="approvals", required=True
)

APPROVALS = Noun(
    "approvals",
    "Questions put to people.",
    (
        Verb(
            "list",
            "List them, the newest first; only open ones unless a state is named.",
            options=(
                OF_GROUP,
                Value("state", "Only those.", Kind.CHOICE, (*ApprovalState, "all"), default="open"),
                Value("kind", "Only those.", Kind.CHOICE, tuple(ApprovalKind)),
                LIMIT,
            ),
        ),
        Verb("get", "Show one, with its options.", target=APPROVAL, single=True),
        Verb(
            "approve",
            "Say yes.",
            Access.WRITE,
            APPROVAL,
            (
                Value(
                    "option", "Which one, by its number, value or label, when there is more than one way to say yes."
                ),
                Value("text", "For an option that needs words: the name of a new assistant."),
            ),
            single=True,
        ),
        Verb(
            "deny",
            "Say no.",
            Access.WRITE,
            APPROVAL,
            (Value("for-good", "And never be asked about it again.", Kind.FLAG),),
            single=True,
        ),
    ),
)
