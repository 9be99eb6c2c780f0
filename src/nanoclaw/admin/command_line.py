"""Runs a command of ours: exit codes, and errors in plain words on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from nanoclaw.errors import NanoClawError, OperatorError

FAILED = 1
OPERATOR = 2
INTERRUPTED = 130


def run_command(command: click.Command, name: str, arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 refused or failed, 2 usage or what the operator can mend, else the command's."""
    try:
        result = command.main(list(arguments), prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OperatorError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return OPERATOR
    except NanoClawError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # whoever read our output has gone (`nanoclaw logs | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return result if isinstance(result, int) else 0
