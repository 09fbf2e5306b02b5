"""What a key's `allowed_routes` may name: groups of routes, paths, and paths with `*`."""

from __future__ import annotations

_INFO = (
    "/key/info /key/health /team/info /team/list /v2/team/list /organization/list /team/available /user/info "
    "/v2/user/info /model/info /v1/model/info /v2/model/info /v2/key/info /model_group/info /health /health/services "
    "/key/list /key/aliases /user/filter/ui /models /v1/models /sso/get/ui_settings /get/user_banner"
).split()
_SPEND = ("/spend/*", "/user/daily/*", "/team/daily/*", "/tag/daily/*", "/organization/daily/*", "/customer/daily/*")
_GLOBAL_SPEND = ("/global/*", "/gateway/daily/activity")
_SELF = ("/team/member_add", "/team/member_delete", "/team/permissions_list", "/user/password/change", "/model/*")

# Name that clients write -> groups of app/route_groups.py, and paths (a trailing * is anything). Pass-through is
# of the group "llm" as a route, and "pass_through" as a call: who may speak OpenAI's dialect need not reach every
# provider.
_GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "llm_api_routes": (("llm", "models", "pass_through"), ()),
    "openai_routes": (("llm", "models"), ()),
    "anthropic_routes": ((), ("/anthropic/*", "/v1/messages*")),
    "google_routes": ((), ("/gemini/*", "/vertex_ai/*", "/vertex-ai/*", "/v1beta/*")),
    "management_routes": (("admin", "deployments"), ()),
    "key_management_routes": ((), ("/key/*",)),
    "info_routes": ((), tuple(_INFO)),
    "spend_tracking_routes": ((), _SPEND),
    "global_spend_tracking_routes": ((), _GLOBAL_SPEND),
    "self_managed_routes": ((), _SELF),
    "internal_user_routes": ((), ("/key/*", *_INFO, *_SPEND)),
    "public_routes": (("health", "discovery"), ()),
    "ui_routes": (("admin", "deployments", "login"), ()),
    "admin_viewer_routes": (("admin", "deployments"), ()),
}


def route_matches(entry: str, path: str, group: str) -> bool:
    """Whether one entry of `allowed_routes` covers a path: the name of a group, a path, or a path with `*`."""
    if entry in _GROUPS:
        groups, patterns = _GROUPS[entry]
        return group in groups or any(_covers(pattern, path) for pattern in patterns)
    return _covers(entry, path)


def _covers(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
