"""What of a configuration file has no effect: keys, variables and names in policies, each said once at the start."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .config_keys import CONTRACT_KEYS, CONTRACT_VARIABLES, SUPPORTED_KEYS
from .routing import without_unknown_kinds

SECTIONS = ("general_settings", "litellm_settings", "router_settings")
_DEPLOYMENT_KEYS = {"model_name", "litellm_params", "model_info", "rpm", "tpm", "weight"}
_WORKER_KEYS = {"worker_id", "name", "url", "labels", "environment"}


def entry_problem(row: Any) -> str | None:
    """What is wrong with the shape of an entry of `model_list`."""
    if not isinstance(row, dict) or not isinstance(row.get("model_name"), str):
        return "model_name: is missing; it is the name that clients ask for"
    params = row.get("litellm_params")
    if not isinstance(params, dict) or not isinstance(params.get("model"), str):
        return "litellm_params.model: is missing; write provider/model, as openai/gpt-4o"
    if not isinstance(row.get("model_info") or {}, dict):
        return "model_info: is not a mapping; write `mode: chat` lines below it"
    return None


def warn_of_keys(name: str, document: dict[str, Any]) -> list[str]:
    """One warning for keys of the contract that do nothing here yet, one for keys that nobody knows."""
    present = [str(key) for key, value in document.items() if key not in SECTIONS and value not in (None, [], {})]
    for section in SECTIONS:
        present.extend(f"{section}.{key}" for key in (document.get(section) or {}))
    for row in document.get("worker_registry") or []:
        present.extend(f"worker_registry.{key}" for key in row if key not in _WORKER_KEYS)
    for row in document.get("model_list") or []:
        if entry_problem(row) is None:
            present.extend(f"model_list.{key}" for key in row if key not in _DEPLOYMENT_KEYS)
            present.extend(f"litellm_params.{key}" for key in row["litellm_params"])
            present.extend(f"model_info.{key}" for key in row.get("model_info") or {})
    present = list(dict.fromkeys(present))
    waiting = [key for key in present if key in CONTRACT_KEYS and key not in SUPPORTED_KEYS]
    unknown = [
        key
        for key in present
        # A deployment may carry any parameter of the provider's own, and any fact about the model.
        if key not in CONTRACT_KEYS
        and key not in SUPPORTED_KEYS
        and not key.startswith(("litellm_params.", "model_info."))
    ]
    warnings = []
    if waiting:
        warnings.append(f"{name}: not supported yet and without effect: {', '.join(waiting)}")
    if unknown:
        warnings.append(f"{name}: unknown and without effect: {', '.join(_suggest(key) for key in unknown)}")
    return warnings


def warn_of_unset(name: str, unset: Mapping[str, str]) -> list[str]:
    """One warning for references to variables that are not set: what they stood for is absent."""
    places = [f"{variable} ({path})" for path, variable in unset.items()]
    return [f"{name}: variables that are not set, so these values are absent: {', '.join(places)}"] if places else []


def drop_unknown_kinds(name: str, document: dict[str, Any]) -> list[str]:
    """Take the kinds of failure that nobody knows out of the policies of a file. One warning that names them."""
    sections = [("router_settings.", document, "router_settings")]
    rows = [row for row in document.get("model_list") or [] if entry_problem(row) is None]
    sections += [(f"{row['model_name']}: model_info.", row, "model_info") for row in rows]
    unknown: list[str] = []
    for place, owner, key in sections:
        if owner.get(key):
            owner[key], names = without_unknown_kinds(owner[key])
            unknown += [f"{place}{kind}" for kind in names]
    return [f"{name}: unknown and without effect: {', '.join(unknown)}"] if unknown else []


def _suggest(key: str) -> str:
    near = difflib.get_close_matches(key, SUPPORTED_KEYS, n=1, cutoff=0.8)
    return f"{key} (did you mean {near[0]}?)" if near else key


def warn_of_variables(environment: Mapping[str, str]) -> list[str]:
    """One warning for the contract's variables that are set and do nothing here yet."""
    waiting = [name for name in CONTRACT_VARIABLES if environment.get(name)]
    return [f"environment: not supported yet and without effect: {', '.join(waiting)}"] if waiting else []
