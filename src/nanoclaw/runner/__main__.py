"""Start of the runner: `python -I -S /opt/nanoclaw`, or `python -m nanoclaw.runner` in tests.

The order is the point: the agent's CLI needs about 0.3 s to start, so it is started first, and the event loop and the
rest of the runner are imported while it does. That is why an import stands below a statement here, and only here.
"""

import sys

sys.modules["ssl"] = None  # type: ignore[assignment]  # a box has no TLS of its own: saves 3 MB and 4 ms of asyncio

from nanoclaw.runner.start import start  # noqa: E402  reason: see above

STARTED = start(sys.argv[1:]) if __name__ == "__main__" else None

from nanoclaw.runner.main import main  # noqa: E402  reason: see above

if STARTED is not None:
    sys.exit(main(STARTED))
