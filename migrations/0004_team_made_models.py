"""Which stored deployments an admin of a team made: their prices bill that team alone, and only they are its to change."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

# Of the rows that were there before: those whose author is known, and is no admin of the instance today.
_MARK = (
    'UPDATE deployment SET is_team_made = true '
    "WHERE created_by IS NOT NULL AND created_by NOT IN ('', 'default_user_id') "
    "AND created_by NOT IN (SELECT user_id FROM user_account WHERE user_role = 'proxy_admin')"
)


class Migration(migrations.Migration):
    dependencies = [('quarterdeck', '0003_scale')]

    initial = False

    operations = [
        ops.AddField(
            model_name='StoredDeployment',
            name='is_team_made',
            field=fields.BooleanField(default=False, db_default=False),
        ),
        ops.RunSQL(_MARK, ops.RunSQL.noop),
    ]
