"""A value that prints as ***, for the gateway and for the host that is handed one."""

from __future__ import annotations


class Secret:
    """A value that prints as ***."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for who uses it."""
        return self._value

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied."""
        raise TypeError("a secret is not serialised")
