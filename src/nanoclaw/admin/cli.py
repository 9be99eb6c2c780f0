"""The entry of `ncl`: `ncl RESOURCE VERB [ID] [--flag value]`, answered by the host, else by the store itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nanoclaw.admin.client import ask_host
from nanoclaw.admin.offline import ask_file
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table, format_table, to_json
from nanoclaw.config import Paths, load_config
from nanoclaw.errors import NanoClawError, OperatorError

HELP = """\
Usage: ncl RESOURCE VERB [ID] [--flag value] [--json]

  ncl groups list           the assistants
  ncl sessions list         an assistant in a chat, and whether a sandbox runs for it
  ncl messages trace ID     what became of a message
  ncl audit list|verify     what the host decided
  ncl host status|stop      the host itself
"""


def main() -> int:
    """Run `ncl` and return its exit code: 0 done, 1 refused or failed, 2 usage."""
    try:
        return run(sys.argv[1:])
    except OperatorError as error:
        print(f"ncl: {error}", file=sys.stderr)
        return 2
    except NanoClawError as error:
        print(f"ncl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(arguments: Sequence[str]) -> int:
    """Ask, and print the answer. Raises NanoClawError."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if arguments else 2
    request, as_json = parse_arguments(arguments)
    config = load_config()
    table, live = ask(config.paths, request)
    if not live:
        print("ncl: no host runs; this is what the store says", file=sys.stderr)
    print(to_json(table) if as_json else format_table(table, config.timezone))
    return 0


def ask(paths: Paths, request: Request) -> tuple[Table, bool]:
    """Return an answer and whether a running host gave it; without one the store's file is read."""
    table = ask_host(paths.admin_socket, request)
    return (ask_file(paths, request), False) if table is None else (table, True)


def parse_arguments(arguments: Sequence[str]) -> tuple[Request, bool]:
    """Parse a command line; returns whether JSON is wanted beside the request. Raises OperatorError."""
    words: list[str] = []
    flags: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        if word == "--json":
            flags["json"] = "yes"
        elif word.startswith("--"):
            name, separator, value = word[2:].partition("=")
            flags[name] = value if separator else next(rest, "")
        else:
            words.append(word)
    if not 2 <= len(words) <= 3:
        raise OperatorError("say which resource and which verb: ncl sessions list. `ncl --help` lists them")
    as_json = flags.pop("json", None) is not None
    return Request(words[0], words[1], words[2] if len(words) == 3 else None, flags), as_json


if __name__ == "__main__":
    sys.exit(main())
