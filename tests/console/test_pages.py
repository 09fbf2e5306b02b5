"""The console in Chromium: every page in both themes and widths, with and without script, by keyboard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from .conftest import RunningConsole

AXE = (Path(__file__).parents[1] / "vendor" / "axe.min.js").read_text()
EU = "/ui/workers/eu"
PAGES = (
    "/ui/workers",
    "/ui/workers?full=1",
    f"{EU}/keys",
    f"{EU}/keys?alias=zzz",
    f"{EU}/keys/new",
    f"{EU}/keys/KEY",
    f"{EU}/keys/KEY/edit",
    f"{EU}/keys/KEY/delete",
    f"{EU}/models",
    f"{EU}/models/new",
    f"{EU}/models/id-smart-stored/delete",
    f"{EU}/teams",
    f"{EU}/teams/new",
    f"{EU}/users",
    f"{EU}/users/new",
    f"{EU}/spend",
    f"{EU}/spend?days=7&by=key",
    "/ui/workers/down/keys",
    "/ui/workers/nope/keys",
    "/ui/login?worker=us",
)


async def _sign_in(page: Page, running: RunningConsole, worker_id: str = "eu") -> None:
    await page.goto(f"{running.url}/ui/login?worker={worker_id}")
    await page.fill("#username", "alice")
    await page.fill("#password", "correct horse")
    await page.click("button.primary")
    await page.wait_for_url("**/keys")


async def _serious_faults(page: Page) -> list[str]:
    await page.evaluate(AXE)
    # What is wrong in full; of what is right, which is most of it, only so much as axe needs.
    script = "axe.run({resultTypes: ['violations']}).then((found) => found.violations)"
    violations: list[dict[str, Any]] = await page.evaluate(script)
    return [
        f"{fault['id']} {node['target']}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def _addresses(running: RunningConsole) -> list[str]:
    key = next(row["token"] for row in running.eu.keys.values() if row["key_alias"] == "triage")
    return [address.replace("KEY", key) for address in PAGES]


# Each theme and each width once: colours do not depend on the width, nor widths on the colours.
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
async def test_every_page_is_accessible_and_fits(
    browser: Browser, running_console: RunningConsole, theme: Any, width: int
) -> None:
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True, reduced_motion="reduce"
    )
    page = await context.new_page()
    await _sign_in(page, running_console)
    faults: list[str] = []
    for address in _addresses(running_console):
        await page.goto(running_console.url + address)
        await expect(page.locator("[aria-busy]")).to_have_count(0)
        faults += [f"{address}: {fault}" for fault in await _serious_faults(page)]
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        faults += [f"{address}: {overflow} px too wide"] if overflow > 0 else []
    await context.close()
    assert not faults, "\n".join(faults)


async def test_no_page_breaks_the_content_security_policy(page: Page, running_console: RunningConsole) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await _sign_in(page, running_console)
    for address in _addresses(running_console):
        await page.goto(running_console.url + address)
        await expect(page.locator("[aria-busy]")).to_have_count(0)
    assert not complaints


@pytest.mark.parametrize("element", [".switcher", ".avatar", "td.actions [popovertarget]"])
async def test_open_menus_are_accessible_and_close_by_key(
    browser: Browser, running_console: RunningConsole, element: str
) -> None:
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    page = await context.new_page()
    await _sign_in(page, running_console)
    await page.locator(element).first.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("[popover]:popover-open")).to_have_count(1)
    assert not await _serious_faults(page)
    await page.keyboard.press("Escape")
    await expect(page.locator("[popover]:popover-open")).to_have_count(0)
    await context.close()


async def test_switching_keeps_the_page_and_asks_for_a_sign_in_once(
    page: Page, running_console: RunningConsole
) -> None:
    await _sign_in(page, running_console)
    await page.goto(f"{running_console.url}{EU}/teams")
    await page.click(".switcher")
    await page.get_by_role("link", name="US Staging").click()
    await page.wait_for_url("**/ui/login?worker=us**")
    assert await page.locator("[name=worker_id]:checked").get_attribute("value") == "us"
    await page.fill("#username", "alice")
    await page.fill("#password", "correct horse")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/workers/us/teams")
    await page.click(".switcher")
    await page.get_by_role("link", name="EU Production").click()
    await page.wait_for_url("**/ui/workers/eu/teams")


async def test_filter_and_pages_swap_the_table_only(page: Page, running_console: RunningConsole) -> None:
    await _sign_in(page, running_console)
    await page.evaluate("window.stayed = true")
    running_console.eu.seen.clear()
    await page.keyboard.press("/")
    await page.keyboard.type("batch")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**alias=batch**")
    await expect(page.locator(".pager")).to_contain_text("1–25 of 30")
    await page.get_by_role("link", name="Next").click()
    await page.wait_for_url("**page=2**")
    await expect(page.locator("tbody tr")).to_have_count(5)
    assert await page.evaluate("window.stayed")
    assert {path for _, path, _ in running_console.eu.seen} == {"/key/list"}
    await page.reload()
    await expect(page.locator("tbody tr")).to_have_count(5)
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(25)


@pytest.mark.parametrize(
    ("section", "words"), [("keys", "Create key"), ("users", "Create user"), ("teams", "Create team")]
)
async def test_an_empty_list_leads_to_its_form(
    page: Page, running_console: RunningConsole, section: str, words: str
) -> None:
    await _sign_in(page, running_console, "us")
    await page.goto(f"{running_console.url}/ui/workers/us/{section}")
    await page.locator(".empty").get_by_role("link", name=words).click()
    await page.wait_for_url(f"**/{section}/new")
    await expect(page.get_by_role("dialog", name=words)).to_be_visible()
    await page.get_by_role("link", name="Cancel").click()
    await expect(page.locator(".empty")).to_be_visible()


async def test_the_overview_fills_itself_and_survives_a_dead_worker(
    page: Page, running_console: RunningConsole
) -> None:
    await _sign_in(page, running_console)
    await page.goto(running_console.url + "/ui/workers")
    await expect(page.locator(".tile").filter(has_text="EU Production")).to_contain_text("Healthy")
    await expect(page.locator(".tile").filter(has_text="Frankfurt")).to_contain_text("Does not answer")
    await expect(page.locator("#summary")).to_contain_text("2 unreachable")


async def test_copying_the_secret(browser: Browser, running_console: RunningConsole) -> None:
    context = await browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    await _sign_in(page, running_console)
    await page.goto(f"{running_console.url}{EU}/keys/new")
    await page.fill("#key_alias", "from-the-browser")
    await page.keyboard.press("Enter")
    secret = await page.input_value("#secret")
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert secret.startswith("sk-") and await page.evaluate("navigator.clipboard.readText()") == secret
    assert secret not in page.url
    await context.close()


async def test_focus_never_enters_the_page_behind_a_sheet(page: Page, running_console: RunningConsole) -> None:
    await _sign_in(page, running_console)
    await page.goto(f"{running_console.url}{EU}/keys/new")
    assert await page.evaluate("document.activeElement.id") == "key_alias"
    for _ in range(30):
        await page.keyboard.press("Tab")
        assert not await page.evaluate("!!document.activeElement.closest('.frame')")


@pytest.fixture
async def scriptless(browser: Browser) -> Any:
    """A page of a browser that runs no script."""
    context: BrowserContext = await browser.new_context(java_script_enabled=False)
    yield await context.new_page()
    await context.close()


async def test_everything_works_without_script(scriptless: Page, running_console: RunningConsole) -> None:
    page, eu = scriptless, running_console.eu
    await _sign_in(page, running_console)
    await page.goto(running_console.url + "/ui/workers")
    await page.wait_for_url("**full=1**")
    await expect(page.locator(".tile").first).to_contain_text("Healthy")
    await _create_edit_block_delete(page, running_console.url)
    assert all(row["key_alias"] != "renamed" for row in eu.keys.values())
    await page.click(".switcher")
    await page.get_by_role("link", name="Frankfurt").click()
    await expect(page.get_by_role("heading", name="Frankfurt does not answer")).to_be_visible()
    await page.click(".avatar")
    await page.get_by_role("button", name="Dark").click()
    assert await page.locator("html").get_attribute("data-theme") == "dark"
    await page.click(".avatar")
    await page.get_by_role("button", name="Sign out of all workers").click()
    await page.wait_for_url("**/ui/login")
    assert not eu.sessions


async def _create_edit_block_delete(page: Page, url: str) -> None:
    await page.goto(f"{url}{EU}/keys")
    steps: list[Callable[[], Awaitable[None]]] = [
        lambda: page.get_by_role("link", name="Create key").click(),
        lambda: page.fill("#key_alias", "by-hand"),
        lambda: page.get_by_role("button", name="Create key").click(),
        lambda: page.get_by_role("link", name="I have saved it").click(),
        lambda: page.get_by_role("link", name="Edit").click(),
        lambda: page.fill("#key_alias", "renamed"),
        lambda: page.get_by_role("button", name="Save key").click(),
        lambda: page.get_by_role("button", name="Block key").click(),
        lambda: page.get_by_role("button", name="Unblock key").click(),
        lambda: page.get_by_role("link", name="Delete key").click(),
        lambda: page.fill("#confirm", "renamed"),
        lambda: page.get_by_role("button", name="Delete key").click(),
    ]
    for step in steps:
        await step()
    await page.wait_for_url("**/ui/workers/eu/keys")
