"""Ids that only this instance can make, and that only their owner can use."""

from __future__ import annotations

from dataclasses import replace

from app.auth.principal import Principal
from app.auth.roles import Role
from app.llm.files.object_ids import ObjectRef, encrypted_id, opened_id, owner_tag

REF = ObjectRef("deployment-1", "file-abc", "0" * 24)
SALT = "salt-key-of-a-test"


def test_an_id_opens_to_what_it_was_made_of() -> None:
    id = encrypted_id("file", REF, SALT)
    assert id.startswith("file-") and opened_id("file", id, SALT) == REF
    assert encrypted_id("file", REF, SALT) == id
    assert "file-abc" not in id and id.replace("-", "").replace("_", "").isalnum()


def test_an_id_of_another_kind_key_or_content_opens_to_nothing() -> None:
    id = encrypted_id("file", REF, SALT)
    assert opened_id("file", id, "another salt") is None
    assert opened_id("batch", "batch_" + id.removeprefix("file-"), SALT) is None
    for wrong in (
        "",
        "file-",
        "file-abc",
        "file-ä",
        id + "A",
        id[:-1],
        id[:-1] + chr(ord(id[-1]) ^ 1),
        "file-" + "A" * 9999,
    ):
        assert opened_id("file", wrong, SALT) is None


def test_a_thing_belongs_to_the_team_else_the_user_else_the_key() -> None:
    key = Principal(role=Role.INTERNAL_USER, key_hash="h")
    user = replace(key, user_id="u")
    team = replace(user, team_id="t")
    assert len({owner_tag(one, SALT) for one in (key, user, team)}) == 3
    assert owner_tag(team, SALT) == owner_tag(replace(team, user_id="v", key_hash="i"), SALT)
    assert owner_tag(user, SALT) == owner_tag(replace(user, key_hash="i"), SALT)
    assert owner_tag(replace(team, is_session=True), SALT) == owner_tag(user, SALT)
    assert owner_tag(team, SALT) != owner_tag(team, "another salt")
