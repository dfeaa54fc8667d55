"""Facts about `audit prompts`: what is chosen and dropped, why, and that the same command repeats nothing."""

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Served
from tests.forking import exit_codes, run_command
from typer.testing import CliRunner

from anomreason.audit.prompts.packs import read_pack
from anomreason.audit.prompts.selection import SelectOptions, dropped_file, select_prompts, selecting
from anomreason.audit.prompts.tags import TAGS
from anomreason.cli import app
from anomreason.detector import DetectOptions
from anomreason.errors import RunConflict, UsageError
from anomreason.files import read_lines
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

WORDS = SelectOptions(k=12, embedder="words")
SCENES = [
    "a dog by a river",
    "a bus at night",
    "a bowl of rice",
    "a boy who runs",
    "a mirror and a lamp",
    "a saw on a bench",
]


def planted(path: Path) -> dict[str, int]:
    """A list of 30 scenes, four of them in 40 versions, with copies and near copies; gives the scene of each text."""
    rng = np.random.default_rng(5)
    words = [f"w{n}" for n in range(400)]
    rows, scene_of = [], {}
    for scene in range(30):
        own = rng.choice(words, 12, replace=False).tolist()
        for _ in range(40 if scene < 4 else 3):
            text = " ".join(rng.permutation([*own[:10], *rng.choice(words, 3)]).tolist())
            rows.append({"prompt": text, "tags": ["animals" if scene % 5 == 0 else "food"]})
            scene_of[text] = scene
    copies = [{"prompt": f"  {row['prompt'].upper()}!"} for row in rows[::7]]
    near = [{"prompt": f"{row['prompt']} once"} for row in rows[::5]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *copies, *near]), encoding="utf-8")
    return scene_of


def lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_lines(path)]


def test_a_planted_list_gives_no_duplicate_all_quotas_and_more_scenes_than_chance(tmp_path: Path) -> None:
    scene_of = planted(tmp_path / "list.jsonl")
    report = select_prompts(tmp_path / "list.jsonl", tmp_path / "out.jsonl", SelectOptions(k=30, embedder="words"))
    chosen = read_pack(tmp_path / "out.jsonl")
    assert {prompt.text for prompt in chosen} <= set(scene_of), "neither a copy nor a near one of an earlier prompt"
    assert report.dropped["duplicate"] == len([*scene_of][::7])
    assert report.dropped["near-duplicate"] >= len([*scene_of][::5])
    assert Counter(tag for prompt in chosen for tag in prompt.tags) == {"animals": 15, "food": 15}
    rng = np.random.default_rng(0)
    scenes = np.array(list(scene_of.values()))
    random = [len(set(rng.choice(scenes, 30, replace=False))) for _ in range(200)]
    covered = len({scene_of[prompt.text] for prompt in chosen})
    assert covered > max(random), f"{covered} of 30 scenes; by chance {np.mean(random):.1f}, at most {max(random)}"


def test_every_prompt_of_the_list_is_chosen_or_dropped_with_a_reason(tmp_path: Path) -> None:
    planted(tmp_path / "list.jsonl")
    with (tmp_path / "list.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": 5}\n' + json.dumps({"prompt": "x" * 5000}) + "\n")
    report = select_prompts(tmp_path / "list.jsonl", tmp_path / "out.jsonl", WORDS)
    dropped = lines(dropped_file(tmp_path / "out.jsonl"))
    assert report.read == report.chosen + len(dropped) == len((tmp_path / "list.jsonl").read_text().splitlines())
    assert Counter(line["reason"] for line in dropped) == report.dropped
    assert set(report.dropped) == {"bad row", "too long", "duplicate", "near-duplicate", "not chosen"}
    assert len({line["place"] for line in dropped}) == len(dropped)
    assert all(line["message"] for line in dropped)


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    planted(tmp_path / "list.jsonl")
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        select_prompts(tmp_path / "list.jsonl", tmp_path / f"{name}.jsonl", SelectOptions(12, "words", seed=seed))
        files.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert files[0] == files[1] != files[2]
    select_prompts(tmp_path / "list.jsonl", tmp_path / "a.jsonl", SelectOptions(12, "words", seed=1))
    assert (tmp_path / "a.jsonl").read_bytes() == files[2]


def test_the_nearest_two_are_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("one two three four\nfive six seven\none two three nine\n", encoding="utf-8")
    report = select_prompts(tmp_path / "list.txt", tmp_path / "out.jsonl", SelectOptions(3, "words"))
    texts = {prompt.id: prompt.text for prompt in read_pack(tmp_path / "out.jsonl")}
    assert {texts[id] for id in report.nearest_pair} == {"one two three four", "one two three nine"}
    assert report.nearest == pytest.approx(5 / 7, abs=1e-6)


def test_ids_of_the_list_stay_where_all_chosen_have_them(tmp_path: Path) -> None:
    report = select_prompts("photo-246", tmp_path / "out.jsonl", SelectOptions(40, "words"))
    pack = {prompt.id: prompt for prompt in read_pack("photo-246")}
    chosen = read_pack(tmp_path / "out.jsonl")
    assert all(pack[prompt.id] == prompt for prompt in chosen)
    assert all(count.chosen >= count.wanted == 3 for count in report.tags.values())


def test_a_list_that_is_too_short_is_taken_whole_and_a_quota_that_cannot_be_met_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("prompt,tags\na dog,animals\na cat,animals\na cup,food\n", encoding="utf-8")
    ran = _run("list.csv", "--k", "9", "--per-tag", "2", folder=tmp_path)
    assert ran.returncode == 0
    assert "Only 3 of 9 could be chosen: no more are left." in ran.stderr
    assert "Too few of 'food': 1 of 2 wanted, 1 there." in ran.stderr
    assert "animals'" not in ran.stderr
    assert "3 prompts read, 3 chosen" in ran.stdout


def test_a_file_of_others_is_not_overwritten_and_neither_is_the_list(tmp_path: Path) -> None:
    planted(tmp_path / "list.jsonl")
    out = tmp_path / "out.jsonl"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is there and is no choice of this command"):
        select_prompts(tmp_path / "list.jsonl", out, WORDS)
    out.unlink()
    select_prompts(tmp_path / "list.jsonl", out, WORDS)
    out.write_bytes(out.read_bytes() + b'{"id": "mine", "text": "a cup"}\n')
    with pytest.raises(UsageError, match="is there and is no choice of this command"):
        select_prompts(tmp_path / "list.jsonl", out, WORDS)
    with pytest.raises(UsageError, match="is the list itself"):
        select_prompts(tmp_path / "list.jsonl", tmp_path / "list.jsonl", WORDS)
    with pytest.raises(UsageError, match=r"does not end in \.jsonl"):
        select_prompts(tmp_path / "list.jsonl", tmp_path / "out.csv", WORDS)
    with pytest.raises(UsageError, match="there is no folder"):
        select_prompts(tmp_path / "list.jsonl", tmp_path / "no" / "out.jsonl", WORDS)


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"near": 0.0}, {"near": 1.5}, {"per_tag": -1}, {"seed": -1}], ids=lambda o: next(iter(o))
)
def test_options_out_of_range_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"^{name} must be"):
        select_prompts("photo-246", tmp_path / "out.jsonl", SelectOptions(**options))


def test_two_processes_do_not_work_on_one_choice(tmp_path: Path) -> None:
    with (
        selecting("photo-246", tmp_path / "out.jsonl", WORDS),
        pytest.raises(RunConflict, match=r"works in the work folder .*another --out"),
    ):
        select_prompts("photo-246", tmp_path / "out.jsonl", WORDS)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A list of six scenes, a painting, and one with a tag of its own."""
    texts = [*SCENES, "a watercolour of a ship", "<script>alert(1)</script> a cat\nin a box"]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return tmp_path / "list.jsonl"


def test_a_model_tags_prompts_and_drops_what_is_no_photograph(mixed: Path, world: Callable[..., Path]) -> None:
    simulator, out = Simulator.from_file(world(1)), mixed.parent / "out.jsonl"
    report = select_prompts(mixed, out, SelectOptions(20, "words"), simulator)
    tags = {prompt.text: prompt.tags for prompt in read_pack(out)}
    assert tags["a dog by a river"] == ("animals",)
    assert tags["a boy who runs"] == ("people in motion",)
    assert tags["<script>alert(1)</script> a cat\nin a box"] == ("animals",)
    assert report.dropped == {"not a photograph": 1}
    assert report.tags.keys() == TAGS.keys()
    assert report.usage.calls == 8
    any_style = select_prompts(mixed, out, SelectOptions(20, "words", any_style=True), simulator)
    assert any_style.chosen == 8
    assert simulator.steps.total() == 8, "other options ask nothing again"


def test_prompts_without_a_readable_answer_stay_out_until_the_next_run(mixed: Path, world: Callable[..., Path]) -> None:
    out = mixed.parent / "out.jsonl"
    broken = Simulator.from_file(world(1), SimulatorRates(malformed=1.0))
    report = select_prompts(mixed, out, WORDS, broken)
    assert (report.chosen, report.dropped) == (0, {"unreadable": 8})
    assert read_lines_of(out) == []
    assert all("did not answer in the requested form" in line["message"] for line in lines(dropped_file(out)))
    report = select_prompts(mixed, out, WORDS, Simulator.from_file(world(1)))
    assert (report.chosen, report.dropped) == (7, {"not a photograph": 1})


def read_lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_choice_that_is_stopped_writes_nothing_and_goes_on(mixed: Path, world: Callable[..., Path]) -> None:
    out = mixed.parent / "out.jsonl"
    simulator = Simulator.from_file(world(1))
    with pytest.raises(UsageError, match=r"[1-7] prompts are left to ask about \(limit\); the same call goes on"):
        select_prompts(mixed, out, WORDS, simulator, DetectOptions(max_tokens=2500, in_flight=1))
    assert not out.exists()
    select_prompts(mixed, out, WORDS, simulator)
    assert len(read_pack(out)) == 7
    assert simulator.steps.total() == 8


def test_an_endpoint_is_asked_as_any_model(mixed: Path, world: Callable[..., Path], served: Served) -> None:
    with served(world(1)) as url:
        asking = DetectOptions(base_urls=(f"{url}/v1",))
        report = select_prompts(mixed, mixed.parent / "out.jsonl", SelectOptions(20, "words"), "any", asking)
    assert (report.chosen, report.dropped, report.usage.calls) == (7, {"not a photograph": 1}, 8)


def test_a_model_in_this_process_answers_in_the_form_that_is_asked(mixed: Path, tiny_qwen: Path) -> None:
    pytest.importorskip("llguidance")
    report = select_prompts(mixed, mixed.parent / "out.jsonl", SelectOptions(20, "words"), f"local:{tiny_qwen}")
    assert set(report.dropped) <= {"not a photograph", "unreadable"}
    assert report.usage.calls >= 8


KILLED = """
import os, signal, sys
from pathlib import Path
from anomreason.audit.prompts import selection, tagging
from anomreason.detector import DetectOptions
from anomreason.vlm.simulator.model import Simulator

folder, truth, where, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
reached = 0
def counted(before, after):
    def call(*given):
        global reached
        reached += 1
        if reached == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = before(*given)
        if reached == count and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
if where == "answer":
    tagging._Queue._keep = counted(tagging._Queue._keep, False)
else:
    selection.write_atomically = counted(selection.write_atomically, where == "written")
selection.select_prompts(
    folder / "list.jsonl", folder / "out.jsonl", selection.SelectOptions(12, "words"),
    Simulator.from_file(truth), DetectOptions(in_flight=3),
)
"""


def test_kills_at_any_moment_leave_what_an_undisturbed_run_leaves_and_nothing_is_paid_twice(
    tmp_path: Path, world: Callable[..., Path]
) -> None:
    truth = world(1)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        texts = [f"a dog and {n} cups near house {n}" for n in range(30)]
        (tmp_path / name / "list.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    select_prompts(
        tmp_path / "whole" / "list.jsonl", tmp_path / "whole" / "out.jsonl", WORDS, Simulator.from_file(truth)
    )
    folder = tmp_path / "killed"
    moments = [("answer", 5), ("answer", 9), ("write", 1), ("written", 1), ("write", 2), ("written", 2)]
    ends = exit_codes(KILLED, [(folder, truth, *moment) for moment in moments])
    assert ends == [-signal.SIGKILL] * len(moments)
    select_prompts(folder / "list.jsonl", folder / "out.jsonl", WORDS, Simulator.from_file(truth))
    for name in ("out.jsonl", "out.dropped.jsonl"):
        whole = (tmp_path / "whole" / name).read_text().replace(str(tmp_path / "whole"), "X")
        assert (folder / name).read_text().replace(str(folder), "X") == whole
    good = Counter(call.image for call in read_calls(folder / "out.work") if call.outcome == "ok")
    assert set(good.values()) == {1}
    assert len(good) == len(list(read_calls(tmp_path / "whole" / "out.work")))


def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_command(["audit", "prompts", *arguments, "--embedder", "words"], cwd=folder)


def test_the_command_says_what_it_did_and_asks_nothing_twice(mixed: Path, world: Callable[..., Path]) -> None:
    line = ("list.jsonl", "--k", "7", "--model", f"sim:{world(1)}")
    plan = _run(*line, "--dry-run", folder=mixed.parent)
    assert "8 prompts to ask about" in plan.stdout
    assert not (mixed.parent / "prompts.jsonl").exists()
    first = _run(*line, folder=mixed.parent)
    assert first.returncode == 0, first.stderr
    assert "8 prompts read, 7 chosen" in first.stdout
    assert "1  not a photograph" in first.stdout
    assert "SIMULATED" in first.stderr
    again = _run(*line, "--json", folder=mixed.parent)
    report = json.loads(again.stdout)
    assert (report["chosen"], report["usage"]["calls"]) == (7, 8)
    assert "<script>" in (mixed.parent / "prompts.jsonl").read_text()
    calls = CliRunner().invoke(app, ["calls", str(mixed.parent / "prompts.work")])
    assert re.search(r"PromptSorter +prompt-tags +8 ", calls.stdout)


def test_the_status_tells_stopped_and_failed_from_done(mixed: Path, world: Callable[..., Path]) -> None:
    line = ["audit", "prompts", str(mixed), "--embedder", "words", "--out", str(mixed.parent / "out.jsonl")]
    line += ["--model", f"sim:{world(1)}", "--retries", "0"]
    stopped = CliRunner().invoke(app, [*line, "--max-tokens", "2500", "--in-flight", "1"])
    assert stopped.exit_code == 4
    assert "left to ask about, and nothing is written yet" in stopped.output
    assert CliRunner().invoke(app, line).exit_code == 0


@pytest.mark.parametrize("option", ["--yes", "--dry-run", "--any-style", "--max-cost=1", "--base-url=http://x/v1"])
def test_options_of_the_model_are_refused_without_one(option: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["audit", "prompts", "photo-246", "--out", str(tmp_path / "o.jsonl"), option])
    assert isinstance(ran.exception, UsageError)
    assert "has no effect without --model" in str(ran.exception)


def test_nothing_is_spent_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text("[models.dear]\ninput = 100.0\ncached = 50.0\noutput = 400.0\n")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    line = ["photo-246", "--model", "dear", "--prices", "prices.toml", "--base-url", "http://127.0.0.1:9/v1"]
    ran = _run(*line, folder=tmp_path)
    assert ran.returncode == 2
    assert "246 prompts to ask about, model dear: about 246 calls" in ran.stderr
    assert "the questions are expected to cost more than $1" in ran.stderr
    assert not (tmp_path / "prompts.work" / "calls.jsonl").exists()
