"""The cache finds by content, is shared by calls and processes, and outlives any of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomreason.anomaly import Detection, Failure, FailureKind, Usage
from anomreason.errors import StorageError, UsageError
from anomreason.gating.cache import FILE, DetectionCache


def ok(usage: Usage = Usage()) -> Detection:  # noqa: B008
    return Detection(image="a.png", detector="d", status="ok", usage=usage)


def failed(kind: FailureKind) -> Detection:
    failure = Failure(kind=kind, message="gone")
    return Detection(image="a.png", detector="d", status="failed", failure=failure, usage=Usage(calls=1, cost=0.5))


def test_what_is_kept_is_found_again_and_what_another_try_may_mend_is_not_kept(tmp_path: Path) -> None:
    with DetectionCache(tmp_path / "c") as cache:
        cache.put("a", ok(Usage(calls=2, prompt_tokens=30, completion_tokens=4, cost=0.25)))
        for kind in ("refused", "endpoint", "unparsable", "truncated", "budget", "unreadable_image"):
            cache.put(kind, failed(kind))
    with DetectionCache(tmp_path / "c") as cache:
        assert set(cache.find(["a", "refused", "endpoint", "unparsable", "budget", "unreadable_image"])) == {
            "a",
            "refused",
        }
        assert cache.find(["a"])["a"] == ok(Usage(calls=2, prompt_tokens=30, completion_tokens=4, cost=0.25))
        assert cache.spent() == Usage(calls=8, prompt_tokens=30, completion_tokens=4, cost=3.25)
        assert cache.find([str(n) for n in range(2000)]) == {}


def test_two_calls_at_a_time_share_the_work_and_a_finished_one_gives_up_its_claims(tmp_path: Path) -> None:
    with DetectionCache(tmp_path / "c") as one, DetectionCache(tmp_path / "c") as other:
        assert one.claim(["a", "b"]) == ["a", "b"]
        assert other.claim(["a", "b", "c"]) == ["c"]
        one.put("a", ok())
        assert other.claim(["a", "b"]) == []
        assert other.claim(["a", "b"], patient=False) == ["b"]
        other.release()
        assert one.claim(["c"]) == ["c"]
        one.close()
        assert other.claim(["a", "b", "c"]) == ["b", "c"]
        one.__init__(tmp_path / "c")  # type: ignore[misc]  # so that it can be closed again
    assert os.listdir(tmp_path / "c" / "owners") == []


def test_the_claims_of_a_killed_process_are_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from anomreason.gating.cache import DetectionCache; "
        "cache = DetectionCache(Path(sys.argv[1])); print(cache.claim(['a'])); sys.stdout.flush(); "
        "sys.stdin.read() if len(sys.argv) > 2 else os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], capture_output=True, text=True)
    assert (killed.stdout, killed.returncode) == ("['a']\n", -9)
    with DetectionCache(tmp_path / "c") as cache:
        assert cache.claim(["a"]) == ["a"]
    asked = [sys.executable, "-c", code, str(tmp_path / "c"), "wait"]
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "['a']\n"
        with DetectionCache(tmp_path / "c") as cache:
            assert cache.claim(["a"]) == cache.claim(["a"], patient=False) == []  # another process's is never taken
        running.kill()
        running.wait()
        with DetectionCache(tmp_path / "c") as cache:
            assert cache.claim(["a"]) == ["a"]


def test_a_folder_of_other_files_is_refused_and_a_damaged_cache_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="holds other files"):
        DetectionCache(tmp_path)
    assert os.listdir(tmp_path) == ["photo.jpg"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / FILE).write_text("no database, " * 100)
    with pytest.raises(StorageError, match="move the folder away"):
        DetectionCache(tmp_path / "c")
    with pytest.raises(StorageError, match="give another --cache"):
        DetectionCache(tmp_path / "photo.jpg" / "c")
