"""Request smuggling: what somebody configures never becomes another tenant's request, nor another tenant's answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.deployments.deployment import build_deployment
from app.llm.passthrough.path import forward_request_headers
from app.llm.upstream.http_client import HttpClient
from app.llm.upstream.http_response import HttpResponse, Timeouts
from app.observability.delivery_queue import DeliveryFailed
from app.observability.http_post import open_client, post_json
from app.settings import load_settings
from app.settings.config_file import SettingsError
from app.settings.header_rules import check_written
from app.settings.pass_through import endpoints
from tests.llm.live_worker import LiveWorker, deployment
from tests.llm.upstream.providers import saying, serving
from tests.services.quarterdeck import QuarterdeckFactory
from tests.upstream import ScriptedUpstream

TIMEOUTS = Timeouts(connect=5, total=10)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESERVED = [
    "Transfer-Encoding",
    "transfer_encoding",
    "Content-Length",
    "CONTENT_LENGTH",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Host",
]
NO_TOKENS = [
    "",
    " Transfer-Encoding",
    "Transfer-Encoding ",
    "Transfer-Encoding:",
    "X Y",
    "X\tY",
    "X\r\nHost",
    "X\0",
    "Ä",
]
VALUES = ["a\r\nTransfer-Encoding: chunked", "a\nb", "a\rb", "a\0b", "a\x0bb", "日本"]
BAD = [{name: "chunked"} for name in (*RESERVED, *NO_TOKENS)] + [{"x-a": value} for value in VALUES]


async def body_of(answer: HttpResponse) -> bytes:
    body = b""
    while piece := await answer.read():
        body += piece
    return body


async def post(client: HttpClient, url: str, owner: object, **headers: str) -> bytes:
    return await body_of(await client.request("POST", url, headers, b"{}", TIMEOUTS, owner=owner))


# ---- refused when written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", BAD, ids=repr)
def test_no_configuration_sets_framing_or_more_than_one_line(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as refused:
        build_deployment("chat", {"model": "openai/m", "api_key": "k", "extra_headers": headers}, None, {})
    assert "\n" not in str(refused.value)
    endpoint = {"path": "/v9/x", "target": "http://provider.example", "headers": headers}
    with pytest.raises(ValueError, match="header"):
        endpoints([endpoint])
    with pytest.raises(ValueError, match="header"):
        check_written(headers)


@pytest.mark.parametrize(
    ("model", "headers"),
    [
        ("openai/m", {"authorization": "Bearer other"}),
        ("azure/m", {"API-KEY": "other"}),
        ("azure/m", {"api_key": "other"}),
        ("openai/m", {"openai-organization": "other"}),
        ("openai/m", {"X-A": "1", "x-a": "2"}),
    ],
)
def test_no_header_beside_the_credential_replaces_it(model: str, headers: dict[str, str]) -> None:
    params = {"model": model, "api_base": "http://provider.example", "api_key": "k", "organization": "org"}
    with pytest.raises(ValueError, match=r"the gateway sets it itself|twice"):
        build_deployment("chat", {**params, "extra_headers": headers}, None, {})


def test_a_deployment_without_a_key_may_bring_its_credential_in_a_header() -> None:
    params = {"model": "openai/m", "api_base": "http://provider.example", "extra_headers": {"Authorization": "Key k"}}
    assert build_deployment("chat", params, None, {}).headers == {"Authorization": "Key k"}


@pytest.mark.parametrize("variable", ["Transfer-Encoding=chunked", "x y=1", "x-a=b%0d%0aHost: c"])
def test_headers_of_the_collector_of_traces_are_no_exception(variable: str) -> None:
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_HEADERS.*header"):
        load_settings(None, {"OTEL_EXPORTER_OTLP_HEADERS": variable, "LITELLM_MASTER_KEY": "sk-master"})


def test_a_caller_s_headers_lose_framing_and_credentials_however_they_are_spelled() -> None:
    given = [*((name, "1") for name in RESERVED), ("X_Api_Key", "1"), ("x_forwarded_for", "1"), ("x-plain", "1")]
    assert forward_request_headers(given) == {"x-plain": "1"}


# ---- refused when sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [*BAD, {"X-A": "1", "x-a": "2"}], ids=repr)
async def test_a_header_that_was_written_before_the_rule_is_never_sent(headers: dict[str, str]) -> None:
    async with serving(saying(OK)) as provider:
        client = HttpClient(4)
        with pytest.raises(ValueError):
            await client.request("POST", provider.url, headers, b"{}", TIMEOUTS, owner="team")
        async with open_client() as http:
            with pytest.raises(DeliveryFailed):
                await post_json(http, provider.url, b"[]", headers)
        assert provider.connections == 0


# ---- connections ---------------------------------------------------------------------------------------------------


async def test_owners_do_not_share_connections() -> None:
    async with serving(saying(OK)) as provider:
        client = HttpClient(4)
        for owner in ("a", "b", "a", "b"):
            assert await post(client, provider.url, owner) == b"ok"
        assert (provider.connections, len(provider.requests)) == (2, 4)
        client.close()


@pytest.mark.parametrize("after", [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"x", OK])
@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: t\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_connection_with_bytes_after_the_answer_is_not_used_again(
    answer: bytes, after: bytes, is_late: bool
) -> None:
    async with serving(saying(answer, after) if is_late else saying(answer + after)) as provider:
        client = HttpClient(4)
        await post(client, provider.url, "a")
        await provider.wait_for_disconnects()
        await post(client, provider.url, "a")
        assert provider.connections == 2
        client.close()
    async with serving(saying(answer)) as provider:  # and without them it is
        for _ in range(2):
            await post(client, provider.url, "a")
        assert provider.connections == 1
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\r\n\r\n",
    ],
)
async def test_a_connection_whose_answer_may_go_on_is_not_used_again(answer: bytes) -> None:
    async with serving(saying(answer)) as provider:
        client = HttpClient(4)
        for _ in range(2):
            await post(client, provider.url, "a")
        assert provider.connections == 2
        client.close()


async def test_nothing_follows_a_tenant_s_callback_on_its_connection() -> None:
    async with serving(saying(OK)) as receiver, open_client() as http:
        for closes in (False, True, False):
            await post_json(http, receiver.url, b"[]", {}, closes=closes)
        assert receiver.connections == 2
        assert [b"connection: close" in request.lower() for request in receiver.requests] == [False, True, False]


# ---- a worker over real sockets ------------------------------------------------------------------------------------


async def refusals(worker: LiveWorker, url: str, team_id: str, headers: dict[str, str]) -> list[httpx.Response]:
    """Every place of the API that takes headers, asked to store these."""
    params = {"model": "openai/m", "api_base": url, "api_key": "sk-of-a-team", "extra_headers": headers}
    model = {"model_name": "own", "litellm_params": params, "model_info": {"team_id": team_id}}
    lines = ",".join(f"{name}={value}" for name, value in headers.items())
    variables = {"endpoint": url, "headers": lines}
    asked: dict[str, dict[str, Any]] = {
        "/model/new": model,
        "/health/test_connection": {"litellm_params": params},
        "/credentials": {"credential_name": "c", "credential_values": params, "credential_info": {}},
        "/config/pass_through_endpoint": {"path": "/v9/x", "target": url, "headers": headers},
        f"/team/{team_id}/callback": {"callback_name": "webhook", "callback_vars": variables},
    }
    return [
        await worker.http.post(f"{worker.url}{path}", json=body, headers=worker.admin) for path, body in asked.items()
    ]


async def test_a_team_s_model_smuggles_nothing(quarterdeck_process: QuarterdeckFactory) -> None:
    async with ScriptedUpstream() as upstream, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        relayed = {"path": "/open", "target": upstream.url, "auth": False, "forward_headers": True}
        config = {
            "model_list": [deployment("chat", upstream.url), deployment("other", upstream.url, api_key="sk-other")],
            "general_settings": {"pass_through_endpoints": [relayed]},
        }
        variables = {"QUARTERDECK_CALLBACK_HOSTS": upstream.origin, "STORE_MODEL_IN_DB": "True"}
        worker = LiveWorker(quarterdeck_process(config, env=variables), http)
        team_id = str((await worker.manage("/team/new", team_alias="t"))["team_id"])
        for answer in await refusals(worker, upstream.url, team_id, {"Transfer-Encoding": "chunked"}):
            is_refused = answer.status_code in (400, 422) or answer.json().get("status") == "error"
            assert is_refused, f"{answer.url}: {answer.status_code} {answer.text}"
            assert "header" in answer.text and "Transfer-Encoding" in answer.text
        assert upstream.requests == []

        params = {"model": "openai/of-team", "api_base": upstream.url, "api_key": "sk-of-the-team"}
        await worker.manage("/model/new", model_name="own", litellm_params=params, model_info={"team_id": team_id})
        key = await worker.new_key(team_id=team_id)
        for _ in range(2):
            for model in ("chat", "other", "own"):
                answer = await worker.chat(key, model)
                assert answer.status_code == 200, answer.text
            await http.post(f"{worker.url}/open", json={}, headers={"Transfer_Encoding": "chunked", "X-Plain": "yes"})
        owners: dict[str, set[int]] = {}
        for request in upstream.requests:
            owners.setdefault(request.headers.get("authorization", "nobody"), set()).add(request.connection)
            assert "transfer_encoding" not in request.headers
        assert len(owners) == 4
        assert [len(connections) for connections in owners.values()] == [1, 1, 1, 1]
        assert upstream.connections == 4
        assert upstream.requests[3].headers["x-plain"] == "yes"
