"""docs/configuration.md, docs/routes.md and the route table of docs/compatibility.md, written from code: `make docs`.

A guard test (tests/test_guards_docs.py) fails when one of these files says something else than this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import Field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from quart import Quart
from werkzeug.routing import Rule

from app.auth.guard import access_of_routes
from app.auth.policy import Access
from app.route_groups import ROUTE_GROUPS, RouteGroup, group_of_blueprints
from app.settings import Settings, declared_settings
from app.settings.config_file import WorkerEntry
from app.settings.config_keys import CONTRACT_KEYS, CONTRACT_VARIABLES, SUPPORTED_KEYS

from .contract_routes import contract_routes

_SECTIONS = ("general_settings", "litellm_settings", "router_settings")
_DOCS = Path(__file__).resolve().parents[1] / "docs"
_WRITTEN = "<!-- Written by `make docs` from the code. Change app/settings/ or app/route_groups.py. -->"

# What the supported keys of one `model_list` entry mean; a guard compares the names with app/settings/config_keys.py.
DEPLOYMENT_KEYS = {
    "model": "`provider/model`, as `openai/gpt-4o-mini`. Required.",
    "custom_llm_provider": "The provider, when the model's name has no prefix.",
    "api_base": "Address of the provider. Without one: the provider's own. Empty, the deployment is left out.",
    "base_url": "Another name of `api_base`.",
    "api_key": "The provider's key. Without one: the provider's usual variable, as `OPENAI_API_KEY`.",
    "base_model": "The model behind a name of your own, for its price; also in `model_info`.",
    "api_version": "Version of Azure's API. Without one: `AZURE_API_VERSION`.",
    "organization": "Sent to OpenAI as `OpenAI-Organization`.",
    "extra_headers": "Headers that every call to the provider carries; none of framing, of the connection, of a key.",
    "extra_body": "Fields that every call's body carries.",
    "timeout": "Seconds that a call may take; wins over the settings of the router.",
    "stream_timeout": "Seconds of silence after which a stream counts as dead.",
    "weight": "Share of the calls among deployments of one name. Without one: `rpm`, then `tpm`, then equal shares.",
    "rpm": "Requests per minute: the share of the calls when there is no `weight`; a limit where routing says so.",
    "tpm": "Tokens per minute: the share when there is neither `weight` nor `rpm`; a limit where routing says so.",
    "max_parallel_requests": "Most calls that run at once, over all processes.",
    "order": "Lower ones are asked first ([routing.md](routing.md)).",
    "tags": "What calls may ask for by their tags, with `enable_tag_filtering`.",
    "num_retries": "Tries after the first; wins over the settings of the router.",
    "max_retries": "Another name of `num_retries`.",
    "cooldown_time": "Seconds that it cools down after failures; 0 is never.",
    "keepalive_seconds": "Seconds of silence in a stream after which a comment is sent.",
    "input_cost_per_token": "USD per token of the prompt; wins over the bundled prices. "
    "Every price is zero or more; at most 10 per token, 1000 per other unit.",
    "output_cost_per_token": "USD per token of the answer.",
    "cache_read_input_token_cost": "USD per token of the prompt that the provider had cached.",
    "cache_creation_input_token_cost": "USD per token of the prompt that the provider caches.",
    "output_cost_per_image": "USD per picture that was made, where the provider does not count tokens.",
    "input_cost_per_image": "The same, unless `output_cost_per_image` is set.",
    "input_cost_per_character": "USD per character that was spoken.",
    "input_cost_per_second": "USD per second of audio, where the provider does not count tokens.",
    "output_cost_per_second": "The same, unless `input_cost_per_second` is set.",
    "input_cost_per_query": "USD per search of `/rerank`, with up to a hundred documents.",
    "use_in_pass_through": "Lends its credential to pass-through ([pass-through.md](pass-through.md)).",
    "vertex_project": "Project of Vertex AI, for pass-through.",
    "vertex_location": "Its location, as `europe-west4`.",
    "vertex_credentials": "A service account: the path of its file, or its JSON.",
    "aws_access_key_id": "Key of AWS, for pass-through to Bedrock; with `aws_secret_access_key`.",
    "aws_secret_access_key": "Its secret.",
    "aws_session_token": "The session of temporary keys.",
    "aws_region_name": "Region of Bedrock, as `us-east-1`.",
    "aws_bedrock_runtime_endpoint": "Another address of Bedrock; then the keys must stand here too.",
    "mock_response": "Text that is answered in place of a call to the provider.",
    "litellm_credential_name": "A credential of `credential_list` or `/credentials`; own parameters win.",
}

_INTRODUCTION = f"""{_WRITTEN}

# Configuration

One YAML file and the environment, read once at the start: `quarterdeck --config config.yaml`. Without `--config` the
file is `CONFIG_FILE_PATH`, else `config.yaml` in the working directory; without a file the environment alone is enough.
The command line wins over the file, and the file over the environment.

A wrong value stops the start with one line that names file, key and fix. What the field knows and this version does not
do yet is named in one warning at the start, and so is a key that nobody knows.

## Settings

| setting | YAML | environment | default | stored by the API | meaning |
|---|---|---|---|---|---|"""

_FILE = """
*Stored by the API* says when a value that the management API stores counts: `running`, at once on every running
instance; `restart`, at the next start; `never`, only the operator sets it, by file, environment or command line.

Settings marked *secret* are shown in no log and no message. A duration is a number and a unit: `30s`, `10m`, `7d`.

## The file

`os.environ/NAME`, anywhere in the file and at any depth, stands for the variable `NAME`. A variable that is not set, or
is empty, counts as a value that is not there, and is named in a warning. Where it says where calls of a deployment go
or as whom (`api_base`, `api_key` and other credentials), that deployment is left out by name, and so is every entry
that cannot be served: the start prints it, the log has it, and `/model/info` and `/health/deployment_warnings` show the
reason.

```yaml
include: [models.yaml]              # relative to this file; lists are joined, and for a value this file wins
environment_variables:              # set before anything else is read
  AZURE_API_VERSION: 2024-10-21
model_list:
  - model_name: gpt-4o-mini         # the name that clients ask for; entries of one name share its calls
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/OPENAI_API_KEY
    model_info: {id: main, mode: chat}
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
```

### `model_list[].litellm_params`

| key | meaning |
|---|---|"""

_AFTER_DEPLOYMENTS = """
Every other key that is not listed below is a parameter of the provider, as `temperature`: it joins the body of a call
that does not say it itself. `rpm`, `tpm` and `weight` may also stand beside `litellm_params`.

`model_info` takes any fact about the model and shows it in `/model/info`. These have a meaning of their own:
{model_info}.

A deployment with `team_id` serves that team only, under `team_public_model_name`; `blocked: true` serves nobody.

### `credential_list`

Credentials that several deployments share: each entry has a `credential_name`, its `credential_values` (what may stand
in `litellm_params`, as `api_key` and `api_base`) and `credential_info` (any facts about it).

### `worker_registry`

An instance with this list is a control plane: its console signs people in at these workers, and it serves no LLM calls.

| key | meaning |
|---|---|
| `worker_id` | Name in addresses, unique, without a slash. Required. |
| `name` | What the console shows. Required. |
| `url` | Address of the worker, `http://` or `https://`, as the control plane reaches it. Required. |
| `labels` | Mapping of words that the console shows, as `region: eu-west-1`. |
| `environment` | One word, as `production`. |

On each worker, `general_settings.control_plane_url` names the control plane's address. The two exclude each other.

## Accepted, without effect

These are accepted because files of the field carry them; nothing depends on them: {accepted}.

## Not supported yet

Keys of the field that this version reads, names in one warning, and does not act on:

{waiting}

Environment variables that are named in one warning and do nothing yet: {variables}.
"""


def configuration_markdown() -> str:
    """The text of docs/configuration.md."""
    declared = declared_settings()
    yaml_keys = {item.metadata["yaml"] for item in declared}
    sections = {"include", "environment_variables", "model_list", "credential_list", "worker_registry", *_SECTIONS}
    accepted = [
        key
        for key in sorted(SUPPORTED_KEYS)
        if key not in yaml_keys and key not in sections and not key.startswith(("litellm_params.", "model_info."))
    ]
    rest = _AFTER_DEPLOYMENTS.format(
        model_info=_listed(_names_below("model_info", SUPPORTED_KEYS)),
        accepted=_listed(accepted),
        waiting="\n".join(_waiting()),
        variables=_listed(CONTRACT_VARIABLES),
    )
    rows = [_INTRODUCTION, *map(_setting_row, declared), _FILE]
    rows += [f"| `{key}` | {meaning} |" for key, meaning in DEPLOYMENT_KEYS.items()]
    return "\n".join([*rows, rest])


def _setting_row(item: Field[Any]) -> str:
    data = item.metadata
    meaning = data["doc"] + (" *secret*" if data["is_secret"] else "")
    yaml_key, variable = (f"`{data[source]}`" if data[source] else "" for source in ("yaml", "env"))
    name = item.name.removesuffix("_text").replace("_", " ")
    stored = "never" if data["operator_only"] else "running" if data["runtime"] else "restart"
    return f"| {name} | {yaml_key} | {variable} | {_default(item.default)} | {stored} | {meaning} |"


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{value.total_seconds() / 3600:g}h`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _names_below(section: str, keys: Iterable[str]) -> list[str]:
    return sorted(key.partition(".")[2] for key in keys if key.startswith(f"{section}."))


def _waiting() -> Iterator[str]:
    waiting = CONTRACT_KEYS - SUPPORTED_KEYS
    yield f"- at the top: {_listed(sorted(key for key in waiting if '.' not in key))}"
    for section in (*_SECTIONS, "litellm_params", "model_info"):
        yield f"- `{section}`: {_listed(_names_below(section, waiting))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# ---- routes --------------------------------------------------------------------------------------------------------

_ROUTES = f"""{_WRITTEN}

# Routes

Every route belongs to one group, and a group is open or closed as a whole. A closed group answers before it looks at
the request: its denial is the same with a key, without one, and with a bad body.

| group | open | when closed | {{columns}} |
|---|---|---|{{lines}}|
{{matrix}}

Who may call: *anyone* needs no key; *any key* is every known key, the master key included, and the route then shows or
does what this caller may; otherwise the roles are named. *console session* is the cookie of the console's sign-in.
`OPTIONS` and, beside every `GET`, `HEAD` are answered too. Routes under `/v3/login` answer 404 without
`general_settings.control_plane_url`. With it, pages of that origin may call every group but
{{same_origin}} from a browser (CORS); no other origin may call any.
"""


def routes_markdown(app: Quart) -> str:
    """The text of docs/routes.md for an app on which every group is mounted."""
    plain = Settings()
    worker = WorkerEntry("eu", "Europe", "https://eu.example.com")
    variants = {
        "worker": plain,
        "`DISABLE_ADMIN_UI`": replace(plain, disable_admin_ui=True),
        "`DISABLE_ADMIN_ENDPOINTS`": replace(plain, disable_admin_endpoints=True),
        "`DISABLE_LLM_API_ENDPOINTS`": replace(plain, disable_llm_api_endpoints=True),
        "control plane": replace(plain, workers=(worker,)),
    }
    matrix = [
        f"| {group.name} | {group.when} | {_closed(group)} | {' | '.join(_mark(group, s) for s in variants.values())} |"
        for group in ROUTE_GROUPS
    ]
    head = _ROUTES.format(
        columns=" | ".join(variants),
        lines="|".join("---" for _ in variants),
        matrix="\n".join(matrix),
        same_origin=" and ".join(group.name for group in ROUTE_GROUPS if not group.answers_control_plane),
    )
    return "\n".join([head, *(_group_table(app, group) for group in ROUTE_GROUPS)])


def _mark(group: RouteGroup, settings: Settings) -> str:
    return "open" if group.is_open(settings) else str(group.denial_status)


def _closed(group: RouteGroup) -> str:
    return f"{group.denial_status} `{group.refusal().body()}`".replace("'", '"') if group.denial else ""


def _group_table(app: Quart, group: RouteGroup) -> str:
    names = {blueprint.name for blueprint in group.blueprints}
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.partition(".")[0] in names]
    accesses = access_of_routes(app, group_of_blueprints())
    rows = sorted(
        (_path(rule), method, _who(accesses[method, rule.rule])) for rule in rules for method in methods_of(rule)
    )
    table = "\n".join(f"| {method} | `{path}` | {who} |" for path, method, who in dict.fromkeys(rows))
    return f"## {group.name}\n\n| method | path | who may call |\n|---|---|---|\n{table}\n"


def _path(rule: Rule) -> str:
    return rule.rule.replace("<path:", "<")


def methods_of(rule: Rule) -> list[str]:
    """The methods that a rule declares, without those that every route answers."""
    return sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})


def _who(access: Access | str) -> str:
    if isinstance(access, Access):
        return access.describe()
    return "anyone" if access == "public" else "console session"


# ---- the contract's routes -----------------------------------------------------------------------------------------

_TABLE_START, _TABLE_END = "<!-- route table: written by `make docs` -->", "<!-- end of the route table -->"
_ANY_PARAMETER = re.compile(r"<[^>]+>|{[^}]+}")


def contract_table(app: Quart) -> str:
    """Each management route of the contract and whether this version has it, as a Markdown table."""
    known = {
        f"{method} {_ANY_PARAMETER.sub('{}', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    rows = [
        f"| {resource} | {priority} | `{method} {path}` | {_presence(f'{method} {path}', known)} |"
        for resource, priority, method, path in contract_routes()
    ]
    return "\n".join(["| resource | priority | route | here |", "|---|---|---|---|", *rows])


def _presence(route: str, known: set[str]) -> str:
    return "yes" if _ANY_PARAMETER.sub("{}", route) in known else "404"


def with_contract_table(text: str, app: Quart) -> str:
    """The text of docs/compatibility.md with the table of now between its two marks. ValueError without them."""
    before, _, rest = text.partition(_TABLE_START)
    _, end, after = rest.partition(_TABLE_END)
    if not end:
        raise ValueError("docs/compatibility.md has lost the marks around its route table")
    return f"{before}{_TABLE_START}\n\n{contract_table(app)}\n\n{_TABLE_END}{after}"


def _mounted() -> Quart:
    """All groups on a bare app: the table of routes needs no services."""
    app = Quart("reference", static_folder=None)
    for group in ROUTE_GROUPS:
        for blueprint in group.blueprints:
            app.register_blueprint(blueprint)
    return app


def main() -> None:
    """Write all three."""
    app, compatibility = _mounted(), _DOCS / "compatibility.md"
    (_DOCS / "configuration.md").write_text(configuration_markdown(), encoding="utf-8")
    (_DOCS / "routes.md").write_text(routes_markdown(app), encoding="utf-8")
    text = with_contract_table(compatibility.read_text(encoding="utf-8"), app)
    compatibility.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
