"""What a real model wrote that cannot see and hardly follows: no reader takes its chatter for an anomaly.

The first line of tests/data/blind_replies.jsonl names the model; benchmarks/blind_model.py made the file.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.agent import replies
from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule
from anomreason.anomaly import Usage
from anomreason.errors import ParseError
from anomreason.images import load_image
from anomreason.vlm.calling import Caller
from anomreason.vlm.protocol import Finish, Reply, Request

DATA = Path(__file__).parents[1] / "data" / "blind_replies.jsonl"
KEPT: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()[1:]]
NAMES, IDS = ("woman", "coffee cup", "dog"), (1, 2)
"""Objects and candidates of the prompts that the model was given."""
READERS: dict[str, Any] = {
    "single": replies.read_single,
    "inspect": replies.inspection_reader(NAMES),
    "look-again": replies.checked_report_reader(IDS),
    "format": replies.report_reader(IDS),
    "finish": replies.report_reader(IDS),
    "verify": replies.checks_reader(IDS),
    "review-2": replies.reviewed_reader(IDS),
    "summary": replies.reviewed_reader(IDS),
    "attributes-2": replies.read_proposals,
    "relations-2": replies.read_proposals,
    "scan": replies.read_proposals,
}


@pytest.mark.parametrize("kept", KEPT, ids=lambda k: f"{k['step']} {k['prompt']} {k['temperature']:g}")
def test_no_reader_accepts_what_a_blind_model_wrote(kept: dict[str, Any]) -> None:
    read = READERS.get(kept["step"], replies.read_objects)
    with pytest.raises(ParseError) as complaint:
        read(kept["reply"])
    assert str(complaint.value)


class Parrot:
    """Answers every request with one reply, and counts tokens as a server that sees the image."""

    name = "parrot"
    bounds_pixels = False

    def __init__(self, text: str, finish: Finish) -> None:
        self.reply = Reply(text, finish, Usage(calls=1, prompt_tokens=3000, completion_tokens=300), self.name)

    async def ask(self, _: Request) -> Reply:
        return self.reply

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("marked", [True, False], ids=["cut replies are marked", "finish is always stop"])
@pytest.mark.parametrize("schedule", ["single", "lean"])
def test_every_image_fails_with_its_cause(schedule: Schedule, marked: bool, tmp_path: Path) -> None:
    Image.effect_noise((64, 48), 50).save(tmp_path / "photo.png")
    loaded = load_image(tmp_path / "photo.png")
    first = "single" if schedule == "single" else "objects-1"
    chatter = [k for k in KEPT if k["step"] == first]
    assert chatter
    for kept in chatter:
        agent = AnomAgent(Caller(Parrot(kept["reply"], kept["finish"] if marked else "stop")), AgentSettings(schedule))
        detection = asyncio.run(agent.detect(loaded, "photo.png"))
        assert detection.status == "failed"
        assert detection.anomalies == ()
        assert detection.failure is not None
        assert detection.failure.kind in ("unparsable", "truncated")
        causes = ("cut", "the server stopped the reply after 300 tokens", "requested form")
        assert any(cause in detection.failure.message for cause in causes)
