"""An assistant looks at images over the Model Context Protocol: what it is told, what it may not read, nor spend."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomreason.anomaly import Usage
from anomreason.detector import DetectOptions, set_up
from anomreason.gating.cache import DetectionCache
from anomreason.planning import plan_for
from anomreason.vlm.simulator.model import Simulator

pytest.importorskip("mcp", reason="needs mcp: pip install '.[mcp]'")
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from anomreason.assisting import Assistance, make_server
from anomreason.cli.mcp import cheap

World = Callable[..., Path]


class CountingSimulator(Simulator):
    """Counts what it is asked."""

    asked = 0

    async def ask(self, request: Any) -> Any:
        self.asked += 1
        return await super().ask(request)


def told(assistance: Assistance, tool: str, heard: list[str] | None = None, **arguments: Any) -> Any:
    """What the tool answers: its structured content, or the text of its error. heard: gets messages of progress."""

    async def progress(_done: float, _total: float | None, message: str | None) -> None:
        if heard is not None:
            heard.append(message or "")

    async def ask() -> Any:
        async with Client(make_server(assistance)) as client:
            answer = await client.call_tool(tool, arguments, progress_callback=progress)
            return answer.content[0].text if answer.is_error else answer.structured_content  # type: ignore[union-attr]

    return asyncio.run(ask())


@pytest.fixture
def truth(world: World) -> Path:
    return world(3)


@pytest.fixture
def assistance(truth: Path, tmp_path: Path) -> Any:
    vlm = CountingSimulator(Simulator.from_file(truth)._truth)
    with DetectionCache(tmp_path / "cache") as cache:
        yield Assistance(set_up(vlm), cache, (truth.parent,))


def test_each_image_is_told_with_its_anomalies_the_worst_first_and_asked_about_once(assistance: Assistance) -> None:
    heard: list[str] = []
    images = told(assistance, "find_anomalies", heard, images=["p000.png", "p002.png"])["result"]
    assert [image["image"] for image in images] == ["p000.png", "p002.png"]
    assert [a["severity"] for a in images[0]["anomalies"]] == [5, 12, 33, 47]
    assert images[0]["anomalies"][0]["region"] == [0.125, 0.1, 0.25, 0.5]
    assert (images[1]["anomalies"], images[1]["cap"], images[1]["not_assessed"]) == ([], 0, None)
    assert heard[0] == "looking at 2 images"
    asked = assistance.setup.vlm.asked  # type: ignore[union-attr]
    again = told(assistance, "gate_images", images=["p002.png", "p000.png"], min_severity=20)["result"]
    assert [image["passed"] for image in again] == [True, False]
    assert len(again[1]["reasons"]) == 2
    best = told(assistance, "choose_best_image", images=["p000.png", "p002.png"])
    assert best["best"] == "p002.png"
    assert assistance.setup.vlm.asked == asked > 0  # type: ignore[union-attr]


def test_an_image_that_could_not_be_looked_at_is_not_a_clean_one(assistance: Assistance) -> None:
    (assistance.folders[0] / "notes.png").write_text("no image")
    (image,) = told(assistance, "gate_images", images=["notes.png"], max_cap=1)["result"]
    assert image["passed"] is image["anomalies"] is None
    assert image["cap"] is None
    assert "text file" in image["not_assessed"]


def test_nothing_outside_the_folders_is_read(assistance: Assistance, tmp_path: Path) -> None:
    outside = tmp_path / "other" / "p000.png"
    outside.parent.mkdir()
    outside.write_bytes((assistance.folders[0] / "p000.png").read_bytes())
    (assistance.folders[0] / "link.png").symlink_to(outside)
    ways = [str(outside), "link.png", os.path.relpath(outside, assistance.folders[0]), outside.as_uri(), "/etc/passwd"]
    for path in ways:
        assert "--folder" in told(assistance, "find_anomalies", images=[path])
    assert assistance.setup.vlm.asked == 0  # type: ignore[union-attr]
    assistance.folders = (*assistance.folders, outside.parent)
    assert told(assistance, "find_anomalies", images=[outside.as_uri()])["result"][0]["cap"] > 0


def test_a_relative_path_counts_from_where_the_command_starts_too(
    assistance: Assistance, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = assistance.folders[0]
    monkeypatch.chdir(folder.parent)
    [image] = told(assistance, "find_anomalies", images=[f"{folder.name}/p000.png"])["result"]
    assert image["cap"] > 0


def test_what_is_wrong_with_a_call_is_said_to_the_assistant(assistance: Assistance) -> None:
    assert "no limit is given" in told(assistance, "gate_images", images=["p000.png"])
    assert "does not exist" in told(assistance, "find_anomalies", images=["none.png"])
    assert "is a folder" in told(assistance, "find_anomalies", images=["."])
    mistyped = told(assistance, "gate_images", images=["p000.png"], max_cap=9, min_sevrity=20)
    assert "min_sevrity" in mistyped
    assert "Extra inputs are not permitted" in mistyped
    assert "at most 100" in told(assistance, "find_anomalies", images=["p000.png"] * 101)


def test_a_limit_holds_over_all_calls(assistance: Assistance) -> None:
    setup = set_up(assistance.setup.vlm, DetectOptions(max_tokens=20_000))  # type: ignore[arg-type]
    limited = Assistance(setup, assistance.cache, assistance.folders)
    answers = [told(limited, "find_anomalies", images=[f"p00{n}.png"])["result"][0] for n in range(3)]
    assert answers[0]["not_assessed"] is None
    assert "budget" in answers[2]["not_assessed"]
    assert 0 < assistance.cache.spent().tokens <= 20_000


def test_a_dear_call_is_refused_where_there_is_no_limit(assistance: Assistance) -> None:
    usage = Usage(calls=400, prompt_tokens=2_000_000, completion_tokens=10)
    plan = plan_for(assistance.setup, [])
    assistance.check = lambda _: cheap(
        plan.model_copy(update={"usual": plan.usual.model_copy(update={"usage": usage})})
    )
    assert "--max-cost" in told(assistance, "find_anomalies", images=["p000.png"])
    assert assistance.setup.vlm.asked == 0  # type: ignore[union-attr]


def test_an_assistant_starts_the_command_and_reads_its_answers(truth: Path, tmp_path: Path) -> None:
    command = ["-m", "anomreason", "mcp", "--model", f"sim:{truth}", "--folder", str(truth.parent), "--cache", "cache"]
    server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ), cwd=tmp_path)

    async def ask() -> Any:
        async with Client(stdio_client(server, errlog=errors)) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            answer = await client.call_tool("gate_images", {"images": ["p001.png"], "max_anomalies": 0})
            return tools, answer.structured_content

    with (tmp_path / "errors.txt").open("w") as errors:
        tools, answer = asyncio.run(ask())
    assert set(tools) == {"find_anomalies", "gate_images", "choose_best_image"}
    assert all("0 = completely implausible" in json.dumps(tool.output_schema) for tool in tools.values())
    assert answer["result"][0]["passed"] is False
    assert "SIMULATED" in (tmp_path / "errors.txt").read_text()
