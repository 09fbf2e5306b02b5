"""What stands in a batch's metadata at its provider: whose it is, and encrypted, who pays for it.

There is no table of batches. The tag of the owner is compared when batches are listed; the rest can be read and made by
this instance only, so that no other caller and no provider learns a key's hash, and nobody can charge somebody else.
"""

from __future__ import annotations

import msgspec

from ...auth.principal import Principal
from .object_ids import encrypted_note, opened_note

# The name of the entry in the metadata.
OWNER_ENTRY = "quarterdeck_owner"
# A provider takes as many characters in a value.
_MAX_SIGNATURE = 512
_KIND = "payer"


class Payer(msgspec.Struct, frozen=True, array_like=True):
    """Who made a batch, and the models that it names, as its maker calls them."""

    key_hash: str
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    is_session: bool = False
    models: tuple[str, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Payer).decode


def payer_of(principal: Principal, models: tuple[str, ...]) -> Payer:
    return Payer(
        principal.key_hash,
        principal.user_id,
        principal.team_id,
        principal.organization_id,
        principal.is_session,
        models,
    )


def signature_of(owner: str, payer: Payer, salt_key: str) -> str:
    """The entry's value. What makes it too long is left out: the models, else all but the key."""
    without_models = msgspec.structs.replace(payer, models=())
    for kept in (payer, without_models):
        signature = _signature(owner, kept, salt_key)
        if len(signature) <= _MAX_SIGNATURE:
            return signature
    return _signature(owner, Payer(payer.key_hash), salt_key)


def _signature(owner: str, payer: Payer, salt_key: str) -> str:
    return f"{owner}.{encrypted_note(_KIND, _encode(payer), salt_key)}"


def owner_in(signature: str) -> str:
    """The tag of the owner."""
    return signature.partition(".")[0]


def payer_in(signature: str, salt_key: str) -> Payer | None:
    """Who pays; None for a signature that this instance did not make."""
    note = opened_note(_KIND, signature.partition(".")[2], salt_key)
    try:
        return _decode(note) if note is not None else None
    except msgspec.MsgspecError:
        return None
