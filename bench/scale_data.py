"""A large fleet, written by PostgreSQL itself: keys, users, teams, 30 days of calls and the totals that belong to them.

Most calls come from a few thousand keys, the rest is spread over all of them. They are written in about the order of
their time, as a gateway does. Every total is summed from the calls: lists, days and rows agree to the last digit.
"""

from __future__ import annotations

import time

import asyncpg

DAYS = 30
HEAVY_KEYS = 3000
_CHUNK = 500_000
_TABLES = ("virtual_key", "user_account", "team", "spend_log", "daily_spend", "daily_entity_spend")
_SUMS = """
    SUM(spend), SUM(prompt_tokens), SUM(completion_tokens), 0, 0, COUNT(*),
    COUNT(*) FILTER (WHERE status = 'success'), COUNT(*) FILTER (WHERE status <> 'success'), SUM(request_duration_ms)
"""
_SUM_COLUMNS = """
    spend, prompt_tokens, completion_tokens, cache_read_input_tokens, cache_creation_input_tokens, api_requests,
    successful_requests, failed_requests, total_response_time_ms
"""
_DAY = "to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
_DIMENSIONS = "model, model_group, custom_llm_provider"
# kind, entity, keep the key, condition
_ENTITIES = (
    ("all", "''", False, "true"),
    ("team", "''", False, "team_id <> ''"),
    ("team", "team_id", False, "team_id <> ''"),
    ("organization", "''", False, "organization_id IS NOT NULL"),
    ("organization", "organization_id", False, "organization_id IS NOT NULL"),
    ("organization", "organization_id", True, "organization_id IS NOT NULL"),
    ("end_user", "''", False, "end_user <> ''"),
    ("end_user", "end_user", False, "end_user <> ''"),
    ("end_user", "end_user", True, "end_user <> ''"),
    ("tag", "''", False, "request_tags <> '[]'"),
    ("tag", "request_tags ->> 0", False, "request_tags <> '[]'"),
    ("tag", "request_tags ->> 0", True, "request_tags <> '[]'"),
)


async def fill(url: str, keys: int, rows: int) -> None:
    """Empty the tables of a migrated database and fill them. Takes about 15 minutes for ten million rows."""
    connection = await asyncpg.connect(url)
    try:
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY($1) "
            "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)",
            list(_TABLES),
        )
        await _run(connection, "empty", f"TRUNCATE {', '.join(_TABLES)}")
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        await connection.execute("SELECT setseed(0.42)")
        await _people(connection, keys)
        await _calls(connection, keys, rows)
        await _totals(connection)
        for index in indexes:
            await _run(connection, index["indexname"], index["indexdef"])
        for table in _TABLES:
            await _run(connection, f"vacuum {table}", f"VACUUM ANALYZE {table}")
    finally:
        await connection.close()


async def _run(connection: asyncpg.Connection, what: str, sql: str) -> None:
    started = time.monotonic()
    await connection.execute(sql)
    print(f"{what:<40}{time.monotonic() - started:8.1f} s", flush=True)


async def _people(connection: asyncpg.Connection, keys: int) -> None:
    users, teams = max(1, keys // 10), max(1, keys // 500)
    await _run(
        connection,
        "users",
        f"""INSERT INTO user_account (user_id, user_email, user_alias, user_role, models, metadata, spend, model_spend,
            model_max_budget, created_at, updated_at)
        SELECT 'user-' || i, 'user-' || i || '@acme.example', 'User ' || i, 'internal_user', '[]', '{{}}', 0, '{{}}',
            '{{}}', now() - i * interval '1 second', now() FROM generate_series(0, {users - 1}) AS i""",
    )
    columns = await _empty_columns(connection, "team", ("team_id", "team_alias", "spend", "created_at", "updated_at"))
    await _run(
        connection,
        "teams",
        f"""INSERT INTO team (team_id, team_alias, spend, created_at, updated_at{columns[0]})
        SELECT 'team-' || i, 'Team ' || i, 0, now(), now(){columns[1]} FROM generate_series(0, {teams - 1}) AS i""",
    )
    given = (
        *("token", "key_name", "key_alias", "user_id", "team_id", "organization_id", "blocked", "expires"),
        *("spend", "total_spend", "created_at", "updated_at"),
    )
    columns = await _empty_columns(connection, "virtual_key", given)
    await _run(
        connection,
        "keys",
        f"""INSERT INTO virtual_key ({", ".join(given)}{columns[0]})
        SELECT encode(sha256(('key-' || i)::bytea), 'hex'), 'sk-...' || substr(md5(i::text), 1, 4),
            (ARRAY['checkout','search','billing','mobile','etl'])[1 + i % 5] || '-' || substr(md5('a' || i), 1, 8)
                || '-' || i,
            'user-' || i % {users}, CASE WHEN i % 5 < 3 THEN 'team-' || i % {teams} END,
            CASE WHEN i % 5 < 3 THEN 'org-' || i % {teams} % 50 END, i % 50 = 7,
            CASE WHEN i % 10 = 3 THEN now() + (i % 60 - 30) * interval '1 day' END, 0, 0,
            now() - i * interval '7 seconds', now(){columns[1]} FROM generate_series(0, {keys - 1}) AS i""",
    )


async def _empty_columns(connection: asyncpg.Connection, table: str, given: tuple[str, ...]) -> tuple[str, str]:
    """What else must not be null, as SQL for the column list and the select list."""
    required = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1 AND is_nullable = 'NO' "
        "AND column_default IS NULL AND column_name <> ALL($2)",
        table,
        list(given),
    )
    empty = {"jsonb": "'[]'", "boolean": "false", "numeric": "0", "integer": "0", "bigint": "0"}
    objects = ("aliases", "config", "router_settings", "permissions", "metadata", "budget_fallbacks", "model_spend")
    values = [
        "'{}'" if row["column_name"] in (*objects, "model_max_budget") else empty.get(row["data_type"], "now()")
        for row in required
    ]
    return "".join(f", {row['column_name']}" for row in required), "".join(f", {value}" for value in values)


async def _calls(connection: asyncpg.Connection, keys: int, rows: int) -> None:
    users, teams = max(1, keys // 10), max(1, keys // 500)
    heavy = min(HEAVY_KEYS, keys)
    for first in range(0, rows, _CHUNK):
        last = min(first + _CHUNK, rows) - 1
        await _run(
            connection,
            f"calls to {last + 1:,}",
            f"""INSERT INTO spend_log (request_id, call_type, api_key, spend, total_tokens, prompt_tokens,
                completion_tokens, start_time, end_time, completion_start_time, request_duration_ms, model, model_id,
                model_group, custom_llm_provider, "user", team_id, organization_id, end_user, session_id, request_tags,
                metadata, status)
            SELECT 'chatcmpl-' || md5(g::text), 'acompletion', encode(sha256(('key-' || k)::bytea), 'hex'),
                CASE WHEN failed THEN 0 ELSE round((prompt * 0.0000025 + answer * 0.00001)::numeric, 12) END,
                prompt + answer, prompt, answer, at, at + ms * interval '1 ms', at + interval '200 ms', ms, 'gpt-' || m,
                'deployment-' || m, 'chat-' || m, (ARRAY['openai','azure','anthropic'])[1 + m % 3],
                'user-' || k % {users},
                CASE WHEN k % 5 < 3 THEN 'team-' || k % {teams} ELSE '' END,
                CASE WHEN k % 5 < 3 THEN 'org-' || k % {teams} % 50 END,
                CASE WHEN g % 10 < 3 THEN 'customer-' || (g::bigint * 7919) % 20000 ELSE '' END,
                CASE WHEN g % 4 = 0 THEN 'session-' || g / 20 END,
                CASE WHEN g % 5 = 0 THEN jsonb_build_array('tag-' || g % 12) ELSE '[]' END,
                CASE WHEN failed THEN '{{"error_information": {{"error_code": "429"}}}}'::jsonb ELSE '{{}}' END,
                CASE WHEN failed THEN 'failure' ELSE 'success' END
            FROM (
                SELECT g, (CASE WHEN random() < 0.9 THEN floor({heavy} * power(random(), 3))
                        ELSE floor(random() * {keys}) END)::bigint AS k,
                    now() - (1 - least(1, (g + random() * 1000) / {rows})) * interval '{DAYS - 1} days' AS at,
                    200 + (random() * 3000)::int AS prompt,
                    20 + (random() * 800)::int AS answer, 300 + (random() * 4000)::int AS ms,
                    floor(5 * power(random(), 2))::int AS m, random() < 0.01 AS failed
                FROM generate_series({first}, {last}) AS g
            ) AS drawn""",
        )


async def _totals(connection: asyncpg.Connection) -> None:
    await connection.execute("SET work_mem = '512MB'")
    await _run(
        connection,
        "days of keys",
        f"""INSERT INTO daily_spend (date, api_key, user_id, team_id, {_DIMENSIONS}, endpoint, {_SUM_COLUMNS})
        SELECT {_DAY}, api_key, "user", COALESCE(team_id, ''), {_DIMENSIONS}, '/chat/completions', {_SUMS}
        FROM spend_log GROUP BY 1, 2, 3, 4, 5, 6, 7""",
    )
    for kind, entity, has_keys, condition in _ENTITIES:
        key = "api_key" if has_keys else "''"
        await _run(
            connection,
            f"days of {kind} {entity}",
            f"""INSERT INTO daily_entity_spend (date, kind, entity_id, api_key, {_DIMENSIONS}, endpoint, {_SUM_COLUMNS})
            SELECT {_DAY}, '{kind}', {entity}, {key}, {_DIMENSIONS}, '/chat/completions', {_SUMS}
            FROM spend_log WHERE {condition} GROUP BY 1, 3, 4, 5, 6, 7""",
        )
    for table, column, source in (
        ("virtual_key", "token", "api_key"),
        ("user_account", "user_id", "user_id"),
        ("team", "team_id", "team_id"),
    ):
        also = ", total_spend = sums.spend" if table == "virtual_key" else ""
        await _run(
            connection,
            f"spend of {table}",
            f"""UPDATE {table} SET spend = sums.spend{also} FROM (
                SELECT {source} AS id, SUM(spend) AS spend FROM daily_spend GROUP BY 1
            ) AS sums WHERE {table}.{column} = sums.id""",
        )
    await connection.execute("RESET work_mem")
