"""Facts about runs as a user types them: killed, resumed, capped, interrupted, faulty servers, odd files."""

import ast
import inspect
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest
from PIL import Image
from tests.forking import Command, run_command
from tests.simulating import simulating

import anomreason
from anomreason import DetectOptions, RunPlan, detect, detect_async, plan
from anomreason.anomaly import Detection
from anomreason.cli.detect import command as detect_command
from anomreason.detector import DetectArguments, set_up
from anomreason.errors import UsageError
from anomreason.runs import read_results, read_settings
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.simulator.model import Simulator

World = Callable[..., Path]
Served = Callable[..., AbstractContextManager[str]]
KEY = "sk-very-secret-0123456789"


def command(inputs: Sequence[str | Path], run: Path, *options: str) -> list[str]:
    return ["detect", *map(str, inputs), "--run", str(run), "--no-report", "--yes", *options]


def detect_cli(inputs: Sequence[str | Path], run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "COLUMNS": "200"}
    return run_command(command(inputs, run, *options), environment)


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        value: dict[str, Any] = json.load(answer)
    return value


def essence(run: Path) -> dict[str, dict[str, Any]]:
    """Results without what may differ between two runs of the same thing: time and use."""
    dropped = {"usage", "seconds", "file_mtime"}
    return {k: d.model_dump(exclude=dropped) for k, d in sorted(read_results(run).items())}


@pytest.mark.slow
def test_kill_minus_nine_loses_nothing_and_pays_for_nothing_twice(world: World, tmp_path: Path) -> None:
    truth, in_flight = world(16), 8
    faults = {"latency": 0.03, "malformed": 0.03, "rate_limited": 0.03, "server_errors": 0.02, "misses": 0.1}
    options = ("--model", "m", "--schedule", "paper", "--max-objects", "3", "--in-flight", str(in_flight))
    with simulating(truth, **faults) as server:
        whole = detect_cli([truth.parent], tmp_path / "whole", *options, "--base-url", f"{server.url}/v1")
        undisturbed = stats(server.url)
    assert whole.returncode in (0, 3)
    rng = random.Random(5)
    with simulating(truth, **faults) as server:
        again = command([truth.parent], tmp_path / "killed", *options, "--base-url", f"{server.url}/v1")
        for part in (1, 2):
            process = Command(again)
            server.at(int(undisturbed["requests"] * (part - rng.random() / 2) / 3), process.kill)
            assert process.wait() == -signal.SIGKILL
        last = detect_cli([truth.parent], tmp_path / "killed", *options, "--base-url", f"{server.url}/v1")
        asked = stats(server.url)
    assert last.returncode == whole.returncode
    assert essence(tmp_path / "killed") == essence(tmp_path / "whole")
    assert len(essence(tmp_path / "killed")) == 16
    recorded = [json.loads(line)["image"] for line in (tmp_path / "killed" / "results.jsonl").read_text().splitlines()]
    again_after_failing = {i for i, d in read_results(tmp_path / "killed").items() if d.failure}
    assert {i for i, n in Counter(recorded).items() if n > 1} <= again_after_failing
    print(f"calls: undisturbed {undisturbed}, with 2 kills {asked}")
    # Not all requests: a call that a kill found waiting after a 429 or a 500 starts anew, and fails anew.
    assert asked["outcomes"]["ok"] <= undisturbed["outcomes"]["ok"] + 2 * in_flight


@pytest.mark.slow
def test_with_a_faulty_server_every_image_ends_and_the_counts_agree(
    world: World, served: Served, tmp_path: Path
) -> None:
    truth = world(30)
    faults = ("--malformed", "0.05", "--rate-limited", "0.05", "--server-errors", "0.02", "--hangs", "0.005")
    options = ("--model", "m", "--schedule", "paper", "--max-objects", "4", "--timeout", "15", "--in-flight", "16")
    with served(truth, *faults) as url:
        ran = detect_cli([truth.parent], tmp_path / "run", *options, "--base-url", f"{url}/v1")
        served_stats = stats(url)
    results = read_results(tmp_path / "run")
    assert len(results) == 30
    assert {d.failure.kind for d in results.values() if d.failure} <= {"unparsable"}
    assert ran.returncode == (3 if any(d.failure for d in results.values()) else 0)
    ledger = Counter(c.outcome for c in read_calls(tmp_path / "run"))
    server = served_stats["outcomes"]
    assert ledger.total() == served_stats["requests"]
    assert ledger["rate_limit"] == server["rate_limit"] > 0
    assert ledger["server"] == server["server"] > 0
    assert ledger["timeout"] == server["hang"] > 0
    assert ledger["ok"] + ledger["unparsable"] == server["ok"] + server["malformed"]
    assert ledger["unparsable"] <= server["malformed"]
    print(dict(ledger), server)


@pytest.mark.parametrize(("rate", "kind"), [("--refused", "refused"), ("--truncated", "truncated")])
def test_refused_and_cut_replies_end_as_such(
    world: World, served: Served, tmp_path: Path, rate: str, kind: str
) -> None:
    truth = world(1)
    small = ("--max-reply-tokens", "16") if kind == "truncated" else ()
    with served(truth, rate, "1") as url:
        ran = detect_cli([truth.parent], tmp_path / "run", "--model", "m", "--base-url", f"{url}/v1", *small)
    failure = read_results(tmp_path / "run")["p000.png"].failure
    if kind == "refused":
        assert ran.returncode == 3
        assert failure is not None
        assert failure.kind == "refused"
    else:
        assert failure is None  # a larger cap mends it
        assert Counter(c.outcome for c in read_calls(tmp_path / "run"))["length"] >= 1


def test_files_that_are_no_pictures_are_failures_and_the_others_are_done(world: World, tmp_path: Path) -> None:
    truth = world(2)
    folder = truth.parent
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "p000.png").read_bytes()[:90])
    odd = "it's \"<b>#1 50%.png"
    Image.open(folder / "p001.png").save(folder / odd)
    ran = detect_cli([folder], tmp_path / "run", "--model", f"sim:{truth}")
    results = read_results(tmp_path / "run")
    assert ran.returncode == 3
    failures = {k: d.failure.kind for k, d in results.items() if d.failure}
    assert failures == dict.fromkeys(("text.jpg", "empty.png", "cut.png"), "unreadable_image")
    assert len(results[odd].anomalies) == 4
    assert "3 unreadable_image" in ran.stdout


def test_the_same_command_again_does_nothing_and_says_so(world: World, tmp_path: Path) -> None:
    truth = world(2)
    options = (tmp_path / "run", "--model", f"sim:{truth}")
    first = detect_cli([truth.parent], *options)
    calls = len(list(read_calls(tmp_path / "run")))
    second = detect_cli([truth.parent], *options)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "2 of 2 images already processed" in second.stderr
    assert first.stdout == second.stdout
    assert len(list(read_calls(tmp_path / "run"))) == calls == 8


def test_a_run_begun_before_there_were_cut_outs_says_so_and_goes_on_without_them(world: World, tmp_path: Path) -> None:
    truth = world(1)
    options = (tmp_path / "run", "--model", f"sim:{truth}")
    assert detect_cli([truth.parent], *options, "--crops", "never").returncode == 0
    settings = read_settings(tmp_path / "run")["settings"]
    assert not {name for name in (*settings, *settings["prompts"]) if "cutout" in name or "crops" in name}
    with_them = detect_cli([truth.parent], *options)
    assert with_them.returncode == 2
    assert "crops: 'never' there, 'auto' now" in " ".join(with_them.stderr.split())
    assert "1 of 1 images already processed" in detect_cli([truth.parent], *options, "--crops", "never").stderr


def test_a_run_begun_before_parts_were_asked_for_is_told_apart_and_its_results_are_read(
    world: World, tmp_path: Path
) -> None:
    truth, run = world(1), tmp_path / "run"
    known = json.loads(truth.read_text())
    known["p000.png"]["objects"][0]["parts"] = [{"name": "left hand", "box": [0.02, 0.2, 0.08, 0.3]}]
    truth.write_text(json.dumps(known))
    options = (run, "--model", f"sim:{truth}")
    assert detect_cli([truth.parent], *options).returncode == 0
    record = json.loads((run / "run.json").read_text())
    del record["settings"]["prompts"]["cutout-parts"]
    (run / "run.json").write_text(json.dumps(record))
    line = json.loads((run / "results.jsonl").read_text())
    assert [part["name"] for one in line["objects"] for part in one.pop("parts", ())] == ["left hand"]
    (run / "results.jsonl").write_text(json.dumps(line) + "\n")
    [read] = read_results(run).values()
    assert {one.parts for one in read.objects} == {()}
    again = detect_cli([truth.parent], *options)
    assert again.returncode == 2
    assert "prompts.cutout-parts: None there, 'v1" in " ".join(again.stderr.split())


@pytest.mark.parametrize(
    ("model", "options", "crops"),
    [
        ("gpt-4o", {}, "auto"),
        ("gpt-4o", {"crops": "always"}, "always"),
        ("gpt-4o", {"schedule": "paper"}, "never"),
        ("local:FOLDER", {}, "never"),
        ("local:FOLDER", {"crops": "always"}, "always"),
    ],
)
def test_cut_outs_are_shown_where_they_help(model: str, options: dict[str, Any], crops: str, tmp_path: Path) -> None:
    model = model.replace("FOLDER", str(tmp_path))
    assert set_up(model, DetectOptions.of(options), options).options.crops == crops


def test_a_changed_picture_is_looked_at_again_and_a_touched_one_is_not(world: World, tmp_path: Path) -> None:
    truth = world(2)
    options = (tmp_path / "run", "--model", f"sim:{truth}", "--schedule", "single")
    detect_cli([truth.parent], *options)
    os.utime(truth.parent / "p001.png")
    entries = json.loads(truth.read_text())
    Image.open(truth.parent / "p000.png").rotate(90).save(truth.parent / "p000.png")
    truth.write_text(json.dumps(entries))
    again = detect_cli([truth.parent], *options)
    assert "1 of 2 images already processed" in again.stderr
    assert Counter(c.image for c in read_calls(tmp_path / "run")) == {"p000.png": 2, "p001.png": 1}


def test_a_cap_stops_cleanly_and_a_higher_one_continues(world: World, served: Served, tmp_path: Path) -> None:
    truth = world(6)
    with served(truth) as url:
        options = ("--model", "m", "--base-url", f"{url}/v1", "--in-flight", "16")
        dear = detect_cli([truth.parent], tmp_path / "run", *options, "--max-cost", "1")
        assert dear.returncode == 2
        assert "--max-tokens" in dear.stderr
        capped = detect_cli([truth.parent], tmp_path / "run", *options, "--max-tokens", "40000")
        used = sum(c.prompt_tokens + c.completion_tokens for c in read_calls(tmp_path / "run"))
        assert capped.returncode == 4
        assert 0 < used <= 40000
        assert {d.failure.kind for d in read_results(tmp_path / "run").values() if d.failure} <= {"budget"}
        more = detect_cli([truth.parent], tmp_path / "run", *options, "--max-tokens", "1000000")
        asked = stats(url)["requests"]
    assert more.returncode == 0
    assert all(d.status == "ok" for d in read_results(tmp_path / "run").values())
    assert asked == len(list(read_calls(tmp_path / "run"))) == 6 * 4


def test_the_plan_says_how_many_images_a_limit_will_finish(world: World, tmp_path: Path) -> None:
    folder = world(10).parent
    free = anomreason.plan([folder], model="gpt-4o")
    assert free.fitting is None
    an_image = free.usual.usage
    assert an_image.cost is not None
    assert anomreason.plan([folder], model="gpt-4o", max_tokens=an_image.tokens * 4 // 10 + 1).fitting == 4
    assert anomreason.plan([folder], model="gpt-4o", max_cost=an_image.cost * 100).fitting == 10
    dry = detect_cli([folder], tmp_path / "run", "--model", "gpt-4o", "--max-tokens", "100", "--dry-run")
    assert "expected to finish 0 of them" in dry.stdout


def test_ctrl_c_keeps_what_is_paid_for_and_the_same_command_continues(world: World, tmp_path: Path) -> None:
    truth = world(6)
    with simulating(truth, latency=0.1) as server:
        options = ("--model", "m", "--base-url", f"{server.url}/v1", "--in-flight", "2")
        first = Command(command([truth.parent], tmp_path / "run", *options))
        server.at(7, lambda: first.send_signal(signal.SIGINT))
        _, said = first.communicate()
        assert first.wait() == 130
        assert "The same command continues" in said
        assert detect_cli([truth.parent], tmp_path / "run", *options).returncode == 0
        assert server.requests == 6 * 4
    results = read_results(tmp_path / "run")
    assert all(d.status == "ok" for d in results.values())
    calls = list(read_calls(tmp_path / "run"))
    for name, detection in results.items():
        mine = [c for c in calls if c.image == name]
        assert detection.usage.calls == len(mine), "calls before the interruption count for the image too"
        assert detection.usage.tokens == sum(c.usage.tokens for c in mine)


def test_keys_are_never_written(world: World, served: Served, tmp_path: Path) -> None:
    truth = world(1)
    with served(truth) as url:
        for secret in (
            f"http://user:pa55word@{url.removeprefix('http://')}/v1",
            "user:pa55word@h/v1",
            f"{url}/v1#t0ken",
        ):
            refused = detect_cli([truth.parent], tmp_path / "run", "--model", "m", "--base-url", secret)
            assert refused.returncode == 2
            assert "pa55word" not in refused.stderr
            assert not (tmp_path / "run").exists()
        told = ("--base-url", f"{url}/v1?token=t0ken", "--api-key-env", "OPENAI_API_KEY")
        assert detect_cli([truth.parent], tmp_path / "run", "--model", "m", *told).returncode == 0
    assert (tmp_path / "run" / "calls.jsonl").exists()
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(s.encode() in data for s in (KEY, "pa55word", "t0ken")), file


def test_run_json_says_what_was_asked_with_what(world: World, tmp_path: Path) -> None:
    truth = world(1)
    detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--seed", "7")
    record = read_settings(tmp_path / "run")
    assert record["settings"]["seed"] == 7
    assert record["settings"]["model"] == f"sim:{truth}"
    assert re.fullmatch(r"v\d+ [0-9a-f]{16}", record["settings"]["prompts"]["common"])
    assert record["root"] == str(truth.parent)
    assert record["versions"]["anomreason"]
    assert record["arguments"]["in_flight"] == 32


def test_json_prints_json_only(world: World, tmp_path: Path) -> None:
    truth = world(2)
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--json")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sorted(line["image"] for line in lines) == ["p000.png", "p001.png"]
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nowhere.jpg", "--model", "sim:x.json"], "'nowhere.jpg' does not exist"),
        (["*.nothing", "--model", "sim:x.json"], "matches no file"),
        ([".", "--model", "sim:missing.json"], "holds no images"),
        (["{p}", "--model", "sim:missing.json"], "missing.json"),
        (["{p}", "--model", "gpt-4o"], "OPENAI_API_KEY"),
        (["{p}", "--model", "local:/nowhere"], "/nowhere"),
        (["{p}", "--model", "m", "--base-url", "nonsense"], "nonsense"),
        (["{p}", "--model", "sim:x.json", "--schedule", "fast"], "schedule"),
        (["{p}", "--model", "sim:x.json", "--max-objects", "0"], "max_objects must be at least 1"),
        (["{p}", "--model", "sim:x.json", "--prompts", "nowhere"], "nowhere"),
        (["{p}", "--model", ""], "model"),
    ],
)
def test_wrong_use_is_said_in_one_line_with_status_two(
    world: World, tmp_path: Path, options: list[str], says: str
) -> None:
    picture = str(world(1).parent / "p000.png")
    arguments = [o.format(p=picture) for o in options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    ran = run_command(["detect", *arguments, "--run", str(tmp_path / "run")], environment, tmp_path)
    assert ran.returncode == 2
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_other_settings_in_a_run_folder_are_refused(world: World, tmp_path: Path) -> None:
    truth = world(1)
    detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}")
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--schedule", "single")
    assert ran.returncode == 2
    assert "schedule: 'lean' there, 'single' now" in ran.stderr


def test_before_much_is_spent_without_a_terminal_yes_is_needed(world: World, served: Served, tmp_path: Path) -> None:
    truth = world(6)
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."m"]\ninput = 1000.0\ncached = 1.0\noutput = 1000.0\n')
    with served(truth) as url:
        asked = command([truth.parent], tmp_path / "run", "--model", "m", "--base-url", f"{url}/v1")
        asked = [a for a in asked if a != "--yes"] + ["--prices", str(prices)]
        ran = run_command(asked)
        assert stats(url)["requests"] == 0
    assert ran.returncode == 2
    assert "add --yes" in ran.stderr
    assert "6 images, schedule lean, model m: about 24 calls" in ran.stderr


def test_one_file_gives_a_detection_and_many_a_list(world: World, tmp_path: Path) -> None:
    truth = world(2)
    model = f"sim:{truth}"
    one = detect(truth.parent / "p000.png", model=model, schedule="single")
    assert isinstance(one, Detection)
    assert len(one.anomalies) == 4
    many = detect([truth.parent], model=model, run=tmp_path / "run", schedule="single")
    assert [d.image for d in many] == ["p000.png", "p001.png"]
    assert detect([truth.parent], model=model, run=tmp_path / "run", schedule="single") == many


def test_python_says_what_is_wrong(world: World) -> None:
    truth = world(1)
    with pytest.raises(UsageError, match="detect\\(\\['"):
        detect(truth.parent, model=f"sim:{truth}")
    with pytest.raises(UsageError, match="'scheduel'; did you mean 'schedule'"):
        detect(truth.parent / "p000.png", model=f"sim:{truth}", **cast(Any, {"scheduel": "lean"}))
    with pytest.raises(UsageError, match="'base_url'; did you mean 'base_urls'"):
        plan(truth.parent / "p000.png", model=f"sim:{truth}", **cast(Any, {"base_url": "http://127.0.0.1:1/v1"}))
    with pytest.raises(UsageError, match="schedule"):
        detect(truth.parent / "p000.png", model=f"sim:{truth}", schedule=cast(Any, "fast"))


def test_the_command_line_has_the_defaults_of_the_python_api() -> None:
    defaults = {name: p.default for name, p in inspect.signature(detect_command).parameters.items()}
    defaults["base_urls"] = tuple(defaults.pop("base_url") or ())
    assert {f.name: f.default for f in fields(DetectOptions)} == {
        f.name: defaults[f.name] for f in fields(DetectOptions)
    }


def test_the_options_of_the_command_line_reach_the_detector(world: World, tmp_path: Path) -> None:
    truth = world(1)
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    shutil.copy(Path(anomreason.__file__).parent / "agent" / "prompts" / "source.md", prompts)
    numbers = {"max_objects": 3, "temperature": 0.25, "spread": 0.5, "seed": 7, "max_reply_tokens": 512, "in_flight": 2}
    numbers["source_samples"] = 3
    given = {"schedule": "release", "boxes": "fractions", **numbers, "prompts": prompts}
    flags = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    flags += ["--judge-source", "--two-turns", "--outside", "--abstain", "0.25", "0.75"]
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", *flags)
    assert ran.returncode == 0, ran.stderr
    recorded = read_settings(tmp_path / "run")["arguments"]
    expected = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    expected |= {"judge_source": True, "two_turns": True, "outside": True, "abstain": [0.25, 0.75]}
    assert {name: recorded[name] for name in expected} == expected


def test_the_arguments_that_an_editor_completes_are_the_options() -> None:
    arguments, options = get_type_hints(DetectArguments), get_type_hints(DetectOptions)
    wider = {"base_urls": str | Sequence[str]} | dict.fromkeys(("prompts", "card", "prices"), str | Path | None)
    assert arguments == {name: wider.get(name, of) for name, of in options.items()}
    assert list(inspect.signature(detect).parameters) == list(inspect.signature(detect_async).parameters)


def test_the_version_is_that_of_the_program() -> None:
    ran = subprocess.run([sys.executable, "-m", "anomreason", "--version"], capture_output=True, text=True)
    assert ran.stdout.strip() == f"anomreason {anomreason.__version__}"


def test_a_dry_run_can_be_read_as_json(world: World, tmp_path: Path) -> None:
    truth = world(2)
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--dry-run", "--json")
    assert RunPlan.model_validate_json(ran.stdout) == plan([truth.parent], model=f"sim:{truth}")


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("sim:{t}", {"max_objects": 41}, "max_objects must be at most 40"),
        ("tiny", {"judge_source": True}, "leave judge_source (--judge-source) out"),
        ("local:tiny+{f}", {"judge_source": True}, "leave judge_source (--judge-source) out"),
        ("tiny", {"schedule": "lean"}, "use the schedule single"),
        ("tiny+small", {}, "local:tiny+small"),
        ("tiny", {"max_side": 1536}, "max_side (--max-side) has no effect with 'tiny'"),
        ("tiny", {"timeout": 5.0}, "timeout (--timeout) has no effect"),
        ("tiny", {"base_urls": "http://127.0.0.1:1/v1"}, "base_urls (--base-url) has no effect"),
        ("tiny", {"max_cost": 5.0}, "max_cost (--max-cost) has no effect with 'tiny', which costs nothing"),
        ("gpt-4o", {"crops": "auto", "schedule": "single"}, "crops (--crops) has no effect with the schedule single"),
        ("gpt-4o", {"crops": "never", "schedule": "paper"}, "crops (--crops) has no effect with the schedule paper"),
        ("tiny", {"max_objects": 12}, "max_objects (--max-objects) has no effect with the schedule single"),
        ("tiny", {"prompts": "{f}"}, "prompts (--prompts) has no effect"),
        ("tiny", {"card": "{f}"}, "card (--card) has no effect"),
        ("gpt-4o", {"device": "cpu"}, "device (--device) has no effect with 'gpt-4o', which runs on a server"),
        ("sim:{t}", {"dtype": "float32"}, "dtype (--dtype) has no effect"),
        ("sim:{t}", {"spread": 0.7}, "spread (--spread) has no effect with the schedule lean"),
        ("gpt-4o", {"card": "{f}", "max_objects": 3}, "max_objects (--max-objects) has no effect"),
    ],
)
def test_an_option_without_effect_is_refused_not_ignored(
    world: World, tmp_path: Path, model: str, options: dict[str, Any], says: str
) -> None:
    truth = world(1)
    (tmp_path / "anomreason.json").write_text('{"prompt": "What is odd?"}')
    (tmp_path / "common.md").write_text("---\nversion: 1\n---\nLook.")
    places = {"{f}": str(tmp_path)}
    options = {name: places.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(UsageError, match=re.escape(says)):
        detect(truth.parent / "p000.png", model=model.format(t=truth, f=tmp_path), **cast(Any, options))


def test_the_command_refuses_an_option_without_effect_also_with_its_default(world: World, tmp_path: Path) -> None:
    image = world(1).parent / "p000.png"
    refused = detect_cli([image], tmp_path / "run", "--model", "tiny", "--max-side", "1536")
    assert refused.returncode == 2
    assert refused.stderr.endswith(
        "max_side (--max-side) has no effect with 'tiny', which runs in this process; leave it out\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_fine_tuned_detector_is_asked_its_own_question_unless_another_schedule_is_named(
    world: World, tmp_path: Path
) -> None:
    image, base, adapter = world(1).parent / "p000.png", tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    assert plan(image, model=f"local:{base}").schedule == "lean"
    (adapter / "anomreason.json").write_text('{"prompt": "What is odd?"}')
    assert plan(image, model=f"local:{base}").schedule == "lean"
    assert plan(image, model=f"local:{base}+{adapter}").schedule == "single"
    assert plan(image, model=f"local:{base}+{adapter}", schedule="lean").schedule == "lean"


READS = """
import collections, os, sys
reads = collections.Counter()

def count(event, arguments):
    if event == "open" and not isinstance(arguments[0], int) and arguments[2] & os.O_ACCMODE == os.O_RDONLY:
        reads[os.path.basename(os.fsdecode(arguments[0]))] += 1

sys.addaudithook(count)
from anomreason.cli import main
try:
    main()
finally:
    print({name: reads[name] for name in ("common.md", "anomreason.json", "results.jsonl")}, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        (("--model", "m", "--card", "{f}", "--dry-run"), {"common.md": 1, "anomreason.json": 1}),
        (("--model", "sim:{t}", "--report"), {"common.md": 1, "results.jsonl": 3}),  # summary, report, its hash
    ],
)
def test_a_command_reads_each_prompt_and_the_card_once(
    world: World, tmp_path: Path, options: tuple[str, ...], reads: dict[str, int]
) -> None:
    truth = world(1)
    (tmp_path / "anomreason.json").write_text('{"prompt": "What is odd?"}')
    asked = [o.format(t=truth, f=tmp_path) for o in options]
    ran = subprocess.run(
        [sys.executable, "-c", READS, *command([truth.parent / "p000.png"], tmp_path / "run", *asked)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    counted = ast.literal_eval(ran.stderr.splitlines()[-1])
    assert {name: counted[name] for name in reads} == reads


def test_a_model_that_cannot_be_opened_leaves_no_file_open(world: World, tmp_path: Path) -> None:
    truth = world(1)

    def attempt() -> None:
        with pytest.raises(UsageError, match="nowhere"):
            detect([truth.parent], model="sim:/nowhere.json", run=tmp_path / "run")

    attempt()
    before = len(os.listdir("/proc/self/fd"))
    attempt()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_run_inside_the_searched_folder_is_not_searched(world: World, tmp_path: Path) -> None:
    truth = world(2)
    where = truth.parent
    for _ in range(2):
        for inputs in ([where], [f"{where}/**/*.png"]):
            environment = {**os.environ, "COLUMNS": "200"}
            ran = run_command(["detect", *inputs, "--model", f"sim:{truth}"], environment, where)
            assert ran.returncode == 0
            assert "2 images: 2 done" in ran.stdout


def test_a_name_that_is_not_utf8_is_detected_and_reported(world: World, tmp_path: Path) -> None:
    truth = world(1)
    odd = os.fsencode(truth.parent) + b"/\xff\xfe\x1b[31m.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((truth.parent / "p000.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    ran = detect_cli([os.fsdecode(odd)], tmp_path / "run", "--model", f"sim:{truth}")
    assert ran.returncode == 0, ran.stderr
    (detection,) = read_results(tmp_path / "run").values()
    assert len(detection.anomalies) == 4
    assert "\x1b" not in ran.stdout + ran.stderr
    assert not [p for p in (tmp_path / "run").iterdir() if p.suffix == ".part"]


def test_what_a_model_says_cannot_steer_the_terminal(world: World, tmp_path: Path) -> None:
    truth = world(1)
    entries = json.loads(truth.read_text())
    entries["p000.png"]["anomalies"][0]["name"] = "\x1b]0;owned\x07 \u202egnp [bold]x[/bold]"
    truth.write_text(json.dumps(entries))
    ran = detect_cli([truth.parent / "p000.png"], tmp_path / "run", "--model", f"sim:{truth}")
    assert "\\x1b]0;owned\\x07 \\u202egnp [bold]x[/bold]" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_clean_and_failed_images_differ_in_every_line_of_json(world: World, tmp_path: Path) -> None:
    truth = world(3)
    (truth.parent / "zz.png").write_text("x")
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--json")
    lines = {line["image"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert lines["p002.png"]["anomalies"] == []
    assert "anomalies" not in lines["zz.png"]
    assert lines["zz.png"]["status"] == "failed"
    stored = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert {line["image"]: line for line in stored} == lines


def test_a_dry_run_counts_what_is_left(world: World, tmp_path: Path) -> None:
    truth = world(3)
    options = (tmp_path / "run", "--model", f"sim:{truth}")
    before = detect_cli([truth.parent], *options, "--dry-run")
    assert "3 images, schedule lean" in before.stdout
    assert "about 15 seconds" in before.stdout
    assert not (tmp_path / "run").exists()
    detect_cli([truth.parent], *options, "--limit", "2")
    after = detect_cli([truth.parent], *options, "--dry-run")
    assert "2 of 3 images already processed" in after.stdout
    assert "1 image, schedule lean" in after.stdout


def test_a_cap_that_is_too_small_says_how_much_it_takes(world: World, served: Served, tmp_path: Path) -> None:
    truth = world(1)
    with served(truth) as url:
        options = ("--model", "m", "--base-url", f"{url}/v1", "--schedule", "single")
        ran = detect_cli([truth.parent], tmp_path / "run", *options, "--max-tokens", "2000")
        assert ran.returncode == 4
        assert "with 1 of 1 images unfinished" in ran.stderr
        needed = re.search(r"--max-tokens\s+(\d+)\s+or\s+more", ran.stdout)
        assert needed is not None
        assert stats(url)["requests"] == 0
        again = detect_cli([truth.parent], tmp_path / "run", *options, "--max-tokens", needed[1])
    assert again.returncode == 0


def test_a_mistyped_model_does_not_burn_the_run_folder(world: World, tmp_path: Path) -> None:
    truth = world(1)
    wrong = detect_cli([truth.parent], tmp_path / "run", "--model", "sim:/nowhere.json")
    assert wrong.returncode == 2
    assert detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}").returncode == 0


def test_a_refused_folder_is_left_as_it_was(world: World) -> None:
    truth = world(1)
    before = sorted(truth.parent.iterdir())
    ran = detect_cli([truth.parent], truth.parent, "--model", f"sim:{truth}")
    assert ran.returncode == 2
    assert sorted(truth.parent.iterdir()) == before


def test_simulated_answers_are_said_to_be_simulated(world: World, tmp_path: Path) -> None:
    truth = world(1)
    assert "SIMULATED" in detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}").stderr


def test_the_source_judgement_is_shown(world: World, tmp_path: Path) -> None:
    truth = world(3)
    known = json.loads(truth.read_text())
    truth.write_text(json.dumps(known | {"p002.png": known["p002.png"] | {"generated": None}}))
    ran = detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}", "--judge-source")
    assert "1 AI-generated, 1 not AI-generated, 1 unsure" in ran.stdout
    one = detect_cli([truth.parent / "p002.png"], tmp_path / "one", "--model", f"sim:{truth}", "--judge-source")
    assert "Source: unsure (probability of AI 0." in one.stdout


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (5, {}, "images is of the type int; give a path, a Pillow image"),
        ([5], {}, "image-000 is of the type int; give a path, a Pillow image"),
        ([], {}, "no images were named"),
        ("{p}", {"model": None}, "model must be"),
        ("{p}", {"model": "sim:"}, "names no truth file"),
        ("{p}", {"max_cost": "5"}, "max_cost must be a number"),
        ("{p}", {"base_urls": "http://127.0.0.1:1/v1"}, "base_urls (--base-url) has no effect with 'sim:"),
    ],
)
def test_wrong_arguments_in_python_say_what_would_be_right(
    world: World, arguments: Any, options: dict[str, Any], says: str
) -> None:
    truth = world(1)
    images = str(truth.parent / "p000.png") if arguments == "{p}" else arguments
    with pytest.raises(UsageError, match=re.escape(says)):
        detect(images, **({"model": f"sim:{truth}"} | options))


def test_other_images_under_the_same_names_do_not_continue_a_run(world: World, tmp_path: Path) -> None:
    truth, other = world(1), world(1)
    assert detect_cli([truth.parent], tmp_path / "run", "--model", f"sim:{truth}").returncode == 0
    ran = detect_cli([other.parent], tmp_path / "run", "--model", f"sim:{truth}")
    assert ran.returncode == 2
    assert f"images below {str(truth.parent)!r} there" in ran.stderr


def test_a_longer_manifest_keeps_the_names_of_what_is_done(world: World, tmp_path: Path) -> None:
    truth = world(3)
    manifest = truth.parent / "list.csv"
    (truth.parent / "sub").mkdir()
    for name in ("p000.png", "p001.png"):
        (truth.parent / name).rename(truth.parent / "sub" / name)
    manifest.write_text("file_name\nsub/p000.png\nsub/p001.png\n")
    entries = json.loads(truth.read_text())
    moved = {(f"sub/{k}" if k != "p002.png" else k): v for k, v in entries.items()}
    truth.write_text(json.dumps(moved))
    options = (tmp_path / "run", "--model", f"sim:{truth}")
    assert detect_cli([manifest], *options).returncode == 0
    manifest.write_text(manifest.read_text() + "p002.png\n")
    assert detect_cli([manifest], *options).returncode == 0
    assert sorted(read_results(tmp_path / "run")) == ["p002.png", "sub/p000.png", "sub/p001.png"]


def test_a_dead_server_ends_the_run_instead_of_failing_every_image(world: World, tmp_path: Path) -> None:
    truth = world(40)
    dead = ("--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--retries", "0", "--in-flight", "4")
    ran = detect_cli([truth.parent], tmp_path / "run", *dead)
    assert ran.returncode == 3
    assert "20 consecutive images failed at the endpoint" in ran.stderr
    assert "is it running?" in ran.stderr
    assert 20 <= len(read_results(tmp_path / "run")) < 30


def test_a_single_name_for_many_images_is_refused_and_a_given_model_stays_usable(world: World) -> None:
    truth = world(2)
    with pytest.raises(UsageError, match="names 2 images"):
        detect(f"{truth.parent}/*.png", model=f"sim:{truth}")

    class Closing(Simulator):
        async def close(self) -> None:
            raise AssertionError("the model is its owner's to close")

    vlm = Closing.from_file(truth)
    for _ in range(2):
        assert detect(truth.parent / "p000.png", model=vlm, schedule="single").status == "ok"


@pytest.mark.parametrize("option", ["spread", "temperature", "timeout", "max_cost", "max_tokens"])
def test_what_is_not_a_number_is_no_setting(world: World, option: str) -> None:
    truth = world(1)
    with pytest.raises(UsageError, match=option):
        detect(truth.parent / "p000.png", model=f"sim:{truth}", **{option: float("nan")})
