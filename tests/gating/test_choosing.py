"""`gate`, `best_of` and `rewards`: right in every form, nothing paid twice, and usable beside a running event loop."""

import asyncio
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import anomreason
from anomreason import best_of, best_of_async, gate, gate_async, rewards, rewards_async
from anomreason.errors import NoneAssessed, UsageError
from anomreason.gating.cache import DetectionCache
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

World = Callable[..., Path]


@pytest.fixture
def truth(world: World) -> Path:
    """Four images: severities 5, 12, 33, 47; one of 60; none; two of 50."""
    file = world(4)
    known = json.loads(file.read_text())
    for n, severities in enumerate([None, [60], [], [50, 50]]):
        image = known[f"p{n:03}.png"]
        if severities is not None:
            template = known["p000.png"]["anomalies"]
            image["anomalies"] = [{**template[i], "severity": s} for i, s in enumerate(severities)]
    file.write_text(json.dumps(known))
    return file


def files(truth: Path) -> list[Path]:
    return sorted(truth.parent.glob("*.png"))


def pictures(truth: Path) -> list[Image.Image]:
    return [Image.fromarray(np.asarray(Image.open(file))) for file in files(truth)]


def test_each_image_gets_its_verdict_whether_a_file_or_in_memory(truth: Path) -> None:
    vlm = Simulator.from_file(truth)
    of_files = gate(files(truth), model=vlm, max_cap=0.5)
    assert [r.passed for r in of_files] == [False, True, True, False]
    assert [r.cap for r in of_files] == [pytest.approx(4 * 3.03), pytest.approx(0.4), 0, pytest.approx(2)]
    in_memory = gate(pictures(truth), model=vlm, max_cap=0.5)
    assert [r.image for r in in_memory] == [f"image-00{n}" for n in range(4)]
    assert [r.model_copy(update={"image": ""}) for r in in_memory] == [
        r.model_copy(update={"image": ""}) for r in of_files
    ]
    mixed = gate([files(truth)[3], pictures(truth)[2]], model=vlm, max_cap=0.5)
    assert [r.passed for r in mixed] == [False, True]
    one = gate(pictures(truth)[1], model=vlm, min_severity=61)
    assert (one.passed, len(one.reasons)) == (False, 1)
    named = gate({"cat": pictures(truth)[1]}, model=vlm, min_severity=60)
    assert [(r.image, r.passed) for r in named] == [("cat", True)]
    assert gate([], model=vlm, max_cap=1) == []


def test_an_image_in_memory_is_judged_itself_where_a_file_has_its_name(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = Simulator.from_file(truth)
    monkeypatch.chdir(truth.parent)  # p002.png is there, and clean
    assert gate("p002.png", model=vlm, max_cap=0.5, cache=tmp_path / "cache").passed
    wrong = {"p002.png": pictures(truth)[0]}
    [result] = gate(wrong, model=vlm, max_cap=0.5, cache=tmp_path / "cache")
    assert (result.image, result.passed) == ("p002.png", False)


@pytest.mark.parametrize("address", ["https://h.example/x.png?sig=topsecret", "s3://AKIA:topsecret@b/x.png"])
def test_an_address_with_a_key_is_refused_and_not_repeated(truth: Path, address: str) -> None:
    with pytest.raises(UsageError) as caught:
        gate([address], model=Simulator.from_file(truth), max_cap=0.5)
    assert "topsecret" not in str(caught.value)


def test_the_best_has_the_lowest_cap_then_mai_then_the_mildest_worst_anomaly(truth: Path) -> None:
    best = best_of(files(truth)[:2] + files(truth)[3:], model=Simulator.from_file(truth))
    assert (best.index, best.best.image, best.best.cap) == (1, str(files(truth)[1]), pytest.approx(0.4))
    known = json.loads(truth.read_text())
    template = known["p000.png"]["anomalies"]

    def with_severities(*images: list[int]) -> Simulator:
        for n, severities in enumerate(images):
            known[f"p00{n}.png"]["anomalies"] = [{**template[i], "severity": s} for i, s in enumerate(severities)]
        truth.write_text(json.dumps(known))
        return Simulator.from_file(truth)

    # CAP 2 in all: 4 x 50 % twice is 2 x 1.0; one of severity 0 with MAI 1 has CAP 1.
    assert best_of(files(truth), model=with_severities([50, 50], [0], [20, 80], [50, 50])).index == 1
    assert best_of(files(truth), model=with_severities([20, 80], [50, 50], [30, 70], [50, 50])).index == 1
    assert best_of(files(truth), model=with_severities([50, 50], [50, 50], [30, 70], [50, 50])).index == 0


def test_rewards_are_bounded_and_ordered_as_cap_is(truth: Path) -> None:
    found = rewards(pictures(truth), model=Simulator.from_file(truth))
    assert found == [pytest.approx(1 / (1 + cap)) for cap in (12.12, 0.4, 0, 2)]
    assert rewards([], model=Simulator.from_file(truth)) == []
    assert rewards(pictures(truth)[1], model=Simulator.from_file(truth)) == [found[1]]


def test_a_failure_never_passes_never_wins_and_is_no_number(truth: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    images = [tmp_path / "text.png", files(truth)[0], b"hello"]
    vlm = Simulator.from_file(truth)
    results = gate(images, model=vlm, max_cap=100)
    assert [r.passed for r in results] == [None, True, None]
    assert [r.failure.kind if r.failure else None for r in results] == ["unreadable_image", None, "unreadable_image"]
    assert best_of(images, model=vlm).index == 1
    found = rewards(images, model=vlm)
    assert [math.isnan(r) for r in found] == [True, False, True]
    assert rewards(images, model=vlm, failure=-1.0) == [-1.0, found[1], -1.0]
    with pytest.raises(NoneAssessed, match=r"none of 2 images could be assessed.*unreadable_image"):
        best_of([images[0], images[2]], model=vlm)
    refusing = Simulator.from_file(truth, SimulatorRates(refused=1.0))
    assert [r.passed for r in gate(files(truth), model=refusing, max_cap=100)] == [None] * 4


def test_with_a_cache_nothing_is_paid_for_twice_whatever_asks_under_whatever_name(truth: Path, tmp_path: Path) -> None:
    vlm, cache = Simulator.from_file(truth), tmp_path / "cache"
    before = gate(files(truth), model=vlm, max_cap=0.5, cache=cache)
    asked = vlm.steps.total()
    assert asked > 0
    in_memory = [file.read_bytes() for file in files(truth)]
    assert rewards(in_memory, model=vlm, cache=cache) == [1 / (1 + r.cap) for r in before if r.cap is not None]
    assert best_of(in_memory[::-1], model=vlm, cache=cache).index == 1
    for file in files(truth):
        shutil.move(file, tmp_path / file.name)
    moved = gate(sorted(tmp_path.glob("*.png")), model=vlm, max_cap=0.5, cache=str(cache))
    assert [r.passed for r in moved] == [r.passed for r in before]
    assert vlm.steps.total() == asked
    # Another schedule is another question, in the same folder.
    gate(sorted(tmp_path.glob("*.png")), model=vlm, max_cap=0.5, cache=cache, schedule="single")
    assert vlm.steps.total() == asked + 4


def test_the_same_image_given_twice_is_asked_about_once_even_without_a_cache(truth: Path) -> None:
    vlm = Simulator.from_file(truth)
    file = files(truth)[0]
    results = gate([file.read_bytes(), file, bytearray(file.read_bytes())], model=vlm, max_cap=1, schedule="single")
    assert [r.image for r in results] == ["image-000", str(file), "image-002"]
    assert vlm.steps.total() == 1


def test_calls_at_the_same_time_in_one_event_loop_share_the_work(truth: Path, tmp_path: Path) -> None:
    alone = Simulator.from_file(truth)
    gate(files(truth), model=alone, max_cap=0.5)
    vlm = Simulator.from_file(truth, SimulatorRates(latency=0.01))

    async def many() -> list[Any]:
        asked: dict[str, Any] = {"model": vlm, "cache": tmp_path / "cache"}
        gates = [gate_async(files(truth)[n:] + files(truth)[:n], max_cap=0.5, **asked) for n in range(4)]
        return await asyncio.gather(*gates, rewards_async(files(truth), **asked), best_of_async(files(truth), **asked))

    *gates, numbers, best = asyncio.run(many())
    for n, results in enumerate(gates):
        assert [r.passed for r in results[4 - n :] + results[: 4 - n]] == [False, True, True, False]
    assert numbers == [pytest.approx(1 / (1 + cap)) for cap in (12.12, 0.4, 0, 2)]
    assert best.index == 2
    assert vlm.steps == alone.steps


def test_the_plain_functions_work_beside_a_running_event_loop_and_do_not_wait_for_it(
    truth: Path, tmp_path: Path
) -> None:
    vlm, slow = Simulator.from_file(truth), Simulator.from_file(truth, SimulatorRates(latency=0.05))
    cache = tmp_path / "cache"

    async def notebook() -> None:
        results = gate(pictures(truth), model=vlm, max_cap=0.5)
        assert [r.passed for r in results] == [False, True, True, False]
        assert best_of(pictures(truth), model=vlm).index == 2
        assert len(rewards(pictures(truth), model=vlm, cache=cache)) == 4
        with pytest.raises(UsageError, match="no limit is given"):
            gate(pictures(truth), model=vlm)
        # The loop stands still while the plain function works: it must not wait for a task of this loop.
        claimed = asyncio.create_task(gate_async(files(truth), model=slow, max_cap=0.5, cache=tmp_path / "other"))
        while not slow.steps:
            await asyncio.sleep(0)
        assert gate(files(truth), model=slow, max_cap=0.5, cache=tmp_path / "other")[2].passed
        assert (await claimed)[2].passed

    asyncio.run(notebook())


def test_a_budget_ends_the_work_counts_over_calls_and_leaves_the_rest_open(truth: Path, tmp_path: Path) -> None:
    vlm, cache = Simulator.from_file(truth), tmp_path / "cache"
    capped = gate(files(truth), model=vlm, max_cap=0.5, cache=cache, max_tokens=18_000, on_failure="pass")
    assert capped[0].passed is False
    undone = [r for r in capped if r.passed is None]
    assert undone
    assert {r.failure.kind for r in undone if r.failure} == {"budget"}
    asked = vlm.steps.total()
    again = gate(files(truth), model=vlm, max_cap=0.5, cache=cache, max_tokens=18_000)
    with DetectionCache(cache) as opened:
        assert opened.spent().tokens <= 18_000
    assert [r.passed for r in again] == [r.passed for r in capped]
    more = gate(files(truth), model=vlm, max_cap=0.5, cache=cache, max_tokens=1_000_000)
    assert [r.passed for r in more] == [False, True, True, False]
    fresh = Simulator.from_file(truth)
    gate(files(truth), model=fresh, max_cap=0.5)
    assert asked < vlm.steps.total() == fresh.steps.total()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda t: gate(t.parent, model="tiny", max_cap=1), "is a folder; give the images in it one by one"),
        (lambda t: gate("nowhere.png", model="tiny", max_cap=1), "'nowhere.png' does not exist"),
        (lambda t: gate([t.parent / "*.png"], model="tiny", max_cap=1), "folders and globs are not searched here"),
        (lambda t: gate(files(t)[0], model="tiny"), "no limit is given"),
        (lambda t: gate(files(t)[0], model="tiny", max_cap=1, failure=0), "there is no option 'failure'"),
        (lambda t: rewards(files(t), model="tiny", max_cap=1), "there is no option 'max_cap'"),
        (lambda t: best_of([], model="tiny"), "no image was given"),
        (lambda t: gate(files(t), model="tiny", maxcap=1), "there is no option 'maxcap'; did you mean 'max_cap'?"),
        (lambda t: best_of(b"x", model="tiny"), "one image was given where several are expected"),
        (lambda t: gate(files(t), model="tiny", max_cap=1, cache=5), "cache must be the path of a folder, not 5"),
        (lambda t: gate(files(t), model="tiny", max_cap=1, cache=t.parent), "holds other files and no cache"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(truth: Path, call: Callable[[Path], Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        call(truth)
    assert says in str(refused.value)


def test_the_public_names_are_the_functions_and_not_their_modules() -> None:
    import anomreason.gating.choosing as choosing

    for name in ("gate", "gate_async", "best_of", "best_of_async", "rewards", "rewards_async", "BestOf"):
        assert getattr(anomreason, name) is getattr(choosing, name)
        assert name in anomreason.__all__
