"""The entry of `nanoclaw`. `--version` answers before anything else is imported (budget: 60 ms)."""

from __future__ import annotations

import sys
from importlib import import_module

VERSION = "0.1.0"  # as in pyproject.toml, by test; asking the installed package's data would cost 20 ms


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 refused or failed, 2 usage, 3 time-out of a chat."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"nanoclaw {VERSION}")
        return 0
    return import_module("nanoclaw.cli.verbs").run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
