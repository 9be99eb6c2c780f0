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
    _reopen_closed()
    try:
        result = command.main(list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk can be told in words
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
        _forget_output()
        return FAILED
    except OSError as error:
        print(f"{name}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        _forget_output()
        return FAILED
    return result if isinstance(result, int) else 0


def _reopen_closed() -> None:
    """Point what was closed of stdin, stdout and stderr to nowhere: no file or socket of ours may take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115  for as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115


def _forget_output() -> None:
    """Send what is still buffered for stdout nowhere, so that the end of the process does not fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
