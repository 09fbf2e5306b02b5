"""The roles that keys, users and dashboards name."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a caller is on the whole instance. `KEY_ONLY`: a key without a user.

    Administering an organization or a team is no role of its own: it is a membership, and bounded by it.
    """

    PROXY_ADMIN = "proxy_admin"
    PROXY_ADMIN_VIEWER = "proxy_admin_viewer"
    ORG_ADMIN = "org_admin"
    INTERNAL_USER = "internal_user"
    INTERNAL_USER_VIEWER = "internal_user_viewer"
    KEY_ONLY = "key_only"


READERS = (Role.PROXY_ADMIN, Role.PROXY_ADMIN_VIEWER)
MEMBERS = (Role.PROXY_ADMIN, Role.ORG_ADMIN, Role.INTERNAL_USER)
USERS = (*READERS, Role.ORG_ADMIN, Role.INTERNAL_USER, Role.INTERNAL_USER_VIEWER)
ANYONE = tuple(Role)
