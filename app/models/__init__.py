"""The tables of one instance, one family per file, each with the rules of its table.

Tortoise writes a model's docstring into CREATE TABLE as a comment and splits statements at semicolons: none in there.
"""

from .access_group import AccessGroup, ModelAccessGroupBudget
from .audit import AuditLog
from .budget import Budget, BudgetWindow, Counter, GatewayProcess, RateBucket, RunningCalls
from .config_entry import ConfigEntry
from .credential import Credential
from .deployment import StoredDeployment
from .end_user import EndUser
from .health_check import BACKGROUND_CHECK, HealthCheck
from .invitation import Invitation
from .organization import Organization, OrganizationMembership
from .session import ConsoleSession, LoginCode
from .spend import DailyEntitySpend, DailySpend, SpendLog
from .tag import Tag
from .team import DeletedTeam, Team, TeamMembership
from .user import User
from .versioned import ChangedMeanwhile, Versioned
from .virtual_key import DeletedVirtualKey, DeprecatedKey, VirtualKey

__all__ = [
    "BACKGROUND_CHECK",
    "AccessGroup",
    "AuditLog",
    "Budget",
    "BudgetWindow",
    "ChangedMeanwhile",
    "ConfigEntry",
    "ConsoleSession",
    "Counter",
    "Credential",
    "DailyEntitySpend",
    "DailySpend",
    "DeletedTeam",
    "DeletedVirtualKey",
    "DeprecatedKey",
    "EndUser",
    "GatewayProcess",
    "HealthCheck",
    "Invitation",
    "LoginCode",
    "ModelAccessGroupBudget",
    "Organization",
    "OrganizationMembership",
    "RateBucket",
    "RunningCalls",
    "SpendLog",
    "StoredDeployment",
    "Tag",
    "Team",
    "TeamMembership",
    "User",
    "Versioned",
    "VirtualKey",
]
