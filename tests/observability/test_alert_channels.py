"""Alerts as they arrive: in Slack's format, as JSON, as mail."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_string
from email.policy import default
from typing import Any

import pytest

from app.observability.alert_channels import destination
from app.observability.alerts import Alert
from app.observability.delivery_queue import Undelivered
from app.observability.http_post import open_client
from tests.observability.calls import settings
from tests.observability.receivers import HttpReceiver, MailReceiver

BUDGET = Alert("budget_alerts", "Key=<alice> & co is over", {"event": "budget_crossed", "spend": 1.5})
OUTAGE = Alert("outage_alerts", "d1 is away", {"event": "outage_alerts"})


async def deliver(name: str, alerts: Sequence[Alert], **fields: Any) -> None:
    async with open_client() as http:
        send = destination(name, settings(**fields), http)
        assert send is not None
        await send(alerts)


async def test_slack_gets_one_message_with_all_lines() -> None:
    async with HttpReceiver() as receiver:
        await deliver("slack", [BUDGET, OUTAGE], slack_webhook_url=receiver.url)
        (post,) = receiver.posts
    lines = post.json["text"].split("\n")
    assert list(post.json) == ["text"]
    assert lines[0] == "*Quarterdeck* `budget_alerts` Key=&lt;alice&gt; &amp; co is over"
    assert len(lines) == 2


async def test_types_may_have_webhooks_of_their_own() -> None:
    async with HttpReceiver() as usual, HttpReceiver() as own:
        await deliver(
            "slack",
            [BUDGET, OUTAGE],
            slack_webhook_url=usual.url,
            alert_to_webhook_url={"outage_alerts": (own.url, f"{own.url}/two")},
        )
        assert ["is over" in post.json["text"] for post in usual.posts] == [True]
        assert [post.path for post in own.posts] == ["/", "/two"]


async def test_a_test_message_goes_to_every_webhook_of_slack() -> None:
    async with HttpReceiver() as receiver:
        own = {"outage_alerts": (f"{receiver.url}/one",), "budget_alerts": (f"{receiver.url}/two",)}
        await deliver("slack", [Alert("test", "hello", {})], alert_to_webhook_url=own)
        assert [post.path for post in receiver.posts] == ["/one", "/two"]


async def test_a_dead_address_keeps_nothing_from_the_others_and_another_try_repeats_no_arrival() -> None:
    async with HttpReceiver(500, 500) as dead, HttpReceiver() as alive, open_client() as http:
        own = {"outage_alerts": (dead.url, alive.url), "budget_alerts": (alive.url,)}
        send = destination("slack", settings(alert_to_webhook_url=own), http)
        assert send is not None
        batch = [OUTAGE, BUDGET]
        for _ in range(2):
            with pytest.raises(Undelivered):
                await send(batch)
        await send(batch)
        assert (len(dead.posts), len(alive.posts)) == (3, 1)
    async with HttpReceiver(200, 500) as hesitant, open_client() as http:
        send = destination("webhook", settings(webhook_url=hesitant.url), http)
        assert send is not None
        with pytest.raises(Undelivered):
            await send(batch)
        await send(batch)
        assert [post.json for post in hesitant.posts] == [dict(one.fields) for one in (OUTAGE, BUDGET, BUDGET)]


async def test_a_webhook_gets_each_alert_as_json() -> None:
    async with HttpReceiver() as receiver:
        await deliver("webhook", [BUDGET, OUTAGE], webhook_url=receiver.url)
        assert [post.json for post in receiver.posts] == [dict(BUDGET.fields), dict(OUTAGE.fields)]


async def test_mail_is_sent_with_the_account_of_the_settings() -> None:
    async with MailReceiver("postman", "p4ss") as server:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": False}
        account = {"smtp_username": "postman", "smtp_password": "p4ss", "smtp_sender_email": "deck@acme.example"}
        await deliver("email", [BUDGET, OUTAGE], **mail, **account, alert_emails=("a@acme.example", "b@acme.example"))
        (arrived,) = server.mails
    assert (arrived.sender, arrived.recipients) == ("deck@acme.example", ["a@acme.example", "b@acme.example"])
    message = message_from_string(arrived.text, policy=default)
    assert message["Subject"] == "Quarterdeck: 2 alerts"
    assert "d1 is away" in message.get_content()


async def test_mail_goes_to_the_sender_when_nobody_else_is_named() -> None:
    async with MailReceiver() as server:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": False}
        await deliver("email", [BUDGET], **mail, smtp_sender_email="deck@acme.example")
        (arrived,) = server.mails
    assert arrived.recipients == ["deck@acme.example"]
    assert message_from_string(arrived.text, policy=default)["Subject"] == "Quarterdeck: Key=<alice> & co is over"


async def test_a_subject_is_one_line_whatever_a_name_holds() -> None:
    odd = Alert("budget_alerts", "Key=x\r\nBcc: evil@example.com is over", {})
    async with MailReceiver() as server:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": False}
        await deliver("email", [odd], **mail, smtp_sender_email="deck@acme.example")
        (arrived,) = server.mails
    assert arrived.recipients == ["deck@acme.example"]
    assert message_from_string(arrived.text, policy=default)["Bcc"] is None


async def test_a_mail_server_that_refuses_is_no_delivery() -> None:
    async with MailReceiver("postman", "other") as server:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_sender_email": "deck@acme.example"}
        with pytest.raises(Undelivered, match="SMTPAuthenticationError"):
            await deliver("email", [BUDGET], **mail, smtp_tls=False, smtp_username="postman", smtp_password="p4ss")
        with pytest.raises(Undelivered, match="SMTPNotSupportedError"):
            await deliver("email", [BUDGET], **mail)  # it does not encrypt, and that was asked for
    with pytest.raises(Undelivered):
        await deliver("email", [BUDGET], **mail, smtp_tls=False)


async def test_places_without_an_address_are_none() -> None:
    async with open_client() as http:
        for name in ("slack", "webhook", "email", "pagerduty"):
            assert destination(name, settings(), http) is None
