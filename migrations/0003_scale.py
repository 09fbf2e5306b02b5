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
        ops.AddIndex(
            model_name='DailyEntitySpend',
            index=Index(fields=['kind', 'date', 'spend'], name='idx_daily_entity_spend_largest'),
        ),
        ops.AddIndex(
            model_name='DailyEntitySpend',
            index=Index(fields=['api_key', 'kind', 'date', 'spend'], name='idx_daily_entity_spend_key'),
        ),
        # Failures are few and asked for often.
        ops.RunSQL(
            "CREATE INDEX IF NOT EXISTS idx_spend_log_failure ON spend_log (start_time) WHERE status = 'failure'",
            'DROP INDEX IF EXISTS idx_spend_log_failure',
        ),
        ops.RunSQL(
            'CREATE INDEX IF NOT EXISTS idx_virtual_key_blocked ON virtual_key (created_at) WHERE blocked',
            'DROP INDEX IF EXISTS idx_virtual_key_blocked',
        ),
        ops.RunSQL(
            'CREATE INDEX IF NOT EXISTS idx_virtual_key_expires ON virtual_key (expires) WHERE expires IS NOT NULL',
            'DROP INDEX IF EXISTS idx_virtual_key_expires',
        ),
        ops.RunPython(_index_text, _drop_text),
        ops.RunPython(_fill_totals, ops.RunPython.noop),
    ]
