"""What an agent may ask of the host (outbound kind `request`): a name and arguments, nothing more.

The host answers at once with a `ToolAnswer` (contract/message.py) under the request's seq; what a person decides later
comes as a `system` message. A name the host has no handler for is refused and the agent told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

REQUEST_ACCESS = "request_access"  # arguments: host, methods, paths, reason
INSTALL_PACKAGES = "install_packages"  # arguments: apt, npm, pip, reason
ADD_MCP_SERVER = "add_mcp_server"  # arguments: name, command, args, env, hosts, reason, instructions


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One request as the runner writes it; `arguments` is a JSON object, parsed by its handler on the host."""

    action: str
    arguments: str

    def to_json(self) -> str:
        """Serialise for the `content` column."""
        return json.dumps({"action": self.action, "arguments": self.arguments}, separators=(",", ":"))
