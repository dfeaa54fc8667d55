"""No upload and no request brings the service down, fills its memory or holds up others; strangers get nothing."""

import json
import resource
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
import schemathesis
from benchmarks.hostile_uploads import bad_files, endless, stall
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from tests.serve.visiting import COOKIE, Visited, visiting

from anomreason.serve.clients import Clients, add_token, read_clients
from anomreason.serve.streams import MOST_EACH
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

World = Callable[..., Path]
BAD_FILES = 60
"""200 give no answer of 500 either."""
EXAMPLES = 2
"""Of each route and each way to make them; 100 of each found no answer of 500 either."""


def test_bad_files_are_refused_or_fail_with_their_reason(world: World, tmp_path: Path) -> None:
    truth = world(1)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def send(file: tuple[str, bytes]) -> str:
            answer = visited.client.post("/v1/detect?wait=60", files={"image": file})
            if answer.status_code in (400, 413, 415):  # 400: a name longer than any header
                assert set(answer.json()) == {"error"}
                return "refused"
            assert answer.status_code == 200, answer.text
            job = answer.json()
            # What can be decoded in spite of its damage is unknown to the simulator.
            assert job["failure"]["kind"] in ("unreadable_image", "endpoint"), job["failure"]
            assert "/" not in job["name"]
            assert job["name"].isprintable()
            return str(job["state"])

        with ThreadPoolExecutor(8) as threads:
            ended = Counter(threads.map(send, bad_files(BAD_FILES)))
        assert ended["refused"] > 8
        assert ended["failed"] > 8
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 800, f"{grown:.0f} MB more"
        assert visited.detect(truth.parent / "p000.png")["state"] == "done"


def test_an_endless_body_and_clients_that_stall_hold_nobody_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.serve.uploads.IDLE", 3.0)
    monkeypatch.setattr("anomreason.web.serving.HEAD_SECONDS", 3.0)
    truth = world(2)
    with visiting(tmp_path / "jobs", f"sim:{truth}", upload_bytes=300_000) as visited:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host, port = visited.client.base_url.host, visited.client.base_url.port or 0
        stalled = [stall(host, port, n) for n in range(40)]
        silent = [socket.create_connection((host, port), timeout=30) for _ in range(20)]
        for n, one in enumerate(silent):
            one.sendall(b"GET /v1/me HTTP/1.1\r\nHost: 127"[: 3 * n])
        large = {"content": bytes(100_000_000), "headers": {"Content-Type": "image/png"}}
        with ThreadPoolExecutor(3) as threads:
            told = threads.submit(visited.client.post, "/v1/detect", **large)  # type: ignore[arg-type]
            untold = threads.submit(visited.client.post, "/v1/detect", content=endless(), headers=large["headers"])  # type: ignore[arg-type]
            form = threads.submit(visited.client.post, "/v1/detect", files={"image": ("a.png", bytes(100_000_000))})
            assert visited.detect(truth.parent / "p000.png")["state"] == "done", "others are served meanwhile"
            for answer in (told.result(), untold.result(), form.result()):
                assert answer.status_code == 413, answer.text
                assert "larger than 300,000 bytes" in answer.json()["error"]
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 500  # 300 are the client's
        for one in stalled:
            with one:
                assert b" 408 " in one.recv(4_000)
        for one in silent:
            with one:
                assert one.recv(4_000) == b"", "closed without an answer"
        assert visited.service.uploads.held == 0


def test_no_request_that_the_description_allows_or_forbids_brings_the_service_down(
    world: World, tmp_path: Path
) -> None:
    truth = world(1)
    with visiting(tmp_path / "jobs", f"sim:{truth}") as visited:
        job = visited.detect(truth.parent / "p000.png")
        description = visited.get("/openapi.json")
        schema = schemathesis.openapi.from_dict(description)
        routes = [result.ok() for result in schema.get_all_operations()]
        assert len(routes) >= 11
        for route in routes:
            bounded = bool(route.body or list(route.iter_parameters()))
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if bounded else (GenerationMode.POSITIVE,):
                send_any(visited, route.as_strategy(generation_mode=mode), job["id"])


def send_any(visited: Visited, cases: object, job: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=cases)  # type: ignore[arg-type]
    def send(case: Case) -> None:
        if isinstance(case.query, dict):
            case.query.pop("wait", None)
        made = case.as_transport_kwargs(base_url=str(visited.client.base_url))
        sent = {key: made[key] for key in ("method", "url", "json", "params") if made.get(key) is not None}
        if files := [(name, repr(value).encode()) for name, value in made.get("files") or ()]:
            answer = visited.client.request(**sent, files=files)
        else:
            answer = visited.client.request(**sent, content=made.get("data"))
        assert answer.status_code < 500, (sent, answer.text)
        assert answer.status_code < 400 or set(answer.json()) == {"error"}, answer.text

    send()


PATHS = (
    "/static/..%2f..%2fapp.py",
    "/static/%2e%2e",
    "/static/../app.py",
    "/..%2f..%2fetc/passwd",
    "/static/",
)


OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


def test_each_route_answers_401_to_a_stranger_and_403_to_no_stranger(world: World, tmp_path: Path) -> None:
    truth = world(1)
    token = add_token(tmp_path / "tokens.toml", "ada")
    clients = Clients.of(read_clients(tmp_path / "tokens.toml").values())
    foreign = {"Origin": "https://evil.example"}
    strangers: list[dict[str, str]] = [{}, {"Authorization": "Bearer guessed"}, {"Authorization": f"Basic {token}"}]
    strangers += [{"Cookie": f"{COOKIE}=guessed"}, foreign, {**foreign, "Cookie": f"{COOKIE}=guessed"}]
    with visiting(tmp_path / "jobs", f"sim:{truth}", clients) as visited:
        client, image = visited.client, (truth.parent / "p000.png").read_bytes()
        job = visited.detect(truth.parent / "p000.png", Authorization=f"Bearer {token}")
        paths = visited.get("/openapi.json")["paths"]
        routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        assert len(routes) >= 11
        assert set(routes) >= OPEN
        for method, path in routes:
            at = path.replace("{id}", job["id"])
            for headers in strangers:
                sent = {"files": {"image": image}} if path in ("/v1/detect", "/v1/gate") else {}
                answer = client.request(method, at, headers=headers, **sent)  # type: ignore[arg-type]
                assert (answer.status_code == 401) == ((method, path) not in OPEN), (method, path, headers)
                assert ("www-authenticate" in answer.headers) == (answer.status_code == 401), (method, path)
            if method == "POST":
                for refused in (foreign, {}):
                    cookie = {**refused, "Cookie": f"{COOKIE}={token}"}
                    assert client.post(at, headers=cookie).status_code == 403, "a client, on a page of another site"
        assert client.get("/enter/guessed").headers["www-authenticate"] == "Bearer"


def test_one_client_cannot_hold_all_event_streams(world: World, tmp_path: Path) -> None:
    truth = world(3)
    slow = Simulator.from_file(str(truth), rates=SimulatorRates(latency=3.0))
    tokens = [add_token(tmp_path / "tokens.toml", name) for name in ("ada", "ben")]
    ada, ben = ({"Authorization": f"Bearer {token}"} for token in tokens)
    clients = Clients.of(read_clients(tmp_path / "tokens.toml").values())
    with visiting(tmp_path / "jobs", slow, clients, in_flight=1) as visited, ExitStack() as held:
        senders = enumerate((ada, ada, ben))
        jobs = [visited.detect(truth.parent / f"p00{n}.png", wait=0, status=202, **who)["id"] for n, who in senders]
        own = jobs[1:]  # they wait for the first

        def stream(job: str, who: dict[str, str], into: ExitStack) -> httpx2.Response:
            return into.enter_context(visited.client.stream("GET", f"/v1/jobs/{job}/events", headers=who))

        assert [stream(own[0], ada, held).status_code for _ in range(MOST_EACH)] == [200] * MOST_EACH
        for _ in range(2):
            with ExitStack() as more:
                refused = stream(own[0], ada, more)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
                assert "ask for the job now and then" in json.loads(refused.read())["error"]
                assert stream(own[1], ben, more).status_code == 200
        held.close()
        while stream(own[0], ada, held).status_code == 429:  # the service sees a little later that one was closed
            held.close()


def test_strangers_and_pages_of_other_sites_get_nothing(world: World, tmp_path: Path) -> None:
    truth = world(1)
    tokens = {name: add_token(tmp_path / "tokens.toml", name) for name in ("ada", "ben")}
    clients = Clients.of(read_clients(tmp_path / "tokens.toml").values())
    with visiting(tmp_path / "jobs", f"sim:{truth}", clients) as visited:
        client, image = visited.client, truth.parent / "p000.png"
        ada, ben = ({"Authorization": f"Bearer {tokens[name]}"} for name in ("ada", "ben"))
        job = visited.detect(image, **ada)
        own = [f"/v1/jobs/{job['id']}{end}" for end in ("", "/events", "/image")]
        closed = ["/v1/me", "/v1/jobs", "/metrics", *own]
        for headers in ({}, {"Authorization": "Bearer guessed"}, {"Cookie": f"{COOKIE}=guessed"}):
            for path in closed:
                assert "needs a token" in visited.get(path, 401, **headers)["error"]
        for path in own:
            assert "no such job of yours" in visited.get(path, 404, **ben)["error"]
        assert visited.get("/v1/jobs", **ben) == {"jobs": []}
        assert visited.get("/v1/jobs", **ada)["jobs"][0]["id"] == job["id"]

        for guessed in ("guessed", "<script>alert(1)</script>", "x" * 5_000):
            answer = client.get(f"/enter/{quote(guessed, safe='')}")
            assert answer.status_code == 401
            assert "ask the owner of this service" in answer.text
            assert guessed not in answer.text
            assert "set-cookie" not in answer.headers
        entered = client.get(f"/enter/{tokens['ada']}")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        for word in (f"{COOKIE}={tokens['ada']};", "HttpOnly", "SameSite=strict"):
            assert word in entered.headers["set-cookie"]
        assert visited.get("/v1/me")["client"] == "ada"
        refused = client.post("/v1/detect", files={"image": image.read_bytes()})
        assert (refused.status_code, "X-Requested-With" in refused.json()["error"]) == (403, True)
        assert visited.detect(image, **{"X-Requested-With": "anomreason"})["cached"]
        foreign = {"Origin": "https://evil.example", "X-Requested-With": "anomreason"}
        assert client.post("/v1/detect", files={"image": image.read_bytes()}, headers=foreign).status_code == 403
        for path in PATHS:
            answer = client.get(path)
            assert answer.status_code in (404, 307), path
        for path in ("/", "/v1/me", "/nothing", "/openapi.json"):
            headers = client.get(path).headers
            assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"


def test_without_tokens_no_other_name_reaches_the_service(world: World, tmp_path: Path) -> None:
    with visiting(tmp_path / "jobs", f"sim:{world(1)}") as visited:
        assert "as localhost only" in visited.get("/v1/me", 403, Host="evil.example")["error"]
        assert visited.get("/v1/me", Host="localhost:8023")["client"] is None
        foreign = {"Origin": "https://evil.example"}
        assert visited.client.post("/v1/detect", files={"image": b"x"}, headers=foreign).status_code == 403
