"""Alerts: what is worth one, and that one subject gives one message an hour."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from app.observability.alerts import Alert, AlertObserver
from app.spend.scopes import BudgetScope, member_id
from tests.observability.calls import PROVIDER_KEY, deployment, ended_call, settings


class Desk:
    """An observer with its clock and what it sent."""

    def __init__(self, **fields: Any) -> None:
        self.now = 1000.0
        self.alerts: list[Alert] = []
        self.observer = AlertObserver(settings(**fields), self.alerts.append, clock=lambda: self.now)

    @property
    def types(self) -> list[str]:
        return [alert.type for alert in self.alerts]

    @property
    def events(self) -> list[str]:
        return [str(alert.fields["event"]) for alert in self.alerts]


def budget(spend: str, ceiling: str | None = "10", soft: str | None = None, kind: str = "key") -> tuple[Any, Any]:
    as_money = [Decimal(one) if one is not None else None for one in (ceiling, soft)]
    return BudgetScope(kind, "k1", "Key=alice", as_money[0], soft_budget=as_money[1]), Decimal(spend)


def test_a_budget_is_told_at_eighty_percent_and_at_its_end() -> None:
    desk = Desk()
    for spend in ("1", "7.99", "8", "9", "10", "11"):
        desk.observer.budget_looked_at(*budget(spend), False)
    assert desk.events == ["threshold_crossed", "budget_crossed"]
    fields = desk.alerts[1].fields
    assert (fields["spend"], fields["max_budget"], fields["event_group"]) == (10.0, 10.0, "key")
    assert fields["token"] == "k1"
    assert fields["event_message"] == desk.alerts[1].message == "Budget of $10 is used up: Key=alice, spend $10"


def test_a_refusal_and_a_soft_budget_are_told_too() -> None:
    desk = Desk()
    desk.observer.budget_looked_at(*budget("9.5"), True)
    desk.observer.budget_looked_at(*budget("3", ceiling=None, soft="2"), False)
    desk.observer.budget_looked_at(*budget("3", ceiling=None), False)
    assert desk.events == ["budget_crossed", "soft_budget_crossed"]


def test_holders_have_the_names_that_the_field_gives_them() -> None:
    desk = Desk()
    for kind in ("user", "team", "end_user", "organization"):
        desk.observer.budget_looked_at(*budget("10", kind=kind), False)
    member = BudgetScope("member", member_id("crew", "alice"), "TeamMember=alice:crew", Decimal(1))
    desk.observer.budget_looked_at(member, Decimal(1), False)
    named = [{name for name in alert.fields if name.endswith("_id")} for alert in desk.alerts]
    assert named == [{"user_id"}, {"team_id"}, {"customer_id"}, {"organization_id"}, {"team_id", "user_id"}]
    assert [alert.fields["event_group"] for alert in desk.alerts][2:] == ["customer", "organization", "team_member"]


def test_one_subject_is_told_once_an_hour() -> None:
    desk = Desk()
    for _ in range(3):
        desk.observer.deployment_cooled(deployment("d1"), 429, 5)
    desk.observer.deployment_cooled(deployment("d2"), 429, 5)
    assert len(desk.alerts) == 2
    desk.now += 3601
    desk.observer.deployment_cooled(deployment("d1"), 429, 5)
    assert desk.types == ["cooldown_deployment"] * 3
    assert PROVIDER_KEY not in str(desk.alerts)


def test_the_operator_says_how_long_budgets_and_outages_are_quiet() -> None:
    desk = Desk(alerting_args={"budget_alert_ttl": 60, "outage_alert_ttl": "odd"})
    desk.observer.budget_looked_at(*budget("10"), False)
    desk.now += 61
    desk.observer.budget_looked_at(*budget("10"), False)
    assert desk.events == ["budget_crossed"] * 2


def test_a_call_that_takes_too_long_is_slow() -> None:
    desk = Desk(alerting_threshold=2.0)
    desk.observer.call_ended(ended_call(seconds=1.9))
    desk.observer.call_ended(ended_call(seconds=2.5))
    (alert,) = desk.alerts
    assert (alert.type, alert.fields["seconds"]) == ("llm_too_slow", 2.5)
    assert "openai/gpt-4o-mini" in alert.message


def test_many_failures_within_a_minute_are_an_outage_and_trouble_of_the_model() -> None:
    desk = Desk()
    for _ in range(9):
        desk.observer.call_ended(ended_call(status=500, attempts=1))
        desk.now += 1
    assert desk.alerts == []
    desk.observer.call_ended(ended_call(status=500, attempts=1))
    assert sorted(desk.types) == ["llm_exceptions", "outage_alerts"]


def test_few_failures_and_those_of_clients_are_nothing() -> None:
    desk = Desk()
    for _ in range(30):
        desk.observer.call_ended(ended_call(status=500, attempts=1))
        desk.now += 10
    for status in (400, 401, 404, 499):
        for _ in range(20):
            desk.observer.call_ended(ended_call(status=status, attempts=1))
    assert desk.alerts == []


def test_only_the_wanted_types_are_sent() -> None:
    desk = Desk(alert_types=("budget_alerts",))
    desk.observer.deployment_cooled(deployment(), 429, 5)
    desk.observer.call_ended(ended_call(seconds=1000))
    desk.observer.budget_looked_at(*budget("10"), False)
    assert desk.types == ["budget_alerts"]


def test_what_is_remembered_is_bounded() -> None:
    desk = Desk()
    for number in range(10_500):
        scope = BudgetScope("key", str(number), "Key", Decimal(1))
        desk.observer.budget_looked_at(scope, Decimal(1), False)
    desk.observer.budget_looked_at(BudgetScope("key", "0", "Key", Decimal(1)), Decimal(1), False)
    assert len(desk.alerts) == 10_501  # the oldest was forgotten, and is told again
