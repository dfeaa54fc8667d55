"""What a client may use: images a minute, a budget, places in the queue; and what becomes of jobs and their images."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from benchmarks.hostile_uploads import stall
from tests.serve.visiting import visiting

from anomreason.anomaly import Detection, Usage
from anomreason.errors import RunConflict, StorageError, UsageError
from anomreason.serve.clients import Clients, add_token, read_clients
from anomreason.serve.jobs import Ending, open_jobs
from anomreason.serve.messages import JobFailure
from anomreason.vlm.ledger import CALLS, Call, Ledger
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

World = Callable[..., Path]


def clients_with(folder: Path, limits: str) -> tuple[Clients, dict[str, str]]:
    """One client, ada, with these lines in her table; and the header that she sends."""
    file = folder / "tokens.toml"
    token = add_token(file, "ada")
    file.write_text(f"{file.read_text()}\n{limits}\n")
    return Clients.of(read_clients(file).values()), {"Authorization": f"Bearer {token}"}


def test_more_images_a_minute_than_allowed_are_to_come_later(world: World, tmp_path: Path) -> None:
    truth = world(6)
    clients, ada = clients_with(tmp_path, "rate = 2")
    with visiting(tmp_path / "jobs", f"sim:{truth}", clients) as visited, ThreadPoolExecutor(6) as threads:

        def send(image: Path) -> httpx2.Response:
            return visited.client.post("/v1/detect", files={"image": image.read_bytes()}, headers=ada)

        answers = list(threads.map(send, sorted(truth.parent.glob("*.png"))))
        assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "more than 2 images a minute" in refused.json()["error"]


def test_a_clients_budget_holds_and_outlives_the_process(world: World, tmp_path: Path) -> None:
    truth = world(4)
    clients, ada = clients_with(tmp_path, "max_tokens = 30_000")
    spent = 0
    for n in range(3):
        with visiting(tmp_path / "jobs", f"sim:{truth}", clients) as visited:
            data = (truth.parent / f"p00{n}.png").read_bytes()
            answer = visited.client.post("/v1/detect?wait=60", files={"image": data}, headers=ada)
            if answer.status_code == 402:
                break
            spent += sum(answer.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens"))
            known = visited.get("/v1/me", **ada)["allowance"]["spent"]
            assert known["prompt_tokens"] + known["completion_tokens"] == spent
    assert answer.status_code == 402
    assert "may use 30,000 tokens in all" in answer.json()["error"]
    assert 0 < spent <= 30_000


def test_what_calls_used_outlives_the_process_also_when_they_are_rolled_away(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.serve.detecting.IN_FILE", 4)
    truth, folder = world(3), tmp_path / "jobs"
    data = (truth.parent / "p000.png").read_bytes()
    with open_jobs(folder) as jobs:
        job = jobs.add("p000.png", "", hashlib.sha256(data).hexdigest(), data)
    before = Ledger(folder / CALLS)
    before.record(Call(job.id, "r", "s", None, 0, 1, "ok", "m", 100, 0, 10, 0.0, 1.0, job.created, "k"))
    before.roll()  # and then it was killed
    before.close()
    with visiting(folder, f"sim:{truth}") as visited:
        used = visited.get(f"/v1/jobs/{job.id}?wait=60")["usage"]["calls"]
        for n in (1, 2):
            used += visited.detect(truth.parent / f"p00{n}.png")["usage"]["calls"]
        assert visited.service.detecting.caller.ledger.total.calls == used
        assert used > 2 * 4
    assert len(list(folder.glob("calls-00000?.jsonl"))) >= 2
    with visiting(folder, f"sim:{truth}", max_tokens=10_000_000) as visited:
        assert visited.service.detecting.caller.ledger.total.calls == used
        assert visited.service.detecting.caller.ledger.in_file < 4


def test_a_client_never_uses_more_than_allowed_however_much_its_images_need(world: World, tmp_path: Path) -> None:
    truth = world(3)
    known = json.loads(truth.read_text())
    long = dict.fromkeys(("phenomenon", "reasoning"), "It cannot be. " * 30)
    for each in known.values():
        each["anomalies"] = [{"name": f"Anomaly {n}", "severity": n, **long} for n in range(10)]
    truth.write_text(json.dumps(known))
    clients, ada = clients_with(tmp_path, "max_tokens = 80_000")
    with visiting(tmp_path / "jobs", f"sim:{truth}", clients, schedule="release") as visited:
        needs = visited.get("/v1/me", **ada)["usual"]
        assert needs["prompt_tokens"] + needs["completion_tokens"] < 80_000
        job = visited.detect(truth.parent / "p000.png", **ada)
        assert (job["state"], job["failure"]["kind"]) == ("failed", "budget")
        assert "this token may use 80,000 tokens in all" in job["failure"]["message"]
        assert 70_000 < job["usage"]["prompt_tokens"] + job["usage"]["completion_tokens"] <= 80_000
        for _ in range(2):
            assert "80,000 tokens" in visited.detect(truth.parent / "p001.png", status=402, **ada)["error"]
    with visiting(tmp_path / "jobs", f"sim:{truth}", clients, schedule="release") as visited:
        assert "80,000 tokens" in visited.detect(truth.parent / "p001.png", status=402, **ada)["error"]


def test_a_full_queue_is_told_with_a_place_for_those_that_wait(world: World, tmp_path: Path) -> None:
    truth = world(4)
    slow = Simulator.from_file(str(truth), rates=SimulatorRates(latency=4))
    with visiting(tmp_path / "jobs", slow, queue=2, in_flight=1) as visited:
        jobs = [visited.detect(truth.parent / f"p00{n}.png", wait=0, status=202) for n in range(3)]
        full = visited.client.post("/v1/detect", files={"image": (truth.parent / "p003.png").read_bytes()})
        assert (full.status_code, full.headers["retry-after"]) == (503, "60")
        assert "2 images are waiting already" in full.json()["error"]
        states = [visited.get(f"/v1/jobs/{job['id']}") for job in jobs]
        assert [(job["state"], job["position"]) for job in states] == [("running", None), ("queued", 0), ("queued", 1)]
        image = visited.client.get(f"/v1/jobs/{jobs[0]['id']}/image")
        assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        for job in jobs:
            assert visited.get(f"/v1/jobs/{job['id']}?wait=60")["state"] == "done", "taken up by the next process"
            assert "dropped" in visited.get(f"/v1/jobs/{job['id']}/image", 404)["error"]
    assert list((tmp_path / "jobs" / "uploads").iterdir()) == []


def test_work_begins_when_uploads_on_their_way_are_taken(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.serve.service._FIRST", 60.0)
    monkeypatch.setattr("anomreason.serve.uploads.NEW", 60.0)
    truth = world(1)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        visited.get("/healthz")
        with stall(visited.client.base_url.host, visited.client.base_url.port or 0, 0):
            while not visited.service.uploads.under_way:
                visited.get("/healthz")
            job = visited.detect(truth.parent / "p000.png", wait=0, status=202)
            assert visited.get(f"/v1/jobs/{job['id']}?wait=0.5")["state"] == "queued"
        assert visited.get(f"/v1/jobs/{job['id']}?wait=60")["state"] == "done"


def test_work_does_not_wait_for_a_slow_upload(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomreason.serve.service._FIRST", 600.0)
    monkeypatch.setattr("anomreason.serve.uploads.NEW", 0.0)
    truth = world(1)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        visited.get("/healthz")
        with stall(visited.client.base_url.host, visited.client.base_url.port or 0, 0):
            while not visited.service.uploads.under_way:
                visited.get("/healthz")
            assert visited.detect(truth.parent / "p000.png", wait=15)["state"] == "done"
            assert visited.service.uploads.under_way == 1


OPENED = """
import asyncio, sys
from pathlib import Path
from anomreason.agent.forms import schema_of
from anomreason.detector import DetectOptions, set_up
from anomreason.serve.service import ServiceOptions, open_service

async def opened():
    async with open_service(set_up("tiny", DetectOptions(schedule="lean")), ServiceOptions(Path(sys.argv[1]))):
        print(schema_of.cache_info().currsize > 0, "PIL.PngImagePlugin" in sys.modules)

asyncio.run(opened())
"""


def test_the_first_image_waits_for_nothing_that_is_loaded_at_first_use(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENED, str(tmp_path / "jobs")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "True True\n", "the schemas of the steps, and the readers of images"


def test_a_disk_that_fails_is_told_and_no_answer_is_a_lie(world: World, tmp_path: Path) -> None:
    truth = world(2)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        (tmp_path / "jobs" / "uploads").rename(tmp_path / "gone")
        assert "cannot be kept" in visited.detect(truth.parent / "p000.png", status=503)["error"]
        (tmp_path / "gone").rename(tmp_path / "jobs" / "uploads")
        assert visited.detect(truth.parent / "p000.png")["state"] == "done"
        assert visited.get("/readyz") == {"ok": True, "problems": []}
        numbers = visited.client.get("/metrics").text
        assert 'anomreason_jobs_total{outcome="done"} 1.0' in numbers
        assert 'anomreason_requests_total{route="/v1/detect",status="503"} 1.0' in numbers


def test_the_gate_judges_by_its_limits(world: World, tmp_path: Path) -> None:
    truth = world(3)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:

        def gate(name: str, query: str, status: int = 200) -> Any:
            data = (truth.parent / name).read_bytes()
            answer = visited.client.post(f"/v1/gate{query}", content=data, headers={"Content-Type": "image/png"})
            assert answer.status_code == status, answer.text
            return answer.json()

        bad = gate("p001.png", "?min_severity=20")
        assert (bad["passed"], bad["detection"]["status"]) == (False, "ok")
        assert "is below 20" in bad["reasons"][0]
        assert gate("p001.png", "?max_anomalies=50")["passed"] is True
        assert "no limit is given" in gate("p001.png", "", 400)["error"]
        mistyped = gate("p001.png", "?max_anomalies=50&min_sevrity=20", 422)["error"]
        assert "min_sevrity: there is no such parameter, known are max_anomalies, max_cap, min_severity" in mistyped
        assert "limit" in visited.client.get("/v1/jobs?limitt=3").json()["error"]
        assert visited.client.get("/healthz?probe=1").status_code == 200
        assert visited.client.get("/?utm_source=mail").status_code == 200


def test_old_jobs_are_forgotten_and_what_they_used_is_not(tmp_path: Path) -> None:
    with open_jobs(tmp_path, keep_images=True) as jobs:
        job = jobs.add("a.png", "ada", "0" * 64, b"data")
        assert jobs.forget(before=2e12) == 0, "it has not ended"
        for _ in ("stored", "tried again, as its answer was lost"):
            jobs.end(job, Ending(None, JobFailure(kind="internal", message="\0"), False, Usage(calls=3, cost=0.5)))
        assert jobs.image(job) == b"data"
        with pytest.raises(RunConflict, match="another process"), open_jobs(tmp_path):
            pass
        assert jobs.forget(before=2e12) == 1
        assert (jobs.find(job.id), jobs.image(job)) == (None, None)
        assert jobs.spent()["ada"].cost == 0.5


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "cat.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds other files"), open_jobs(tmp_path):
        pass
    assert (tmp_path / "uploads" / "cat.png").read_bytes() == b"mine"


def test_jobs_in_postgresql(new_database: str, tmp_path: Path) -> None:
    with open_jobs(tmp_path / "a", new_database) as jobs:
        job = jobs.add("a\U0001f600.png", "ada", "0" * 64, b"data")
        assert [one.id for one in jobs.waiting()] == [job.id]
        with pytest.raises(RunConflict, match="another process serves"), open_jobs(tmp_path / "b", new_database):
            pass
    with open_jobs(tmp_path / "a", new_database) as jobs:
        found = Detection(image="a", detector="x", status="ok", notes=("\0 \ud83d",))
        jobs.end(job, Ending(found, None, False, Usage(calls=1)))
        ended = jobs.find(job.id)
        assert ended is not None
        assert ended.ending is not None
        assert ended.ending.state == "done"
        assert jobs.waiting() == []


def test_jobs_in_a_database_without_an_encoding(ascii_database: str, tmp_path: Path) -> None:
    with open_jobs(tmp_path, ascii_database) as jobs:
        jobs.add("\u00e9\U0001f600.png", "ada", "0" * 64, b"data")
        assert [job.name for job in jobs.waiting()] == ["\u00e9\U0001f600.png"]


def _end_connections(database: str) -> None:
    """As a restart of the server does."""
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert connection.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}").fetchall()


def test_a_database_that_was_restarted_still_has_one_service(new_database: str, tmp_path: Path) -> None:
    with open_jobs(tmp_path / "a", new_database) as jobs:
        job = jobs.add("a.png", "", "0" * 64, b"data")
        _end_connections(new_database)
        assert [one.id for one in jobs.waiting()] == [job.id]
        with pytest.raises(RunConflict, match="another process serves"), open_jobs(tmp_path / "b", new_database):
            pass
        _end_connections(new_database)
        with open_jobs(tmp_path / "b", new_database), pytest.raises(StorageError, match="another process serves"):
            jobs.waiting()
        assert [one.id for one in jobs.waiting()] == [job.id]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold tables"),
        ("[tokens.ada]\n", "sha256: Field required"),
        ('[tokens.ada]\nsha256 = "secret"\n', "sha256: String should match"),
        (f'[tokens.ada]\nsha256 = "{"0" * 64}"\nrates = 3\n', "rates: Extra inputs"),
        (f'[tokens.ada]\nsha256 = "{"0" * 64}"\n[tokens.ben]\nsha256 = "{"0" * 64}"\n', "the same token"),
        ('[tokens."a b"]\n', "cannot be the name of a token"),
        ("tokens = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_of_tokens_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_clients(file)
