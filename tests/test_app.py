"""create_app: health, headers, and the errors that no view answers for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.version import VERSION
from tests.auth.instance import ADMIN, Instance, bearer, serving
from tests.conftest import MASTER_KEY
from tests.services.quarterdeck import QuarterdeckFactory
from tests.tcp_proxy import TcpProxy

_SECURITY = {"x-frame-options": "DENY", "x-content-type-options": "nosniff"}


@pytest.fixture
async def worker(migrated_sqlite_url: str, tmp_path: Path) -> AsyncIterator[Instance]:
    async with serving(migrated_sqlite_url, state_dir=tmp_path / "state") as instance:
        yield instance


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/liveness"])
async def test_a_live_instance_says_so(worker: Instance, path: str) -> None:
    answer = await worker.http.get(path)
    assert (answer.status_code, answer.json()) == (200, "I'm alive!")


async def test_a_ready_instance_names_its_parts(database_url: str, redis_url: str, tmp_path: Path) -> None:
    for redis, cache in ((None, "memory"), (redis_url, "connected")):
        async with serving(database_url, state_dir=tmp_path, redis_url=redis) as instance:
            answer = await instance.http.get("/health/readiness")
            assert answer.status_code == 200
            assert answer.json() == {"status": "healthy", "db": "connected", "cache": cache, "version": VERSION}


async def test_redis_away_does_not_make_an_instance_unready(
    migrated_sqlite_url: str, tmp_path: Path, free_port: int
) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, redis_url=f"redis://127.0.0.1:{free_port}/0"
    ) as instance:
        answer = await instance.http.get("/health/readiness")
        assert (answer.status_code, answer.json()["cache"]) == (200, "Not connected")
        assert (await instance.http.post("/v2/login", json=ADMIN)).status_code == 200


@pytest.mark.parametrize("fault", ["refused", "silent"])
async def test_an_instance_is_unready_while_postgresql_is_away_and_recovers_by_itself(
    migrated_postgres_url: str, tmp_path: Path, fault: str
) -> None:
    parts = urlsplit(migrated_postgres_url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        through = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
        async with serving(through, state_dir=tmp_path) as instance:
            assert (await instance.http.get("/health/readiness")).status_code == 200
            if fault == "refused":
                proxy.refuse()
                proxy.cut()
            else:
                proxy.pause()
            answer = await instance.http.get("/health/readiness")
            assert answer.status_code == 503
            assert (answer.json()["status"], answer.json()["db"]) == ("unhealthy", "Not connected")
            assert (await instance.http.get("/health/liveliness")).status_code == 200
            assert (await instance.http.get("/v1/models", headers=bearer(MASTER_KEY))).status_code == 200

            proxy.accept()
            proxy.resume()
            if fault == "silent":
                proxy.cut()
            answers = [await instance.http.get("/health/readiness") for _ in range(3)]
            assert answers[-1].status_code == 200
            assert (await instance.http.get("/key/list", headers=bearer(MASTER_KEY))).status_code == 200


async def test_an_instance_starts_without_its_postgresql_and_finds_it_later(
    migrated_postgres_url: str, quarterdeck_process: QuarterdeckFactory
) -> None:
    parts = urlsplit(migrated_postgres_url)
    async with TcpProxy("127.0.0.1", parts.port or 5432) as proxy:
        proxy.refuse()
        through = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
        instance = quarterdeck_process(database_url=through, wait=False)
        await asyncio.to_thread(instance.wait_until_alive)
        async with httpx.AsyncClient(base_url=instance.url) as http:
            assert (await http.get("/health/readiness", timeout=30)).status_code == 503
            proxy.accept()
            assert (await http.get("/health/readiness")).status_code == 200
            assert (await http.get("/key/list", headers=bearer(MASTER_KEY))).status_code == 200
    assert "database unreachable at start" in instance.log_text()
    assert "Traceback" not in instance.log_text()


# ---- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/health/liveliness", "/ui/login", "/ui/static/console.css", "/key/list", "/no/such/path", "/v2/login", "/"],
)
async def test_every_answer_refuses_frames_and_guessed_types(worker: Instance, path: str) -> None:
    answer = await worker.http.get(path)
    assert answer.status_code in (200, 302, 401, 404, 405)
    assert {name: answer.headers.get(name) for name in _SECURITY} == _SECURITY
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_no_answer_names_the_server(quarterdeck_process: QuarterdeckFactory) -> None:
    answer = httpx.get(f"{quarterdeck_process().url}/health/liveliness")
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


# ---- errors that no view answers for -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/no/such/path", "/v1/no/such", "/key", "/.env", "/%00", "/%ff", "/key%2Flist/no"])
async def test_an_unknown_path_is_a_404(worker: Instance, path: str) -> None:
    answer = await worker.http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health/liveliness", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/key/generate", {"POST", "OPTIONS"}),
        ("DELETE", "/v1/chat/completions", {"POST", "OPTIONS"}),
        ("PUT", "/v2/login", {"POST", "OPTIONS"}),
    ],
)
async def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    worker: Instance, method: str, path: str, allowed: set[str]
) -> None:
    answer = await worker.http.request(method, path)
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/v2/login", "/key/generate", "/v1/chat/completions", "/v3/login/exchange"])
async def test_a_body_over_the_limit_is_a_413(migrated_sqlite_url: str, tmp_path: Path, path: str) -> None:
    async with serving(
        migrated_sqlite_url, state_dir=tmp_path, max_request_size_mb=0.01, control_plane_url="https://deck.example.com"
    ) as instance:
        answer = await instance.http.post(path, content=b"x" * 20_000, headers=bearer(MASTER_KEY))
        assert answer.status_code == 413
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "413")
        under = await instance.http.post(path, content=b"x" * 5_000, headers=bearer(MASTER_KEY))
        assert under.status_code in (400, 422)


async def test_people_are_led_to_the_console(worker: Instance) -> None:
    answer = await worker.http.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/ui/")


async def test_a_bug_of_ours_says_nothing_to_the_caller(worker: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken() -> str:
        raise RuntimeError("sk-secret-of-the-bug-0123456789")

    worker.app.add_url_rule("/broken", view_func=broken)
    answer = await worker.http.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "Internal server error",
        "type": "internal_server_error",
        "param": None,
        "code": "500",
    }
    printed = capsys.readouterr()
    assert "RuntimeError" in printed.out + printed.err
    assert "sk-secret" not in printed.out + printed.err


async def test_a_file_that_is_missing_is_our_bug_and_not_the_database(worker: Instance) -> None:
    async def broken() -> str:
        return Path("/no/such/file").read_text()

    worker.app.add_url_rule("/broken", view_func=broken)
    assert (await worker.http.get("/broken")).status_code == 500
