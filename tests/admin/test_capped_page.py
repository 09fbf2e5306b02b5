"""Pages of large tables."""

from __future__ import annotations

from quart import Quart

from app.admin.paging import read_capped_page
from app.models import User
from tests.admin.org_cast import services_of


async def test_a_total_stops_and_pages_go_on(instance: Quart) -> None:
    with services_of(instance).database.active():
        for number in range(7):
            await User.create(user_id=f"u{number}")
        small = await read_capped_page(User.all(), 2, 3, "user_id", most_counted=7)
        assert ([row.user_id for row in small.rows], small.total, small.is_capped) == (["u3", "u4", "u5"], 7, False)
        seen, number = [], 1
        while True:
            page = await read_capped_page(User.all(), number, 2, "user_id", most_counted=4)
            seen += [row.user_id for row in page.rows]
            assert page.is_capped
            if number >= page.total_pages:
                break
            number += 1
        assert seen == [f"u{number}" for number in range(7)]
        past = await read_capped_page(User.all(), 9, 2, "user_id", most_counted=4)
        assert (past.rows, past.total) == ([], 4)
