"""Ids of files and batches as clients see them: encrypted notes of where a thing is kept and whose it is.

There is no table of them. An id that was not encrypted by this instance, or that was changed, opens to nothing; the
same thing always has the same id. With another salt key, or once its deployment has another id, it is lost to clients.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...auth.principal import Principal

_PREFIXES = {"file": "file-", "batch": "batch_"}
_MAX_ID = 4096
_TAG_BYTES = 12


class ObjectRef(msgspec.Struct, frozen=True, array_like=True):
    """A file or a batch: its deployment, its id there, and the tag of its owner."""

    deployment_id: str
    provider_id: str
    owner: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ObjectRef).decode


def encrypted_id(kind: str, ref: ObjectRef, salt_key: str) -> str:
    """The client's id of a `file` or a `batch`."""
    return _PREFIXES[kind] + encrypted_note(kind, _encode(ref), salt_key)


def opened_id(kind: str, id: str, salt_key: str) -> ObjectRef | None:
    """What an id says, None for one that is not ours or of another kind."""
    text = id.removeprefix(_PREFIXES[kind])
    note = opened_note(kind, text, salt_key) if text != id else None
    try:
        return _decode(note) if note is not None else None
    except msgspec.MsgspecError:
        return None


def encrypted_note(kind: str, note: bytes, salt_key: str) -> str:
    """A note in the letters of an id, which only this instance can make and read; the same note is the same text."""
    return base64.urlsafe_b64encode(_cipher(salt_key).encrypt(note, [kind.encode()])).decode().rstrip("=")


def opened_note(kind: str, text: str, salt_key: str) -> bytes | None:
    """The note, None for a text that is not ours, was changed, or is of another kind."""
    if not text or len(text) > _MAX_ID:
        return None
    try:
        encrypted = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _cipher(salt_key).decrypt(encrypted, [kind.encode()])
    except (InvalidTag, binascii.Error, ValueError):
        return None


def owner_tag(principal: Principal, salt_key: str) -> str:
    """24 hex digits that stand for whom a thing belongs to: the key's team, else its user, else the key itself.

    Sessions of the console all name one team, so theirs is the user.
    """
    if principal.team_id is not None and not principal.is_session:
        owner = f"team:{principal.team_id}"
    elif principal.user_id is not None:
        owner = f"user:{principal.user_id}"
    else:
        owner = f"key:{principal.key_hash}"
    mac = HMAC(_derived(salt_key, b"owners of files"), SHA256())
    mac.update(owner.encode())
    return mac.finalize()[:_TAG_BYTES].hex()


@lru_cache(maxsize=4)
def _cipher(salt_key: str) -> AESSIV:
    return AESSIV(_derived(salt_key, b"ids of files"))


@lru_cache(maxsize=8)
def _derived(salt_key: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=64, salt=b"quarterdeck", info=purpose).derive(salt_key.encode())
