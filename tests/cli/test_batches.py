"""Facts about `detect --batch`: the same results as calls at once, nothing lost, nothing paid for twice."""

import asyncio
import json
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from anomreason.anomaly import Detection
from anomreason.cli import app
from anomreason.errors import StorageError, UsageError
from anomreason.runs import read_results
from anomreason.vlm.batches import model
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.ledger import price_of, read_calls, spent_in
from anomreason.vlm.simulator.model import Simulator, SimulatorRates
from anomreason.vlm.simulator.server import make_app

World = Callable[..., Path]
Line = dict[str, Any]
SOUND = {"choices": [{"message": {"content": '{"anomalies": [], "no_anomalies": true}'}, "finish_reason": "stop"}]}
USED = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}


def detect(images: Path, run: Path, *more: str | Path) -> Result:
    command = ["detect", images, "--model", "gpt-4o", "--run", run, "--no-report", "--yes", *more]
    return CliRunner(env={"COLUMNS": "200", "OPENAI_API_KEY": None}).invoke(app, list(map(str, command)))


@contextmanager
def serving(truth: Path, **rates: float) -> Iterator[str]:
    """The simulator's server in a thread; gives its address."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(Simulator.from_file(truth, rates=SimulatorRates(**rates))))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return "http://{}:{}".format(*runner.addresses[0])

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def refusal(result: Result) -> str:
    """Why a command was refused, exit code 2."""
    assert isinstance(result.exception, UsageError), result.output
    return str(result.exception)


def requests(run: Path, round_number: int) -> list[Line]:
    files = sorted((run / "batches").glob(f"round-{round_number}-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def answered(asked: Line, status: int, body: Any) -> str:
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": asked["custom_id"], "response": response, "error": None}) + "\n"


def answers(run: Path, round_number: int, answer: Callable[[Line], tuple[int, Any]]) -> Path:
    """The file that a batch gives back for a round."""
    file = run.with_name(f"{run.name}-out-{round_number}.jsonl")
    file.write_text("".join(answered(line, *answer(line)) for line in requests(run, round_number)))
    return file


def tags(run: Path) -> Mapping[str, Line]:
    with sqlite3.connect(run / "responses.sqlite") as database:
        return {key: json.loads(sent)["tag"] for key, sent in database.execute("SELECT key, sent FROM batched")}


def by_simulator(url: str, run: Path) -> Callable[[Line], tuple[int, Any]]:
    """Answers of the simulator's server, which is told the step in headers as it is by the client."""

    def answer(line: Line) -> tuple[int, Any]:
        tag = tags(run)[line["custom_id"].partition(".")[0]]
        headers = {f"X-Anomreason-{key.title()}": quote(str(value)) for key, value in tag.items() if value}
        asked = urllib.request.Request(url + line["url"], json.dumps(line["body"]).encode(), headers)
        try:
            with urllib.request.urlopen(asked) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return answer


def essence(detection: Detection) -> dict[str, Any]:
    """A result without time and use; of a failure how far it came does not count."""
    if detection.failure:
        return {"failure": detection.failure.kind}
    return detection.model_dump(exclude={"usage", "seconds", "file_mtime"})


@pytest.mark.parametrize(("schedule", "rounds"), [("single", 1), ("lean", 3), ("paper", 8)])
def test_batches_find_what_calls_at_once_find_for_half_the_price(
    schedule: str, rounds: int, world: World, tmp_path: Path
) -> None:
    images, run, at_once = world(3).parent, tmp_path / "batches", tmp_path / "at-once"
    options = ("--schedule", schedule, *([] if schedule == "single" else ["--max-objects", "3"]))
    with serving(images / "simulator.json") as url:
        assert detect(images, at_once, *options, "--base-url", f"{url}/v1", "--api-key-env", "HOME").exit_code == 0
        assert detect(images, run, *options, "--batch", "write").exit_code == 5
        for number in range(1, rounds + 1):
            file = answers(run, number, by_simulator(url, run))
            result = detect(images, run, *options, "--batch", "read", file)
            assert result.exit_code == (0 if number == rounds else 5), result.output
    found, expected = read_results(run), read_results(at_once)
    assert {n: essence(d) for n, d in found.items()} == {n: essence(d) for n, d in expected.items()}
    whole, half, price = spent_in(at_once), spent_in(run), price_of("gpt-4o")
    assert price is not None
    assert (half.calls, half.tokens, half.cost) == (whole.calls, whole.tokens, pytest.approx(price.cost(half) / 2))
    assert sum(d.usage.calls for d in found.values()) == half.calls


def test_a_batch_can_be_tried_with_the_simulator_as_its_provider(world: World, tmp_path: Path) -> None:
    images, run, at_once = world(3).parent, tmp_path / "batches", tmp_path / "at-once"
    truth = images / "simulator.json"
    detect(images, at_once, "--model", f"sim:{truth}")
    code, number = detect(images, run, "--batch", "write").exit_code, 0
    while code == 5 and (number := number + 1) < 9:
        asked, given = run / "batches" / f"round-{number}-0001.jsonl", tmp_path / f"answers-{number}.jsonl"
        simulated = CliRunner().invoke(app, ["simulate", str(truth), "--batch", str(asked), str(given)])
        assert f"{len(requests(run, number))} simulated answers" in simulated.stdout, simulated.output
        code = detect(images, run, "--batch", "read", given).exit_code
    assert (code, number) == (0, 3)
    found, expected = (
        {n: [(a.name, a.severity, a.region) for a in d.anomalies] for n, d in read_results(folder).items()}
        for folder in (run, at_once)
    )
    assert found == expected
    assert any(found.values())


def test_a_batch_line_that_does_not_tell_its_step_is_refused(world: World, tmp_path: Path) -> None:
    images, run = world(1).parent, tmp_path / "run"
    detect(images, run, "--schedule", "single", "--judge-source", "--batch", "write")
    given = tmp_path / "answers.jsonl"
    line = ["simulate", images / "simulator.json", "--batch", run / "batches" / "round-1-0001.jsonl", given]
    said = CliRunner().invoke(app, list(map(str, line)))
    answers = [json.loads(line)["response"] for line in given.read_text().splitlines()]
    assert sorted(answer["status_code"] for answer in answers) == [200, 400]
    assert "1 request was refused" in said.stderr
    assert any("does not tell its step" in json.dumps(answer["body"]) for answer in answers)


def test_cut_and_unreadable_replies_get_the_remedies_of_calls_at_once(world: World, tmp_path: Path) -> None:
    images, run, at_once = world(3).parent, tmp_path / "batches", tmp_path / "at-once"
    options = ("--max-objects", "2")
    with serving(images / "simulator.json", malformed=0.25, truncated=0.35, refused=0.03) as url:
        detect(images, at_once, *options, "--base-url", f"{url}/v1", "--api-key-env", "HOME")
        code, number = detect(images, run, *options, "--batch", "write").exit_code, 0
        while code == 5 and (number := number + 1) < 20:
            file = answers(run, number, by_simulator(url, run))
            code = detect(images, run, *options, "--batch", "read", file).exit_code
    found, expected = read_results(run), read_results(at_once)
    assert {n: essence(d) for n, d in found.items()} == {n: essence(d) for n, d in expected.items()}
    assert {"ok", "unparsable", "length"} <= {call.outcome for call in read_calls(run)}
    assert code == (3 if any(d.failure for d in found.values()) else 0)


def test_written_again_or_read_again_nothing_doubles(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MOST_REQUESTS", 2)
    images, run = world(5).parent, tmp_path / "run"
    detect(images, run, "--schedule", "single", "--batch", "write", "--limit", "3")
    written = requests(run, 1)
    assert [file.name for file in sorted((run / "batches").iterdir())] == ["round-1-0001.jsonl", "round-1-0002.jsonl"]
    again = detect(images, run, "--schedule", "single", "--batch", "write", "--limit", "3")
    assert (again.exit_code, "2 requests without an answer" in again.stdout, requests(run, 2)) == (5, True, [])
    assert "3 requests of this run have no answer" in refusal(detect(images, run, "--schedule", "single"))

    first, second = (tmp_path / f"{n}.jsonl" for n in (1, 2))
    first.write_text("".join(answered(line, 200, SOUND | USED) for line in written[:2]) + '{"custom_id": "')
    torn = detect(images, run, "--schedule", "single", "--batch", "read", first, "--limit", "3")
    assert f"Not read: {first}, line 3" in torn.stderr
    assert (torn.exit_code, len(read_results(run))) == (5, 2)
    second.write_text("".join(answered(line, 200, SOUND | USED) for line in written))
    for _ in range(2):
        whole = detect(images, run, "--schedule", "single", "--batch", "read", first, second, "--limit", "3")
        assert (whole.exit_code, len(read_results(run)), len(list(read_calls(run)))) == (0, 3, 3)

    # The two images that are left go on at once, and a file that was removed is one that was never sent.
    detect(images, run, "--schedule", "single", "--batch", "write")
    (run / "batches" / "round-2-0001.jsonl").unlink()
    detect(images, run, "--schedule", "single", "--batch", "write")
    assert len(requests(run, 3)) == 2
    assert not {line["custom_id"] for line in requests(run, 3)} & {line["custom_id"] for line in written}


def test_answers_that_a_full_disk_kept_from_being_recorded_are_read_again_and_booked_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise StorageError("no space left")

    images, run = world(2).parent, tmp_path / "run"
    detect(images, run, "--schedule", "single", "--batch", "write")
    file = answers(run, 1, lambda _: (200, {**SOUND, **USED}))
    with monkeypatch.context() as patch:
        patch.setattr(ReplyStore, "put", full)
        assert isinstance(detect(images, run, "--schedule", "single", "--batch", "read", file).exception, StorageError)
    assert detect(images, run, "--schedule", "single", "--batch", "read", file).exit_code == 0
    assert [call.outcome for call in read_calls(run)] == ["ok", "ok"]


def test_what_a_server_refuses_is_left_out_in_later_rounds(world: World, tmp_path: Path) -> None:
    images, run = world(2).parent, tmp_path / "run"

    def answer(line: Line) -> tuple[int, Any]:
        if "max_tokens" in line["body"]:
            text = "Unsupported parameter: 'max_tokens' is not supported with this model."
            return 400, {"error": {"message": text, "param": "max_tokens", "code": "unsupported_parameter"}}
        return 200, {**SOUND, **USED}

    detect(images, run, "--schedule", "single", "--batch", "write", "--limit", "1")
    detect(images, run, "--schedule", "single", "--batch", "read", answers(run, 1, answer), "--limit", "1")
    assert [line["custom_id"].partition(".")[2] for line in requests(run, 2)] == ["1"]
    detect(images, run, "--schedule", "single", "--batch", "read", answers(run, 2, answer), "--limit", "1")
    assert [d.status for d in read_results(run).values()] == ["ok"]
    detect(images, run, "--schedule", "single", "--batch", "write")
    [last] = requests(run, 3)
    assert "max_completion_tokens" in last["body"]


def test_errors_are_tried_again_each_round_and_end_as_failures(world: World, tmp_path: Path) -> None:
    images, run = world(3).parent, tmp_path / "run"
    options = ("--schedule", "single", "--retries", "1")

    def answer(line: Line) -> tuple[int, Any]:
        image = tags(run)[line["custom_id"].partition(".")[0]]["image"]
        if image == "p000.png":
            return 500, {"error": {"message": "overloaded"}}
        if image == "p001.png":
            return 200, {"choices": [{"message": {"refusal": "No."}, "finish_reason": "stop"}], **USED}
        cut = line["body"]["max_tokens"] < 4096
        return 200, {"choices": [{**SOUND["choices"][0], "finish_reason": "length" if cut else "stop"}], **USED}

    assert detect(images, run, *options, "--batch", "write").exit_code == 5
    assert detect(images, run, *options, "--batch", "read", answers(run, 1, answer)).exit_code == 5
    last = detect(images, run, *options, "--batch", "read", answers(run, 2, answer))
    results = read_results(run)
    kinds = {name: d.failure.kind if d.failure else None for name, d in results.items()}
    assert (last.exit_code, kinds) == (3, {"p000.png": "endpoint", "p001.png": "refused", "p002.png": None})
    failure = results["p000.png"].failure
    assert failure is not None
    assert "https://api.openai.com/v1 answered 500: overloaded (tried 2 times)" in failure.message
    assert requests(run, 3) == []


@pytest.mark.parametrize(("code", "outcome"), [("content_filter", "refused"), ("unauthorized", "rejected")])
def test_answers_that_come_too_late_are_booked_and_begin_no_image_anew(
    code: str, outcome: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MOST_REQUESTS", 1)
    images, run = world(1).parent, tmp_path / "run"
    options = ("--schedule", "single", "--judge-source")
    detect(images, run, *options, "--batch", "write")
    steps = {tags(run)[line["custom_id"]]["step"]: line for line in requests(run, 1)}
    (tmp_path / "1.jsonl").write_text(answered(steps["single"], 403, {"error": {"message": "no", "code": code}}))
    (tmp_path / "2.jsonl").write_text(answered(steps["source"], 200, SOUND | USED))
    for _ in range(2):
        detect(images, run, *options, "--batch", "read", tmp_path / "1.jsonl")
        detect(images, run, *options, "--batch", "read", tmp_path / "2.jsonl")
    assert [call.outcome for call in read_calls(run)] == [outcome, "unused"]
    assert (spent_in(run).tokens, requests(run, 2)) == (1100, [])


def test_a_cap_counts_what_has_no_answer_yet(world: World, tmp_path: Path) -> None:
    images, run = world(6).parent, tmp_path / "run"
    estimate = json.loads(detect(images, run, "--batch", "write", "--dry-run", "--json").stdout)
    at_once = json.loads(detect(images, run, "--dry-run", "--json").stdout)
    assert (estimate["rounds"], at_once["rounds"]) == (3, None)
    assert estimate["usual"]["usage"]["cost"] == pytest.approx(at_once["usual"]["usage"]["cost"] / 2)

    result = detect(images, run, "--schedule", "single", "--batch", "write", "--max-cost", "0.04")
    first = len(requests(run, 1))
    assert (result.exit_code, 0 < first < 6) == (4, True)
    assert "--max-cost 0.04 does not allow all requests" in result.stderr
    cheap = answers(run, 1, lambda _: (200, {**SOUND, **USED}))
    read = detect(images, run, "--schedule", "single", "--batch", "read", cheap, "--max-cost", "0.04")
    assert 0 < len(requests(run, 2)) <= 6 - first, read.output


def test_the_command_says_what_it_needs(world: World, tmp_path: Path) -> None:
    images, run = world(1).parent, tmp_path / "run"
    detect(images, run, "--batch", "write")
    for more, message in [
        (["--batch", "read"], "needs the files that the batch gave back"),
        (["--batch", "read", tmp_path / "no-file.jsonl"], "no-file.jsonl' does not exist"),
        (["--batch", "both"], "--batch must be write or read, not 'both'"),
        (["--batch", "read", run / "batches" / "round-1-0001.jsonl"], "holds the requests of a batch"),
        (["--batch", "write", "--timeout", "3"], "--timeout has no effect with --batch"),
        (["--batch", "write", "--model", "tiny"], "tiny answers at once, in this process"),
    ]:
        assert message in refusal(detect(images, run, *more))
