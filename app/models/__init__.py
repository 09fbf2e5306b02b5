"""The tables of one instance, one family per file, each with the rules of its table.

Tortoise writes a model's docstring into CREATE TABLE as a comment and splits statements at semicolons: none in there.
"""

from .audit import AuditLog
from .budget import Budget
from .deployment import StoredDeployment
from .session import ConsoleSession, LoginCode
from .spend import DailySpend, SpendLog
from .team import Team, TeamMembership
from .user import User
from .virtual_key import DeletedVirtualKey, VirtualKey

__all__ = [
    "AuditLog",
    "Budget",
    "ConsoleSession",
    "DailySpend",
    "DeletedVirtualKey",
    "LoginCode",
    "SpendLog",
    "StoredDeployment",
    "Team",
    "TeamMembership",
    "User",
    "VirtualKey",
]
