"""The settings that the management API knows: which have an effect, when, and what a value must look like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field as SettingField
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from quart import after_this_request
from quart.typing import ResponseTypes

from ...security.masking import MASK, masked
from ...settings import Settings, declared_settings
from ...settings.config_keys import CONTRACT_KEYS, SUPPORTED_KEYS
from ...storage.stored_settings import SECTIONS, is_set_in_file
from ...web.fields import bad_request

NO_EFFECT_HEADER = "x-quarterdeck-no-effect"
RESTART_HEADER = "x-quarterdeck-after-restart"

_REFERENCE = "os.environ/"
_MAX_NAMED = 60
_NAME = re.compile(r"[!-+\--~]{1,100}")  # printable ASCII without a comma


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One key of a section. `setting` is its declaration in app/settings/__init__.py, None for one that has none."""

    section: str
    name: str
    setting: SettingField[Any] | None

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def has_effect(self) -> bool:
        return self.setting is not None or self.path in SUPPORTED_KEYS

    @property
    def is_runtime(self) -> bool:
        """Whether a stored value takes effect while the instance runs."""
        return self.setting is not None and bool(self.setting.metadata["runtime"])

    @property
    def is_operators(self) -> bool:
        return self.setting is not None and bool(self.setting.metadata["operator_only"])

    def value_in(self, settings: Settings) -> Any:
        """What this instance goes by, as JSON; None for a field without a declaration."""
        return None if self.setting is None else json_setting(self.setting, getattr(settings, self.setting.name))

    def default(self) -> Any:
        return None if self.setting is None else json_setting(self.setting, self.setting.default)

    def base_source(self, settings: Settings) -> str:
        """Where the value comes from when the database holds none: config, env, default or unset."""
        if self.setting is None:
            return "unset"
        value = getattr(settings, self.setting.name)
        if value == self.setting.default:
            return "unset" if value is None else "default"
        return "config" if is_set_in_file(self.setting, settings) else "env"


@lru_cache(maxsize=1)
def config_fields() -> Mapping[str, Mapping[str, ConfigField]]:
    """Section -> name -> field, for every key of the contract and every setting of our own."""
    places = [(item.metadata[place], item) for item in declared_settings() for place in ("also", "yaml")]
    declared = {path: item for path, item in places if path}
    fields: dict[str, dict[str, ConfigField]] = {section: {} for section in SECTIONS}
    for path in sorted({*CONTRACT_KEYS, *declared}):
        section, _, name = path.partition(".")
        if section in fields:
            fields[section][name] = ConfigField(section, name, declared.get(path))
    return fields


def json_setting(item: SettingField[Any], value: Any) -> Any:
    """A value of `Settings` as the management API writes it: seconds for times, stars for secrets."""
    if item.metadata["is_secret"]:
        return MASK if value else None
    if item.metadata["to_json"] is not None:
        return masked(item.metadata["to_json"](value))
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"
    if isinstance(value, Mapping):
        return masked(dict(value))
    if isinstance(value, tuple | list):
        return [str(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# ---- checking what was sent ----------------------------------------------------------------------------------------


def refuse_wrong(section: str, sent: Mapping[str, Any]) -> None:
    """Raise 400 for the first key that nobody knows, that is the operator's, or whose value cannot be meant."""
    known = config_fields()[section]
    unknown = sorted(name for name in sent if name not in known)
    if unknown:
        raise bad_request(f"Invalid field={', '.join(unknown[:20])[:500]} passed in.", section)
    for name, value in sent.items():
        field = known[name]
        if field.is_operators:
            raise bad_request(f"{field.path} is set by file or environment only", name)
        refuse_references(value, name)
        if value is None or value == MASK or field.setting is None:
            continue
        try:
            field.setting.metadata["parse"](value)
        except (ValueError, TypeError) as problem:
            raise bad_request(f"{field.path} {problem}", name) from None


def refuse_references(value: Any, name: str) -> None:
    """Who may change a setting may not read the environment of this process by it."""
    if isinstance(value, str) and value.startswith(_REFERENCE):
        raise bad_request(
            "os.environ/ is resolved in the configuration file only; send the value itself, it is encrypted", name
        )
    if isinstance(value, Mapping):
        for item in value.values():
            refuse_references(item, name)
    if isinstance(value, list):
        for item in value:
            refuse_references(item, name)


# ---- saying what a change does -------------------------------------------------------------------------------------


def name_effects(section: str, names: Iterable[str]) -> None:
    """Name in headers of the answer which of these settings do nothing in this version, and which wait for a start."""
    known = config_fields()[section]
    fields = [known[name] for name in names if name in known]
    name_without_effect(field.path for field in fields if not field.has_effect)
    name_in_header(
        RESTART_HEADER, [field.path for field in fields if field.setting is not None and not field.is_runtime]
    )


def name_without_effect(paths: Iterable[str]) -> None:
    """A setting that silently does nothing would be a lie: say so with the answer that stores or shows it."""
    name_in_header(NO_EFFECT_HEADER, list(paths))


def name_in_header(header: str, paths: list[str]) -> None:
    """Add names to a header of the answer, each once; a name that a header cannot carry is shown as `?`."""
    paths = [path if _NAME.fullmatch(path) else "?" for path in paths]
    if not paths:
        return

    @after_this_request
    async def name_them(response: ResponseTypes) -> ResponseTypes:
        named = [name.strip() for name in response.headers.get(header, "").split(",") if name.strip()]
        response.headers[header] = ", ".join(list(dict.fromkeys([*named, *paths]))[:_MAX_NAMED])
        return response
