"""Who people are and what they may do.

A user is one person with identities on several channels. Roles: `owner` (always global), `admin` (global, or of
one agent group). Members are the known people of an agent group; owners and admins are members without a row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

UserId = NewType("UserId", str)


class Role(StrEnum):
    """Rights above those of a member."""

    OWNER = "owner"
    ADMIN = "admin"


class Standing(StrEnum):
    """How a user stands to an agent group, or (without one) to the whole home."""

    OWNER = "owner"
    ADMIN = "admin"  # of every agent group
    GROUP_ADMIN = "group-admin"
    MEMBER = "member"
    STRANGER = "stranger"

    @property
    def is_known(self) -> bool:
        """Whether the agent group knows them."""
        return self is not Standing.STRANGER

    @property
    def is_approver(self) -> bool:
        """Whether they decide for the agent group: who may enter, what its agent may do."""
        return self in (Standing.OWNER, Standing.ADMIN, Standing.GROUP_ADMIN)
