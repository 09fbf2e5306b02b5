"""What a call costs, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.protocols.base import Usage
from app.spend.pricing import Prices, Rate, batch_cost, cost_of, custom_prices, estimate_of, listed_prices, price_of

TOKENS = st.integers(min_value=0, max_value=10**9)
RATES = st.decimals(min_value=0, max_value=1, places=14, allow_nan=False).map(Rate)
PRICES = st.builds(Prices, input=RATES, output=RATES, cache_read=st.none() | RATES, cache_write=st.none() | RATES)
USAGES = st.builds(
    Usage, prompt_tokens=TOKENS, completion_tokens=TOKENS, cache_read_tokens=TOKENS, cache_write_tokens=TOKENS
)


def listed(provider: str, model: str) -> Prices:
    prices = listed_prices(provider, model)
    assert prices is not None
    return prices


def test_gpt_4o_mini_with_a_cached_part_costs_what_openai_bills() -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=2, cache_read_tokens=4)
    cost = cost_of(usage, listed("openai", "gpt-4o-mini"))
    assert cost.total == Decimal("0.00000225")
    assert (cost.input, cost.output) == (Decimal("0.00000105"), Decimal("0.0000012"))


@given(USAGES, PRICES)
def test_a_batch_costs_half(usage: Usage, prices: Prices) -> None:
    single = cost_of(usage, prices)
    cost = batch_cost(single)
    assert cost.total == cost.input + cost.output
    assert abs(cost.total - single.total / 2) <= Decimal("0.000000000001")


def test_custom_prices_bill_cached_tokens_at_the_full_rate() -> None:
    prices = custom_prices({"input_cost_per_token": 0.001, "output_cost_per_token": "0.002"})
    assert prices is not None
    usage = Usage(prompt_tokens=9, completion_tokens=2, cache_read_tokens=4)
    assert cost_of(usage, prices).total == Decimal("0.013")


def test_custom_prices_may_name_cached_tokens() -> None:
    prices = custom_prices(
        {
            "input_cost_per_token": "0.01",
            "output_cost_per_token": 0,
            "cache_read_input_token_cost": "0.001",
            "cache_creation_input_token_cost": "0.1",
        }
    )
    assert prices is not None
    usage = Usage(prompt_tokens=10, cache_read_tokens=3, cache_write_tokens=2)
    assert cost_of(usage, prices).total == Decimal("0.253")


def test_one_custom_price_makes_the_other_side_free() -> None:
    prices = custom_prices({"output_cost_per_token": 1})
    assert prices is not None
    assert cost_of(Usage(prompt_tokens=5, completion_tokens=2), prices).total == 2


def test_without_a_custom_price_there_is_none() -> None:
    assert custom_prices({}) is None
    assert custom_prices({"cache_read_input_token_cost": 1}) is None
    assert custom_prices({"input_cost_per_token": None}) is None


@pytest.mark.parametrize("amount", ["x", "NaN", "inf", -1, "-0.1", [], "1,5"])
def test_a_price_that_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ValueError, match="input_cost_per_token"):
        custom_prices({"input_cost_per_token": amount})


def test_a_price_in_a_float_is_read_as_it_was_written() -> None:
    prices = custom_prices({"input_cost_per_token": 1.5e-7, "output_cost_per_token": 0.1})
    assert prices is not None
    assert prices.input.base == Decimal("0.00000015")
    assert cost_of(Usage(completion_tokens=3), prices).total == Decimal("0.3")


def test_an_unknown_model_has_no_price() -> None:
    assert listed_prices("openai", "no-such-model-9000") is None
    assert listed_prices("no-such-provider", "gpt-4o-mini") is None


def test_a_tier_applies_to_the_whole_call() -> None:
    prices = Prices(input=Rate(Decimal(1), ((100, Decimal(2)), (200, Decimal(3)))), output=Rate(Decimal(10)))
    assert [cost_of(Usage(prompt_tokens=tokens), prices).total for tokens in (99, 100, 199, 200)] == [99, 200, 398, 600]


def test_a_listed_model_with_tiers_gets_dearer_with_a_long_prompt() -> None:
    prices = listed("google", "gemini-2.5-pro")
    assert prices.input.tiers
    start = prices.input.tiers[0][0]
    assert prices.input.at(start) > prices.input.at(start - 1)


def test_a_snapshot_name_has_the_price_of_its_model() -> None:
    assert listed("openai", "gpt-4o-mini-2024-07-18") == listed("openai", "gpt-4o-mini")


@given(USAGES, PRICES)
def test_the_parts_sum_to_the_total(usage: Usage, prices: Prices) -> None:
    cost = cost_of(usage, prices)
    assert cost.input + cost.output == cost.total
    assert cost.total >= 0
    assert cost.total.as_tuple().exponent == -12


@given(USAGES, PRICES)
def test_no_token_is_billed_twice(usage: Usage, prices: Prices) -> None:
    rates = [rate.base for rate in (prices.input, prices.cache_read, prices.cache_write) if rate is not None]
    cost = cost_of(usage, prices)
    half_unit = Decimal("0.0000000000005")
    assert usage.prompt_tokens * min(rates) - half_unit <= cost.input <= usage.prompt_tokens * max(rates) + half_unit


def test_an_estimate_covers_the_prompt_and_the_answer() -> None:
    prices = Prices(input=Rate(Decimal(1)), output=Rate(Decimal(10)))
    assert estimate_of(400, 5, prices) == 150
    assert estimate_of(0, None, prices) == 10_240
    assert estimate_of(400, 5, None) == 0


@given(st.integers(min_value=0, max_value=10**60))
def test_an_estimate_of_any_length_is_a_number(max_tokens: int) -> None:
    assert estimate_of(100, max_tokens, listed("openai", "gpt-4o")).is_finite()


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openrouter", "openai/gpt-4o"),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("fireworks_ai", "deepseek-v3-0324"),
        ("groq", "llama-3.1-8b-instant"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("xai", "grok-3"),
        ("azure", "gpt-4o-mini"),
        ("openai", "text-embedding-3-small"),
    ],
)
def test_models_of_the_providers_that_we_have_are_listed(provider: str, model: str) -> None:
    assert listed(provider, model).input.base > 0


def test_a_price_whose_cost_could_not_be_written_down_is_refused() -> None:
    most = custom_prices({"input_cost_per_token": 10, "output_cost_per_token": 10})
    assert most is not None
    assert cost_of(Usage(prompt_tokens=10**9, completion_tokens=10**9), most).total == 2 * 10**10
    with pytest.raises(ValueError, match=r"at most 10$"):
        custom_prices({"input_cost_per_token": 1e9})


def test_an_estimate_counts_every_answer_that_was_asked_for() -> None:
    prices = custom_prices({"output_cost_per_token": 2})
    assert estimate_of(0, 5, prices, choices=3) == 30
    assert estimate_of(0, 10**9, prices, choices=10**9) == 2 * 10**7


# ---- units ---------------------------------------------------------------------------------------------------------

_UNITS = {
    "output_cost_per_image": "0.04",
    "input_cost_per_character": "0.000015",
    "input_cost_per_second": "0.0001",
    "input_cost_per_query": "0.002",
}


def custom(**params: Any) -> Prices:
    prices = custom_prices(params)
    assert prices is not None
    return prices


def test_units_have_prices_of_their_own() -> None:
    usage = Usage(images=2, characters=1000, seconds=Decimal("2.5"), queries=3)
    cost = cost_of(usage, custom(**_UNITS))
    assert (cost.input, cost.output) == (Decimal("0.02125"), Decimal("0.08"))
    assert price_of(usage, custom(**_UNITS)) == cost


def test_a_unit_with_two_keys_is_billed_once() -> None:
    pictures = custom(input_cost_per_image="0.01", output_cost_per_image="0.04")
    assert cost_of(Usage(images=1), pictures).total == Decimal("0.04")
    assert cost_of(Usage(images=1), custom(input_cost_per_image="0.01")).total == Decimal("0.01")
    prices = custom(input_cost_per_second="0.1", output_cost_per_second="0.2")
    assert cost_of(Usage(seconds=Decimal(2)), prices).total == Decimal("0.2")
    assert cost_of(Usage(seconds=Decimal(2)), custom(output_cost_per_second="0.2")).total == Decimal("0.4")


def test_tokens_win_over_units_where_both_are_counted_and_priced() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=100, images=1)
    both = custom(input_cost_per_token=1, output_cost_per_token=2, output_cost_per_image=5)
    assert cost_of(usage, both).total == 210
    assert cost_of(usage, custom(output_cost_per_image=5)).total == 5
    assert cost_of(replace(usage, prompt_tokens=0, completion_tokens=0), both).total == 5


def test_what_has_no_price_is_unpriced_never_free() -> None:
    tokens_only = custom(input_cost_per_token=1)
    assert price_of(Usage(characters=5), tokens_only) is None
    assert price_of(Usage(prompt_tokens=5), custom(output_cost_per_image=1)) is None
    assert price_of(Usage(images=1, queries=1), custom(output_cost_per_image=1)) is None
    assert price_of(Usage(images=1), None) is None
    nothing = price_of(Usage(), tokens_only)
    assert nothing is not None and nothing.total == 0


def test_a_deployment_with_a_unit_price_is_not_free() -> None:
    assert not custom(input_cost_per_token=0, output_cost_per_image="0.04").are_free
    assert custom(input_cost_per_token=0, output_cost_per_image=0).are_free


def test_an_estimate_is_the_dearer_of_units_and_tokens() -> None:
    asked = Usage(images=2)
    assert estimate_of(400, 100, custom(output_cost_per_image=3), choices=2, asked=asked) == 6
    assert estimate_of(400, 100, custom(output_cost_per_token=1), choices=2, asked=asked) == 200
    both = custom(output_cost_per_token=1, output_cost_per_image=3)
    assert estimate_of(400, 100, both, choices=2, asked=asked) == 200
    assert estimate_of(400, 100, None, asked=asked) == 0


@pytest.mark.parametrize("wrong", ["much", "-1", "NaN", "1e9"])
def test_a_unit_price_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="input_cost_per_query"):
        custom_prices({"input_cost_per_query": wrong})
