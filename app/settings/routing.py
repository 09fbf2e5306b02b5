"""Settings of routing: which deployment answers, how often a call is tried, who takes over. Part of `Settings`."""

# ruff: noqa: RUF009 (settings are declared by call; a wrong value is a ValueError whatever its type)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .declaration import EMPTY, boolean, mapping, positive, setting, whole

STRATEGIES = (
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
)
# What the field's policies distinguish, before `ErrorRetries` or `ErrorAllowedFails`.
FAILURE_KINDS = (
    "BadRequest",
    "Authentication",
    "Timeout",
    "RateLimit",
    "ContentPolicyViolation",
    "InternalServer",
    "ServiceUnavailable",
    "BadGateway",
    "NotFound",
)
DEFAULT_KIND = "Default"
# Policy of the file -> how its names end.
_POLICIES = {"retry_policy": "Retries", "allowed_fails_policy": "AllowedFails"}
_GROUP_POLICIES = "model_group_retry_policy"
# The group whose fallbacks serve every group.
ANY_GROUP = "*"


@dataclass(frozen=True, slots=True)
class FallbackTarget:
    """A group to go to, and the fields of the body that it replaces."""

    model: str
    fields: Mapping[str, Any] = EMPTY


# Group -> the groups that take over from it, in order.
Fallbacks = Mapping[str, tuple[FallbackTarget, ...]]
# Kind of failure -> how often.
FailurePolicy = Mapping[str, int]


def fallback_targets(value: Any) -> tuple[FallbackTarget, ...]:
    """A list of group names, or of objects with `model` and other fields of the body. Raises ValueError."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence):
        raise ValueError("is not a list of model names")
    targets: list[FallbackTarget] = []
    for entry in value:
        model = entry.get("model") if isinstance(entry, Mapping) else entry
        if not isinstance(model, str) or not model:
            raise ValueError("has a target that is neither a model name nor an object with `model`")
        fields = {key: item for key, item in entry.items() if key != "model"} if isinstance(entry, Mapping) else {}
        targets.append(FallbackTarget(model, MappingProxyType(fields)))
    return tuple(targets)


def fallback_groups(value: Any) -> Fallbacks:
    """`[{group: [targets]}, …]` as the field writes it, or one mapping. Raises ValueError."""
    rows = [value] if isinstance(value, Mapping) else value
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("is not a list; write `- group: [other-group]` lines below it")
    groups: dict[str, tuple[FallbackTarget, ...]] = {}
    for row in rows:
        for group, targets in row.items():
            groups[str(group)] = (*groups.get(str(group), ()), *fallback_targets(targets))
    return MappingProxyType(groups)


def _policy(value: Any, ending: str) -> FailurePolicy:
    policy: dict[str, int] = {}
    known = _policy_names(ending)
    for name, number in mapping(value).items():
        if name not in known:
            raise ValueError(f"has {name!r}; use {', '.join(known)}")
        if number is not None:
            policy[known[name]] = whole(number)
    return MappingProxyType(policy)


def _policy_names(ending: str) -> dict[str, str]:
    """Name in a policy -> kind of failure."""
    return {f"{kind}Error{ending}": kind for kind in FAILURE_KINDS} | {f"Default{ending}": DEFAULT_KIND}


def without_unknown_kinds(section: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`router_settings` or a `model_info` without the names in its policies that nobody knows, and those names.

    A file of another version may have them; who sends them over the API is told that they are wrong.
    """
    unknown: list[str] = []

    def known_part(policy: Any, place: str, ending: str) -> Any:
        if not isinstance(policy, Mapping):
            return policy
        names = _policy_names(ending)
        unknown.extend(f"{place}.{name}" for name in policy if name not in names)
        return {name: number for name, number in policy.items() if name in names}

    checked = {
        key: known_part(value, key, _POLICIES[key]) if key in _POLICIES else value for key, value in section.items()
    }
    groups = section.get(_GROUP_POLICIES)
    if isinstance(groups, Mapping):
        checked[_GROUP_POLICIES] = {
            group: known_part(policy, f"{_GROUP_POLICIES}.{group}", "Retries") for group, policy in groups.items()
        }
    return checked, unknown


def retry_policy(value: Any) -> FailurePolicy:
    """`{"RateLimitErrorRetries": 3, …}` by kind of failure. Raises ValueError."""
    return _policy(value, "Retries")


def _group_retry_policies(value: Any) -> Mapping[str, FailurePolicy]:
    return MappingProxyType({group: retry_policy(policy) for group, policy in mapping(value).items()})


def allowed_fails_policy(value: Any) -> FailurePolicy:
    """`{"RateLimitErrorAllowedFails": 10, …}` by kind of failure. Raises ValueError."""
    return _policy(value, "AllowedFails")


def _strategy(value: Any) -> str:
    if value not in STRATEGIES:
        raise ValueError(f"is no strategy; use {', '.join(STRATEGIES)}")
    return str(value)


def _zero_or_more(value: Any) -> float:
    return 0.0 if value in (0, 0.0, "0") else positive(value)


def _aliases(value: Any) -> Mapping[str, tuple[str, bool]]:
    """Alias -> (group, whether lists leave the alias out)."""
    aliases: dict[str, tuple[str, bool]] = {}
    for alias, target in mapping(value).items():
        is_object = isinstance(target, Mapping)
        model = target.get("model") if is_object else target
        if not isinstance(model, str) or not model:
            raise ValueError(f"has the alias {alias!r} of no model; write `alias: group`")
        aliases[alias] = (model, is_object and boolean(target.get("hidden", False)))
    return MappingProxyType(aliases)


def _limit_checks(value: Any) -> bool:
    """Of the field's `optional_pre_call_checks` the one that holds deployments to their rpm and tpm."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("is not a list of names")
    return "enforce_model_rate_limits" in value


# ---- as the configuration writes it --------------------------------------------------------------------------------


def _targets_json(targets: Sequence[FallbackTarget]) -> list[Any]:
    return [{"model": target.model, **target.fields} if target.fields else target.model for target in targets]


def _groups_json(groups: Fallbacks) -> list[Any]:
    return [{group: _targets_json(targets)} for group, targets in groups.items()]


def _policy_json(policy: FailurePolicy, ending: str) -> dict[str, int]:
    return {f"{kind}{'' if kind == DEFAULT_KIND else 'Error'}{ending}": number for kind, number in policy.items()}


def _retries_json(policy: FailurePolicy) -> dict[str, int]:
    return _policy_json(policy, "Retries")


def _group_retries_json(policies: Mapping[str, FailurePolicy]) -> dict[str, Any]:
    return {group: _retries_json(policy) for group, policy in policies.items()}


def _allowed_fails_json(policy: FailurePolicy) -> dict[str, int]:
    return _policy_json(policy, "AllowedFails")


def _aliases_json(aliases: Mapping[str, tuple[str, bool]]) -> dict[str, Any]:
    return {
        alias: {"model": group, "hidden": True} if is_hidden else group for alias, (group, is_hidden) in aliases.items()
    }


def _limit_checks_json(is_on: bool) -> list[str]:
    return ["enforce_model_rate_limits"] if is_on else []


@dataclass(frozen=True, kw_only=True)
class RoutingSettings:
    """Seconds for times. Every one of them may change while an instance runs, but for what is done with bad entries."""

    is_strict: bool = setting(
        "Do not start with an entry of `model_list` that cannot be served. Without it that entry is left out by name.",
        boolean,
        False,
        env="QUARTERDECK_STRICT",
        yaml="general_settings.strict",
        operator_only=True,
    )
    ignores_invalid_deployments: bool = setting(
        "The field's opposite of `strict`: `false` means the same as `strict: true`.",
        boolean,
        True,
        yaml="router_settings.ignore_invalid_deployments",
        operator_only=True,
    )
    routing_strategy: str = setting(
        f"How a deployment of a group is chosen: {', '.join(STRATEGIES)}.",
        _strategy,
        STRATEGIES[0],
        yaml="router_settings.routing_strategy",
        runtime=True,
    )
    routing_strategy_args: Mapping[str, Any] = setting(
        "Of latency-based-routing: `lowest_latency_buffer`, the part above the best that still counts as good.",
        mapping,
        EMPTY,
        yaml="router_settings.routing_strategy_args",
        runtime=True,
    )
    num_retries: int = setting(
        "How often a call is tried again within its group after a failure that may pass.",
        whole,
        2,
        yaml="router_settings.num_retries",
        also="litellm_settings.num_retries",
        runtime=True,
    )
    retry_after: float = setting(
        "Least seconds between two tries on the last healthy deployment.",
        _zero_or_more,
        0.0,
        yaml="router_settings.retry_after",
        runtime=True,
    )
    retry_policy: FailurePolicy = setting(
        "Tries by kind of failure, as `RateLimitErrorRetries: 3`; a kind that is not named counts by `num_retries`.",
        retry_policy,
        EMPTY,
        yaml="router_settings.retry_policy",
        to_json=_retries_json,
        runtime=True,
    )
    model_group_retry_policy: Mapping[str, FailurePolicy] = setting(
        "The same for single groups; wins over `retry_policy`.",
        _group_retry_policies,
        EMPTY,
        yaml="router_settings.model_group_retry_policy",
        to_json=_group_retries_json,
        runtime=True,
    )
    allowed_fails: int | None = setting(
        "Failures in a minute that a deployment may have before it cools down, the only one of a group too.",
        whole,
        yaml="router_settings.allowed_fails",
        also="litellm_settings.allowed_fails",
        runtime=True,
    )
    allowed_fails_policy: FailurePolicy = setting(
        "The same by kind of failure, as `RateLimitErrorAllowedFails: 10`.",
        allowed_fails_policy,
        EMPTY,
        yaml="router_settings.allowed_fails_policy",
        to_json=_allowed_fails_json,
        runtime=True,
    )
    cooldown_seconds: float = setting(
        "How long a failing deployment cools down, unless it or its provider's Retry-After says otherwise.",
        _zero_or_more,
        5.0,
        env="DEFAULT_COOLDOWN_TIME_SECONDS",
        yaml="router_settings.cooldown_time",
        runtime=True,
    )
    disable_cooldowns: bool = setting(
        "Never let a deployment cool down.",
        boolean,
        False,
        yaml="router_settings.disable_cooldowns",
        runtime=True,
    )
    fallbacks: Fallbacks = setting(
        "Groups that take over when a group fails, as `- chat: [other]`; `*` serves every group.",
        fallback_groups,
        EMPTY,
        yaml="router_settings.fallbacks",
        also="litellm_settings.fallbacks",
        to_json=_groups_json,
        runtime=True,
    )
    default_fallbacks: tuple[FallbackTarget, ...] = setting(
        "Groups that take over from every group that names none.",
        fallback_targets,
        (),
        yaml="router_settings.default_fallbacks",
        also="litellm_settings.default_fallbacks",
        to_json=_targets_json,
        runtime=True,
    )
    context_window_fallbacks: Fallbacks = setting(
        "Groups for prompts that are too long for their model. Set, only they take over for that reason.",
        fallback_groups,
        EMPTY,
        yaml="router_settings.context_window_fallbacks",
        also="litellm_settings.context_window_fallbacks",
        to_json=_groups_json,
        runtime=True,
    )
    content_policy_fallbacks: Fallbacks = setting(
        "Groups for what a provider refuses by its content policy. Set, only they take over for that reason.",
        fallback_groups,
        EMPTY,
        yaml="router_settings.content_policy_fallbacks",
        also="litellm_settings.content_policy_fallbacks",
        to_json=_groups_json,
        runtime=True,
    )
    max_fallbacks: int = setting(
        "Most groups that one call may go on to.",
        whole,
        5,
        env="ROUTER_MAX_FALLBACKS",
        yaml="router_settings.max_fallbacks",
        runtime=True,
    )
    model_group_alias: Mapping[str, tuple[str, bool]] = setting(
        "Other names of groups, as `fast: chat` or `fast: {model: chat, hidden: true}`.",
        _aliases,
        EMPTY,
        yaml="router_settings.model_group_alias",
        to_json=_aliases_json,
        runtime=True,
    )
    enable_pre_call_checks: bool = setting(
        "Pass over deployments whose context window is too small for a prompt or whose rpm is used up.",
        boolean,
        False,
        yaml="router_settings.enable_pre_call_checks",
        runtime=True,
    )
    enforces_deployment_limits: bool = setting(
        "With `enforce_model_rate_limits` in it: hold every deployment to its rpm and tpm, over all processes.",
        _limit_checks,
        False,
        yaml="router_settings.optional_pre_call_checks",
        to_json=_limit_checks_json,
        runtime=True,
    )
    enable_tag_filtering: bool = setting(
        "Choose among the deployments whose `tags` a call names, else among those tagged `default` or untagged.",
        boolean,
        False,
        yaml="router_settings.enable_tag_filtering",
        runtime=True,
    )
    tag_filtering_match_any: bool = setting(
        "Whether one common tag is enough; otherwise a deployment must have all of a call's tags.",
        boolean,
        True,
        yaml="router_settings.tag_filtering_match_any",
        runtime=True,
    )
