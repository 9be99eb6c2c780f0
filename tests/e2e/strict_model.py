"""The Messages API as a real host serves it: over TLS, and 401 for whoever does not show the real key.

The host of a test trusts its certificate, and knows its names, in a mount namespace of its own: the machine's trust and
/etc/hosts stay as they are. That needs root.
"""

from __future__ import annotations

import http.server
import ssl
from typing import Any

from tests.e2e.fake_model import FakeModel, send

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
