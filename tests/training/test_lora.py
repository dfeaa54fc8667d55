"""Facts about training: what learns, from what, and that what is saved is what was trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from anomreason import detect
from anomreason.anomaly import Detection
from anomreason.errors import MissingExtra, RunConflict, UnreadableImage, UsageError
from anomreason.files import read_lines
from anomreason.report.curve import LOG
from anomreason.training import lora
from anomreason.training.answering import Answers, Score
from anomreason.training.checks import ProofFailed
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.data.questions import Questions
from anomreason.training.folder import TrainingFolder
from anomreason.training.loading import with_conversations
from anomreason.training.lora import TrainingResult
from anomreason.training.recipe import Recipe, read_recipe, recipe_of
from anomreason.training.watching import Progress, quiet
from anomreason.vlm.card import read_card
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.local.weights import BUNDLED, find_checkpoint, load_model
from anomreason.vlm.protocol import VLMOptions

Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]
CPU = VLMOptions(device="cpu", dtype="float32")


def train(
    recipe: Recipe,
    learnt: Sequence[Instance],
    held_out: Sequence[Instance],
    out: Path,
    score: Score | None = None,
    progress: Progress = quiet,
) -> TrainingResult:
    return lora.train(with_conversations(recipe, learnt, held_out), out, score, progress)


class Stop(Exception):
    """What ends a training here where a kill would."""


def stop_at(step: int) -> Callable[[Mapping[str, Any]], None]:
    def progress(line: Mapping[str, Any]) -> None:
        if line.get("step") == step and "loss" in line:
            raise Stop

    return progress


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_lines(folder / LOG)]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if "loss" in line]


@pytest.fixture(scope="module")
def trained(
    tiny_qwen: Path, conversations: Conversations, tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Recipes
) -> TrainingResult:
    """One training to its end, scored by how long the answers are: the longer the better."""
    out = tmp_path_factory.mktemp("trained") / "out"

    def score(said: Sequence[Answers]) -> dict[str, float]:
        return {"letters": float(sum(len(text) for one in said for text in one.texts))}

    return train(tiny_recipe(), conversations(10), conversations(4, first=20), out, score)


@pytest.fixture(scope="module")
def short(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path_factory: pytest.TempPathFactory
) -> TrainingResult:
    """A training of two steps without held-out conversations. Copy its folder before you change it."""
    recipe = tiny_recipe(steps={"max_steps": 2})
    return train(recipe, conversations(8), [], tmp_path_factory.mktemp("short") / "out")


def test_a_trained_adapter_is_what_detect_runs(trained: TrainingResult, conversations: Conversations) -> None:
    found = detect(conversations(1)[0].image, model=trained.spec, schedule="single", device="cpu", max_reply_tokens=16)
    assert isinstance(found, Detection)
    assert found.detector.startswith(trained.spec)
    card = read_card(trained.folder)
    assert card is not None
    assert (card.prompt, card.answer) == (conversations(1)[0].turns[0].text, "text")
    assert (card.min_pixels, card.max_pixels) == (56 * 56, 28 * 28 * 16)


def test_a_training_tells_what_it_made_sure_of(trained: TrainingResult) -> None:
    proved = {proof.name: proof.found for proof in trained.proofs}
    assert set(proved) == {
        "pixels",
        "loss",
        "placement",
        "first step",
        "after the first step",
        "reloaded",
        "tensors",
        "merged",
    }
    assert "all 6 adapter B, none anywhere else" in proved["first step"]
    assert "all 12 learning tensors, A and B" in proved["after the first step"]
    assert proved["placement"].startswith("6 language modules")
    told = next(line for line in read_log(trained.folder) if line.get("event") == "modules")
    assert told["count"] == len(told["names"]) == 6


def test_the_weights_with_the_best_score_are_kept(trained: TrainingResult) -> None:
    scored = {line["step"]: line["scores"] for line in read_log(trained.folder) if "scores" in line}
    assert list(scored) == [0, 2, 4]
    best = max((step for step in scored if step), key=lambda step: scored[step]["letters"])
    assert (trained.chosen, trained.by) == (best, "letters")
    assert trained.scores == scored[best]


def test_a_training_that_is_over_is_only_reported(
    trained: TrainingResult, tiny_recipe: Recipes, conversations: Conversations
) -> None:
    before = (trained.folder / "adapter_model.safetensors").stat().st_mtime_ns
    again = train(tiny_recipe(), conversations(10), conversations(4, first=20), trained.folder)
    assert again == trained
    assert (trained.folder / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_other_settings_or_data_are_another_training(
    trained: TrainingResult, tiny_recipe: Recipes, conversations: Conversations
) -> None:
    with pytest.raises(RunConflict, match=r"recipe\.lora\.rank: 8 there, 4 now"):
        train(tiny_recipe(lora={"rank": 4}), conversations(10), conversations(4, first=20), trained.folder)
    with pytest.raises(RunConflict, match="conversations: 10 there, 9 now"):
        train(tiny_recipe(), conversations(9), conversations(4, first=20), trained.folder)


def test_a_redrawn_image_of_the_same_name_is_another_training(
    trained: TrainingResult, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    given, held = conversations(10), conversations(4, first=20)
    redrawn = tmp_path / given[3].name
    Image.new("RGB", (60, 56), "red").save(redrawn)
    changed = [*given[:3], replace(given[3], image=redrawn), *given[4:]]
    with pytest.raises(RunConflict, match=r"images\.003\.png: '\w{16}' there, '\w{16}' now"):
        train(tiny_recipe(), changed, held, trained.folder)
    moved = [replace(one, image=Path(shutil.copy(one.image, tmp_path))) for one in given if one.name != given[3].name]
    same = train(tiny_recipe(), [*moved[:3], given[3], *moved[3:]], held, trained.folder)
    assert same == trained, "the same images in another folder"


def test_the_base_is_tried_before_training_and_the_trained_model_after(
    trained: TrainingResult,
) -> None:
    log = read_log(trained.folder)
    tried = {line["model"]: line for line in log if line.get("event") == "answers"}
    assert [tried[name]["answers"] for name in ("base", "trained")] == [2, 2]
    assert trained.warning is not None
    assert trained.warning == tried["trained"]["warning"]
    assert trained.warning in (trained.folder / "README.md").read_text(encoding="utf-8")
    assert log.index(tried["base"]) < next(k for k, line in enumerate(log) if "learning_rate" in line)


def test_the_bundled_model_is_asked_its_own_question_before_training_and_stays_readable(
    conversations: Conversations, tmp_path: Path
) -> None:
    table = read_recipe("tiny-lora").model_dump(exclude_none=True)
    table["steps"] |= {"max_steps": 1, "learning_rate": 1e-6, "warmup": 0.0}
    table["batch"]["per_device"] = 1
    asked: list[Answers] = []

    def score(answers: Sequence[Answers]) -> dict[str, float]:
        asked.extend(answers)
        return {"none": 0.0}

    held = conversations(2, first=20)
    found = train(recipe_of(table, "x"), conversations(1), held, tmp_path / "out", score)
    card = read_card(BUNDLED)
    assert card is not None
    assert [one.instance.turns[0].text for one in asked] == [card.prompt] * 2 + [held[0].turns[0].text] * 2
    tried = [line for line in read_log(tmp_path / "out") if line.get("event") == "answers"]
    assert (tried[0]["model"], tried[0]["readable"]) == ("base", 2)
    assert (found.warning is None) == (tried[1]["readable"] == 2)


def test_a_folder_with_other_files_is_left_alone(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunConflict, match=r"thesis\.tex"):
        train(tiny_recipe(), conversations(2), [], tmp_path)


def test_two_trainings_do_not_share_a_folder(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    first = TrainingFolder(tmp_path / "out", {}, {})
    try:
        with pytest.raises(RunConflict, match="another process"):
            train(tiny_recipe(), conversations(2), [], tmp_path / "out")
    finally:
        first.close()


def test_batches_of_one_accumulated_are_one_batch(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    given = conversations(8)
    shapes = {"one": {"per_device": 8, "accumulation": 1}, "many": {"per_device": 1, "accumulation": 8}}
    for name, batch in shapes.items():
        recipe = tiny_recipe(batch=batch, lora={"dropout": 0.0}, steps={"max_steps": 2})
        train(recipe, given, [], tmp_path / name)
    assert losses(tmp_path / "many") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert len(losses(tmp_path / "one")) == 2
    many, one = adapter(tmp_path / "many"), adapter(tmp_path / "one")
    for name, tensor in one.items():
        torch.testing.assert_close(many[name], tensor, atol=1e-3, rtol=1e-2)


def test_fewer_devices_than_the_recipe_names_accumulate_more(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(batch={"per_device": 2, "accumulation": 1, "devices": 4}, steps={"max_steps": 1})
    train(recipe, conversations(8), [], tmp_path / "out")
    told = next(line for line in read_log(tmp_path / "out") if line.get("event") == "batch")
    assert told == {"event": "batch", "effective": 8, "device x accumulation x devices": "2 x 4 x 1"}
    with pytest.raises(UsageError, match="3 devices with 2 conversations each cannot make up batches of 8"):
        recipe.accumulation_for(3)


def test_loss_on_a_fixed_batch_falls(tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        batch={"per_device": 4, "accumulation": 1}, lora={"dropout": 0.0}, steps={"max_steps": 12, "save_every": 50}
    )
    train(recipe, conversations(4), [], tmp_path / "out")
    course = losses(tmp_path / "out")
    assert course[-1] < 0.8 * course[0]
    assert course[-1] == min(course)


def test_a_stopped_training_goes_on_to_the_same_end(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(steps={"max_steps": 6, "save_every": 2, "epochs": 2}, evaluation={"every": 3})
    data, held = conversations(9), conversations(3, first=20)
    whole = train(recipe, data, held, tmp_path / "whole")
    with pytest.raises(Stop):
        train(recipe, data, held, tmp_path / "halves", progress=stop_at(5))
    resumed = train(recipe, data, held, tmp_path / "halves")
    halves, once = adapter(tmp_path / "halves"), adapter(tmp_path / "whole")
    assert all(torch.equal(halves[name], once[name]) for name in once)
    assert (resumed.steps, resumed.chosen, resumed.scores) == (whole.steps, whole.chosen, whole.scores)
    assert {proof.name for proof in resumed.proofs} == {proof.name for proof in whole.proofs}
    steps = [line["step"] for line in read_log(tmp_path / "halves") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6], "what was learnt twice is logged once"


def test_a_training_killed_while_it_was_finishing_is_finished(
    short: TrainingResult, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    out = shutil.copytree(short.folder, tmp_path / "out")
    (out / "trained.json").unlink()
    (out / "adapter_model.safetensors").unlink()
    again = train(tiny_recipe(steps={"max_steps": 2}), conversations(8), [], out)
    assert again.steps == short.steps
    before, after = adapter(short.folder), adapter(out)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.slow
def test_a_checkpoint_torn_by_a_kill_is_passed_over(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(steps={"max_steps": 5})
    with pytest.raises(Stop):
        train(recipe, conversations(8), [], tmp_path / "out", progress=stop_at(3))
    torn = tmp_path / "out" / "checkpoints" / "checkpoint-4"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    assert train(recipe, conversations(8), [], tmp_path / "out").steps == 5
    told = [line for line in read_log(tmp_path / "out") if line.get("event") == "resumed"]
    assert [line["step"] for line in told] == [2]


def test_the_same_seed_gives_the_same_adapter_another_seed_another(
    short: TrainingResult, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    found = [adapter(short.folder)]
    for seed in (0, 1):
        recipe = tiny_recipe(steps={"max_steps": 2}, seed=seed)
        found.append(adapter(train(recipe, conversations(8), [], tmp_path / f"{seed}").folder))
    names = list(found[0])
    assert all(torch.equal(found[0][name], found[1][name]) for name in names)
    assert not all(torch.equal(found[0][name], found[2][name]) for name in names)


def test_full_training_leaves_a_checkpoint_and_a_frozen_vision_tower(
    tiny_recipe: Recipes, conversations: Conversations, tiny_qwen: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(full={"vision": False, "projector": True}, steps={"learning_rate": 1e-3, "max_steps": 2})
    held = conversations(2, first=20)
    made = train(recipe, conversations(6), held, tmp_path / "out")
    assert made.spec == f"local:{tmp_path / 'out'}"
    before, after = load_file(tiny_qwen / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if ".visual." in f".{name}" and ".merger." not in name}.isdisjoint(changed)
    assert any(".merger." in name for name in changed)
    assert all(name in changed for name in before if ".layers." in name)
    assert load_model(find_checkpoint(str(made.folder)), CPU) is not None
    assert read_card(made.folder) is not None


def test_two_turns_are_learnt_and_asked_in_turn(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    asked: list[Answers] = []

    def score(said: Sequence[Answers]) -> dict[str, float]:
        asked.extend(said)
        return {"none": 0.0}

    held = conversations(3, first=20, turns=2)
    made = train(tiny_recipe(steps={"max_steps": 1}), conversations(4, turns=2), held, tmp_path / "out", score)
    assert all(len(one.texts) == 2 for one in asked)
    card = read_card(tmp_path / "out")
    assert card is not None
    question, answer, explain, _ = (turn.text for turn in held[0].turns)
    assert (card.source, card.generated, card.prompt) == (question, answer, explain)
    assert card.photograph == Questions.load().authenticity.photograph
    detect([held[0].image], model=made.spec, device="cpu", max_reply_tokens=16, run=tmp_path / "run")
    calls = [(call.role, call.step) for call in read_calls(tmp_path / "run")]
    assert list(dict.fromkeys(calls)) == [("SourceJudge", "source"), ("AnomalyFormatter", "single")]


def test_in_16_bits_too_what_is_measured_is_what_detection_will_run(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(model={"precision": "bf16"}, steps={"max_steps": 1}, batch={"workers": 1})
    proofs = {proof.name: proof.found for proof in train(recipe, conversations(4), [], tmp_path / "out").proofs}
    assert proofs["reloaded"] == "logits differ by at most 0, 0 of the largest", "no autocast of the training's own"
    assert proofs["merged"].startswith("logits differ by at most 0.")


def test_recomputed_activations_change_nothing(
    short: TrainingResult, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(batch={"checkpointing": True}, steps={"max_steps": 2})
    train(recipe, conversations(8), [], tmp_path / "out")
    kept, again = adapter(short.folder), adapter(tmp_path / "out")
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_an_adapter_that_is_not_what_was_trained_is_an_error(
    short: TrainingResult, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    out = shutil.copytree(short.folder, tmp_path / "out")
    (out / "trained.json").unlink()
    kept = out / "checkpoints" / "chosen-2" / "adapter_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(kept).items()}, kept)
    with pytest.raises(ProofFailed, match="reloaded: logits differ by"):
        train(tiny_recipe(steps={"max_steps": 2}), conversations(8), [], out)
    assert not (out / "trained.json").exists()


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ((), "user and assistant must take turns"),
        ((Turn("user", "What?"),), "user and assistant must take turns"),
        ((Turn("assistant", "Yes."), Turn("user", "What?")), "user and assistant must take turns"),
        ((Turn("user", "What?"), Turn("assistant", "word " * 600)), "more than data.max_tokens = 512"),
    ],
)
def test_conversations_that_cannot_be_learnt_from_are_named(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path, turns: tuple[Turn, ...], told: str
) -> None:
    good = conversations(3)
    bad = Instance(good[0].image, "bad.png", turns)
    with pytest.raises(UsageError, match=told) as caught:
        train(tiny_recipe(), [*good, bad], [], tmp_path / "out")
    assert "bad.png" in str(caught.value)


def test_an_image_that_is_gone_is_named_before_training(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    gone = Instance(tmp_path / "gone.png", "gone.png", conversations(1)[0].turns)
    with pytest.raises(UnreadableImage, match=r"gone\.png"):
        train(tiny_recipe(), [*conversations(2), gone], [], tmp_path / "out")
    with pytest.raises(UsageError, match="no conversations to learn from"):
        train(tiny_recipe(), [], [], tmp_path / "none")


def test_modules_that_the_model_lacks_stop_the_training(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no module 'qkv' .*down_proj, gate_proj, k_proj"):
        train(tiny_recipe(lora={"modules": ["q_proj", "qkv"]}), conversations(2), [], tmp_path / "out")
    with pytest.raises(UsageError, match=r"lora\.first must be below 2"):
        train(tiny_recipe(lora={"first": 2}), conversations(2), [], tmp_path / "out")


def test_a_score_that_the_recipe_asks_for_must_exist(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe = tiny_recipe(evaluation={"best": "sem_f1"})
    with pytest.raises(UsageError, match="there is no score 'sem_f1', but loss"):
        train(recipe, conversations(4), conversations(2, first=20), tmp_path / "out")


def test_four_bits_without_their_library_say_what_to_install(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"pip install '\.\[qlora\]'"):
            train(tiny_recipe(model={"four_bit": True}), conversations(2), [], tmp_path / "out")
    else:
        pytest.skip("bitsandbytes is installed")


_KILLED = """
import json, pathlib, sys
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.loading import with_conversations
from anomreason.training.lora import train
from anomreason.training.recipe import recipe_of
import torch
torch.set_num_threads(1)
given = json.loads(pathlib.Path(sys.argv[1]).read_text())
data = [Instance(pathlib.Path(p), n, tuple(Turn(*t) for t in turns)) for p, n, turns in given["data"]]
def progress(line):
    print(json.dumps(line), flush=True)
given = with_conversations(recipe_of(given["recipe"], "recipe"), data, data[:2])
print(train(given, pathlib.Path(sys.argv[2]), progress=progress).steps)
"""


def written(path: Path, recipe: Recipe, data: Sequence[Instance]) -> Path:
    told = [(str(one.image), one.name, [(turn.role, turn.text) for turn in one.turns]) for one in data]
    table = recipe.model_dump(mode="json", exclude_none=True)
    path.write_text(json.dumps({"recipe": table, "data": told}), encoding="utf-8")
    return path


@pytest.mark.slow
def test_kill_9_costs_no_more_than_the_last_checkpoint(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    recipe, data = tiny_recipe(steps={"max_steps": 8, "save_every": 2}), conversations(12)
    job = written(tmp_path / "job.json", recipe, data)
    command = [sys.executable, "-c", _KILLED, str(job), str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if told.get("step") == 5 and "loss" in told:
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "trained.json").exists()
    train(recipe, data, data[:2], tmp_path / "killed")
    train(recipe, data, data[:2], tmp_path / "whole")
    killed, whole = adapter(tmp_path / "killed"), adapter(tmp_path / "whole")
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path) -> None:
    batch = {"per_device": 2, "accumulation": 1, "devices": 2}
    recipe = tiny_recipe(batch=batch, lora={"dropout": 0.0}, steps={"max_steps": 2, "save_every": 2})
    data = conversations(4)
    job = written(tmp_path / "job.json", recipe, data)
    script = tmp_path / "job.py"
    script.write_text(_KILLED, encoding="utf-8")
    # What `accelerate launch` starts on several GPUs; on CPUs alone it would want MPI for that.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ran = subprocess.run(
        [*launch, str(script), str(job), str(tmp_path / "two")], capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    train(recipe, data, data[:2], tmp_path / "one")
    told = next(line for line in read_log(tmp_path / "two") if line.get("event") == "batch")
    assert told["device x accumulation x devices"] == "2 x 1 x 2"
    # Four conversations a step, all of them: the same batch, whoever sees which half.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-3)
