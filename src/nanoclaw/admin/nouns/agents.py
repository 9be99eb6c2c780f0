"""What `ncl` can do with assistants: groups, sessions, destinations, tasks."""

from __future__ import annotations

from nanoclaw.admin.verb import LIMIT, Access, Kind, Noun, Value, Verb

SCOPES = ("disabled", "group", "global")
EFFORTS = ("default", "low", "medium", "high", "max")
PROVIDERS = ("claude", "echo")
REQUIRE = ("separate-kernel", "none")

GROUP = Value(
    "id", "The assistant: its id, the beginning of it, its folder or its name.", refers="groups", required=True
)
OF_GROUP = Value("group", "Only of this assistant.", refers="groups")
NAME = Value("name", "What people call it.", required=True)
INSTRUCTIONS = Value("instructions", "Who it is and how it works; it cannot change this.", Kind.PROSE)

CONFIG = (
    Value("provider", "The agent that answers.", Kind.CHOICE, PROVIDERS),
    Value("model", "The model; `default` for the provider's own."),
    Value("effort", "How hard it thinks.", Kind.CHOICE, EFFORTS),
    Value("cli-scope", "How far `ncl` reaches in its sandbox.", Kind.CHOICE, SCOPES),
    INSTRUCTIONS,
    Value("runtime", "What builds its sandbox: bubblewrap, docker, docker:runsc, ...; `nanoclaw doctor` recommends."),
    Value("require", "What its sandbox must have; a weaker runtime is refused.", Kind.CHOICE, REQUIRE),
)
LIMITS = (
    Value("memory", "Memory, e.g. 4G; `default` takes a limit back."),
    Value("pids", "Processes at once."),
    Value("cpus", "CPU cores, e.g. 1.5."),
    Value("disk", "Its files: workspace and homes together, e.g. 10G."),
    Value("open-files", "Open files of a process."),
    Value("tmp", "The size of /tmp, e.g. 512M."),
    Value("turn-minutes", "How long it may work on one message."),
)
MOUNT = Value("path", "An absolute path of a folder on this machine.", required=True)
SERVER = Value("name", "The server's name: a-z, 0-9, - and _.", required=True)
GIVEN = Value("path", "The folder's path, or its name below /extra.", required=True)
SKILL = Value("skill", "The skill's name.", required=True, repeated=True)

PACKAGES = (
    Value("apt", "A Debian package, e.g. jq.", repeated=True),
    Value("npm", "An npm package, e.g. prettier or @scope/name@1.2.3.", repeated=True),
    Value("pip", "A Python package, e.g. requests==2.32.0.", repeated=True),
)

GROUPS = Noun(
    "groups",
    "Assistants, each with a folder, a memory and a sandbox of its own.",
    (
        Verb(
            "list",
            "List the assistants.",
            options=(Value("archived", "Those put away too.", Kind.FLAG), LIMIT),
        ),
        Verb("get", "Show one.", target=GROUP, single=True),
        Verb(
            "create",
            "Make one, with a folder, a memory and a config of its own.",
            Access.WRITE,
            NAME,
            (Value("folder", "Its folder below groups/; made from the name when not given."), INSTRUCTIONS),
            single=True,
        ),
        Verb("update", "Change its name.", Access.WRITE, GROUP, (NAME,), single=True),
        Verb(
            "delete",
            "Put one away: it answers no more, and everything of it is kept.",
            Access.WRITE,
            GROUP,
            (Value("purge", "Erase it: its messages, folder and memory.", Kind.FLAG),),
            single=True,
            details="`ncl groups restore` brings back what was put away, unless it was erased.",
            confirm="Erase this assistant with all its messages, files and memory? There is no way back.",
            confirm_when="purge",
        ),
        Verb("restore", "Bring back one that was put away.", Access.WRITE, GROUP, single=True),
        Verb(
            "restart",
            "End its running sandboxes; what they were at work on begins again.",
            Access.WRITE,
            Value("id", "The assistant; in a sandbox, without one: the own session.", refers="groups"),
            (Value("message", "A note for the agent, which begins a turn.", Kind.PROSE),),
        ),
        Verb(
            "sandbox",
            "Show all that its next sandbox would get: mounts, environment, limits, runtime, image, ports.",
            Access.PROCESS,
            GROUP,
        ),
        Verb("config get", "Show how it is set up.", target=GROUP, single=True),
        Verb(
            "config update",
            "Change how it is set up; its sandboxes have it from their next start.",
            Access.WRITE,
            GROUP,
            (*CONFIG, *LIMITS),
            single=True,
        ),
        Verb(
            "config add-mount",
            "Give its sandboxes a folder of this machine, at /extra/NAME; read-only unless said.",
            Access.WRITE,
            GROUP,
            (
                MOUNT,
                Value("read-write", "The agent may write there, where the allowlist lets it.", Kind.FLAG),
                Value("name", "Its name below /extra; the last part of the path when not given."),
            ),
            single=True,
            details="The folder must be allowed: nanoclaw mounts allow PATH. That is looked at again at each start.",
        ),
        Verb("config remove-mount", "Take a folder away from it.", Access.WRITE, GROUP, (GIVEN,), single=True),
        Verb("config list-skills", "List the skills there are, and which of them it has.", target=GROUP),
        Verb(
            "config add-skill",
            "Give it skills; `all` for whatever there is. One that had all has then these alone.",
            Access.WRITE,
            GROUP,
            (SKILL,),
            details="Your own lie in `skills/` of the home, each a folder with a SKILL.md in it.",
        ),
        Verb(
            "config add-package",
            "Install packages for its sandboxes.",
            Access.WRITE,
            GROUP,
            PACKAGES,
            single=True,
            details="They are built now, in a sandbox of their own; a build that fails changes nothing.",
        ),
        Verb(
            "config remove-package",
            "Install it anew without some packages.",
            Access.WRITE,
            GROUP,
            PACKAGES,
            single=True,
        ),
        Verb("builds", "List the builds of its packages.", target=GROUP),
        Verb("config remove-skill", "Take skills from it; `all` for every one.", Access.WRITE, GROUP, (SKILL,)),
        Verb("config list-mcp-servers", "List the MCP servers in its sandboxes.", target=GROUP),
        Verb(
            "config add-mcp-server",
            "Have an MCP server run in its sandboxes, or replace the one of that name.",
            Access.WRITE,
            GROUP,
            (
                SERVER,
                Value("command", "The program, such as npx.", required=True),
                Value("arg", "An argument of it; as often as there are arguments.", repeated=True),
                Value("env", "A variable for it, NAME=VALUE. No keys: those go into the vault.", repeated=True),
                Value("instructions", "What its agent should know about it.", Kind.PROSE),
            ),
            details="What it calls on the internet needs rules: `nanoclaw egress allow`.",
        ),
        Verb("config remove-mcp-server", "Remove one.", Access.WRITE, GROUP, (SERVER,)),
    ),
)

SESSIONS = Noun(
    "sessions",
    "An assistant in a chat, and whether a sandbox runs for it.",
    (
        Verb(
            "list",
            "List the sessions, the latest first.",
            options=(
                OF_GROUP,
                Value("chat", "Only of this chat.", refers="messaging-groups"),
                Value("closed", "Those that are over too.", Kind.FLAG),
                LIMIT,
            ),
        ),
        Verb(
            "get",
            "Show one.",
            target=Value("id", "Its id, or the beginning of it.", refers="sessions", required=True),
            single=True,
        ),
    ),
)

DESTINATIONS = Noun(
    "destinations",
    "Where an assistant may send, and the names by which it knows these places.",
    (
        Verb("list", "List them.", options=(OF_GROUP, LIMIT)),
        Verb(
            "add",
            "Let an assistant send to a chat or to another assistant.",
            Access.WRITE,
            options=(
                Value("group", "The assistant that may send.", refers="groups", required=True),
                Value("to-chat", "The chat it may send to.", refers="messaging-groups"),
                Value("to-group", "The assistant it may send to.", refers="groups"),
                Value("name", "The name it knows the place by: a-z, 0-9 and dashes."),
            ),
            single=True,
        ),
        Verb(
            "remove",
            "Stop an assistant from sending somewhere.",
            Access.WRITE,
            Value("name", "The name it knows the place by.", required=True),
            (Value("group", "The assistant.", refers="groups", required=True),),
            single=True,
        ),
    ),
)

TASKS = Noun(
    "tasks",
    "What is due at a time.",
    (
        Verb(
            "list",
            "List the tasks, the next one first.",
            options=(OF_GROUP, Value("state", "Only those.", Kind.CHOICE, ("active", "paused", "ended")), LIMIT),
        ),
        Verb(
            "get",
            "Show one.",
            target=Value("id", "Its id, or the beginning of it.", refers="tasks", required=True),
            single=True,
        ),
    ),
)
