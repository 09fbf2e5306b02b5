"""What sign-in leaves behind: one-time login codes on a worker, console sessions on a control plane."""

from __future__ import annotations

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

from . import columns


class LoginCode(Model):
    """A code that is exchanged once within its minute. Only its SHA-256 is stored, the payload is ciphertext."""

    code_hash = columns.name(64, primary_key=True)
    payload = fields.TextField()
    expires_at = fields.DatetimeField()

    class Meta:
        table = "login_code"
        indexes = (Index(fields=("expires_at",), name="idx_login_code_expires_at"),)


class ConsoleSession(Model):
    """A browser's session. The id is stored as SHA-256 and the credentials as ciphertext."""

    session_hash = columns.name(64, primary_key=True)
    data = fields.TextField()
    created_at = fields.DatetimeField(auto_now_add=True)
    expires_at = fields.DatetimeField()

    class Meta:
        table = "console_session"
        indexes = (Index(fields=("expires_at",), name="idx_console_session_expires_at"),)
