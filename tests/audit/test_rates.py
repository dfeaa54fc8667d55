"""Facts about rates by kind: what is counted over what, and how sure a rate is where images of a prompt are alike."""

from dataclasses import replace

import numpy as np
import pytest
from tests.audit.studies import study

from anomreason.anomaly import Anomaly, Detection
from anomreason.audit.analysis import analyse
from anomreason.audit.rates import effective_images, fails_at
from anomreason.audit.results import KindRate
from anomreason.stats import wilson


def rates() -> list[KindRate]:
    """`a` fails at hands in every second image of people; a wordless anomaly has no kind of its own."""
    made = study(["a", "b"], 40, lambda g, p, s: [] if g == "b" else [20.0] if p % 2 and s else [])
    said = dict(made.assessments["judge"])
    vague = Anomaly(name="x", phenomenon="y", reasoning="z", severity=50)
    said["b/p000-0"] = Detection(image="b/p000-0", detector="judge", status="ok", anomalies=(vague, vague))
    return list(analyse(replace(made, assessments={"judge": said})).assessors[0].kinds)


def rate(found: list[KindRate], generator: str, tag: str | None, kind: str | None) -> KindRate:
    (only,) = [r for r in found if (r.generator, r.tag, r.kind) == (generator, tag, kind)]
    return only


def test_rates_count_images_of_a_generator_by_tag_and_kind() -> None:
    found = rates()
    hands = rate(found, "a", "people", "anatomy")
    assert (hands.images, hands.found, hands.rate) == (40, 20, 0.5)
    assert rate(found, "a", "lettering", "anatomy").rate == 0
    assert rate(found, "a", None, "anatomy").rate == 0.25
    assert rate(found, "a", None, None).rate == 0.25
    assert rate(found, "b", None, "other").found == 1  # twice in one image
    assert [(r.kind, r.tag) for r in fails_at(found, "a")] == [("anatomy", "people")]
    assert fails_at(found, "b") == []


def test_images_of_one_prompt_that_are_alike_count_as_fewer() -> None:
    two = np.full(50, 2.0)
    together = np.where(np.arange(50) < 20, 2.0, 0.0)
    apart = np.where(np.arange(50) < 40, 1.0, 0.0)
    assert effective_images(two, together) == pytest.approx(49)
    assert effective_images(two, apart) == 100
    assert effective_images(two, np.zeros(50)) == 50
    assert effective_images(np.ones(50), together / 2) == pytest.approx(49)
    (low, high), (least, most) = wilson(0.4, effective_images(two, together)), wilson(0.4, 100)
    assert low < least < most < high


def test_the_interval_holds_the_true_rate_as_often_as_it_says_however_alike_images_are() -> None:
    draw, held = np.random.default_rng(0), 0
    for _ in range(300):
        chance = draw.beta(0.6, 1.4, 60)  # 0.3 on average; prompts are nearly all or nothing
        hits = draw.binomial(3, chance).astype(float)
        n = effective_images(np.full(60, 3.0), hits)
        interval = wilson(hits.sum() / 180, n)
        held += interval.low <= 0.3 <= interval.high
    assert held >= 275  # 285 on average
