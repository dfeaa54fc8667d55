"""Facts about the run folder that a user relies on."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anomreason import runs
from anomreason.anomaly import Anomaly, Detection, Failure
from anomreason.errors import RunConflict, UsageError
from anomreason.files import Appender, read_lines
from anomreason.report.html import build_report
from anomreason.runs import (
    ResumableFolder,
    RunFolder,
    default_run,
    done_in,
    provenance,
    read_results,
    read_settings,
    settings_difference,
)
from anomreason.scenes import make as scenes
from anomreason.sources.annotations import read_source
from anomreason.training import folder as training
from anomreason.training.data.sources import read_annotated

SETTINGS = {"model": "m", "schedule": "lean", "prompts": {"common": "v1 aa"}}


def ok(image: str, severity: float = 10) -> Detection:
    found = Anomaly(name="n", phenomenon="p", reasoning="r", severity=severity)
    return Detection(image=image, sha256="ab", detector="d", status="ok", anomalies=(found,), file_size=3, file_mtime=4)


def failed(image: str, kind: str) -> Detection:
    return Detection.model_validate(
        {"image": image, "detector": "d", "status": "failed", "failure": {"kind": kind, "message": "x"}}
    )


def test_what_is_recorded_is_read_back_and_the_last_line_counts(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", SETTINGS, {}) as run:
        run.append(failed("a b.jpg", "endpoint"))
        run.append(ok("ü.jpg"))
        run.append(ok("a b.jpg", 20))
    results = read_results(tmp_path / "run")
    assert list(results) == ["ü.jpg", "a b.jpg"]
    assert results["a b.jpg"] == ok("a b.jpg", 20)
    assert results["ü.jpg"] == ok("ü.jpg")


def test_a_rerun_tries_failures_again_but_not_unreadable_or_refused(tmp_path: Path) -> None:
    kinds = ["unreadable_image", "refused", "truncated", "unparsable", "endpoint", "budget"]
    with RunFolder(tmp_path / "run", SETTINGS, {}) as run:
        for kind in kinds:
            run.append(failed(kind, kind))
    with RunFolder(tmp_path / "run", SETTINGS, {}) as run:
        assert [k for k in kinds if run.done[k].final] == ["unreadable_image", "refused"]


def test_other_settings_are_refused_with_the_difference_named(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", {"model": "typo"}, {}):
        pass  # nothing recorded: other settings are welcome
    with RunFolder(tmp_path / "run", SETTINGS, {}) as run:
        run.append(ok("a.jpg"))
    with pytest.raises(RunConflict, match=r"schedule: 'lean' there, 'paper' now"):
        RunFolder(tmp_path / "run", {**SETTINGS, "schedule": "paper"}, {})
    with pytest.raises(RunConflict, match=r"prompts.common: 'v1 aa' there, 'v2 bb' now"):
        RunFolder(tmp_path / "run", {**SETTINGS, "prompts": {"common": "v2 bb"}}, {})
    RunFolder(tmp_path / "run", SETTINGS, {}).close()


def test_a_second_process_is_refused_while_the_first_works(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from anomreason.runs import RunFolder\n"
        f"RunFolder(Path({str(tmp_path / 'run')!r}), {SETTINGS!r}, {{}})"
    )
    with RunFolder(tmp_path / "run", SETTINGS, {}):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"another process ({os.getpid()}) works in the run folder" in second.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_folder_with_other_files_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(RunConflict, match=r"precious\.txt"):
        RunFolder(tmp_path, SETTINGS, {})


def fail_in(path: Path, work: Callable[[RunFolder], object] = bool, error: type[BaseException] = UsageError) -> None:
    with RunFolder(path, SETTINGS, {}) as run:
        work(run)
        raise error("no key")


def test_a_command_that_could_not_begin_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key"):
        fail_in(tmp_path / "runs" / "a", lambda run: (run.path / "calls.jsonl").touch())
    assert not any(tmp_path.iterdir())


def test_a_command_that_is_interrupted_leaves_a_folder_only_if_a_model_may_have_been_asked(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_in(tmp_path / "question", error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fail_in(tmp_path / "asked", lambda run: (run.path / "responses.sqlite").touch(), KeyboardInterrupt)
    assert [folder.name for folder in tmp_path.iterdir()] == ["asked"]


def test_a_command_that_fails_removes_nothing_but_an_empty_run_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    kept: dict[str, Callable[[RunFolder], object]] = {
        "mine": bool,
        "begun": lambda run: run.append(ok("a.jpg")),
        "noted": lambda run: (run.path / "notes.txt").touch(),
    }
    for name, work in kept.items():
        with pytest.raises(UsageError, match="no key"):
            fail_in(tmp_path / name, work)
    assert list(read_results(tmp_path / "begun")) == ["a.jpg"]
    assert (tmp_path / "mine").is_dir()
    assert (tmp_path / "noted" / "notes.txt").is_file()


def test_a_file_in_the_folders_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UsageError, match="--run"):
        RunFolder(tmp_path / "run", SETTINGS, {})


@pytest.mark.parametrize("tail", [b'{"image": "torn', b'{"image": "t"}', b"\x00\x00", b"{" * 200_000])
def test_a_torn_last_line_is_passed_over_and_cut_off_by_the_next_writer(tmp_path: Path, tail: bytes) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"n": 1}\n' + tail)
    assert list(read_lines(file, appended=True)) == [(1, {"n": 1})]
    writer = Appender(file)
    writer.append('{"n": 2}')
    writer.close()
    assert file.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from anomreason.errors import StorageError
from anomreason.files import Appender
a = Appender(Path({str(file)!r}))
a.append('{{"n": 1}}')
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    a.append('{{"n": 2, "long": "xxxxxxxxxxxxxxxxxxxxx"}}')
except StorageError as e:
    print(e)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert resource.RLIMIT_FSIZE is not None
    assert "free some space and run the same command again" in said
    assert file.read_bytes() == b'{"n": 1}\n'


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    for read in (read_results, read_settings):
        with pytest.raises(UsageError, match="not a run folder"):
            read(tmp_path)


def test_the_default_name_follows_from_inputs_and_settings() -> None:
    first = default_run(["/x/my photos"], SETTINGS)
    assert first == default_run(["/x/my photos"], dict(SETTINGS))
    assert first.parent == Path("runs")
    assert first.name.startswith("my-photos-")
    assert len({first, default_run(["/y"], SETTINGS), default_run(["/x/my photos"], {**SETTINGS, "seed": 1})}) == 3


def test_a_failed_detection_is_never_an_empty_list() -> None:
    failure = Failure(kind="endpoint", message="x")
    for wrong in ({"status": "ok", "failure": failure}, {"status": "failed"}):
        with pytest.raises(ValueError, match="failed detection"):
            Detection(image="a", detector="d", **wrong)  # type: ignore[arg-type]


def test_every_result_line_says_its_status(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", SETTINGS, {}) as run:
        run.append(Detection(image="a", detector="d", status="ok"))
    assert json.loads((tmp_path / "run" / "results.jsonl").read_text())["status"] == "ok"


@pytest.mark.parametrize("damage", [b'{"image": "b.jpg", "det\n', b'{"image": "b.jpg", "status": "ok"}\n', b"[]\n"])
def test_a_damaged_line_in_the_middle_is_named_by_everything_that_reads_results(tmp_path: Path, damage: bytes) -> None:
    folder = tmp_path / "run"
    with RunFolder(folder, SETTINGS, {"root": "."}) as run:
        for image in ("a.jpg", "b.jpg", "c.jpg"):
            run.append(ok(image))
    file = folder / "results.jsonl"
    first, _, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + damage + last)
    for read in (
        lambda: RunFolder(folder, SETTINGS, {"root": "."}),
        lambda: done_in(folder),
        lambda: read_results(folder),
        lambda: build_report(folder),
        lambda: read_source(folder),
        lambda: read_annotated(folder),
    ):
        with pytest.raises(UsageError, match=r"results\.jsonl, line 2: .*repair or remove the line|line 2: write one"):
            read()
    file.write_bytes(first + last)
    with RunFolder(folder, SETTINGS, {"root": "."}) as run:
        assert list(run.done) == ["a.jpg", "c.jpg"]


def checkout_of(folder: Path) -> Path:
    """A git checkout that holds a package with nothing but the module that tells its provenance."""
    package = folder / "src" / "anomreason"
    package.mkdir(parents=True)
    (package / "runs.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return package / "runs.py"


def test_provenance_tells_commit_and_uncommitted_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkout_of(tmp_path / "checkout")
    monkeypatch.setattr(runs, "__file__", str(file))
    clean = provenance()
    assert (len(clean.git_commit or ""), clean.dirty) == (40, False)
    assert clean.version == clean.versions["anomreason"]
    (tmp_path / "checkout" / "notes.txt").write_text("outside of the package")
    assert provenance() == clean
    (file.parent / "new.py").write_text("")
    assert provenance().dirty is True
    assert provenance().git_commit == clean.git_commit


def test_an_installed_package_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "site-packages" / "anomreason" / "runs.py"))
    installed = provenance()
    assert (installed.git_commit, installed.dirty) == (None, None)


def test_runs_trainings_and_scenes_resume_by_one_rule(tmp_path: Path) -> None:
    settings = {"seed": 1, "size": 64}
    for kind in (runs.RUN, training.FOLDER, scenes.FOLDER):
        path = tmp_path / kind.what
        with ResumableFolder(path, kind) as folder:
            folder.record(settings)
            with pytest.raises(RunConflict, match=rf"another process .* works in the {kind.what} folder"):
                ResumableFolder(path, kind)
        with ResumableFolder(path, kind) as folder:
            differences = settings_difference(folder.settings() or {}, {"seed": 2, "size": 64})
            with pytest.raises(RunConflict, match=r"seed: 1 there, 2 now.* or give another"):
                folder.refuse(differences)
        (path / kind.settings).unlink()
        (path / "precious.txt").touch()
        with pytest.raises(RunConflict, match=r"holds other files \('precious.txt'\)"):
            ResumableFolder(path, kind)
