"""The sentences that a report opens with say what the data hold, and no more."""

from collections.abc import Sequence

from tests.audit.studies import by_rates, study

from anomreason.audit.analysis import analyse
from anomreason.audit.results import AssessorResult, KindRate
from anomreason.audit.sentences import answer, failing, listed, places_text, plain, significant
from anomreason.stats import Interval


def judged(generators: Sequence[str], prompts: int, rates: dict[str, float]) -> AssessorResult:
    return analyse(study(generators, prompts, by_rates(rates, prompts))).assessors[0]


def test_the_answer_names_the_best_then_each_cut_and_who_cannot_be_told_apart() -> None:
    rates = {"far": 3.0, "close": 0.8, "near": 0.8, "best": 0.3}
    sentences = answer(judged(list(rates), 120, rates), "af")
    assert sentences[0] == "best is the most plausible of 4 generators."
    assert sentences[1].startswith(
        ("best is more plausible than near: AF is lower by ", "best is more plausible than close")
    )
    assert "p < 0.001 after Holm's correction, 120 prompts)" in sentences[1]
    assert "and near cannot be told apart: AF differs by" in sentences[2] or "near and close" in sentences[2]
    assert "further prompts would tell, if the difference is as seen." in sentences[2]
    assert "is more plausible than far" in sentences[3]
    assert len(sentences) == 4


def test_without_an_order_none_is_claimed() -> None:
    equal = answer(judged(["a", "b"], 60, {"a": 1.0, "b": 1.0}), "cap")
    assert equal[0] == "The data hold no order of the two generators."
    assert "a and b cannot be told apart" in equal[1]
    few = answer(judged(["a", "b"], 10, {"a": 0.1, "b": 5.0}), "cap")
    assert few == ["No order can be told: only 10 prompts are common to all; a rank needs 20."]


def test_generators_at_the_front_share_it_and_one_without_images_is_named() -> None:
    rates = {"a": 1.0, "b": 1.0, "z": 6.0, "half": 1.0}
    made = by_rates(rates, 60)
    found = analyse(
        study(list(rates), 60, lambda g, p, s: "missing: refused" if g == "half" and p > 9 else made(g, p, s))
    )
    sentences = answer(found.assessors[0], "af")
    assert sentences[0] in {
        "a and b are more plausible than the other one.",
        "b and a are more plausible than the other one.",
    }
    assert sentences[-1] == "half has no rank: assessed images of only 10 of 60 prompts."
    half = found.assessors[0].generators[3]
    assert places_text(half, "af") == "–"
    assert {places_text(g, "af") for g in found.assessors[0].generators[:3]} == {"1–2", "3"}


def test_failures_that_could_turn_the_order_are_said() -> None:
    def severities(generator: str, p: int, seed: int) -> Sequence[float] | str:
        if generator == "a":
            return "failed: refused" if p < 40 else [0.0]
        return [0.0] * (4 if p % 5 == 0 else 1 + p % 2)

    sentences = answer(analyse(study(["a", "b"], 100, severities)).assessors[0], "af")
    assert sentences[0] == "The data hold no order of the two generators."
    assert "but their failed images could turn the order" in sentences[1]


def test_a_long_answer_is_cut_and_says_so() -> None:
    rates = {f"g{n:02}": 0.05 * 2.2**n for n in range(7)}
    sentences = answer(judged(list(rates), 60, rates), "af")
    assert len(sentences) <= 10
    many = {f"g{n:02}": float(n) for n in range(1, 14)}

    def fixed(generator: str, p: int, seed: int) -> Sequence[float]:
        return [50.0] * int(many[generator])

    assert (
        answer(analyse(study(list(many), 20, fixed)).assessors[0], "af")[-1]
        == "4 more statements follow from the table."
    )


def test_numbers_and_names_read_well() -> None:
    assert [plain(v) for v in (0.1234, 0.01234, -2.5, 1234.5)] == ["0.12", "0.012", "−2.50", "1,234.50"]
    assert [significant(n) for n in (7, 99, 166, 1562)] == ["7", "99", "170", "1,600"]
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(n) for n in range(12)], 4) == "0, 1, 2 and 9 others"
    rate = KindRate(
        generator="a", tag="people", kind="hands", images=124, found=38, rate=38 / 124, interval=Interval(0.25, 0.38)
    )
    assert failing(rate) == 'hands: 31 % (25 to 38 %) of 124 images of "people"'
