"""Whether the file alone gives it away: what leaks is found, what does not leak stays at a half."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.leaks import FileFacts, Leak, _best_range, leaks
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
