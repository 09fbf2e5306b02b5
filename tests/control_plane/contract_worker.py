"""A worker in memory that speaks the contract's routes which the console calls. For tests of the console only.

`ContractWorker.app` is a Quart app; `failures` maps a path to (status, body) that it answers instead;
`on_answer` is told every answer.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from quart import Quart, Response, request

Answer = Any


class ContractWorker:
    def __init__(self, *, password: str = "correct horse", has_control_plane: bool = True, role: str = "proxy_admin"):
        self.password, self.has_control_plane, self.role = password, has_control_plane, role
        self.sessions: set[str] = set()
        self.codes: dict[str, str] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.teams: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.activity: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.failures: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.on_answer: Callable[[str, Response], Awaitable[None]] | None = None
        self.add_model("chat-small", mode="chat")
        self.add_model("embed-small", mode="embedding")
        self.app = self._build()

    def add_model(self, name: str, *, mode: str, stored: bool = False) -> None:
        info = {"id": f"id-{name}", "db_model": stored, "mode": mode}
        prices = {"input_cost_per_token": 0.00000025, "output_cost_per_token": 0.000002}
        self.models.append(
            {"model_name": name, "litellm_params": {"model": f"openai/{name}"}, "model_info": {**info, **prices}}
        )

    def add_key(self, alias: str, **fields: Any) -> dict[str, Any]:
        secret = "sk-" + secrets.token_urlsafe(16)
        token = hashlib.sha256(secret.encode()).hexdigest()
        now = datetime.now(UTC).isoformat()
        row = {
            "token": token,
            "key_name": f"sk-...{secret[-4:]}",
            "key_alias": alias,
            "spend": 0.0,
            "max_budget": None,
            "models": [],
            "expires": None,
            "blocked": None,
            "team_id": None,
            "user_id": None,
            "rpm_limit": None,
            "tpm_limit": None,
            "created_at": now,
            **fields,
        }
        self.keys[token] = row
        return {**row, "key": secret}

    def add_day(self, date: str, models: dict[str, float], *, requests: int = 10, failed: int = 0) -> None:
        def metrics(spend: float, share: int) -> dict[str, Any]:
            tokens = {"prompt_tokens": 100 * share, "completion_tokens": 20 * share}
            return {"spend": spend, "api_requests": share, "failed_requests": 0, **tokens}

        total = {**metrics(sum(models.values()), requests), "failed_requests": failed}
        parts = {
            name: {"metrics": metrics(spend, requests // len(models)), "metadata": {}} for name, spend in models.items()
        }
        hashes = list(self.keys)[:3] or ["f" * 64]
        keys = {
            token: {
                "metrics": metrics(sum(models.values()) / len(hashes), requests // len(hashes)),
                "metadata": {"key_alias": self.keys.get(token, {}).get("key_alias")},
            }
            for token in hashes
        }
        self.activity.append({"date": date, "metrics": total, "breakdown": {"models": parts, "api_keys": keys}})

    def bodies(self, path: str) -> list[Any]:
        """What was sent to this path, in order: the JSON body, or the query where there was none."""
        return [body for _, requested, body in self.requests if requested == path]

    def _token(self, username: str) -> str:
        key = "sk-session-" + secrets.token_urlsafe(16)
        self.sessions.add(key)
        claims = {
            "key": key,
            "user_id": username,
            "user_role": self.role,
            "exp": datetime.now(UTC) + timedelta(hours=1),
        }
        return jwt.encode(claims, "worker's own secret, thirty-two bytes")

    def _build(self) -> Quart:
        app = Quart("contract_worker")
        app.before_request(self._guard)
        app.after_request(self._tell)
        app.add_url_rule("/health/liveliness", view_func=self._alive)
        app.add_url_rule("/health/readiness", view_func=self._ready)
        post: dict[str, Any] = {"methods": ["POST"]}
        app.add_url_rule("/v2/login", view_func=self._login_v2, **post)
        app.add_url_rule("/v3/login", view_func=self._login_v3, **post)
        app.add_url_rule("/v3/login/exchange", view_func=self._exchange, **post)
        app.add_url_rule("/session/logout", view_func=self._logout, **post)
        app.add_url_rule("/key/list", view_func=self._key_list)
        app.add_url_rule("/key/info", view_func=self._key_info)
        app.add_url_rule("/key/generate", view_func=self._key_generate, **post)
        app.add_url_rule("/key/update", view_func=self._key_update, **post)
        app.add_url_rule("/key/<action>", view_func=self._key_action, **post)
        app.add_url_rule("/model/info", view_func=self._model_info)
        app.add_url_rule("/model/new", view_func=self._model_new, **post)
        app.add_url_rule("/model/delete", view_func=self._model_delete, **post)
        app.add_url_rule("/team/list", view_func=self._team_list)
        app.add_url_rule("/team/new", view_func=self._team_new, **post)
        app.add_url_rule("/user/list", view_func=self._user_list)
        app.add_url_rule("/user/new", view_func=self._user_new, **post)
        app.add_url_rule("/user/daily/activity", view_func=self._daily)
        app.add_url_rule("/spend/logs", view_func=self._logs)
        return app

    async def _guard(self) -> Answer:
        body = await request.get_json(silent=True)
        self.requests.append((request.method, request.path, body if body is not None else dict(request.args)))
        if request.path in self.failures:
            status, answer = self.failures[request.path]
            return answer, status
        is_open = request.path.startswith(("/health", "/v2/login", "/v3/login"))
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not is_open and key not in self.sessions:
            return _error(401, "Authentication Error, Invalid proxy server token passed", "token_not_found_in_db")
        return None

    async def _tell(self, response: Response) -> Response:
        if self.on_answer is not None:
            await self.on_answer(request.path, response)
        return response

    async def _alive(self) -> Answer:
        return '"I\'m alive!"', 200, {"Content-Type": "application/json"}

    async def _ready(self) -> Answer:
        return {"status": "healthy", "db": "connected", "version": "0.1.0"}

    async def _proof(self) -> tuple[str, bool]:
        body = await request.get_json()
        return body["username"], body["password"] == self.password

    async def _login_v2(self) -> Answer:
        username, is_right = await self._proof()
        if not is_right:
            return _error(401, "Invalid credentials", "auth_error", "invalid_credentials")
        return {"token": self._token(username), "redirect_url": "/ui"}

    async def _login_v3(self) -> Answer:
        if not self.has_control_plane:
            return _error(404, "control_plane_url is not set", "not_found_error", "control_plane_url")
        username, is_right = await self._proof()
        if not is_right:
            return _error(401, "Invalid credentials", "auth_error", "invalid_credentials")
        code, challenge = secrets.token_urlsafe(32), (await request.get_json())["code_challenge"]
        self.codes[code] = challenge + " " + username
        return {"code": code, "expires_in": 60}

    async def _exchange(self) -> Answer:
        body = await request.get_json()
        challenge, username = self.codes.pop(body["code"]).split(" ", 1)
        digest = base64.urlsafe_b64encode(hashlib.sha256(body["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if digest != challenge:
            return _error(401, "Invalid or expired login code", "auth_error", "code")
        return (
            {"token": self._token(username), "redirect_url": "/ui"},
            200,
            {"Set-Cookie": "token=of-this-worker; Path=/"},
        )

    async def _logout(self) -> Answer:
        self.sessions.discard(request.headers["Authorization"].removeprefix("Bearer "))
        return {"message": "Session revoked."}

    async def _key_list(self) -> Answer:
        query, rows = request.args, list(self.keys.values())
        if query.get("search"):
            rows = [row for row in rows if query["search"] in row["key_alias"]]
        if query.get("team_id"):
            rows = [row for row in rows if row["team_id"] == query["team_id"]]
        column = query.get("sort_by", "created_at")
        rows.sort(key=lambda row: row[column], reverse=query.get("sort_order") != "asc")
        page, size = int(query["page"]), int(query["size"])
        names = {team["team_id"]: team.get("team_alias") for team in self.teams}
        shown = [{**row, "team_alias": names.get(row["team_id"])} for row in rows[(page - 1) * size : page * size]]
        return {"keys": shown, "total_count": len(rows), "current_page": page, "total_pages": -(-len(rows) // size)}

    async def _key_info(self) -> Answer:
        token = request.args.get("key")
        if token is None:
            return {"key": "own", "info": {}}
        if token not in self.keys:
            return _error(404, "Key not found in database", "not_found_error", "key")
        row = {name: value for name, value in self.keys[token].items() if name != "token"}
        return {"key": token, "info": row}

    async def _key_generate(self) -> Answer:
        body = await request.get_json()
        if any(row["key_alias"] == body["key_alias"] for row in self.keys.values()):
            return _error(
                400, f"Key with alias '{body['key_alias']}' already exists.", "bad_request_error", "key_alias"
            )
        return self.add_key(body.pop("key_alias"), **body)

    async def _key_update(self) -> Answer:
        body = await request.get_json()
        self.keys[body.pop("key")].update(body)
        return {"key": "…"}

    async def _key_action(self, action: str) -> Answer:
        body = await request.get_json()
        if action == "delete":
            for token in body["keys"]:
                del self.keys[token]
            return {"deleted_keys": body["keys"]}
        self.keys[body["key"]]["blocked"] = action == "block"
        return {"token": body["key"]}

    async def _model_info(self) -> Answer:
        return {"data": self.models}

    async def _model_new(self) -> Answer:
        body = await request.get_json()
        self.add_model(body["model_name"], mode="chat", stored=True)
        return body

    async def _model_delete(self) -> Answer:
        doomed = (await request.get_json())["id"]
        self.models = [row for row in self.models if row["model_info"]["id"] != doomed]
        return {"message": f"Model: {doomed} deleted successfully"}

    async def _team_list(self) -> Answer:
        return self.teams

    async def _team_new(self) -> Answer:
        body = await request.get_json()
        row = {"team_id": secrets.token_hex(8), "spend": 0.0, "models": [], "members_with_roles": [], **body}
        self.teams.append({"created_at": datetime.now(UTC).isoformat(), "max_budget": None, **row})
        return row

    async def _user_list(self) -> Answer:
        return {"users": self.users, "total": len(self.users), "page": 1, "page_size": 25, "total_pages": 1}

    async def _user_new(self) -> Answer:
        body = await request.get_json()
        if any(user["user_email"] == body["user_email"] for user in self.users):
            return _error(
                409, f"User with email {body['user_email']} already exists", "bad_request_error", "user_email"
            )
        row = {"user_id": secrets.token_hex(8), "spend": 0.0, "key_count": 0, "teams": [], "max_budget": None, **body}
        self.users.append({"created_at": datetime.now(UTC).isoformat(), **row})
        return {**row, "key": ""}

    async def _daily(self) -> Answer:
        first, last = request.args["start_date"], request.args["end_date"]
        return {"results": [row for row in self.activity if first <= row["date"] <= last], "metadata": {}}

    async def _logs(self) -> Answer:
        return self.logs


def _error(status: int, message: str, kind: str, param: str | None = None) -> Answer:
    return {"error": {"message": message, "type": kind, "param": param, "code": str(status)}}, status
