"""The shortcuts answer what the libraries would."""

from __future__ import annotations

from typing import Any

import httpx._transports.default
import pytest
from werkzeug.routing import BuildError, Map, Rule

from tests.services import shortcuts


def test_a_url_is_built_as_werkzeug_builds_it() -> None:
    rule = Rule("/workers/<worker_id>/keys/<int:number>", endpoint="key")
    urls = Map([rule]).bind("worker")
    values = {"worker_id": "eu 1é", "number": 7}
    assert urls.build("key", values) == "/workers/eu%201%C3%A9/keys/7"
    assert urls.build("key", {**values, "page": 2}) == "/workers/eu%201%C3%A9/keys/7?page=2"
    assert urls.build("key", {**values, "page": 2}, append_unknown=False) == "/workers/eu%201%C3%A9/keys/7"
    for append_unknown in (True, False):
        by_werkzeug = shortcuts._COMPILE(rule, append_unknown).__get__(rule)
        assert rule.build({**values, "page": 2}, append_unknown) == by_werkzeug(**values, page=2)
    with pytest.raises(BuildError):
        urls.build("key", {"worker_id": "eu"})
    with pytest.raises(ValueError, match="many"):
        urls.build("key", {"worker_id": "eu", "number": "many"})


def test_certificates_are_read_once_for_clients_that_want_the_same() -> None:
    transports: Any = httpx._transports.default
    create = transports.create_ssl_context
    assert create(verify=True) is create(verify=True)
    assert create(verify=True) is not create(verify=False)
    assert not create(verify=False).check_hostname
