"""The command `ncl` inside a box: its arguments go to the runner, which asks the host; the answer is printed.

Called by the script `ncl` beside it as `ncl.py HOST:PORT ARGUMENTS`. Exit codes: 0 done, or a person is asked; 1
refused or failed.
"""

from __future__ import annotations

import http.client
import json
import sys

SECONDS = 40.0  # the runner answers within 30


def main(arguments: list[str]) -> int:
    """Ask and print; returns the exit code."""
    address, *rest = arguments or [""]
    try:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        connection.request("POST", "/ncl", json.dumps({"arguments": rest}))
        answer = json.loads(connection.getresponse().read())
        status, text = str(answer["status"]), str(answer["text"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"ncl: the sandbox's runner does not answer: {error}\n")
        return 1
    done = status in ("done", "pending")
    (sys.stdout if done else sys.stderr).write(text if text.endswith("\n") else text + "\n")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
