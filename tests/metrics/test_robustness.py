"""Facts about `robustness`: flips, and losses of scores over the same images, against independent references."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from anomreason.errors import UsageError
from anomreason.metrics.robustness import SourceAnswer, robustness

Pairs = list[tuple[SourceAnswer, SourceAnswer]]


def answer(generated: bool, p: float) -> SourceAnswer:
    return SourceAnswer(generated, "generated" if p > 0.5 else "photograph" if p < 0.5 else "unsure", p)


def drawn(rng: np.random.Generator, n: int, shift: float) -> Pairs:
    """Pairs whose AI images get a lower probability after the change, by `shift`."""
    fake = rng.random(n) < 0.5
    before = np.clip(0.35 + 0.3 * fake + rng.normal(0, 0.15, n), 0, 1).round(2)
    after = np.clip(before - shift * fake + rng.normal(0, 0.05, n), 0, 1).round(2)
    return [(answer(bool(f), float(b)), answer(bool(f), float(a))) for f, b, a in zip(fake, before, after, strict=True)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_scores_are_those_of_scipy_and_of_counting() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        pairs = drawn(generator, 150, 0.1)
        found = robustness(pairs, rng(), resamples=20)
        for side, name in ((0, "before"), (1, "after")):
            fakes, photographs = (
                np.array([pair[side].p_generated for pair in pairs if pair[0].generated is kind])
                for kind in (True, False)
            )
            auroc = mannwhitneyu(fakes, photographs).statistic / (len(fakes) * len(photographs))
            assert getattr(found.losses["auroc"], name) == pytest.approx(auroc)
            points = [(np.mean(photographs >= t), np.mean(fakes >= t)) for t in (*np.unique(photographs), 2.0)]
            recall = getattr(found.losses["recall_at_5"], name)
            assert recall >= max(found for alarms, found in points if alarms < 0.05 + 1e-9) - 1e-9
            assert recall <= min(found for alarms, found in points if alarms > 0.05 + 1e-9) + 1e-9
            right = [pair[side].verdict == ("generated" if pair[side].generated else "photograph") for pair in pairs]
            assert getattr(found.losses["accuracy"], name) == pytest.approx(np.mean(right))


def test_the_intervals_hold_the_loss_and_a_change_of_nothing_costs_nothing() -> None:
    """Of accuracy, whose true loss is known from a large draw."""
    generator = np.random.default_rng(2)
    true = robustness(drawn(generator, 20_000, 0.2), rng(), resamples=2).losses["accuracy"].loss.value
    assert true is not None
    held = 0
    for _ in range(50):
        ends = robustness(drawn(generator, 120, 0.2), rng(), resamples=200).losses["accuracy"].loss.interval
        assert ends is not None
        held += ends.low <= true <= ends.high
    assert held >= 43
    same = [(before, before) for before, _ in drawn(generator, 100, 0.0)]
    for loss in robustness(same, rng(), resamples=50).losses.values():
        assert (loss.loss.value, loss.loss.interval) == (0.0, (0.0, 0.0))


def test_the_interval_of_a_paired_loss_is_narrower_than_that_of_two_unpaired_scores() -> None:
    pairs = drawn(np.random.default_rng(3), 200, 0.05)
    shuffled = sorted(pairs, key=lambda pair: (pair[0].generated, pair[0].p_generated))
    backwards = sorted(pairs, key=lambda pair: (pair[0].generated, -(pair[0].p_generated or 0)))
    apart = [(one[0], other[1]) for one, other in zip(shuffled, backwards, strict=True)]
    wide = []
    for some in (pairs, apart):
        ends = robustness(some, rng(), resamples=500).losses["auroc"].loss.interval
        assert ends is not None
        wide.append(ends.high - ends.low)
    assert wide[0] < wide[1] / 2


def test_flips_are_counted_by_class_and_way() -> None:
    pairs = [
        (answer(True, 0.9), answer(True, 0.1)),
        (answer(True, 0.9), answer(True, 0.5)),
        (answer(True, 0.9), answer(True, 0.8)),
        (answer(False, 0.2), answer(False, 0.9)),
        (answer(False, 0.5), answer(False, 0.1)),
    ]
    flips = robustness(pairs, rng(), resamples=10).flips
    assert flips["fakes"].ways == {"generated to photograph": 1, "generated to unsure": 1}
    assert flips["photographs"].ways == {"photograph to generated": 1, "unsure to photograph": 1}
    assert (flips["fakes"].n, flips["fakes"].flipped.value, flips["photographs"].flipped.value) == (3, 2 / 3, 1.0)


def test_what_cannot_be_measured_has_no_value_but_a_reason() -> None:
    few = robustness(drawn(np.random.default_rng(4), 12, 0.1), rng(), resamples=10).losses
    assert few["recall_at_5"].loss.value is None
    assert "not measurable with" in few["recall_at_5"].why_not
    one_kind = [pair for pair in drawn(np.random.default_rng(5), 40, 0.1) if pair[0].generated]
    assert robustness(one_kind, rng(), resamples=10).losses["auroc"].why_not == "it needs AI images and photographs"
    wordless = [(b._replace(p_generated=None), a) for b, a in drawn(np.random.default_rng(6), 40, 0.1)]
    losses = robustness(wordless, rng(), resamples=10).losses
    assert losses["auroc"].why_not == "no image has an answer that it needs, before and after"
    assert losses["accuracy"].loss.value is not None
    assert robustness([], rng()).losses["accuracy"].loss.value is None
    with pytest.raises(UsageError, match="pair equal images"):
        robustness([(answer(True, 0.9), answer(False, 0.9))], rng())
