"""How often a rule may be used: a sliding window for each agent group."""

from __future__ import annotations

from nanoclaw.gateway.policy import Deny, Rate, Rule
from nanoclaw.gateway.rates import Rates


class Hand:
    """A clock that a test turns."""

    at = 0.0

    def now_ms(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


def test_a_rule_without_a_rate_is_never_slowed() -> None:
    rates = Rates(Hand())
    assert all(rates.take("main", Rule("r", "a.org")) is None for _ in range(10_000))


def test_no_more_calls_than_it_says_go_in_any_window_of_it() -> None:
    clock = Hand()
    rates, rule = Rates(clock), Rule("r", "a.org", rate=Rate(3, 60))
    gone: list[float] = []
    for second in range(300):
        clock.at = float(second)
        if rates.take("main", rule) is None:
            gone.append(clock.at)
    assert len(gone) == 15
    assert all(sum(start <= at < start + 60 for at in gone) <= 3 for start in range(300))


def test_a_refusal_says_which_rule_how_much_and_when_to_try_again() -> None:
    clock = Hand()
    rates, rule = Rates(clock), Rule("weather", "a.org", rate=Rate(1, 60))
    assert rates.take("main", rule) is None
    clock.at = 20.0
    denied = rates.take("main", rule)
    assert isinstance(denied, Deny)
    assert (denied.rule, denied.reason) == (
        "rate",
        "The rule 'weather' allows 1 call in 60 s. Try again in 41 s.",
    )
    clock.at = 20.0 + 41
    assert rates.take("main", rule) is None


def test_groups_and_rules_of_one_name_are_counted_apart() -> None:
    rates = Rates(Hand())
    own, every = Rule("r", "a.org", group="main", rate=Rate(1, 60)), Rule("r", "b.org", rate=Rate(1, 60))
    assert [rates.take("main", own), rates.take("main", every), rates.take("other", every)] == [None, None, None]
    assert isinstance(rates.take("main", every), Deny)


def test_a_call_counts_for_its_seconds_and_not_a_moment_longer() -> None:
    clock = Hand()
    rates, rule = Rates(clock), Rule("r", "a.org", rate=Rate(1, 60))
    assert rates.take("main", rule) is None
    clock.at = 59.9
    assert rates.take("main", rule) is not None
    clock.at = 60.0
    assert rates.take("main", rule) is None
