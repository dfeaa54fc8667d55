"""An image is sent, watched and answered; the same image is paid for once; whatever is wrong is said."""

from collections.abc import Callable
from pathlib import Path

from tests.serve.visiting import visiting

World = Callable[..., Path]


def test_an_image_is_answered_and_paid_for_once(world: World, tmp_path: Path) -> None:
    truth = world(3)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        job = visited.detect(truth.parent / "p001.png")
        assert (job["state"], job["name"], job["cached"], job["failure"]) == ("done", "p001.png", False, None)
        assert job["detection"]["image"] == "p001.png"
        assert job["detection"]["anomalies"][0]["severity"] == 5
        assert job["usage"]["calls"] > 1
        again = visited.client.post(
            "/v1/detect", content=(truth.parent / "p001.png").read_bytes(), headers={"Content-Type": "image/png"}
        )
        assert again.status_code == 200
        kept = again.json()
        assert (kept["state"], kept["cached"], kept["usage"]["calls"]) == ("done", True, 0)
        assert kept["detection"]["anomalies"] == job["detection"]["anomalies"]
        assert visited.client.get("/v1/detect").json() == {"error": "GET is not possible here; see /openapi.json"}
        assert visited.get("/v1/me")["allowance"]["spent"]["calls"] == job["usage"]["calls"]
        assert [one["id"] for one in visited.get("/v1/jobs")["jobs"]] == [kept["id"], job["id"]]


def test_a_stream_tells_how_far_a_job_is_until_it_has_ended(world: World, tmp_path: Path) -> None:
    truth = world(2)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        job = visited.detect(truth.parent / "p000.png", wait=0, status=202)
        told = visited.events(job["id"])
        assert told[-1]["state"] == "done"
        assert told[-1] == visited.get(f"/v1/jobs/{job['id']}") == visited.events(job["id"])[0]
        for one in told[:-1]:
            assert (one["state"] == "queued") == (one["position"] is not None)
            assert (one["state"] == "running") == (one["progress"] is not None)
        done = [one["progress"]["done"] for one in told if one["progress"]]
        assert done == sorted(done)
        assert all(one["progress"]["of"] >= one["progress"]["done"] for one in told if one["progress"])
