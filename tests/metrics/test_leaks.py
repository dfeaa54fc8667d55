"""Whether the file alone gives it away: what leaks is found, what does not leak stays at a half."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.leaks import Fact, FileFacts, Leak, _best_range, fact_leaks, joint_leak, leaks
from anomreason.stats import Estimate


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_fact(files: list[FileFacts]) -> dict[str, Leak]:
    return {leak.fact: leak for leak in leaks(files, rng())}


def value(leak: Leak) -> float:
    assert leak.balanced_accuracy.value is not None
    return leak.balanced_accuracy.value


def alike(n: int, seed: int = 0) -> list[FileFacts]:
    """Files whose facts have nothing to do with the kind; a third are photographs."""
    draw = np.random.default_rng(seed)
    return [
        FileFacts(
            image=str(k),
            generated=k % 3 > 0,
            file_type=str(draw.choice(["png", "jpeg"])),
            size=int(draw.integers(10_000, 900_000)),
            width=int(draw.integers(400, 2000)),
            height=int(draw.integers(400, 2000)),
        )
        for k in range(n)
    ]


def test_nothing_leaks_from_files_that_are_alike() -> None:
    for leak in leaks(alike(600), rng()):
        assert leak.cross_validated
        assert value(leak) == pytest.approx(0.5, abs=0.08)
        assert leak.balanced_accuracy.n == 600


def test_a_file_type_of_one_kind_alone_leaks_all() -> None:
    files = [FileFacts(str(n), n < 30, "png" if n < 30 else "jpeg") for n in range(50)]
    leak = leaks(files, rng())[0]
    assert (leak.fact, value(leak), leak.rule) == ("file type", 1.0, "AI image when the file type is png")
    assert leak.balanced_accuracy.interval == (1.0, 1.0)


def test_one_size_for_all_fakes_leaks_though_photographs_are_both_smaller_and_larger() -> None:
    draw = np.random.default_rng(1)
    files = [FileFacts(f"f{n}", True, width=1024, height=1024) for n in range(100)]
    files += [
        FileFacts(f"p{n}", False, width=int(w), height=int(h))
        for n, (w, h) in enumerate(draw.integers(300, 2500, (100, 2)))
    ]
    found = by_fact(files)
    assert value(found["aspect"]) > 0.9
    assert value(found["pixels"]) > 0.9
    assert found["aspect"].rule.startswith("AI image when the width / height is from ")


def test_photographs_in_a_narrow_range_leak_too() -> None:
    draw = np.random.default_rng(2)
    files = [FileFacts(f"p{n}", False, size=int(500 + draw.integers(0, 9))) for n in range(60)]
    files += [FileFacts(f"f{n}", True, size=int(draw.choice([100, 900]))) for n in range(60)]
    found = by_fact(files)["bytes"]
    assert value(found) == 1.0
    assert found.rule.startswith("AI image unless the size in bytes is from 300 to 7")


def test_a_rule_is_tried_on_images_it_was_not_learnt_on() -> None:
    """Every file has a type of its own: learnt by heart it would tell all apart; tried elsewhere it tells nothing."""
    files = [FileFacts(str(n), n % 2 == 0, f"type{n}") for n in range(60)]
    assert value(by_fact(files)["file type"]) == 0.5


def test_with_a_single_photograph_the_rule_is_tried_where_it_was_learnt_and_that_is_said() -> None:
    files = [FileFacts("p", False, size=5), *(FileFacts(f"f{n}", True, size=9) for n in range(4))]
    leak = by_fact(files)["bytes"]
    assert (value(leak), leak.cross_validated) == (1.0, False)


def test_what_is_not_known_is_left_out_and_counted() -> None:
    files = [*alike(40), FileFacts("x", True), FileFacts("y", False, "png")]
    found = by_fact(files)
    assert (found["file type"].unknown, found["file type"].balanced_accuracy.n) == (1, 41)
    assert (found["aspect"].unknown, found["aspect"].balanced_accuracy.n) == (2, 40)
    only_fakes_known = [FileFacts("p", False), FileFacts("f", True, "png")]
    assert by_fact(only_fakes_known)["file type"] == Leak("file type", Estimate(None, None, 1), False, "", 1)


def test_the_fact_that_tells_most_comes_first_and_one_without_a_value_last() -> None:
    files = [FileFacts(str(n), n < 20, "png" if n < 18 else "jpeg", 7 if n < 20 else 8) for n in range(40)]
    assert [leak.fact for leak in leaks(files, rng())][:2] == ["bytes", "file type"]
    assert [leak.balanced_accuracy.value for leak in leaks(files, rng())][2:] == [None, None]


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=14))
@settings(max_examples=500, deadline=None)
def test_the_best_range_is_the_best_of_all_ranges(drawn: list[tuple[int, bool]]) -> None:
    values = np.array([v for v, _ in drawn], dtype=np.float64)
    fake = np.array([f for _, f in drawn])
    if fake.all() or not fake.any():
        return
    weights = np.where(fake, 1 / fake.sum(), -1 / (~fake).sum())

    def accuracy(predicted: npt.NDArray[np.bool_]) -> float:
        return float((predicted[fake].mean() + (~predicted[~fake]).mean()) / 2)

    cuts = np.arange(-0.5, 7.5)
    every = [(values > a) & (values < b) for a in cuts for b in cuts if a < b]
    low, high, inside = _best_range(values, weights)
    found = ((values >= low) & (values <= high)) == inside
    assert accuracy(found) == pytest.approx(max(max(accuracy(s), accuracy(~s)) for s in every))


def test_files_of_one_kind_alone_are_an_error() -> None:
    with pytest.raises(UsageError, match="3 of 3 files are AI images"):
        leaks([FileFacts(str(n), True) for n in range(3)], rng())


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert leaks(alike(60), rng()) == leaks(alike(60), rng())


def test_what_is_known_of_a_group_is_not_tried_on_the_rest_of_it() -> None:
    """Each prompt has a file type of its own: learnt from one image, it would tell the others of the prompt apart."""
    groups = np.arange(200) // 10
    fake = groups % 2 == 0
    fact = [Fact("file type", [f"type {group}" for group in groups])]
    ungrouped, grouped = (fact_leaks(fact, fake, rng(), g)[0] for g in (None, groups))
    assert value(ungrouped) == 1.0
    assert value(grouped) <= 0.5


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=200, deadline=None)
def test_photographs_and_ai_images_may_share_groups_in_any_way(drawn: list[tuple[int, bool]]) -> None:
    groups, fake = (np.array(side) for side in zip(*drawn, strict=True))
    if fake.all() or not fake.any():
        return
    facts = [Fact("size", [float(f) for f in fake])]
    (leak,) = fact_leaks(facts, fake, rng(), groups, resamples=20)
    held_out = min(len(set(groups[fake])), len(set(groups[~fake]))) > 1
    assert (value(leak), leak.cross_validated) == (1.0, held_out)
    assert (joint_leak(facts, fake, rng(), groups, resamples=20) is not None) == held_out


def test_properties_that_tell_little_alone_may_tell_much_together() -> None:
    draw = np.random.default_rng(3)
    fake = draw.random(900) < 0.6
    noisy = [(fake == (draw.random(900) < 0.7)) for _ in range(6)]  # each right in 7 of 10 images
    facts = [Fact(f"property {n}", ["yes" if flag else "no" for flag in flags]) for n, flags in enumerate(noisy)]
    together = joint_leak(facts, fake, rng())
    assert together is not None
    assert together.base_rate == pytest.approx(0.6, abs=0.03)
    best = max(value(leak) for leak in fact_leaks(facts, fake, rng()))
    assert together.balanced_accuracy.value is not None
    assert together.balanced_accuracy.value > best + 0.05
    assert together.auc.interval is not None
    assert together.auc.interval.low > 0.8


def test_together_too_nothing_leaks_from_files_that_are_alike() -> None:
    files = alike(600)
    facts = [Fact("type", [f.file_type for f in files]), Fact("bytes", [f.size for f in files])]
    found = joint_leak(facts, np.array([f.generated for f in files]), rng())
    assert found is not None
    for estimate in (found.balanced_accuracy, found.auc):
        assert estimate.interval is not None
        assert estimate.interval.low < 0.5


def test_the_auc_is_that_of_the_definition() -> None:
    """One property with three levels orders the images; a pair counts 1, or a half in the same level."""
    levels = ["a"] * 40 + ["b"] * 40 + ["c"] * 40
    fake = np.array([n % 40 < {"a": 4, "b": 20, "c": 36}[level] for n, level in enumerate(levels)])
    place = np.array([ord(level) for level in levels])
    pairs = place[fake][:, None] - place[~fake][None, :]
    found = joint_leak([Fact("level", levels)], fake, rng())
    assert found is not None
    assert found.auc.value == pytest.approx(np.mean((pairs > 0) + (pairs == 0) / 2), abs=0.02)


def test_unknown_is_a_property_too_when_all_are_taken_together() -> None:
    values = [None if n % 2 else 5.0 for n in range(60)]
    found = joint_leak([Fact("quality", values)], np.array([n % 2 == 0 for n in range(60)]), rng())
    assert found is not None
    assert found.accuracy.value == 1.0
