"""What `ncl` can do with chats: messaging-groups, wirings, user-dms, dropped-messages, messages."""

from __future__ import annotations

from nanoclaw.admin.verb import LIMIT, Access, Kind, Noun, Value, Verb
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SenderScope, SessionMode, UnknownSenderPolicy

YES_NO = ("yes", "no")
CHAT = Value(
    "id",
    "The chat: its id, the beginning of it, its name, or channel:platform-id.",
    refers="messaging-groups",
    required=True,
)
CHANNEL = Value("channel", "Only of this channel, e.g. telegram.")
POLICY = Value(
    "unknown-sender-policy",
    "What becomes of a message of somebody the assistant does not know.",
    Kind.CHOICE,
    tuple(UnknownSenderPolicy),
)

MESSAGING_GROUPS = Noun(
    "messaging-groups",
    "Chats: rooms, groups and direct chats of every channel.",
    (
        Verb(
            "list",
            "List the chats.",
            options=(CHANNEL, POLICY, Value("denied", "Only those refused for good.", Kind.FLAG), LIMIT),
        ),
        Verb("get", "Show one.", target=CHAT, single=True),
        Verb(
            "create",
            "Make a chat known before anybody has written in it.",
            Access.WRITE,
            options=(
                Value("channel", "Its channel, e.g. telegram.", required=True),
                Value("platform-id", "What the platform calls it.", required=True),
                Value("name", "What people call it."),
                Value("is-group", "Whether it is more than two people.", Kind.CHOICE, YES_NO, required=True),
                POLICY,
            ),
            single=True,
        ),
        Verb(
            "update",
            "Change one.",
            Access.WRITE,
            CHAT,
            (
                Value("name", "What people call it."),
                POLICY,
                Value("denied", "Whether it is refused for good.", Kind.CHOICE, YES_NO),
            ),
            single=True,
        ),
        Verb(
            "delete",
            "Forget a chat: nothing listens there and nobody sends there any more.",
            Access.WRITE,
            CHAT,
            single=True,
            details="While messages of it are kept, its bare row is kept with them.",
        ),
    ),
)

RULES = (
    Value("engage-mode", "When a message wakes the assistant.", Kind.CHOICE, tuple(EngageMode)),
    Value("engage-pattern", "For `pattern`: a regular expression (RE2); `.` is every message."),
    Value("sender-scope", "Whose messages wake it.", Kind.CHOICE, tuple(SenderScope)),
    Value(
        "ignored-message-policy",
        "Whether what did not wake it is kept as context.",
        Kind.CHOICE,
        tuple(IgnoredMessagePolicy),
    ),
    Value(
        "priority",
        "Of several assistants in one chat the highest is asked first.",
        Kind.INTEGER,
        least=-1000,
        most=1000,
    ),
)
SESSION_MODE = Value("session-mode", "Which messages are one conversation.", Kind.CHOICE, tuple(SessionMode))
WIRING = Value("id", "Its id, or the beginning of it.", refers="wirings", required=True)

WIRINGS = Noun(
    "wirings",
    "Which chat wakes which assistant, and when.",
    (
        Verb(
            "list",
            "List the wirings.",
            options=(
                Value("group", "Only of this assistant.", refers="groups"),
                Value("chat", "Only of this chat.", refers="messaging-groups"),
                LIMIT,
            ),
        ),
        Verb("get", "Show one.", target=WIRING, single=True),
        Verb(
            "create",
            "Let a chat wake an assistant, which may then send there too.",
            Access.WRITE,
            options=(
                Value("chat", "The chat.", refers="messaging-groups", required=True),
                Value("group", "The assistant; without it the only one there is.", refers="groups"),
                Value("new-group", "Make a new assistant of this name for the chat instead."),
                SESSION_MODE,
                *RULES,
            ),
            single=True,
            details=(
                "The question is: may anything said in this chat come up in another one? agent-shared: they are one"
                " conversation. shared, per-thread: conversations of their own, one memory and one folder. --new-group:"
                " nothing is shared. On a terminal you are asked, unless an option decides it. Without: shared."
            ),
        ),
        Verb("update", "Change when it wakes.", Access.WRITE, WIRING, (SESSION_MODE, *RULES), single=True),
        Verb(
            "delete",
            "Stop a chat from waking an assistant, and the assistant from sending there.",
            Access.WRITE,
            WIRING,
            (Value("keep-destination", "It may go on sending there.", Kind.FLAG),),
            single=True,
        ),
    ),
)

USER_DMS = Noun(
    "user-dms",
    "The direct chats in which people can be asked.",
    (Verb("list", "List them.", options=(Value("user", "Only of this user.", refers="users"), CHANNEL, LIMIT)),),
)

DROPPED_MESSAGES = Noun(
    "dropped-messages",
    "Who was refused where and why, counted; never what they wrote.",
    (
        Verb(
            "list",
            "List them, the latest first.",
            options=(
                CHANNEL,
                Value("chat", "Only in this chat, by the platform's id."),
                Value("reason", "Only for this reason."),
                LIMIT,
            ),
        ),
    ),
)

MESSAGES = Noun(
    "messages",
    "Messages that were accepted.",
    (
        Verb(
            "trace",
            "Show what became of a message.",
            target=Value("message", "Its id, or the beginning of it.", required=True),
        ),
    ),
)
