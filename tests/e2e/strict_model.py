"""The Messages API as a real host serves it: over TLS, and 401 for whoever does not show the real key.

The host of a test trusts its certificate, and knows its names, in a mount namespace of its own: the machine's trust and
/etc/hosts stay as they are. That needs root.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fake_model import FakeModel, send
from tests.flow.certificates import Authority
from tests.live import LiveHost

BUNDLE, HOSTS = Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/hosts")
NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or not BUNDLE.exists(),
    reason="needs root, unshare and Debian's CA bundle: the host trusts a test's authority in its own namespace",
)
NO_PROXY = "env -u HTTPS_PROXY -u https_proxy -u HTTP_PROXY -u http_proxy -u ALL_PROXY -u all_proxy"
UNAUTHORIZED = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'


class StrictModel(FakeModel):
    """A model behind TLS that answers nobody but the bearer of `key`; counts whom it sent away."""

    def __init__(self, context: ssl.SSLContext, key: str) -> None:
        self.key = key
        self.sent_away = 0
        super().__init__(context)

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        if handler.headers.get_all("x-api-key") != [self.key] or handler.headers.get("authorization"):
            self.sent_away += 1
            send(handler, 401, "application/json", UNAUTHORIZED)
        else:
            super().answer(handler, body)


def start_trusting(host: LiveHost, model: StrictModel, authority: Authority, names: str = "") -> LiveHost:
    """Start a host whose gateway trusts the authority, knows `names` (of a hosts file) and has the model's key."""
    bundle, hosts = authority.directory / "bundle.crt", authority.directory / "hosts"
    bundle.write_bytes(BUNDLE.read_bytes() + authority.path.read_bytes())
    hosts.write_text(HOSTS.read_text() + names)
    bind = f'mount --bind "$0" {BUNDLE} && mount --bind "$1" {HOSTS} && shift && exec "$@"'
    host.within = ("unshare", "--mount", "sh", "-c", bind, str(bundle), str(hosts))
    host.settings = {"model_upstream": model.url}
    host.start()
    nanoclaw(host, "vault", "set", "anthropic", said=model.key)
    return host


def nanoclaw(host: LiveHost, *words: str, said: str = "") -> str:
    """Run a command on a host's home; return what it printed."""
    command = [sys.executable, "-m", "nanoclaw.cli.main", *words]
    environment = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(host.home)}
    done = subprocess.run(command, env=environment, input=said, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bash(command: str) -> str:
    """Return the words that make the model call the tool Bash."""
    return f"[[tool Bash {json.dumps({'command': command, 'timeout': 110000})}]]"
