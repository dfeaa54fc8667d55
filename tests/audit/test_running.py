"""Facts about a whole audit: it continues wherever it was killed, and nothing is paid for twice."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.audit.audits import write_audit, write_given, write_prompts, write_recipe, write_truth
from tests.dataset.generators.images_server import ImagesServer, images_server
from tests.forking import exit_codes

from anomreason.audit.folder import read_study
from anomreason.audit.making import images_cost
from anomreason.audit.plan import read_audit
from anomreason.audit.running import run_audit
from anomreason.audit.study import Study
from anomreason.errors import RunConflict, UsageError
from anomreason.files import read_lines
from anomreason.report.html import build_report
from anomreason.runs import read_results, read_settings
from anomreason.spread.cluster import SpreadOptions


@pytest.fixture
def server() -> Iterator[ImagesServer]:
    with images_server() as running:
        yield running


def prepare(folder: Path, server: ImagesServer, price: float | None = 0.25, head: str = "") -> Path:
    """Two recipes and one folder of given images, of which each image has 1, 2 and 3 anomalies."""
    folder.mkdir(exist_ok=True)
    write_prompts(folder)
    write_truth(folder, {"neat": 1, "rough": 2, "given": 3, "late": 4})
    for style in ("neat", "rough", "late"):
        write_recipe(folder, style, server.url, price)
    write_given(folder, "given")
    return write_audit(folder, ["neat.toml", "rough.toml", "given"], head)


def run(file: Path, watch: Callable[[str, int, int], None] = lambda step, done, total: None) -> Study:
    """Run an audit, and give what its report is made from."""
    result = run_audit(file, watch)
    study = read_study(read_audit(file).out)
    assert result.generators == study.generators
    return study


def found(study: Study) -> dict[str, Any]:
    """All that a report is made from, apart from times and places."""
    images = [(image.key, image.missing, image.path and image.path.name) for image in study.images]
    said = {
        name: {key: (one.status, one.anomalies, one.sha256) for key, one in sorted(detections.items())}
        for name, detections in study.assessments.items()
    }
    return {"images": images, "said": said, "prompts": study.prompts, "notes": study.notes}


def calls(out: Path) -> Counter[tuple[str, str, str]]:
    """Calls that the assessor answered, by image, step and outcome."""
    lines = (line for _, line in read_lines(out / "assessors" / "sim" / "calls.jsonl"))
    # One that ended as its process was killed is noted as `killed` too: it may have been charged, for all one knows.
    return Counter((line["image"], line["step"], line["outcome"]) for line in lines if line["outcome"] != "killed")


def test_an_audit_makes_the_images_has_them_assessed_and_gives_them_in_the_order_of_its_file(
    tmp_path: Path, server: ImagesServer
) -> None:
    steps: list[str] = []
    study = run(prepare(tmp_path, server), lambda step, done, total: steps.append(step))
    assert study.generators == ("neat", "rough", "given")
    assert [prompt.id for prompt in study.prompts] == ["p1", "p2", "p3"]
    assert [image.key for image in study.images[:3]] == ["neat/p1-0", "neat/p1-1", "neat/p2-0"]
    assert len(study.images) == 18
    assert all(image.missing is None and image.path and image.path.is_file() for image in study.images)
    counts = {key.split("/")[0]: len(one.anomalies) for key, one in study.assessments["sim"].items()}
    assert counts == {"neat": 1, "rough": 2, "given": 3}
    assert len(study.assessments["sim"]) == 18
    assert (study.simulated, study.notes) == (True, ())
    assert list(dict.fromkeys(steps)) == ["images", "sim"]
    assert len(server.requests) == 12


def test_the_run_of_an_assessor_is_a_run_like_any_other_and_its_report_finds_the_images(
    tmp_path: Path, server: ImagesServer
) -> None:
    run(prepare(tmp_path, server))
    assessor = tmp_path / "audit" / "assessors" / "sim"
    root = assessor.parent / read_settings(assessor)["root"]
    assert all((root / name).is_file() for name in read_results(assessor))
    page = build_report(assessor).read_text()
    assert "given/p1-0" in page
    assert "the file is missing" not in page


def test_a_prompt_is_assessed_in_all_generators_before_the_next_one(tmp_path: Path, server: ImagesServer) -> None:
    """So that what a limit on the cost leaves is a fair comparison."""
    run(prepare(tmp_path, server))
    order = list(read_results(tmp_path / "audit" / "assessors" / "sim"))
    assert [key.partition("/")[2] for key in order[:6]] == ["p1-0"] * 3 + ["p1-1"] * 3


def test_the_same_call_again_asks_nothing(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    first, asked, sent = run(file), len(server.requests), calls(tmp_path / "audit")
    assert found(run(file)) == found(first)
    assert (len(server.requests), calls(tmp_path / "audit")) == (asked, sent)


def test_a_further_generator_costs_its_own_images_alone(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    before, sent = run(file), calls(tmp_path / "audit")
    server.requests.clear()
    file.write_text(file.read_text().replace("[[assessors]]", '[[generators]]\nrecipe = "late.toml"\n[[assessors]]'))
    after = run(file)
    assert {request["model"] for request in server.requests} == {"style late"}
    assert len(server.requests) == 6
    new = calls(tmp_path / "audit") - sent
    assert len(new) == 6
    assert {image.partition("/")[0] for image, _, _ in new} == {"late"}
    assert {k: v for k, v in after.assessments["sim"].items() if not k.startswith("late")} == before.assessments["sim"]


def test_more_prompts_seeds_and_fewer_of_them_pay_for_what_is_new_alone(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server, head="limit = 1\nseeds = [0]\n")
    one = run(file)
    assert (len(one.images), len(server.requests)) == (3, 2)
    whole = run(prepare_again(file, ""))
    assert (len(whole.images), len(server.requests)) == (18, 12)
    back = run(prepare_again(file, "limit = 1\nseeds = [0]\n"))
    assert found(back)["said"] == found(one)["said"]
    assert len(server.requests) == 12
    assert sum(calls(tmp_path / "audit").values()) == 18


def prepare_again(file: Path, head: str) -> Path:
    lines = file.read_text().partition("\n[[generators]]")
    file.write_text(f'prompts = "prompts.jsonl"\n{head}{lines[1]}{lines[2]}')
    return file


def test_images_that_are_missing_are_there_with_their_reason(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    texts = ("refused", "black", "empty", "a cup")
    write_prompts(tmp_path, texts)
    write_truth(tmp_path, {"neat": 1, "rough": 1, "given": 1}, texts)
    (tmp_path / "given" / "manifest.csv").write_text("file_name,prompt,seed\na-cup-0.png,p4,0\n")
    study = run(file)
    missing = {image.key: image.missing for image in study.images if image.seed == 0}
    reasons = {"p1": "refused", "p2": "blank", "p3": "failed", "p4": None}
    assert missing == {
        **{f"{generator}/{prompt}-0": why for generator in ("neat", "rough") for prompt, why in reasons.items()},
        **{f"given/{prompt}-0": "not given" for prompt in ("p1", "p2", "p3")},
        "given/p4-0": None,
    }
    assert set(study.assessments["sim"]) == {"neat/p4-0", "neat/p4-1", "rough/p4-0", "rough/p4-1", "given/p4-0"}
    run(file)
    asked = Counter(request["prompt"] for request in server.requests)
    assert asked == {"refused": 4, "black": 4, "empty": 8, "a cup": 4}, "only failures are tried again"


def test_a_failed_assessment_is_a_failure_and_is_tried_again(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    text = file.read_text()
    out = tmp_path / "audit"
    file.write_text(text.replace("in_flight = 1", "in_flight = 1\nmax_tokens = 1"))
    study = run(file)
    kinds = Counter(one.failure.kind if one.failure else "ok" for one in study.assessments["sim"].values())
    assert 0 < kinds["budget"] + kinds["ok"] < 18
    file.write_text(text)
    assert Counter(one.status for one in run(file).assessments["sim"].values()) == {"ok": 18}
    assert set(calls(out).values()) == {1}


def test_a_file_that_was_replaced_is_assessed_anew_and_its_old_result_counts_no_more(
    tmp_path: Path, server: ImagesServer
) -> None:
    file = prepare(tmp_path, server)
    run(file)
    image = tmp_path / "given" / "a-cup-0.png"
    image.write_bytes((tmp_path / "known" / "late-a-cup-0.png").read_bytes())
    assert "given/p1-0" not in read_study(tmp_path / "audit").assessments["sim"]
    assert len(run(file).assessments["sim"]["given/p1-0"].anomalies) == 4


def test_the_limit_on_the_cost_holds_over_images_and_assessors(tmp_path: Path, server: ImagesServer) -> None:
    """Twelve images at 25 cents; the simulator costs nothing."""
    study = run(prepare(tmp_path, server, head="max_cost = 2.0\n"))
    assert len(server.requests) == 8
    assert Counter(image.missing for image in study.images) == {None: 14, "not made": 4}
    assert len(study.assessments["sim"]) == 14


def test_other_settings_of_a_generator_or_assessor_are_refused(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    run(file)
    text = file.read_text()
    file.write_text(text.replace('schedule = "single"', 'schedule = "lean"'))
    with pytest.raises(RunConflict, match=r"schedule: 'single' there, 'lean' now"):
        run(file)
    file.write_text(text)
    write_recipe(tmp_path, "neat", server.url, 0.25, '[settings]\nquality = "high"\n')
    with pytest.raises(RunConflict, match="'neat' made images here with other settings"):
        run(file)


def test_an_audit_can_be_run_from_any_folder(
    tmp_path: Path, server: ImagesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = prepare(tmp_path, server)
    first = run(file)
    monkeypatch.chdir(tmp_path)
    assert found(run(Path("audit.toml"))) == found(first)
    assert len(server.requests) == 12
    study = read_study(Path("audit"))
    assert all(image.path and image.path.is_file() for image in study.images)


def test_images_that_are_the_same_are_named(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    known = tmp_path / "known"
    for name in ("a-cup-0.png", "a-cup-1.png"):
        (tmp_path / "given" / name).write_bytes((known / "neat-a-dog-0.png").read_bytes())
    notes = run(file).notes
    assert any(note.startswith("given: 1 image repeats another of its own, byte for byte") for note in notes)


KILLED = """
import os, signal, sys
from anomreason.audit.plan import read_audit
from anomreason.audit.running import run_audit

file, step, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
def watch(now, done, total):
    if now == step and done == count:
        os.kill(os.getpid(), signal.SIGKILL)
run_audit(file, watch)
"""


def test_kills_at_any_step_leave_what_an_undisturbed_audit_leaves_and_pay_nothing_twice(
    tmp_path: Path, server: ImagesServer
) -> None:
    whole = run(prepare(tmp_path / "whole", server))
    undisturbed, sent = len(server.requests), calls(tmp_path / "whole" / "audit")
    server.requests.clear()
    file = prepare(tmp_path / "killed", server)
    # Before the first image, between images of either generator, after the last image; the same of assessments, whose
    # last kill is before the report.
    moments = [("images", n) for n in (0, 4, 3, 5)] + [("sim", n) for n in (1, 9, 8)]
    ends = exit_codes(KILLED, [(file, *moment) for moment in moments])
    assert ends == [-signal.SIGKILL] * len(moments)
    killed = run(file)
    assert len(server.requests) == undisturbed == 12
    assert calls(tmp_path / "killed" / "audit") == sent
    assert found(killed) == found(whole)
    results = [(tmp_path / name / "audit" / "audit.json").read_text() for name in ("whole", "killed")]
    assert results[0] == results[1]


KILLED_IN_A_CALL = """
import itertools, os, signal, sys
from anomreason.audit.running import run_audit
from anomreason.vlm.ledger import Ledger

count, record, calls = int(sys.argv[2]), Ledger.record, itertools.count(1)
def killed(ledger, call):
    record(ledger, call)
    if next(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.record = killed
run_audit(sys.argv[1])
"""


def test_a_kill_between_the_calls_for_an_image_loses_none_of_their_answers(
    tmp_path: Path, server: ImagesServer
) -> None:
    file = prepare(tmp_path / "whole", server)
    lean = (
        file.read_text().replace('schedule = "single"', 'schedule = "lean"').replace("in_flight = 1", "in_flight = 3")
    )
    file.write_text(lean)
    whole, sent = run(file), calls(tmp_path / "whole" / "audit")
    file = prepare(tmp_path / "killed", server)
    file.write_text(lean)
    assert exit_codes(KILLED_IN_A_CALL, [(file, count) for count in (2, 7, 20)]) == [-signal.SIGKILL] * 3
    assert found(run(file)) == found(whole)
    assert calls(tmp_path / "killed" / "audit") == sent


def test_a_kill_while_an_image_is_on_its_way_pays_for_that_one_again_and_says_so(
    tmp_path: Path, server: ImagesServer
) -> None:
    file = prepare(tmp_path, server)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(file), "never", "0"])

    def arrived(count: int) -> None:
        if count == 5:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    server.arrived = arrived
    assert process.wait() == -signal.SIGKILL
    run(file)
    asked = Counter((request["model"], request["prompt"], request["seed"]) for request in server.requests)
    assert sorted(asked.values()) == [1] * 11 + [2]
    assert images_cost(tmp_path / "audit") == 13 * 0.25


def test_an_audit_whose_assessors_cannot_be_spread_makes_no_image(tmp_path: Path, server: ImagesServer) -> None:
    file = prepare(tmp_path, server)
    with pytest.raises(UsageError, match="99 workers share"):
        run_audit(file, spread=SpreadOptions(workers=99))
    assert not server.requests


def test_an_audit_inside_an_event_loop_says_what_to_do(tmp_path: Path) -> None:
    async def inside() -> None:
        run_audit(tmp_path / "audit.toml")

    with pytest.raises(UsageError, match=r"await asyncio.to_thread\(run_audit"):
        asyncio.run(inside())
