"""Settings of callbacks and alerts, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import load_settings
from app.settings.callbacks import header_lines, names, origin, origins, receiver_address, webhook_addresses, whole_days


def test_lists_may_be_text() -> None:
    assert names("langfuse, slack,,langfuse") == ("langfuse", "slack")
    assert names(["a"]) == ("a",)
    for wrong in ({"a": 1}, [1], 5, [f"n{number}" for number in range(51)]):
        with pytest.raises(ValueError, match="names"):
            names(wrong)


def test_headers_are_pairs() -> None:
    assert header_lines("X-A=1,Authorization=Basic eDp5==") == (("X-A", "1"), ("Authorization", "Basic eDp5=="))
    assert header_lines({"X-A": "b"}) == (("X-A", "b"),)
    for wrong in ("X-A=line\nbreak", {"X:A": "b"}, {"X-Ä": "b"}, "Host=other", "content-length=1"):
        with pytest.raises(ValueError, match="header"):
            header_lines(wrong)


def test_hosts_are_origins() -> None:
    assert origins("logs.example, http://10.0.0.5:3000, https://Logs.example:443/path") == (
        "https://logs.example",
        "http://10.0.0.5:3000",
    )
    assert origin("https://[::1]:8443/x") == "https://[::1]:8443"
    for wrong in ("ftp://x", "https://user:pw@logs.example", "https://", "https://a:99999"):
        with pytest.raises(ValueError, match=r".+"):
            origin(wrong)


def test_reports_come_after_whole_days() -> None:
    assert (whole_days("1d"), whole_days("7d"), whole_days("48h")) == (1, 7, 2)
    for wrong in ("weekly", "12h", "0d", "400d", 7):
        with pytest.raises(ValueError, match=r".+"):
            whole_days(wrong)


def test_nothing_is_sent_to_link_local_addresses() -> None:
    assert receiver_address("http://10.0.0.5:3000/in/") == "http://10.0.0.5:3000/in"
    for wrong in ("http://169.254.169.254/latest", "http://[fe80::1]/"):
        for read in (receiver_address, origin):
            with pytest.raises(ValueError, match="link-local"):
                read(wrong)


def test_webhooks_of_types_are_one_or_several() -> None:
    found = webhook_addresses({"budget_alerts": "https://a.example", "outage_alerts": ["https://b.example"]})
    assert found == {"budget_alerts": ("https://a.example",), "outage_alerts": ("https://b.example",)}
    with pytest.raises(ValueError, match="http"):
        webhook_addresses({"x": "nowhere"})


def test_the_file_and_the_environment_are_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "general_settings: {master_key: sk-long-enough-master-key-0123, alerting: [slack], alerting_threshold: 30}\n"
        "litellm_settings: {callbacks: [own], success_callback: [langfuse], turn_off_message_logging: true}\n"
        "callback_settings: {own: {callback_type: generic_api, endpoint: 'https://a.example'}}\n"
    )
    settings = load_settings(
        path,
        {
            "LANGFUSE_HOST": "https://lf.example/",
            "LANGFUSE_SECRET_KEY": "sk-hidden",
            "SLACK_WEBHOOK_URL": "https://hooks.example/hidden",
            "QUARTERDECK_CALLBACK_HOSTS": "logs.example",
            "SMTP_HOST": "mail.example",
        },
    )
    assert settings.warnings == ()
    assert (settings.callbacks, settings.success_callback, settings.alerting) == (("own",), ("langfuse",), ("slack",))
    assert (settings.callback_settings or {})["own"]["endpoint"] == "https://a.example"
    assert settings.callback_origins == {"https://lf.example", "https://logs.example"}
    assert (settings.alerting_threshold, settings.smtp_port, settings.turn_off_message_logging) == (30.0, 587, True)
    assert "hidden" not in repr(settings)
