"""Invitations are found by the hash of their link: whoever reads this table can no longer set passwords with it."""

import hashlib

from tortoise import migrations
from tortoise.migrations import operations as ops

_UPDATE_SQLITE = 'UPDATE invitation SET id = ? WHERE id = ?'
_UPDATE_POSTGRESQL = 'UPDATE invitation SET id = $1 WHERE id = $2'


async def _hash_ids(apps, editor):
    rows = await editor.client.execute_query_dict('SELECT id FROM invitation')
    is_sqlite = editor.client.capabilities.dialect == 'sqlite'
    hashes = [[hashlib.sha256(row['id'].encode()).hexdigest(), row['id']] for row in rows]
    if hashes:
        await editor.client.execute_many(_UPDATE_SQLITE if is_sqlite else _UPDATE_POSTGRESQL, hashes)


async def _end(apps, editor):
    """No hash leads back to its link, and as an id of the older version it would be one."""
    await editor.client.execute_script('DELETE FROM invitation')


class Migration(migrations.Migration):
    dependencies = [('quarterdeck', '0003_scale')]

    initial = False

    operations = [ops.RunPython(_hash_ids, _end)]
