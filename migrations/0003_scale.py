"""Indexes and totals that keep lists fast at a million keys and ten million rows of spend (docs/performance.md)."""

from tortoise import migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

# ORM name of an index -> table and columns that people search a part of. The ORM writes UPPER(CAST(x AS VARCHAR)).
_SEARCHED = {
    'idx_virtual_key_text': ('virtual_key', ('key_alias', 'user_id', 'key_name')),
    'idx_user_text': ('user_account', ('user_email', 'user_alias', 'user_id')),
    'idx_team_text': ('team', ('team_alias', 'team_id')),
}
# Indexes of a part of a table, which the ORM has no words for: name, and what follows ON.
_OF_PARTS = (
    # Sums are larger than the rows of single keys: in one index, the largest keys would come after all of them.
    ('idx_daily_entity_spend_largest', "daily_entity_spend (kind, date, spend) WHERE api_key <> ''"),
    ('idx_daily_entity_spend_sums', "daily_entity_spend (kind, date, spend) WHERE api_key = ''"),
    ('idx_daily_entity_spend_key', "daily_entity_spend (api_key, kind, entity_id, date) WHERE api_key <> ''"),
    # Whether a session has a later call is known without reading it.
    ('idx_spend_log_session', 'spend_log (session_id, start_time, request_id) WHERE session_id IS NOT NULL'),
    # Failures are few and asked for often.
    ('idx_spend_log_failure', "spend_log (start_time) WHERE status = 'failure'"),
    ('idx_virtual_key_blocked', 'virtual_key (created_at) WHERE blocked'),
    ('idx_virtual_key_expires', 'virtual_key (expires) WHERE expires IS NOT NULL'),
)
_GROUP = 'date, model, model_group, custom_llm_provider, endpoint'
_COUNTS = (
    'prompt_tokens',
    'completion_tokens',
    'cache_read_input_tokens',
    'cache_creation_input_tokens',
    'api_requests',
    'successful_requests',
    'failed_requests',
    'total_response_time_ms',
)
# kind, entity_id, condition: the rows of daily_entity_spend that follow from daily_spend.
_ROLL_UPS = (
    ("'all'", "''", '1 = 1'),
    ("'team'", "''", "team_id <> ''"),
    ("'team'", 'team_id', "team_id <> ''"),
)


def _is_sqlite(editor):
    return editor.client.capabilities.dialect == 'sqlite'


async def _index_text(apps, editor):
    """Trigram indexes for searches of a part. Without the extension, or the right to create it, searches scan."""
    if _is_sqlite(editor):
        return
    creates = []
    for name, (table, columns) in _SEARCHED.items():
        parts = ', '.join(f'UPPER(CAST({column} AS VARCHAR)) gin_trgm_ops' for column in columns)
        creates.append(f'CREATE INDEX IF NOT EXISTS {name} ON {table} USING gin ({parts});')
    refusals = 'insufficient_privilege OR undefined_file OR undefined_object OR feature_not_supported'
    await editor.client.execute_script(
        'DO $migration$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm; '
        + ' '.join(creates)
        + f' EXCEPTION WHEN {refusals} THEN '
        "RAISE WARNING 'no pg_trgm: searches for a part of a name read the whole table'; END $migration$"
    )


async def _drop_text(apps, editor):
    """The extension stays: others may use it."""
    if not _is_sqlite(editor):
        for name in _SEARCHED:
            await editor.client.execute_script(f'DROP INDEX IF EXISTS {name}')


async def _fill_totals(apps, editor):
    """Totals of the days that were written before these rows existed."""
    counts = ', '.join(f'SUM({name})' for name in _COUNTS)
    total = 'decimal_sum(spend)' if _is_sqlite(editor) else 'SUM(spend)'
    for kind, entity, condition in _ROLL_UPS:
        by = _GROUP if entity == "''" else f'{_GROUP}, {entity}'
        await editor.client.execute_script(
            f'INSERT INTO daily_entity_spend ({_GROUP}, kind, entity_id, api_key, spend, {", ".join(_COUNTS)}) '  # noqa: S608 (constants of this file)
            f"SELECT {_GROUP}, {kind}, {entity}, '', {total}, {counts} FROM daily_spend WHERE {condition} GROUP BY {by} "
            'ON CONFLICT DO NOTHING'
        )


class Migration(migrations.Migration):
    dependencies = [('quarterdeck', '0002_management')]

    initial = False

    operations = [
        ops.AddIndex(
            model_name='DailySpend',
            index=Index(fields=['date', 'spend'], name='idx_daily_spend_largest'),
        ),
        ops.RemoveIndex(model_name='DailySpend', name='idx_daily_spend_team'),
        ops.AddIndex(
            model_name='DailySpend',
            index=Index(fields=['team_id', 'date', 'spend'], name='idx_daily_spend_team_largest'),
        ),
        ops.RemoveIndex(model_name='DailyEntitySpend', name='idx_daily_entity_spend_date'),
        ops.RemoveIndex(model_name='SpendLog', name='idx_spend_log_session'),
        *(
            ops.RunSQL(f'CREATE INDEX IF NOT EXISTS {name} ON {rest}', f'DROP INDEX IF EXISTS {name}')
            for name, rest in _OF_PARTS
        ),
        ops.RunPython(_index_text, _drop_text),
        ops.RunPython(_fill_totals, ops.RunPython.noop),
    ]
