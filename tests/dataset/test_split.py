"""Splits: whole groups together, old images where they are, the same division whatever the order of arrival."""

import json
import signal
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update
from tests.dataset.planting import Plan, plant
from tests.forking import exit_codes
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.split import (
    LEFT_OUT,
    NEW,
    RATIOS,
    SplitOptions,
    assign,
    code,
    group_labels,
    parse_ratios,
    split,
)
from anomreason.dataset.store import Store
from anomreason.dataset.tables import ImageRow, PromptRow, SplitRow
from anomreason.errors import UsageError

HALVES = {"train": 0.5, "test": 0.5}


@dataclass(frozen=True)
class Image:
    name: str
    group: str | None = None
    prompt: str | None = None
    cluster: str | None = None

    @property
    def keys(self) -> list[int]:
        bound = (code("group", self.group), code("prompt", self.prompt), code("cluster", self.cluster))
        return [*bound, code("image", self.name)]


def divide(images: Sequence[Image], before: dict[str, int] | None = None, salt: str = "s") -> dict[str, int]:
    """The place of each image's split, by name."""
    keys = np.array([image.keys for image in images], dtype=np.uint64)
    old = np.array([(before or {}).get(image.name, NEW) for image in images], dtype=np.int64)
    return dict(zip([i.name for i in images], assign(keys, old, HALVES, salt).tolist(), strict=True))


def straddling(images: Sequence[Image], places: dict[str, int]) -> set[int]:
    """Keys that images of several splits share."""
    found = defaultdict(set)
    for image in images:
        for key in image.keys:
            if key and places[image.name] >= 0:
                found[key].add(places[image.name])
    return {key for key, near in found.items() if len(near) > 1}


few = st.none() | st.sampled_from("abcdef")
some_images = st.lists(st.tuples(few, few, few), min_size=1, max_size=25).map(
    lambda drawn: [Image(f"image {n}", *keys) for n, keys in enumerate(drawn)]
)


@given(some_images, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_fresh_split_keeps_groups_together_and_is_the_same_in_any_order(images: list[Image], random) -> None:  # type: ignore[no-untyped-def]
    places = divide(images)
    assert set(places.values()) <= {0, 1}
    assert straddling(images, places) == set()
    shuffled = random.sample(images, len(images))
    assert divide(shuffled) == places


@given(some_images, st.integers(0, 25), st.integers(0, 25))
@settings(deadline=None)
def test_images_added_in_batches_never_move_old_ones_and_never_straddle(images: list[Image], a: int, b: int) -> None:
    places: dict[str, int] = {}
    for end in sorted((a, b, len(images))):
        placed = {name: place for name, place in places.items() if place >= 0}
        so_far = images[:end]
        if so_far:
            places = divide(so_far, placed)
            assert {name: places[name] for name in placed} == placed
            assert straddling(so_far, places) == set()
    # One is left out only where each split would straddle.
    for image in images:
        if places[image.name] == LEFT_OUT:
            assert all(straddling(images, places | {image.name: place}) for place in (0, 1))


def test_an_image_that_joins_groups_of_two_splits_is_left_out_and_its_fellows_are_not() -> None:
    old = [Image("a", prompt="p"), Image("b", cluster="c")]
    before = {"a": 0, "b": 1}
    bridge = Image("bridge", prompt="p", cluster="c")
    fellows = [Image("one", prompt="p"), Image("two", cluster="c"), Image("far", group="g")]
    places = divide([*old, bridge, *fellows], before)
    assert {name: places[name] for name in ("a", "b", "bridge", "one", "two")} == {
        "a": 0,
        "b": 1,
        "bridge": LEFT_OUT,
        "one": 0,
        "two": 1,
    }
    assert places["far"] in (0, 1)


def test_a_chain_of_new_images_between_two_splits_is_cut_at_one_of_them() -> None:
    chain = [Image("x", prompt="p", group="g"), Image("y", group="g", cluster="h"), Image("z", cluster="h", prompt="q")]
    images = [Image("a", prompt="p"), Image("b", prompt="q"), *chain]
    places = divide(images, {"a": 0, "b": 1})
    assert list(places.values()).count(LEFT_OUT) == 1
    assert straddling(images, places) == set()


def test_groups_are_the_connected_components() -> None:
    images = [Image("a", prompt="p"), Image("b", prompt="p", cluster="c"), Image("c", cluster="c"), Image("d")]
    labels = group_labels(np.array([image.keys for image in images], dtype=np.uint64)).tolist()
    assert labels[0] == labels[1] == labels[2] != labels[3]


@pytest.mark.parametrize("ratios", [HALVES, {"train": 0.8, "val": 0.1, "test": 0.1}])
def test_shares_come_out_as_asked_over_many_groups(ratios: dict[str, float]) -> None:
    images = [Image(f"{n}", prompt=f"prompt {n // 3}") for n in range(9000)]
    keys = np.array([image.keys for image in images], dtype=np.uint64)
    found = assign(keys, np.full(len(keys), NEW), ratios, "s")
    shares = np.bincount(found) / len(found)
    # Three standard deviations of 3,000 groups.
    assert shares == pytest.approx(list(ratios.values()), abs=0.03)


def test_a_group_has_its_split_whatever_else_is_in_the_dataset_and_a_salt_gives_another_division() -> None:
    images = [Image(f"{n}", prompt=f"{n // 2}") for n in range(400)]
    places = divide(images)
    assert divide(images[100:200]) == {i.name: places[i.name] for i in images[100:200]}
    other = divide(images, salt="another")
    assert 0.3 < sum(places[n] != other[n] for n in places) / 400 < 0.7


def test_a_split_that_is_added_takes_its_share_and_nothing_else_moves() -> None:
    keys = np.array([Image(f"{n}").keys for n in range(4000)], dtype=np.uint64)
    fresh = np.full(len(keys), NEW)
    before, after = (assign(keys, fresh, r, "s") for r in ({"a": 0.5, "b": 0.5}, {"a": 0.45, "b": 0.45, "c": 0.1}))
    assert np.mean(before != after) == pytest.approx(0.1, abs=0.02)
    assert set(after[before != after]) == {2}


def splits(store: Store, scheme: str = "default") -> dict[str, str]:
    with store.reading() as session:
        query = select(ImageRow.sha256, SplitRow.split).join(ImageRow, ImageRow.id == SplitRow.image_id)
        return dict(session.execute(query.where(SplitRow.scheme == scheme)).all())


def set_images(store: Store, ids: Sequence[int], **values: object) -> None:
    with store.writing() as session:
        session.execute(update(ImageRow).where(ImageRow.id.in_(ids)).values(**values))


def test_every_kept_image_gets_its_split_and_the_next_run_only_adds(store: Store) -> None:
    plant(store, Plan({"flux": 60, "photographs": 20}, prompts=20))
    set_images(store, [1, 2], status="dropped", reason="blurry")
    report = split(store)
    first = splits(store)
    assert report.images == {name: list(first.values()).count(name) for name in ("train", "test")}
    assert (report.added, report.moved, report.largest_group) == (78, 0, 3)
    assert sum(report.groups.values()) == 40
    set_images(store, [1, 2], status="kept", reason=None)
    again = split(store)
    assert again.added == 2
    assert splits(store).items() > first.items()
    assert split(store).added == 0


@pytest.mark.parametrize("kind", ["group", "cluster", "prompt", "prompts"])
def test_each_sort_of_group_stays_together(sqlite_store: Store, kind: str) -> None:
    plant(sqlite_store, Plan({"flux": 40}, prompts=40))
    if kind == "prompts":
        with sqlite_store.writing() as session:
            session.execute(update(PromptRow).values(group="of one template"))
    else:
        set_images(sqlite_store, range(1, 41), **({"prompt_id": 1} if kind == "prompt" else {kind: "one"}))
    report = split(sqlite_store)
    assert sorted(report.images.values()) == [0, 40]
    assert report.largest_group == 40


def test_an_image_left_out_is_reported_with_the_reason_stays_kept_and_gets_a_split_by_reassign(store: Store) -> None:
    plant(store, Plan({"flux": 41}, prompts=40))
    set_images(store, [41], status="dropped", reason="blurry")
    split(store)
    first = splits(store)
    with store.reading() as session:
        shas = dict(session.execute(select(ImageRow.id, ImageRow.sha256)).all())
    other = next(n for n in range(2, 41) if first[shas[n]] != first[shas[1]])
    set_images(store, [other, 41], cluster="c")
    set_images(store, [41], status="kept", reason=None)  # it has the prompt of image 1
    report = split(store)
    (left,) = report.left_out
    assert left.why == f"prompt in {first[shas[1]]}, cluster in {first[shas[other]]}"
    assert (left.image, report.added, report.straddling) == ("00040.png", 0, 0)
    assert splits(store) == first

    moved = split(store, SplitOptions(reassign=True))
    assert (moved.left_out, moved.straddling, moved.added) == ((), 0, 1)
    after = splits(store)
    assert len({after[shas[n]] for n in (1, other, 41)}) == 1
    assert moved.moved == sum(after[sha] != first[sha] for sha in first) == 1


def test_other_ratios_or_another_salt_are_an_error_that_names_both_unless_reassign(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 40}))
    split(sqlite_store, SplitOptions(ratios={"train": 0.7, "test": 0.3}, salt="mine"))
    first = splits(sqlite_store)
    assert split(sqlite_store).ratios == {"train": 0.7, "test": 0.3}
    with pytest.raises(
        UsageError, match=r"'default' was divided by train=0.7,test=0.3 and salt 'mine', not by train=0"
    ):
        split(sqlite_store, SplitOptions(ratios=RATIOS))
    with pytest.raises(UsageError, match=r"not by train=0.7,test=0.3 and salt 'other': .* --reassign --dry-run"):
        split(sqlite_store, SplitOptions(salt="other"))
    options = SplitOptions(ratios={"fit": 1.0}, reassign=True, dry_run=True)
    assert split(sqlite_store, options).moved == 40
    assert splits(sqlite_store) == first
    split(sqlite_store, replace(options, dry_run=False))
    assert set(splits(sqlite_store).values()) == {"fit"}
    assert split(sqlite_store).ratios == {"fit": 1.0}


def test_a_scheme_that_came_from_elsewhere_is_left_alone(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 4}))
    with sqlite_store.command("collect", {}) as command, sqlite_store.writing() as session:
        session.add(SplitRow(scheme="published", image_id=1, split="train", command_id=command.id))
    with pytest.raises(UsageError, match=r"'published' came with the images \('dataset collect'\); name your own"):
        split(sqlite_store, SplitOptions(scheme="published"))
    split(sqlite_store)
    assert splits(sqlite_store, "published").values() != splits(sqlite_store)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ("train=0.8,test=0.1", "add up to 0.9 instead of 1"),
        ("train=0.5,test", "'test' is no share of a split; write ratios as train=0.8,test=0.2"),
        ("train=0.5,train=0.5", "split 'train' is given twice"),
        ("a/b=1", "'a/b' is no name of a split"),
        ("train=1.5,test=-0.5", "split 'train' has the share 1.5"),
        ("train=nan", "split 'train' has the share nan"),
    ],
)
def test_ratios_that_make_no_sense_are_refused(sqlite_store: Store, ratios: str, message: str) -> None:
    plant(sqlite_store, Plan({"flux": 4}))
    with pytest.raises(UsageError, match=message):
        split(sqlite_store, SplitOptions(ratios=parse_ratios(ratios)))


def test_without_a_kept_image_there_is_nothing_to_split_and_nothing_is_recorded(sqlite_store: Store) -> None:
    with pytest.raises(UsageError, match="no image is kept"):
        split(sqlite_store, SplitOptions(dry_run=True))


KILLED = """
import os, signal, sys
from pathlib import Path
from anomreason.dataset import split as job
from anomreason.dataset.store import open_store

calls = 0
def put(*arguments, real=job.put):
    global calls
    real(*arguments)
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
job.put = put
with open_store(Path(sys.argv[1])) as store:
    job.split(store)
"""


def test_a_kill_in_the_middle_leaves_nothing_half_done(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 2500}, prompts=900))
    assert exit_codes(KILLED, [(sqlite_store.folder, call) for call in (1, 2, 3)]) == [-signal.SIGKILL] * 3
    assert splits(sqlite_store) == {}
    split(sqlite_store)
    interrupted = splits(sqlite_store)
    with sqlite_store.writing() as session:
        session.execute(delete(SplitRow))
    split(sqlite_store)
    assert splits(sqlite_store) == interrupted
    assert len(interrupted) == 2500


def run(*arguments: str) -> str:
    ran = CliRunner().invoke(app, ["dataset", "split", *arguments])
    assert ran.exception is None, ran.output
    return ran.stdout


def test_the_command_says_what_was_done_and_what_to_type_next(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 200}, prompts=100))
    data = str(sqlite_store.folder)
    tried = run(data, "--ratios", "train=0.5,test=0.5", "--dry-run")
    assert "Dry run: nothing was written" in tried
    assert splits(sqlite_store) == {}
    text = run(data, "--ratios", "train=0.5,test=0.5")
    assert text.startswith("Scheme default: 200 images in 100 groups")
    unknown = "Nobody has looked for near-duplicates"
    assert f"{unknown}, so a split may divide them: run anomreason dataset filter {data} first" in text
    assert f"anomreason dataset split {data} --check" in text
    counts = json.loads(run(data, "--json"))
    assert counts["images"] == {name: list(splits(sqlite_store).values()).count(name) for name in ("train", "test")}
    assert counts["added"] == 0
    set_images(sqlite_store, [1], cluster="c1")
    assert unknown not in run(data)
