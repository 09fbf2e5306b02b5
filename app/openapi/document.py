"""/openapi.json: the HTTP contract of one instance, read from its routes, the policy table and the fields of its views.

Bodies and query parameters come from the tables that views declare (`takes` of app/web/fields.py), so that what the
document says and what a view reads are one thing. Pages of the console and groups that are closed are left out.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

from quart import Quart
from werkzeug.routing import Rule

from ..auth.policy import Access
from ..version import VERSION
from ..web.fields import UNKNOWN_FIELDS_HEADER, Table, table_schema
from .schemas import (
    ANSWERS,
    BODIES,
    BODY_TYPES,
    CHANGED_BY,
    ENVELOPES,
    JSON,
    MORE_REFUSALS,
    REFUSAL_NAMES,
    STREAM,
    SUCCESSES,
    Schema,
    ref,
    refusal_responses,
    security_schemes,
)

EXTENSION = "quarterdeck.openapi"
Accesses = Mapping[tuple[str, str], Access | str]

_CALL_STATUSES = (400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504)
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_VERSION_PART = re.compile(r"v\d+$")
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")

# First word of a path -> its resource, where the two differ.
_RESOURCES = {
    "end_user": "customer",
    "global": "spend",
    "gateway": "spend",
    "provider": "budget",
    "model_group": "model",
    "unified_access_group": "access_group",
    "callbacks": "config",
    "get": "config",
    "update": "config",
    "router": "config",
    "alerting": "config",
    "fallback": "config",
    "settings": "config",
    "active": "config",
    "litellm": "discovery",
    ".well-known": "discovery",
    "session": "login",
    "onboarding": "invitation",
    "sso": "login",
}
_RESOURCE_OF_GROUP = {"llm": "calls", "models": "model", "health": "health", "login": "login", "discovery": "discovery"}


class ApiDocument:
    """The document of one app; its bytes are built when somebody asks, once."""

    def __init__(
        self,
        app: Quart,
        accesses: Accesses,
        groups: Mapping[str, str],
        *,
        closed: Collection[str] = (),
        root_path: str = "",
        key_header: str | None = None,
    ) -> None:
        """`groups`: blueprint -> its group. `closed`: names of groups that this instance does not serve."""
        self._app, self._accesses, self._groups, self._closed = app, accesses, groups, closed
        self._root_path, self._key_header = root_path, key_header

    @cached_property
    def content(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.document(), separators=(",", ":")).encode()

    def document(self) -> Schema:
        """The document as OpenAPI 3.1."""
        schemes = security_schemes(self._key_header)
        operations = list(self._operations())
        paths: dict[str, Schema] = {}
        for path, method, operation in operations:
            paths.setdefault(path, {})[method.lower()] = operation
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Quarterdeck",
                "version": VERSION,
                "description": "LLM calls and the management API of this instance.",
            },
            "servers": [{"url": self._root_path or "/"}],
            "tags": [{"name": name} for name in sorted({operation["tags"][0] for _, _, operation in operations})],
            "security": [{name: []} for name in schemes],
            "paths": paths,
            "components": {
                "schemas": ENVELOPES,
                "responses": refusal_responses(),
                "securitySchemes": schemes,
                "parameters": {"ChangedBy": CHANGED_BY},
            },
        }

    def _operations(self) -> Iterator[tuple[str, str, Schema]]:
        """(path, method, operation), in the order of their paths."""
        named: set[str] = set()
        for rule in sorted(self._app.url_map.iter_rules(), key=lambda rule: rule.rule):
            group = self._groups.get(rule.endpoint.partition(".")[0], "")
            for method in sorted(rule.methods or ()):
                access = self._accesses.get((method, rule.rule))
                if group in self._closed or not isinstance(access, Access):
                    continue
                operation = _Operation(self._app, rule, method, access, group).describe()
                operation["operationId"] = _unique(rule, method, named)
                if access.is_public:
                    operation["security"] = []
                yield _PARAMETER.sub(r"{\1}", rule.rule), method, operation


class _Operation:
    """One method of one path."""

    def __init__(self, app: Quart, rule: Rule, method: str, access: Access, group: str) -> None:
        view = app.view_functions[rule.endpoint]
        self.rule, self.method, self.access, self.group = rule, method, access, group
        self.name = getattr(view, "__name__", rule.endpoint)
        self.doc = inspect.getdoc(view) or ""
        self.query: Table = getattr(view, "query_table", None) or {}
        self.body = _body_schema(view, self.name) if method in _CHANGING else None

    def describe(self) -> Schema:
        summary, _, rest = self.doc.partition("\n")
        parameters = list(self._parameters())
        body = {"required": True, "content": {BODY_TYPES.get(self.name, JSON): {"schema": self.body}}}
        return {
            "tags": [_resource(self.rule.rule, self.group)],
            "summary": summary.rstrip(".") or self.name.replace("_", " ").capitalize(),
            "description": f"{rest.strip()}\n\nWho may call: {self.access.describe()}.".strip(),
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": body} if self.body is not None else {}),
            "responses": {**self._successes(), **self._refusals()},
        }

    def _parameters(self) -> Iterator[Schema]:
        for name in _PARAMETER.findall(self.rule.rule):
            schema = {"type": "string", "minLength": 1}
            yield {"name": name, "in": "path", "required": True, "schema": schema}
        for name, one in self.query.items():
            required = {"required": True} if one.is_required else {}
            yield {"name": name, "in": "query", **required, "schema": dict(one.schema)}
        if self.method in _CHANGING and self.group == "admin":
            yield ref("parameters", "ChangedBy")

    def _successes(self) -> Schema:
        found = {}
        for status, kind in SUCCESSES.get(f"{self.method} {self.rule.rule}", {200: JSON}).items():
            schema: Schema = ANSWERS.get(self.name, {}) if kind == JSON else {"type": "string"}
            content: Schema = {} if kind is None else {kind: {"schema": schema}}
            if self.group == "llm" and self.name != "embeddings":
                content[STREAM] = {"schema": {"type": "string"}}
            found[str(status)] = {
                "description": "Done" if self.method in _CHANGING else "Found",
                **({"content": content} if content else {}),
                **({"headers": _UNKNOWN_FIELDS} if self.body is not None and self.group == "admin" else {}),
            }
        return found

    def _refusals(self) -> Schema:
        taken = SUCCESSES.get(f"{self.method} {self.rule.rule}", {})
        more = MORE_REFUSALS.get(f"{self.method} {self.rule.rule}", ())
        statuses = _CALL_STATUSES if self.group == "llm" else sorted({*self._statuses(), *more})
        return {str(status): ref("responses", REFUSAL_NAMES[status]) for status in statuses if status not in taken}

    def _statuses(self) -> Iterator[int]:
        """What can go wrong, by what the operation reads and who may call it."""
        is_login = self.group == "login"
        reads = self.body is not None or bool(self.query) or bool(self.rule.arguments)
        if reads:
            yield 400
        if not self.access.is_public or is_login:
            yield 401
        if not self.access.is_public:
            yield 403
        if reads or is_login:
            yield 404
        if self.method in _CHANGING and not self.access.is_public:
            yield 409
        if self.body is not None:
            yield 413
        if reads:
            yield 422
        if is_login:
            yield 429
        yield 503


_UNKNOWN_FIELDS: Schema = {
    UNKNOWN_FIELDS_HEADER: {"description": "Fields of the body that had no effect", "schema": {"type": "string"}}
}


def _body_schema(view: Any, name: str) -> Schema | None:
    table: Table | None = getattr(view, "body_table", None)
    return table_schema(table) if table is not None else BODIES.get(name)


def _resource(path: str, group: str) -> str:
    """What a path is about, as `key` or `team`: the tag under which the page of the document lists it."""
    if group in _RESOURCE_OF_GROUP:
        return _RESOURCE_OF_GROUP[group]
    parts = [part for part in path.split("/") if part and not _VERSION_PART.match(part) and part != "management"]
    first = parts[0] if parts else "console"
    return _RESOURCES.get(first, first)


def _unique(rule: Rule, method: str, named: set[str]) -> str:
    """The name of the view; for another path or method of the same view, with what tells them apart."""
    words = re.sub(r"\W+", "_", rule.rule).strip("_")
    for name in (rule.endpoint, f"{rule.endpoint}.{words}", f"{rule.endpoint}.{words}.{method.lower()}"):
        if name not in named:
            named.add(name)
            return name
    raise ValueError(f"two routes are {method} {rule.rule}")
