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
