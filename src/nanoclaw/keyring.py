"""The operating system's keyring, by its own tool: `secret-tool` of libsecret, or `security` of macOS.

It keeps a passphrase made by chance, for the vault of one home. Runs in the host and the command line, never in the
gateway, which has no session to ask. In: the home's install id. Never: a passphrase in an argument; it goes by stdin.
Fails: OperatorError with what mends it.
"""

from __future__ import annotations

import shutil
import subprocess

from nanoclaw.errors import OperatorError

CURRENT, NEXT = "current", "next"  # a change that was cut off leaves both: one of them opens the vault
TOOL_SECONDS = 60.0  # the system may ask the person for the keyring's own password
MISSING = (
    "There is no tool for the system's keyring here. Install secret-tool (Debian: apt install libsecret-tools), or "
    "choose `nanoclaw vault protect passphrase`"
)


def keep_passphrase(install: str, slot: str, passphrase: str) -> None:
    """Keep a passphrase. Raises OperatorError."""
    tool = _find_tool()
    if tool.endswith("secret-tool"):
        _run([tool, "store", "--label=NanoClaw vault", *_attributes(install, slot)], passphrase)
    else:  # `security -i` reads its command from stdin, so that the passphrase is in no argument
        _run([tool, "-i"], f"add-generic-password -U -s nanoclaw-vault -a {install}-{slot} -w {passphrase}\n")


def find_passphrases(install: str) -> list[str]:
    """Return what may open the vault, the likelier first; empty when the keyring has nothing. Raises OperatorError."""
    tool = _find_tool()
    found: list[str] = []
    for slot in (CURRENT, NEXT):
        if tool.endswith("secret-tool"):
            command = [tool, "lookup", *_attributes(install, slot)]
        else:
            command = [tool, "find-generic-password", "-s", "nanoclaw-vault", "-a", f"{install}-{slot}", "-w"]
        if value := _run(command, "", may_fail=True).strip():
            found.append(value)
    return found


def clear_passphrase(install: str, *slots: str) -> None:
    """Forget passphrases, of every slot when none is named; nothing happens where there is no keyring."""
    tool = shutil.which("secret-tool") or shutil.which("security")
    for slot in slots or (CURRENT, NEXT):
        if tool is not None and tool.endswith("secret-tool"):
            _run([tool, "clear", *_attributes(install, slot)], "", may_fail=True)
        elif tool is not None:
            _run(
                [tool, "delete-generic-password", "-s", "nanoclaw-vault", "-a", f"{install}-{slot}"], "", may_fail=True
            )


def _attributes(install: str, slot: str) -> list[str]:
    return ["service", "nanoclaw-vault", "install", install, "slot", slot]


def _find_tool() -> str:
    tool = shutil.which("secret-tool") or shutil.which("security")
    if tool is None:
        raise OperatorError(MISSING)
    return tool


def _run(command: list[str], stdin: str, *, may_fail: bool = False) -> str:
    """Return what the tool says; it may ask the person by a window of its own."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise OperatorError("The system's keyring did not answer. Unlock it, or choose another protection") from None
    if done.returncode != 0 and not may_fail:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OperatorError(f"The system's keyring refused ({why}). Unlock it, or choose another protection")
    return done.stdout if done.returncode == 0 else ""
