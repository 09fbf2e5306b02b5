"""/openapi.json is complete and true to the instance that serves it, and /docs shows it without a foreign address."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from playwright.async_api import Browser, ConsoleMessage, Request

from app.auth.guard import access_of_routes
from app.auth.policy import Access
from app.settings.config_file import WorkerEntry
from tests.auth.instance import Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.services.quarterdeck import QuarterdeckFactory

Document = dict[str, Any]


@pytest.fixture
async def worker(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state") as instance:
        yield instance


async def document_of(instance: Instance) -> Document:
    answer = await instance.http.get("/openapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    found: Document = answer.json()
    return found


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


async def test_every_route_outside_the_console_pages_is_in_the_document_and_nothing_else(worker: Instance) -> None:
    document = await document_of(worker)
    accesses = access_of_routes(worker.app, worker.services.route_groups)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule), method)
        for (method, rule), access in accesses.items()
        if isinstance(access, Access)
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes


async def test_every_operation_has_a_name_of_its_own_and_says_what_it_is(worker: Instance) -> None:
    found = list(operations(await document_of(worker)))
    names = [operation["operationId"] for _, _, operation in found]
    assert len(set(names)) == len(names) > 70
    assert not [path for path, _, operation in found if not operation["summary"] or len(operation["tags"]) != 1]
    assert all("Who may call: " in operation["description"] for _, _, operation in found)


async def test_every_pointer_leads_somewhere_and_every_schema_is_one(worker: Instance) -> None:
    document = await document_of(worker)
    for pointer in set(re.findall(r'"#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in pointer.split("/"):
            found = found[part]
    for schema in _schemas(document["paths"]):
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def _schemas(node: Any) -> Iterator[Document]:
    if isinstance(node, dict):
        if isinstance(node.get("schema"), dict):
            yield node["schema"]
        for child in node.values():
            yield from _schemas(child)
    elif isinstance(node, list):
        for child in node:
            yield from _schemas(child)


async def test_the_parameters_of_a_path_are_declared(worker: Instance) -> None:
    for path, method, operation in operations(await document_of(worker)):
        declared = {one["name"] for one in operation.get("parameters", ()) if one.get("in") == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path)), f"{method} {path}"


async def test_whoever_needs_a_key_finds_it_said_and_refused(worker: Instance) -> None:
    for path, method, operation in operations(await document_of(worker)):
        if operation.get("security") == []:
            continue
        assert {"401", "403", "503"} <= set(operation["responses"]), f"{method} {path}"
        answer = await worker.http.request(method, re.sub(r"{\w+}", "x", path))
        assert answer.status_code == 401, f"{method} {path}"


async def test_bodies_and_queries_are_those_that_the_views_read(worker: Instance) -> None:
    document = await document_of(worker)
    missing = []
    for rule in worker.app.url_map.iter_rules():
        view = worker.app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = document["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {}).get(method.lower())
            if operation is None:
                continue
            queries = {one["name"] for one in operation.get("parameters", ()) if one.get("in") == "query"}
            assert queries == set(getattr(view, "query_table", None) or {})
            table = getattr(view, "body_table", None)
            if table is not None and method != "GET":
                sent = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
                assert set(sent) == set(table)
                missing += [f"{rule.rule}: {name}" for name, schema in sent.items() if not schema]
    assert not missing, "fields without a schema: " + ", ".join(missing)


async def test_the_document_is_the_same_bytes_for_everyone(worker: Instance) -> None:
    first = (await worker.http.get("/openapi.json")).content
    assert (await worker.http.get("/openapi.json", headers=bearer(MASTER_KEY))).content == first


_WORKERS = (WorkerEntry("eu", "Europe", "http://127.0.0.1:9"),)


@pytest.mark.parametrize(
    ("settings", "gone", "there"),
    [
        ({"disable_llm_api_endpoints": True}, "/v1/chat/completions", "/key/generate"),
        ({"disable_admin_endpoints": True}, "/key/generate", "/v1/chat/completions"),
        ({"disable_admin_endpoints": True}, "/v2/login", "/health/liveliness"),
        ({"workers": _WORKERS}, "/v1/chat/completions", "/key/generate"),
    ],
)
async def test_a_closed_group_is_not_in_the_document(
    settings: Document, gone: str, there: str, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(migrated_sqlite_url, state_dir=tmp_path, **settings) as instance:
        paths = (await document_of(instance))["paths"]
        assert gone not in paths
        assert there in paths


async def test_the_prefix_of_a_proxy_and_an_own_key_header_are_named(migrated_sqlite_url: str, tmp_path: Path) -> None:
    settings = {"server_root_path": "/gateway", "key_header_name": "X-Acme-Key"}
    async with serving(migrated_sqlite_url, state_dir=tmp_path, **settings) as instance:
        document = await document_of(instance)
    assert document["servers"] == [{"url": "/gateway"}]
    assert document["components"]["securitySchemes"]["X-Acme-Key"]["name"] == "X-Acme-Key"


async def test_the_page_has_no_files_but_its_own(worker: Instance) -> None:
    page = await worker.http.get("/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    names = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(names) == 6
    for name in names:
        assert (await worker.http.get(f"/{name}")).status_code == 200, name
    for name in ("x", "manifest.json", "vendor/manifest.json", "..%2Fconsole.js", "../tokens.css"):
        assert (await worker.http.get(f"/docs/{name}")).status_code == 404, name
    answer = await worker.http.get("/redoc")
    assert (answer.status_code, answer.headers["Location"]) == (302, "docs")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_works_offline_under_its_policy(
    scheme: Any, browser: Browser, quarterdeck_process: QuarterdeckFactory, migrated_sqlite_url: str
) -> None:
    instance = quarterdeck_process(database_url=migrated_sqlite_url)
    context = await browser.new_context(color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    def watch(request: Request) -> None:
        if not request.url.startswith((instance.url, "data:")):
            complaints.append(request.url)

    page.on("console", hear)
    page.on("request", watch)
    await page.goto(f"{instance.url}/docs")
    await page.locator("#operations-tag-key").click()
    await page.get_by_text("/key/generate", exact=True).click()
    await page.locator(".opblock-body").first.wait_for()
    dark = await page.evaluate("document.documentElement.classList.contains('dark-mode')")
    assert (dark, complaints) == (scheme == "dark", [])
    await context.close()
