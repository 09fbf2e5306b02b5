"""Ids of files and batches as clients see them: sealed notes of where a thing is kept and whose it is.

There is no table of them. An id that was not sealed by this instance, or that was changed, opens to nothing; the same
thing always has the same id. With another salt key, or once its deployment has another id, it is lost to clients.
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
_LONGEST_ID = 4096
_TAG_BYTES = 12


class ObjectRef(msgspec.Struct, frozen=True, array_like=True):
    """A file or a batch: its deployment, its id there, and the tag of its owner."""

    deployment_id: str
    provider_id: str
    owner: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ObjectRef).decode


def sealed_id(kind: str, ref: ObjectRef, salt_key: str) -> str:
    """The client's id of a `file` or a `batch`."""
    sealed = _cipher(salt_key).encrypt(_encode(ref), [kind.encode()])
    return _PREFIXES[kind] + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def opened_id(kind: str, id: str, salt_key: str) -> ObjectRef | None:
    """What an id says, None for one that is not ours or of another kind."""
    text = id.removeprefix(_PREFIXES[kind])
    if text == id or len(id) > _LONGEST_ID:
        return None
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _decode(_cipher(salt_key).decrypt(sealed, [kind.encode()]))
    except (InvalidTag, binascii.Error, ValueError, msgspec.MsgspecError):
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
