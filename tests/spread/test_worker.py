"""A worker without Ray: what it records in its part, what its next incarnation finds, what the run takes in."""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import RunConflict
from anomreason.runs import RunFolder, read_results
from anomreason.sources.inputs import find_images
from anomreason.spread.worker import Assignment, Worker
from anomreason.vlm.cache import Next, ReplyStore, request_key
from anomreason.vlm.ledger import read_calls, spent_in
from anomreason.vlm.parts import lock_part, part_of
from anomreason.vlm.protocol import Reply, Request, Tag

World = Callable[..., Path]


@pytest.fixture
def setup(world: World) -> DetectorSetup:
    return set_up(f"sim:{world(4)}", DetectOptions(in_flight=2))


def opened(setup: DetectorSetup, folder: Path) -> RunFolder:
    images = Path(setup.model.removeprefix("sim:")).parent
    return setup.open_run(folder, find_images([images]), [str(images)])


async def worked(setup: DetectorSetup, run: Path, number: int, images: Iterable[int]) -> Worker:
    """A worker that has done these images and is still open."""
    folder = Path(setup.model.removeprefix("sim:")).parent
    found = find_images([folder]).images
    part = part_of(run, number)
    part.mkdir(parents=True, exist_ok=True)
    worker = Worker()
    assert (await worker.start(Assignment(setup, run, part, f"{number}.1"))).fault is None
    for n in images:
        line, _ = await worker.detect(found[n], Usage())
        assert line is not None
    return worker


def test_a_run_takes_in_what_workers_recorded_once_even_if_it_is_killed_while_it_does(
    setup: DetectorSetup, tmp_path: Path
) -> None:
    async def work() -> None:
        for number, images in enumerate([(0, 2), (1, 3)]):
            worker = await worked(setup, tmp_path / "run", number, images)
            await worker.close()

    opened(setup, tmp_path / "run").close()
    asyncio.run(work())
    before = spent_in(tmp_path / "run")
    assert before.calls > 4, "calls of workers count before they are taken in"
    shutil.copytree(tmp_path / "run" / "workers", tmp_path / "kept")
    with opened(setup, tmp_path / "run") as run:
        assert sorted(run.done) == ["p000.png", "p001.png", "p002.png", "p003.png"]
    assert not (tmp_path / "run" / "workers").exists()
    shutil.copytree(tmp_path / "kept", tmp_path / "run" / "workers")  # as if it had been killed before it removed them
    opened(setup, tmp_path / "run").close()
    assert spent_in(tmp_path / "run") == before
    assert (tmp_path / "run" / "results.jsonl").read_text().count("\n") == 4
    store = ReplyStore(tmp_path / "run" / "responses.sqlite")
    assert all(store.read(call.key) for call in read_calls(tmp_path / "run") if call.key)
    store.close()


def test_the_next_incarnation_of_a_worker_asks_nothing_again(setup: DetectorSetup, tmp_path: Path) -> None:
    async def work() -> tuple[int, int]:
        worker = await worked(setup, tmp_path / "run", 0, [0, 1])
        await worker.close()
        (part_of(tmp_path / "run", 0) / "results.jsonl").unlink()  # killed before the results were recorded
        first = len(list(read_calls(tmp_path / "run")))
        worker = await worked(setup, tmp_path / "run", 0, [0, 1])
        await worker.close()
        return first, len(list(read_calls(tmp_path / "run")))

    opened(setup, tmp_path / "run").close()
    first, second = asyncio.run(work())
    assert first == second
    opened(setup, tmp_path / "run").close()
    assert {d.usage.calls for d in read_results(tmp_path / "run").values()} == {first // 2}


def test_a_worker_uses_the_replies_of_the_run(setup: DetectorSetup, tmp_path: Path) -> None:
    async def work() -> None:
        for number in (0, 1):
            worker = await worked(setup, tmp_path / "run", number, [0, 1])
            await worker.close()
            opened(setup, tmp_path / "run").close()

    opened(setup, tmp_path / "run").close()
    asyncio.run(work())
    assert {call.attempt for call in read_calls(tmp_path / "run")} == {1}
    keys = [call.key for call in read_calls(tmp_path / "run")]
    assert len(keys) == len(set(keys)), "nothing was asked twice"


def test_a_part_is_not_taken_from_a_worker_that_still_lives(
    setup: DetectorSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        worker = await worked(setup, tmp_path / "run", 0, [0])
        with pytest.raises(RunConflict, match="still works for an earlier command"):
            lock_part(part_of(tmp_path / "run", 0), 0)
        await worker.close()

    opened(setup, tmp_path / "run").close()
    asyncio.run(work())


def test_a_call_in_flight_when_a_worker_was_killed_is_booked_once(setup: DetectorSetup, tmp_path: Path) -> None:
    async def work() -> None:
        await (await worked(setup, tmp_path / "run", 0, [0])).close()

    opened(setup, tmp_path / "run").close()
    asyncio.run(work())
    part = part_of(tmp_path / "run", 0)
    [*_, last] = read_calls(part)
    lost = last.line().replace('"outcome": "ok"', '"outcome": "killed"').replace(last.image, "p003.png")
    store = ReplyStore(part / "responses.sqlite")
    store.sending(lost)
    store.sending(last.line())  # it has ended, and was not crossed out
    store.close()
    before = len(list(read_calls(part)))
    opened(setup, tmp_path / "run").close()
    assert [call.image for call in read_calls(tmp_path / "run")][before:] == ["p003.png"]


def test_a_machine_that_does_not_see_the_run_says_so(setup: DetectorSetup, tmp_path: Path) -> None:
    assignment = Assignment(setup, tmp_path / "run", part_of(tmp_path / "run", 0), "0.1")
    fault = asyncio.run(Worker().start(assignment)).fault
    assert fault is not None
    assert fault.kind == "usage"
    assert "on a file system that all machines see" in fault.message


def reply(text: str) -> Reply:
    return Reply(text, "stop", Usage(calls=1), "m")


def test_a_store_takes_in_another_one_and_tells_the_keys_it_had_to_change(tmp_path: Path) -> None:
    request = Request(("What is odd?",), Tag("a.jpg", "", ""))
    name = request_key("m", request)
    ours, theirs = ReplyStore(tmp_path / "ours"), ReplyStore(tmp_path / "theirs")
    first = ours.put(request, reply("bad"), model="m", request=name, then=Next(10, ()))
    same = theirs.put(request, reply("good"), model="m", request=name, then="good")
    theirs.close()
    for _ in range(2):
        renamed = ours.take_in(tmp_path / "theirs")
        assert renamed == {same: f"{first}-2"}
    for key, text in ((first, "bad"), (renamed[same], "good")):
        kept = ours.read(key)
        assert kept is not None
        assert kept.text == text
    good = ours.good(name)
    assert good is not None
    assert good.text == "good"
    ours.close()


def test_a_store_above_another_reads_both_and_writes_only_itself(tmp_path: Path) -> None:
    request = Request(("What is odd?",), Tag("a.jpg", "", ""))
    name = request_key("m", request)
    below = ReplyStore(tmp_path / "below")
    below.put(request, reply("cut"), model="m", request=name, then=Next(10, ()))
    below.settle()
    below.close()
    data = (tmp_path / "below").read_bytes()
    above = ReplyStore(tmp_path / "above", tmp_path / "below")
    assert above.begun(name) == Next(10, ())
    above.put(request, reply("no use"), model="m", request=name, then="lost")
    assert above.begun(name) is None
    above.close()
    assert (tmp_path / "below").read_bytes() == data
    below = ReplyStore(tmp_path / "below")
    below.take_in(tmp_path / "above")
    assert below.begun(name) is None
    below.close()
