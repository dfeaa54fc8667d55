"""`anomreason gate` as a pipeline meets it: its exit codes, lines of JSON, moved files, and nothing paid twice."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.forking import Command, run_command
from tests.simulating import simulating

World = Callable[..., Path]


def command(*arguments: str | Path) -> list[str]:
    return ["gate", *map(str, arguments)]


def run(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return run_command(command(*arguments), environment, cwd)


def test_the_exit_code_tells_passed_from_rejected_from_failed(world: World, tmp_path: Path) -> None:
    truth = world(3)  # the third image is clean
    model = ("--model", f"sim:{truth}", "--cache", tmp_path / "cache")
    clean, wrong, broken = truth.parent / "p002.png", truth.parent / "p000.png", truth.parent / "zz.png"
    broken.write_text("x")
    passed = run(tmp_path, clean, *model, "--max-cap", "1.5")
    assert (passed.returncode, passed.stdout.splitlines()[0]) == (0, f"pass    {clean}   CAP 0, 0 anomalies")
    rejected = run(tmp_path, clean, wrong, *model, "--min-severity", "20")
    assert rejected.returncode == 5
    assert f"REJECT  {wrong}   severity 5 of 'Six fingers 0' is below 20 (0 = completely implausible)" in (
        rejected.stdout
    )
    assert "2 images: 1 passed, 1 rejected, 0 not assessed" in rejected.stdout
    assert "SIMULATED" in rejected.stderr
    for on_failure, code in (("error", 3), ("reject", 5), ("pass", 0)):
        ran = run(tmp_path, clean, broken, *model, "--max-cap", "1.5", "--on-failure", on_failure)
        assert ran.returncode == code
        assert "not assessed: unreadable_image: " in ran.stdout
    unlimited = run(tmp_path, clean, *model)
    assert (unlimited.returncode, "--max-cap, e.g. 1.5" in unlimited.stderr) == (2, True)
    assert run(tmp_path, clean, *model, "--max-cap", "1.5", "--device", "cpu").returncode == 2
    small = run(tmp_path, truth.parent, *model, "--seed", "1", "--max-cap", "1.5", "--max-tokens", "100")
    assert small.returncode == 4


def test_junit_xml_tells_which_images_failed_and_why(world: World, tmp_path: Path) -> None:
    truth = world(3)
    known = json.loads(truth.read_text())
    known["p000.png"]["anomalies"][0]["name"] = 'Six\x00 \ufffe<fingers> & "more" \u202e'
    truth.write_text(json.dumps(known))
    (truth.parent / "zz.png").write_text("x")
    arguments = (
        truth.parent,
        "--model",
        f"sim:{truth}",
        "--cache",
        tmp_path / "cache",
        "--max-cap",
        "1.5",
        "--seed",
        "1",
    )
    ran = run(tmp_path, *arguments, "--junit", "gate.xml")
    assert ran.returncode == 3
    suite = ElementTree.parse(tmp_path / "gate.xml").find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["4", "2", "1"]
    cases = {Path(case.get("name", "")).name: case for case in suite}
    assert {name: [child.tag for child in case] for name, case in cases.items()} == {
        "p000.png": ["failure"], "p001.png": ["failure"], "p002.png": [], "zz.png": ["error"]
    }  # fmt: skip
    assert "CAP" in cases["p000.png"][0].get("message", "")
    assert '<fingers> & "more"' in (cases["p000.png"][0].text or "")
    assert "not assessed" in cases["zz.png"][0].get("message", "")
    refused = run(tmp_path, *arguments, "--junit", "no/folder/gate.xml")
    assert (refused.returncode, "make it first" in refused.stderr) == (2, True)


def test_lines_of_json_are_for_machines_and_every_image_has_one(world: World, tmp_path: Path) -> None:
    truth = world(3)
    (truth.parent / "zz.png").write_text("x")
    ran = run(truth.parent, ".", "--model", f"sim:{truth}", "--max-anomalies", "3", "--json")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(line["image"], line["pass"], line["af"]) for line in lines] == [
        ("p000.png", False, 4),
        ("p001.png", False, 4),
        ("p002.png", True, 0),
        ("zz.png", None, None),
    ]
    assert lines[0]["reasons"] == ["4 anomalies are more than 3"]
    assert (lines[0]["worst"], len(lines[0]["anomalies"]), lines[0]["moved"]) == (5, 4, None)
    assert lines[3]["failure"]["kind"] == "unreadable_image"
    assert ran.returncode == 3


def test_rejected_files_are_moved_and_nothing_is_overwritten(world: World, tmp_path: Path) -> None:
    truth = world(4)
    folder = truth.parent
    contents = {f.name: f.read_bytes() for f in folder.glob("*.png")}
    (folder / "sub").mkdir()
    (folder / "p001.png").rename(folder / "sub" / "p000.png")
    (folder / "link.png").symlink_to("p003.png")
    (folder / "rejected").mkdir()
    (folder / "rejected" / "p000.png").write_text("somebody's")
    model = ("--model", f"sim:{truth}", "--cache", tmp_path / "cache", "--max-cap", "1.5")
    (truth.parent / "p001.png").write_bytes(contents["p001.png"])
    ran = run(folder, ".", *model, "--move", "rejected")
    kept = {f.name: f.read_bytes() for f in (folder / "rejected").iterdir()}
    assert kept.pop("p000.png") == b"somebody's"
    assert sorted(kept) == ["p000-2.png", "p000-3.png", "p001.png", "p003.png"]
    assert {contents["p000.png"], contents["p001.png"], contents["p003.png"]} == set(kept.values())
    assert "-> rejected/p000-2.png" in ran.stdout
    assert "Passed over: 1 image in rejected" in ran.stderr
    assert (folder / "p002.png").exists()
    again = run(folder, ".", *model, "--move", "rejected")
    assert f"Passed over: {len(kept) + 1} images in rejected" in again.stderr
    assert {f.name for f in (folder / "rejected").iterdir()} == {*kept, "p000.png"}


def test_what_cannot_be_moved_stays_and_is_told(world: World, tmp_path: Path) -> None:
    truth = world(1)
    (tmp_path / "link.png").symlink_to(truth.parent / "p000.png")
    model = ("--model", f"sim:{truth}", "--max-cap", "1.5")
    linked = run(tmp_path, "link.png", *model, "--move", "rejected")
    assert (linked.returncode, "'link.png' is a link" in linked.stderr) == (1, True)
    assert (tmp_path / "link.png").is_symlink()
    (tmp_path / "file").touch()
    blocked = run(tmp_path, truth.parent / "p000.png", *model, "--move", "file")
    assert (blocked.returncode, "cannot be moved to 'file'" in blocked.stderr) == (1, True)
    assert (truth.parent / "p000.png").is_file()


def test_an_estimate_counts_what_is_left_and_asks_before_much_is_spent(world: World, tmp_path: Path) -> None:
    truth = world(3)
    model = ("--model", f"sim:{truth}", "--max-cap", "1.5")
    assert "3 images, schedule lean" in run(tmp_path, truth.parent, *model, "--dry-run").stdout
    run(tmp_path, truth.parent / "p000.png", *model)
    left = run(tmp_path, truth.parent, *model, "--dry-run")
    assert "1 of 3 images already processed" in left.stderr
    assert "2 images, schedule lean" in left.stdout
    for n in range(300):
        (tmp_path / f"{n}.png").write_bytes((truth.parent / "p000.png").read_bytes() + bytes([n % 256, n // 256]))
    (tmp_path / "many.csv").write_text("file_name\n" + "\n".join(f"{n}.png" for n in range(300)))
    dear = run(tmp_path, "many.csv", "--model", "gpt-4o", "--schedule", "paper", "--max-cap", "1")
    assert (dear.returncode, "add --yes to go ahead" in dear.stderr) == (2, True)


def test_ctrl_c_keeps_the_replies_of_calls_in_flight(world: World, tmp_path: Path) -> None:
    truth = world(4)
    with simulating(truth, latency=0.1) as server:
        model = ("--model", "m", "--base-url", f"{server.url}/v1")
        options = (*model, "--max-cap", "1.5", "--cache", str(tmp_path / "cache"))
        asked = command(truth.parent, *options)
        first = Command(asked)
        server.at(2, lambda: first.send_signal(signal.SIGINT))
        out, err = first.communicate()
        assert (first.wait(), out) == (130, "")
        assert "the same command continues" in err
        before = server.requests
        ended = run(tmp_path, truth.parent, *options)
        after = server.requests
    assert ended.returncode == 5
    assert before < after == 4 * 4


@pytest.mark.slow
def test_killed_and_beside_another_process_nothing_is_paid_for_twice(world: World, tmp_path: Path) -> None:
    truth, in_flight = world(8), 4
    options = ("--model", "m", "--max-cap", "1.5", "--json", "--yes", "--in-flight", str(in_flight))
    with simulating(truth, latency=0.1) as server:
        whole = run(tmp_path, truth.parent, *options, "--base-url", f"{server.url}/v1", "--cache", tmp_path / "whole")
        undisturbed = server.requests
    with simulating(truth, latency=0.1) as server:
        again = command(truth.parent, *options, "--base-url", f"{server.url}/v1", "--cache", tmp_path / "killed")
        for part in (1, 2):
            process = Command(again, cwd=tmp_path)
            server.at(undisturbed * part // 3, process.kill)
            assert process.wait() == -signal.SIGKILL
        both = [Command(again, cwd=tmp_path) for _ in range(2)]
        outputs = [process.communicate()[0] for process in both]
        asked = server.requests
    assert [process.wait() for process in both] == [5, 5]
    assert outputs == [whole.stdout, whole.stdout]
    assert undisturbed <= asked <= undisturbed + 2 * in_flight  # what was in flight when it was killed
    print(f"requests: undisturbed {undisturbed}, with 2 kills and 2 processes at a time {asked}")


def test_what_fails_all_images_for_one_reason_is_explained_once(world: World, tmp_path: Path) -> None:
    where = ("--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--cache", tmp_path / "cache", "--yes")
    ran = run(tmp_path, world(3).parent, *where, "--max-cap", "1.5")
    assert ran.returncode == 3
    assert ran.stdout.count("not assessed: endpoint, see below") == 3
    assert ran.stdout.count("no connection to http://127.0.0.1:9/v1") == 1
    assert "\nNot assessed, 3 images: endpoint: no connection" in ran.stdout
