"""Facts about prices, calls and caps."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, UsageError
from anomreason.images import Encoded
from anomreason.vlm.ledger import Budget, Call, Ledger, Price, image_tokens, price_of, read_calls, worst_case
from anomreason.vlm.protocol import Request, Sampling, Tag

TAG = Tag("a.jpg", "r", "s")


def call(**changes: object) -> Call:
    whole = Call("a", "r", "s", None, 0, 1, "ok", "m", 100, 0, 10, 0.5, 1.0, 2.0, "k")
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_the_cost_of_a_call_by_hand() -> None:
    price = Price(input=2.5, cached=1.25, output=10)
    assert price.cost(Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=100)) == pytest.approx(0.003)


def test_dated_and_prefixed_names_find_their_price_and_nothing_else_does(tmp_path: Path) -> None:
    plain = price_of("gpt-4o")
    assert plain is not None
    assert price_of("gpt-4o-2024-08-06") == price_of("openai/gpt-4o") == plain
    assert price_of("gpt-4o-mini") != plain
    assert price_of("gpt-4o-audio") is None
    assert price_of("local:/x") == Price(0, 0, 0)


def test_own_prices_replace_the_table_and_a_wrong_file_says_the_form(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[models."mine"]\ninput = 1\ncached = 0.5\noutput = 4\n')
    assert price_of("mine", file) == Price(1, 0.5, 4)
    assert price_of("gpt-4o", file) is None
    (tmp_path / "bad.toml").write_text("[models.x]\ninput = 'a'")
    with pytest.raises(UsageError, match="output = 4"):
        price_of("x", tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(1024, 1024, 765), (2048, 4096, 1105), (512, 512, 255), (1, 1, 255), (768, 768, 765)],
)
def test_image_tokens_follow_the_published_examples(width: int, height: int, tokens: int) -> None:
    assert image_tokens(width, height) == tokens


def test_pictures_count_by_their_models_own_rule() -> None:
    dear, plain, patched = price_of("gpt-4o-mini"), price_of("gpt-4o"), price_of("gpt-4.1-mini")
    assert dear is not None
    assert plain is not None
    assert patched is not None
    assert (dear.image_tokens(1024, 1024), plain.image_tokens(1024, 1024), patched.image_tokens(1024, 1024)) == (
        25501,
        765,
        1659,
    )
    seen = Request((Encoded(b"", "image/png", 1024, 1024),), TAG)
    assert worst_case(seen, dear).prompt_tokens > 25501


def test_the_ledger_goes_on_adding_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
        ledger.record(call())
        ledger.record(call(outcome="timeout", prompt_tokens=0, completion_tokens=0, cost=0.0, key=None))
        ledger.close()
    assert ledger.total == Usage(calls=4, prompt_tokens=200, completion_tokens=20, cost=1.0)
    assert [c.outcome for c in read_calls(tmp_path)] == ["ok", "timeout"] * 2


def request(cap: int = 100) -> Request:
    return Request(("x" * 36,), TAG, sampling=Sampling(max_tokens=cap))


def test_the_worst_case_covers_text_picture_and_cap() -> None:
    bare = worst_case(request())
    assert bare.completion_tokens == 100
    assert bare.prompt_tokens >= 36
    seen = worst_case(Request(("x" * 36, Encoded(b"", "image/png", 1024, 1024)), TAG))
    assert seen.prompt_tokens - bare.prompt_tokens >= 1024 * 1024 / 750


def test_a_cap_on_money_needs_a_price() -> None:
    with pytest.raises(UsageError, match="--max-tokens"):
        Budget(Ledger(), max_cost=1.0)


def test_calls_in_flight_never_pass_the_cap_together_and_the_cap_is_used() -> None:
    worst = worst_case(request()).tokens
    cap = 10 * worst

    async def run() -> tuple[int, int]:
        budget, spent, refused = Budget(Ledger(), max_tokens=cap), 0, 0

        async def one() -> None:
            nonlocal spent, refused
            try:
                ticket = await budget.reserve(request())
            except CallFailed as e:
                refused += e.kind == "budget"
                return
            await asyncio.sleep(0)
            spent += worst // 2
            budget.settle(ticket, Usage(prompt_tokens=worst // 2))

        await asyncio.gather(*(one() for _ in range(100)))
        assert budget.reached
        return spent, refused

    spent, refused = asyncio.run(run())
    assert cap - worst < spent <= cap
    assert refused > 0


def test_a_call_that_may_have_been_charged_counts_in_full() -> None:
    async def run() -> None:
        budget = Budget(Ledger(), max_tokens=worst_case(request()).tokens)
        budget.settle(await budget.reserve(request()), None)
        with pytest.raises(CallFailed, match="--max-tokens"):
            await budget.reserve(request())

    asyncio.run(run())


def test_money_spent_before_counts_towards_the_cap(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
    ledger.record(call(cost=0.9))

    async def run() -> None:
        with pytest.raises(CallFailed, match=r"--max-cost 0\.9"):
            await Budget(ledger, max_cost=0.9).reserve(request())
        assert await Budget(ledger, max_cost=0.91).reserve(request()) is not None

    asyncio.run(run())
